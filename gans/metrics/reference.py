"""Statistics of real images, kept on the disk under a hash of everything that they depend on."""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gans.metrics.features import Features, extract
from gans.metrics.interface import Extractor
from gans.metrics.moments import Gaussian
from gans.metrics.sampling import BLOCK, Labelled, chosen, stored
from gans.runs import atomic

FORMAT = 4  # of the files; a change of what they hold is another key


@dataclass(frozen=True)
class Reference:
    """What scores need to know of a set of real images.

    Args:
        key: sha256 of the pixels, their order, their labels, the extractor, and the counts.
        images: sha256 of the pixels, their order and labels alone.
        gaussian: mean and covariance of the features of all of them.
        features: the features of the first of them, as many as were asked for.
        cached: whether it was read from the disk.
    """

    key: str
    images: str
    gaussian: Gaussian
    features: Features
    cached: bool


def cache_folder() -> Path:
    """Return the folder of cached statistics: $GANS_CACHE, or `lightning-gans` in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if home else Path.home() / ".cache"
    return Path(os.environ.get("GANS_CACHE") or base / "lightning-gans").expanduser()


def fingerprint(images: Iterable[Labelled]) -> str:
    """Return the sha256 of uint8 images `(n, C, H, W)`, or of clips, in their order, and of their labels."""
    digest = hashlib.sha256()
    for block, labels in images:
        digest.update(repr((tuple(block.shape[1:]), labels is not None)).encode())
        digest.update(block.contiguous().numpy().tobytes())
        if labels is not None:
            digest.update(labels.contiguous().numpy().tobytes())
    return digest.hexdigest()


def reference(
    dataset: Any,
    extractor: Extractor,
    count: int | None = None,
    keep: int | None = None,
    device: torch.device | str = "cpu",
    watch: Callable[[Iterator[Labelled]], Iterable[Labelled]] = iter,
) -> Reference:
    """Return the statistics of `count` images of a dataset (None: all), from the disk if they are there.

    Args:
        dataset: its items are images, uint8 or floats in [-1, 1], or tuples of one and a label.
        extractor: network that the features are of.
        count: images to look at, chosen by a fixed seed.
        keep: of how many of them to keep the features themselves; None keeps all.
        device: where the extractor runs.
        watch: wraps the blocks of images, as a progress bar does.

    Raises:
        ValueError: if there are too few images, or a cached file is damaged.
    """
    rows = chosen(len(dataset), count)
    kept = min(len(rows), keep or len(rows))
    images = fingerprint(stored(dataset, rows))
    facts = (FORMAT, images, extractor.name, extractor.sha256, extractor.resize, len(rows), kept)
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    path = cache_folder() / f"reference-{key}.pt"
    if path.is_file():
        return Reference(key, images, *unpacked(read(path)), cached=True)
    found = extract(watch(stored(dataset, rows)), extractor, device, BLOCK)
    gaussian, first = Gaussian.of(found.features), found.first(kept)
    write(path, packed(gaussian, first))
    return Reference(key, images, gaussian, first, cached=False)


def packed(gaussian: Gaussian, features: Features) -> dict[str, Any]:
    """Return everything as a dictionary of tensors and numbers."""
    return {
        "n": gaussian.n,
        "mean": gaussian.mean,
        "covariance": gaussian.covariance,
        "root": gaussian.root,
        "features": features.features,
        "logits": features.logits,
        "labels": features.labels,
        "extras": features.extras,
    }


def unpacked(held: dict[str, Any]) -> tuple[Gaussian, Features]:
    """Return what `packed` was given."""
    gaussian = Gaussian(held["n"], held["mean"], held["covariance"], held["root"])
    return gaussian, Features(held["features"], held["logits"], held["labels"], held["extras"])


def write(path: Path, content: Any) -> None:
    """Write tensors and plain values under a checksum; a reader sees the whole file or none."""
    memory = io.BytesIO()
    torch.save(content, memory)
    payload = memory.getvalue()
    atomic.write(path, hashlib.sha256(payload).digest() + payload)


def read(path: Path) -> Any:
    """Return what `write` wrote.

    Raises:
        ValueError: if the file is damaged.
    """
    content = path.read_bytes()
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        raise ValueError(f"the cached statistics {path} are damaged: delete the file")
    return torch.load(io.BytesIO(content[32:]), weights_only=True)
