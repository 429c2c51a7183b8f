"""The meaning of folders in a root: classes, the sets train, val and test, or the two sides of pairs."""

import json
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.archive import folders, is_file, read_text
from datamodules.files import listed
from datamodules.listing import Listing, listing
from datamodules.reader import Reader
from datamodules.shards import KEYS, LABELLED, Samples, samples, shard_of

# The sets, and the possible names of their folders in lower case.
SETS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
MOST = 1_000_000  # maximum number of classes, because each has a name in memory
LABELS = "dataset.json"  # file in StyleGAN's data sets: {"labels": [[path, label], ...]}


class Layout(NamedTuple):
    """The images of a root with their classes and sets."""

    root: Path
    paths: list[str]  # relative to the root, with "/"
    labels: Tensor  # (N,) int64
    classes: list[str]  # names in the order of the labels; empty if there are no classes
    sets: dict[str, Tensor]  # row indices of train, val and test; empty without folders for the sets
    left_out: Counter[str]  # number of unused files by kind
    unclassed: str  # reason why there are no classes


def layout(root: Path) -> Layout:
    """Return the classes and sets of the images in a folder or archive.

    - Images in tar shards have the labels of their samples, see `datamodules.shards`. The names of shards, or of their
      folders, say which set they belong to: `train/000.tar`, `flowers-val-000.tar`.
    - If the root contains only one folder, which has no images directly in it, this folder is used as the root.
    - A `dataset.json` with StyleGAN's labels defines the classes, and folders are ignored.
    - Folders of a thousand images by number, `00000/00000.png` to `69000/69999.png` as in FFHQ, are not classes.
    - Folders `train` and `val` or `test` are the sets. Images outside of them are omitted with a warning.
    - Folders in the root, or in the sets, are the classes, sorted by name. Folders without images are not classes,
      which causes a warning. If images are directly in the root, there are no classes.

    Raises:
        ValueError: `dataset.json` or a shard has no label for an image, or FFHQ's images are there in several sizes.
    """
    held = listing(root)
    known = samples(root, held.paths)
    if known is not None:
        return in_shards(root, held, known)
    root, found = entered(root, held)
    labels = stylegan_labels(root, found.paths)
    if labels is not None:
        others = Counter(found.others) - Counter({".json": 1})
        classes = [str(label) for label in range(int(labels.max()) + 1)] if labels.any() else []
        return Layout(
            root, found.paths, labels, classes, {}, others, "" if classes else f"{root / LABELS} has no labels"
        )
    if why := in_thousands(root, found.paths):
        labels = torch.zeros(len(found.paths), dtype=torch.long)
        return Layout(root, found.paths, labels, [], {}, Counter(found.others), why)
    sets = set_folders({top(path) for path in found.paths if "/" in path})
    return in_sets(root, found, sets) if len(sets) > 1 else in_classes(root, found)


def in_classes(root: Path, found: Listing) -> Layout:
    """Return the layout of a folder of class folders, or of a flat one."""
    classes = sorted({top(path) for path in found.paths})
    direct = [path for path in found.paths if "/" not in path]
    if direct:
        classes, beside = [], sorted({top(path) for path in found.paths if "/" in path})
        why = f"{listed(direct)} {'are' if len(direct) > 1 else 'is'} directly in {root}"
        why = f"{why}, next to the folders {listed(beside)}" if beside else f"all images are directly in {root}"
    else:
        why = ""
        warn_of_empty(root, {folder for folder in found.folders if "/" not in folder} - set(classes))
    labels = numbered([top(path) for path in found.paths], classes)
    return Layout(root, found.paths, labels, classes, {}, Counter(found.others), why)


def in_sets(root: Path, found: Listing, sets: dict[str, str]) -> Layout:
    """Return the layout of a folder with folders for the sets, each flat or with class folders."""
    below = {name: [path for path in found.paths if top(path) == folder] for name, folder in sets.items()}
    below = {name: paths for name, paths in below.items() if paths}
    others = [path for path in found.paths if top(path) not in sets.values()]
    flat = {name: any(path.count("/") == 1 for path in paths) for name, paths in below.items()}
    left_out = Counter(found.others)
    if others:
        say = f"{len(others):,} images outside the folders {', '.join(sets.values())} in {root} are left out"
        warnings.warn(f"{say}: {listed(others)}", stacklevel=2)
        left_out["images outside the sets"] = len(others)
    for name in [name for name in below if flat[name] and not flat["train"]]:
        say = f"{root / sets[name]} has no class folders, as {sets['train']} has: its images have no label"
        warnings.warn(f"{say} and are left out", stacklevel=2)
        left_out[f"images of {sets[name]}"] = len(below.pop(name))
    paths = [path for some in below.values() for path in some]
    starts = torch.tensor([len(some) for some in below.values()]).cumsum(0).tolist()
    rows = {name: torch.arange(end - len(some), end) for (name, some), end in zip(below.items(), starts, strict=True)}
    if flat["train"]:
        direct = [path for path in below["train"] if path.count("/") == 1]
        why = f"{listed(direct)} {'are' if len(direct) > 1 else 'is'} directly in {root / sets['train']}"
        return Layout(root, paths, torch.zeros(len(paths), dtype=torch.long), [], rows, left_out, why)
    names = [path.split("/")[1] for path in paths]
    classes = sorted(set(names))
    empty = {"/".join(parts[1:]) for parts in (folder.split("/") for folder in found.folders) if len(parts) == 2}
    warn_of_empty(root / sets["train"], empty - set(classes))
    return Layout(root, paths, numbered(names, classes), classes, rows, left_out, "")


def in_shards(root: Path, found: Listing, known: Samples) -> Layout:
    """Return the layout of a folder of tar shards, or of one shard."""
    where = [set_of(shard_of(path)) for path in known.paths]
    sets = {name: torch.tensor([i for i, one in enumerate(where) if one == name]) for name in SETS if name in where}
    left_out = Counter({kind: n for kind, n in found.others.items() if kind not in (*LABELLED, ".txt")})
    left_out["further images of samples"] = known.others
    if "train" not in sets or len(sets) == 1:
        sets = {}
    elif outside := [path for path, one in zip(known.paths, where, strict=True) if one is None]:
        warnings.warn(f"{len(outside):,} images in {root} are in no shard of a set: {listed(outside)}", stacklevel=2)
        left_out["images outside the sets"] = len(outside)
    why = "" if known.classes else f"the samples in {root} have no label (.cls, or .json with {', '.join(KEYS)})"
    return Layout(root, known.paths, known.labels, known.classes, sets, +left_out, why)


def set_of(shard: str) -> str | None:
    """Return the set that a shard belongs to by a word in its name or in the name of its folder, or None."""
    words = set(re.split("[^a-z]+", shard.lower()))
    found = [name for name, aliases in SETS.items() if words & set(aliases)]
    return found[0] if len(found) == 1 else None


def entered(root: Path, found: Listing) -> tuple[Path, Listing]:
    """Return the innermost folder that contains all images, and its listing. Archives often have one outer folder."""
    while True:
        only, *more = {top(path) for path in found.paths}
        if more or any(path.count("/") < 2 for path in found.paths) or is_file(root / LABELS):
            return root, found
        inside = f"{only}/"
        root, found = (
            root / only,
            Listing(
                [path.removeprefix(inside) for path in found.paths],
                found.others,
                {folder.removeprefix(inside) for folder in found.folders if folder.startswith(inside)},
            ),
        )


def in_thousands(root: Path, paths: list[str]) -> str:
    """Return why folders of a thousand images each, by the number of the image, are no classes; "" for other folders.

    Within folders for the sets they are classes, as any folders.

    Raises:
        ValueError: There are several folders of such folders: FFHQ's images in several sizes.
    """
    found: set[tuple[str, str]] = set()
    for path in paths:
        match = re.fullmatch(r"(?:([^/]+)/)?(\d{5})/(\d{5})\.\w+", path)
        if match is None or int(match[3]) // 1000 * 1000 != int(match[2]):
            return ""
        found.add((match[1] or "", match[2]))
    above, thousands = (sorted(set(names)) for names in zip(*found, strict=True))
    if len(set_folders(set(above))) > 1:
        return ""
    if len(above) > 1:
        raise ValueError(f"{root} holds the same images as {listed(above)}; expected one of these folders")
    return f"the folders {listed(thousands)} hold a thousand images each, by number, as in FFHQ"


def stylegan_labels(root: Path, paths: list[str]) -> Tensor | None:
    """Return the labels `(N,)` that StyleGAN's `dataset.json` gives to images; 0 for all if it has none.

    The result is None if there is no such file.

    Raises:
        ValueError: The file is not JSON, or has no label for an image.
    """
    file = root / LABELS
    if not is_file(file):
        return None
    try:
        held = json.loads(read_text(file))
    except ValueError as error:  # includes invalid UTF-8
        raise ValueError(f"{file} is not JSON ({error})") from error
    if not isinstance(held, dict) or "labels" not in held:
        return None
    pairs = held["labels"] or []
    try:
        given = {str(name).replace("\\", "/"): label for name, label in pairs}
    except (TypeError, ValueError) as error:
        raise ValueError(f"labels of {file} is {str(pairs)[:60]}; expected [[path, label], ...] or null") from error
    if not given:
        return torch.zeros(len(paths), dtype=torch.long)
    missing = [path for path in paths if path not in given]
    if missing:
        raise ValueError(f"{file} has no label for {len(missing)} of {len(paths)} images: {listed(missing)}")
    labels = [given[path] for path in paths]
    if all(isinstance(label, list) for label in labels):
        warnings.warn(f"labels of {file} are vectors, which are not supported: they are ignored", stacklevel=2)
        return torch.zeros(len(paths), dtype=torch.long)
    wrong = [label for label in labels if type(label) is not int or not 0 <= label < MOST]
    if wrong:
        raise ValueError(f"{file} has the label {wrong[0]!r}; expected whole numbers from 0 to {MOST - 1:,}")
    if len(given) > len(paths):
        absent = sorted(given.keys() - set(paths))
        warnings.warn(f"{file} has labels of {len(absent):,} images that are not there: {listed(absent)}", stacklevel=2)
    return torch.tensor(labels, dtype=torch.long)


def set_folders(names: set[str], side: str = "") -> dict[str, str]:
    """Return the names of the folders for `train`, `val` and `test`, or nothing without a folder for `train`.

    Args:
        names: Names of existing folders.
        side: Suffix of the folders, as in `trainA`.
    """
    lower = {name.lower(): name for name in sorted(names)}
    found = {
        name: lower[alias + side.lower()]
        for name, aliases in SETS.items()
        for alias in aliases[::-1]
        if alias + side.lower() in lower
    }
    return found if "train" in found else {}


def split_folders(root: Path, side: str = "") -> dict[str, Path]:
    """Return the paths of the folders for the sets in `root`, with the suffix `side`, as in `trainA`."""
    return {name: root / folder for name, folder in set_folders(set(folders(root)), side).items()}


def both_sides(root: Path) -> tuple[Path, Path] | None:
    """Return the folders `A` and `B` in `root`, or None unless both exist."""
    found = {name.lower(): root / name for name in folders(root)}
    return (found["a"], found["b"]) if "a" in found and "b" in found else None


def top(path: str) -> str:
    """Return the first folder of a path, or the file name if there is no folder."""
    return path.partition("/")[0]


def numbered(names: Sequence[str], classes: list[str]) -> Tensor:
    """Return the labels `(N,)` of images, given the class name of each. Without classes all are 0."""
    label = {name: i for i, name in enumerate(classes)}
    return torch.tensor([label.get(name, 0) for name in names], dtype=torch.long)


def warn_of_empty(root: Path, names: set[str]) -> None:
    """Warn about folders without images among class folders."""
    if names:
        say = "contains no images and is not a class: labels count without it"
        if len(names) > 1:
            say = "contain no images and are not classes: labels count without them"
        warnings.warn(f"{listed(sorted(names))} in {root} {say}", stacklevel=2)


def unused(roots: Sequence[Path], readers: Sequence[Reader], kinds: Sequence[str] = ()) -> Counter[str]:
    """Return the number of files in the roots that no reader reads, by kind. Files of the given `kinds` are ignored."""
    used = {files.name(index) for files in readers for index in range(len(files))}
    found: Counter[str] = Counter()
    for root in roots:
        held = listing(root)
        found.update({kind: count for kind, count in held.others.items() if kind not in kinds})
        found["images outside the sets"] += sum(str(root / path) not in used for path in held.paths)
    return +found
