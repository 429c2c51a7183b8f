"""Samples of tar shards by WebDataset's naming: which images, and which labels, belong together.

The files of a sample have one name up to the first dot, such as `000012.jpg`, `000012.cls` and `000012.txt`. A sample
has one image. Its label is the number or name in `.cls`, or the value of `label`, `cls` or `class` in `.json`.
`classnames.txt` beside the shards has the names of numbered classes, one in each line.
"""

import json
import os
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules import kept
from datamodules.archive import contents, is_file, opened, read_text, within
from datamodules.files import listed

NAMES = "classnames.txt"
UNFINISHED = "packing.json"  # it is there until `gans data pack` has written all shards
LABELLED = (".cls", ".json")  # the first one that has a label is used
KEYS = ("label", "cls", "class")
LARGE = 10_000  # bytes of all keys; the labels of a smaller shard are not kept
KIND = "labels"
MOST = 1_000_000  # maximum number of classes, because each has a name in memory


class Samples(NamedTuple):
    """The images of shards with their labels."""

    paths: list[str]  # of the images, relative to the root; one for each sample
    labels: Tensor  # (N,) int64; 0 for all without classes
    classes: list[str]  # names in the order of the labels; empty without classes
    others: int  # number of further images of the samples


def samples(root: Path, paths: Sequence[str]) -> Samples | None:
    """Return the samples of shards, or None if the images are not in shards.

    Args:
        root: Folder of shards, or a shard.
        paths: Sorted paths of all images, relative to the root.

    Raises:
        ValueError: Some samples have a label and others have none, a label is no class, or shards are missing.
    """
    place = within(root)
    inner = bool(place) and root.suffix.lower() == ".tar"  # the root is a shard, or a plain archive
    if not inner and not all(shard_of(path) for path in paths):
        return None
    if is_file(root / UNFINISHED):
        raise ValueError(f"root is {root}, whose shards are not complete: the same `gans data pack` continues")
    chosen = [min(some, key=dots) for _, some in groupby(paths, key_of)]
    known: dict[str, dict[str, str]] = {}
    for shard in dict.fromkeys("" if inner else shard_of(path) for path in chosen):
        known[shard] = labels_of(root / shard)
    if inner and not known.get(""):
        return None
    texts = []
    for path in chosen:
        shard = "" if inner else shard_of(path)
        texts.append(known[shard].get(key_of(path)[len(shard) :].lstrip("/")))
    labels, classes = numbered(root, chosen, texts)
    return Samples(chosen, labels, classes, len(paths) - len(chosen))


def shard_of(path: str) -> str:
    """Return the part of a path that is a tar archive, or ""."""
    match = re.match(r".*?\.tar(?=/)", path, re.IGNORECASE)
    return match[0] if match else ""


def key_of(path: str) -> str:
    """Return the name of a file's sample: its path up to the first dot of the file name."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + name.partition(".")[0]


def dots(path: str) -> tuple[int, str]:
    """Return an order of the images of a sample: `1.jpg` before `1.seg.png`."""
    return path.rpartition("/")[2].count("."), path


def labels_of(shard: Path) -> dict[str, str]:
    """Return the labels of a shard's samples by key, as text. Those of a large shard are kept in the user's cache."""
    held = kept.of_file(KIND, shard, lambda: read_labels(shard), LARGE)
    return dict(zip(kept.parted(held["keys"]), kept.parted(held["labels"]), strict=True))


def read_labels(shard: Path) -> dict[str, kept.Array]:
    """Return keys and labels of a shard's samples, as two texts."""
    found: dict[str, str] = {}
    for name in map(os.fsdecode, contents(str(shard)).names):
        kind = name[len(key_of(name)) :].lower()
        if kind not in LABELLED or (key_of(name) in found and kind != LABELLED[0]):
            continue
        with opened(shard / name) as file:
            label = label_in(file.read(), kind)
        if label is not None:
            found[key_of(name)] = label
    return {"keys": kept.joined(list(found)), "labels": kept.joined(list(found.values()))}


def label_in(content: bytes, kind: str) -> str | None:
    """Return the label in a `.cls` or `.json` file as text, or None if it has none."""
    try:
        text = content.decode("utf-8-sig").strip()
        if kind == ".cls":
            return text or None
        held = json.loads(text)
    except ValueError:  # includes invalid UTF-8
        return None
    label = next((held[key] for key in KEYS if key in held), None) if isinstance(held, dict) else held
    return str(label) if isinstance(label, int | str) and not isinstance(label, bool) else None


def numbered(root: Path, paths: Sequence[str], texts: Sequence[str | None]) -> tuple[Tensor, list[str]]:
    """Return the labels `(N,)` of samples and the names of the classes, given the label of each as text.

    Raises:
        ValueError: Some samples have a label and others have none, or a label is no class.
    """
    missing = [path for path, text in zip(paths, texts, strict=True) if text is None]
    if len(missing) == len(paths):
        return torch.zeros(len(paths), dtype=torch.long), []
    if missing:
        raise ValueError(
            f"{len(missing):,} of the {len(paths):,} samples in {root} have no label (.cls, or .json with "
            f"{', '.join(KEYS)}): {listed(missing)}"
        )
    values = {text for text in texts if text is not None}
    names = read_text(root / NAMES).splitlines() if is_file(root / NAMES) else []
    if not all(re.fullmatch(r"\d+", value) for value in values):
        classes = sorted(values)
        number = {name: i for i, name in enumerate(names if set(names) >= values else classes)}
        classes = names if set(names) >= values else classes
    else:
        count = max(map(int, values)) + 1
        if count > (len(names) or MOST):
            expected = f"the {len(names):,} names of {root / NAMES}" if names else f"at most {MOST:,} classes"
            raise ValueError(f"{root} has the label {count - 1:,}; expected one of {expected}")
        classes = names or [str(i) for i in range(count)]
        number = {value: int(value) for value in values}
    return torch.tensor([number[text] for text in texts if text is not None], dtype=torch.long), classes
