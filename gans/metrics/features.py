"""One pass of images through an extractor; what every score is computed from."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from gans.engine.distributed import gather_rows
from gans.engine.interface import conditions
from gans.metrics.interface import Extractor
from gans.metrics.sampling import BLOCK, Labelled, blocks, generated


@dataclass(frozen=True)
class Features:
    """What an extractor says of N images, on the CPU.

    Args:
        features: `(N, D)` float32.
        logits: `(N, K)` float32, or None if the extractor classifies nothing.
        labels: `(N,)` the classes that the images are of, or None.
        extras: what else the extractor says of each image, by its name.
    """

    features: Tensor
    logits: Tensor | None = None
    labels: Tensor | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.features)

    def first(self, count: int) -> "Features":
        """Return the first `count` rows, as tensors of their own: what is saved of a view is all of it."""
        logits, labels = (None if part is None else part[:count].clone() for part in (self.logits, self.labels))
        extras = {name: part[:count].clone() for name, part in self.extras.items()}
        return Features(self.features[:count].clone(), logits, labels, extras)


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
    """Return the features of uint8 images `(n, C, H, W)`, or clips, that come in blocks of any size, even of none."""
    extractor = extractor.to(device)
    nothing = torch.zeros(0, 1, 2, 1, 1, dtype=torch.uint8, device=device)  # the name and shape of extras of no image
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


def gathered(share: Features, rows: list[int], device: torch.device) -> Features:
    """Return the features of all processes in the order of the sample numbers; `rows` are this process's numbers."""
    order = gather_rows(torch.tensor(rows, dtype=torch.long, device=device)).argsort()

    def whole(part: Tensor) -> Tensor:
        return gather_rows(part.to(device))[order].cpu()

    logits = None if share.logits is None else whole(share.logits)
    extras = {name: whole(part) for name, part in share.extras.items()}
    return Features(whole(share.features), logits, None, extras)


def of_samples(
    module: nn.Module,
    extractor: Extractor,
    count: int,
    seed: int = 0,
    truncation: float | None = None,
    rank: int = 0,
    world: int = 1,
    device: torch.device | str = "cpu",
    batch_size: int = BLOCK,
    watch: Callable[[Iterator[Labelled]], Iterable[Labelled]] = iter,
    given: Any = None,
) -> Features:
    """Return the features of `count` samples of a model, the same on any number of processes, each doing its share.

    A model that translates makes them of the first items of the data set `given`.
    """
    images = generated(module, count, seed, truncation, rank, world, given)
    share = extract(watch(images), extractor, device, batch_size)
    if world == 1:
        return share
    whole = gathered(share, [row for rows in blocks(count, rank, world) for row in rows], torch.device(device))
    classes = conditions(module)
    return replace(whole, labels=torch.arange(count) % classes if classes else None)
