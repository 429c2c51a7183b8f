"""The features of images: those of a subject, and those of a reference, which are cached on the disk."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from gans.engine.distributed import gather_rows
from gans.metrics import cache
from gans.metrics.interface import Extractor
from gans.metrics.moments import Gaussian
from gans.metrics.rows import Labelled, chosen, stored
from gans.metrics.sampling import BLOCK, Subject, blocks

FORMAT = 4  # of the cached files. It is part of their keys, so another content needs another number

Watch = Callable[[Iterator[Labelled]], Iterable[Labelled]]  # wraps the blocks of images, as a progress bar does


@dataclass(frozen=True)
class Features:
    """The outputs of an extractor for N images, on the CPU.

    Args:
        features: `(N, D)` float32.
        logits: `(N, K)` float32, or None if the extractor is no classifier.
        labels: `(N,)` the classes of the images, or None.
        extras: other outputs for each image, by name.
    """

    features: Tensor
    logits: Tensor | None = None
    labels: Tensor | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.features)

    def first(self, count: int) -> "Features":
        """Return a copy of the first `count` rows; saving a view would save all rows."""
        logits, labels = (None if part is None else part[:count].clone() for part in (self.logits, self.labels))
        extras = {name: part[:count].clone() for name, part in self.extras.items()}
        return Features(self.features[:count].clone(), logits, labels, extras)


@dataclass(frozen=True)
class Reference:
    """The real images that a subject is compared with.

    Args:
        images: data set of them; its items are images, uint8 or floats in [-1, 1], or tuples of one and a label.
        held_out: data set of other real images, whose scores are the baseline; None if there is none.
        classes: number of classes of the labels; 0 if there are no labels.
        about: description for the report.
    """

    images: Any
    held_out: Any = None
    classes: int = 0
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Statistics:
    """Statistics of a set of real images.

    Args:
        key: sha256 of the pixels, their order, labels, extractor and counts.
        images: sha256 of the pixels, their order and labels.
        gaussian: mean and covariance of the features of all images.
        features: features of the first images, as many as were asked for.
        cached: whether they were read from the disk.
    """

    key: str
    images: str
    gaussian: Gaussian
    features: Features
    cached: bool


def batches(images: Iterable[Labelled], batch_size: int) -> Iterator[Labelled]:
    """Yield the same images in batches of `batch_size`, the last one smaller."""
    waiting: list[Labelled] = []
    count = 0
    for block in images:
        waiting.append(block)
        count += len(block[0])
        while count >= batch_size:
            whole = joined(waiting)
            yield whole[0][:batch_size], None if whole[1] is None else whole[1][:batch_size]
            waiting = [(whole[0][batch_size:], None if whole[1] is None else whole[1][batch_size:])]
            count -= batch_size
    if count:
        yield joined(waiting)


def joined(blocks: list[Labelled]) -> Labelled:
    """Return blocks as one."""
    if len(blocks) == 1:
        return blocks[0]
    labels = [block[1] for block in blocks if block[1] is not None]
    return torch.cat([block[0] for block in blocks]), torch.cat(labels) if len(labels) == len(blocks) else None


def extract(
    images: Iterable[Labelled], extractor: Extractor, device: torch.device | str = "cpu", batch_size: int = BLOCK
) -> Features:
    """Return the features of uint8 images `(n, C, H, W)`, or clips, in any number of blocks of any size."""
    extractor = extractor.to(device)
    nothing = torch.zeros(0, 1, 2, 1, 1, dtype=torch.uint8, device=device)  # gives the extras their names and shapes
    extras = {name: [part.cpu()] for name, part in extractor.extras(nothing).items()}
    features, logits, labels = [torch.zeros(0, extractor.num_features)], [], []
    if extractor.num_classes:
        logits.append(torch.zeros(0, extractor.num_classes))
    for block, classes in batches(images, batch_size):
        found, scores = extractor(block.to(device))
        features.append(found.cpu())
        for name, part in extractor.extras(block.to(device)).items():
            extras[name].append(part.cpu())
        if scores is not None:
            logits.append(scores.cpu())
        if classes is not None:
            labels.append(classes.cpu())
    scores, classes = (torch.cat(part) if part else None for part in (logits, labels))
    return Features(torch.cat(features), scores, classes, {name: torch.cat(part) for name, part in extras.items()})


def of_subject(
    subject: Subject,
    extractor: Extractor,
    count: int,
    seed: int = 0,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = BLOCK,
    watch: Watch = iter,
    rank: int = 0,
    world: int = 1,
) -> Features:
    """Return the features of `count` images of a subject, the same for any number of processes."""
    share = extract(watch(subject.images(count, seed, rank, world)), extractor, device, batch_size)
    if world == 1:
        return share
    if subject.classes and share.labels is None:  # of a process without images
        share = replace(share, labels=torch.zeros(0, dtype=torch.long))
    return gathered(share, [row for rows in blocks(count, rank, world) for row in rows], torch.device(device))


def gathered(share: Features, rows: list[int], device: torch.device) -> Features:
    """Return the features of all processes in the order of the image numbers; `rows` are this process's numbers."""
    order = gather_rows(torch.tensor(rows, dtype=torch.long, device=device)).argsort()

    def whole(part: Tensor) -> Tensor:
        return gather_rows(part.to(device))[order].cpu()

    logits, labels = (None if part is None else whole(part) for part in (share.logits, share.labels))
    return Features(whole(share.features), logits, labels, {name: whole(part) for name, part in share.extras.items()})


def statistics(
    dataset: Any,
    extractor: Extractor,
    count: int | None = None,
    keep: int | None = None,
    device: torch.device | str = "cpu",
    watch: Watch = iter,
) -> Statistics:
    """Return the statistics of `count` images of a data set, from the disk if they are there.

    Args:
        dataset: as in `Reference`.
        extractor: network that gives the features.
        count: number of images, chosen by a fixed seed; None takes all.
        keep: number of images whose features are kept; None keeps all.
        device: where the extractor runs.
        watch: wraps the blocks of images.

    Raises:
        ValueError: if there are too few images, or a cached file is damaged.
    """
    rows = chosen(len(dataset), count)
    kept = min(len(rows), keep or len(rows))
    images = fingerprint(stored(dataset, rows))
    facts = (FORMAT, images, extractor.name, extractor.sha256, extractor.resize, len(rows), kept)
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    path = cache.cache_folder() / f"reference-{key}.pt"
    if path.is_file():
        return Statistics(key, images, *unpacked(cache.read(path)), cached=True)
    found = extract(watch(stored(dataset, rows)), extractor, device, BLOCK)
    gaussian, first = Gaussian.of(found.features), found.first(kept)
    cache.write(path, packed(gaussian, first))
    return Statistics(key, images, gaussian, first, cached=False)


def fingerprint(images: Iterable[Labelled]) -> str:
    """Return the sha256 of uint8 images `(n, C, H, W)`, or of clips, in their order, and of their labels."""
    digest = hashlib.sha256()
    for block, labels in images:
        digest.update(repr((tuple(block.shape[1:]), labels is not None)).encode())
        digest.update(block.contiguous().numpy().tobytes())
        if labels is not None:
            digest.update(labels.contiguous().numpy().tobytes())
    return digest.hexdigest()


def packed(gaussian: Gaussian, features: Features) -> dict[str, Any]:
    """Return the content of a cached file."""
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
    """Return the arguments of `packed`."""
    gaussian = Gaussian(held["n"], held["mean"], held["covariance"], held["root"])
    return gaussian, Features(held["features"], held["logits"], held["labels"], held["extras"])
