"""The images that an evaluation is about: sets that depend on a seed and a count, not on batches or processes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gans.images import to_uint8
from gans.latent import draw, key, truncate

# Latents are drawn a block at a time from a key of its own, so that image i is the same in every set that holds it:
# one call of torch.randn would give other numbers for another count.
BLOCK = 250

Labelled = tuple[Tensor, Tensor | None]


class BrokenSamplesError(ValueError):
    """A model's samples are not finite."""


@contextmanager
def undisturbed(module: nn.Module, seed: int) -> Iterator[None]:
    """Look at a module without a trace: torch's generators are seeded meanwhile and put back, no gradient is kept.

    The module is in evaluation mode: BatchNorm neither learns from pictures nor mixes them.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    modes = {part: part.training for part in module.modules()}
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(seed)
        try:
            module.eval()
            yield
        finally:
            for part, mode in modes.items():
                part.training = mode


def samples(module: nn.Module, count: int, seed: int, **options: Any) -> Tensor:
    """Return `count` images of `module.sample`, `(count, C, H, W)` in [-1, 1] on the module's device.

    The same for a seed and weights, and nothing in the module is disturbed.

    Raises:
        ValueError: if the module has no `sample`.
    """
    if not callable(getattr(module, "sample", None)):
        raise ValueError(f"{type(module).__name__} has no sample(n); expected a model that makes images")
    with undisturbed(module, seed):
        drawn: Tensor = module.sample(count, **options)  # type: ignore[operator]
    return drawn.clamp(-1, 1).float()


def blocks(count: int, rank: int = 0, world: int = 1) -> Iterator[range]:
    """Yield the sample numbers of this process's blocks; all processes together have 0..count-1 once."""
    for start in range(rank * BLOCK, count, world * BLOCK):
        yield range(start, min(start + BLOCK, count))


def conditions(module: nn.Module) -> int:
    """Return the number of classes that a conditional model takes labels of; 0 if it takes none."""
    return int(getattr(module, "num_classes", 0) or 0)


def generated(
    module: nn.Module, count: int, seed: int, truncation: float | None = None, rank: int = 0, world: int = 1
) -> Iterator[Labelled]:
    """Yield this process's share of `count` samples as uint8 `(n, C, H, W)` with their labels `(n,)`, or None.

    A conditional model (one with `num_classes`) gets the classes in turn, label i being i modulo their number.
    """
    classes = conditions(module)
    for rows in blocks(count, rank, world):
        options: dict[str, Any] = {} if truncation is None else {"truncation": truncation}
        if classes:
            options["labels"] = torch.arange(rows.start, rows.start + BLOCK) % classes
        # The whole block even at the end: image i does not depend on the count.
        images = samples(module, BLOCK, key("evaluate", seed, rows.start // BLOCK), **options)
        if not images.isfinite().all():
            raise BrokenSamplesError(f"{type(module).__name__}.sample gave NaN or infinity")
        labels = options["labels"][: len(rows)] if classes else None
        yield to_uint8(images[: len(rows)]), labels


def latents(module: Any, rows: range, seed: int, truncation: float | None = None) -> Tensor:
    """Return the latents `(len(rows), latent_dim)` of samples `rows`, those of `generated`, drawn on the CPU.

    So they are the same for every device; `generated` draws on the module's, and a GPU has other random numbers.
    """
    dtype, parts = next(module.generator.parameters()).dtype, []
    for block in range(rows.start // BLOCK, -(-rows.stop // BLOCK)):
        whole = draw((BLOCK, module.latent_dim), key("evaluate", seed, block), module.prior, dtype=dtype)
        parts.append(whole[max(0, rows.start - block * BLOCK) : rows.stop - block * BLOCK])
    z = torch.cat(parts)
    return z if truncation is None else truncate(z, truncation)


def chosen(length: int, count: int | None, seed: int = 0) -> list[int]:
    """Return `count` (None: all) of the rows 0..length-1 in an order that depends on the seed alone.

    Raises:
        ValueError: if there are fewer rows than asked for.
    """
    if count is not None and count > length:
        raise ValueError(f"{count:,} images were asked for, but there are {length:,}")
    order = torch.randperm(length, generator=torch.Generator().manual_seed(key("rows", seed)))
    return order[:count].tolist()


def stored(dataset: Any, rows: Sequence[int]) -> Iterator[Labelled]:
    """Yield these rows of a dataset as uint8 `(n, C, H, W)` with their labels `(n,)`, or None.

    An item is an image, or a tuple of one and a label; float images are in [-1, 1].
    """
    for start in range(0, len(rows), BLOCK):
        keys = list(rows[start : start + BLOCK])
        batch = dataset.__getitems__(keys) if hasattr(dataset, "__getitems__") else [dataset[row] for row in keys]
        images, labels = stacked(batch) if isinstance(batch, list) else batch
        if images.is_floating_point() and start == 0 and images.min() >= 0:
            raise ValueError("the images are floats without a negative value; expected uint8, or floats in [-1, 1]")
        yield (images if images.dtype == torch.uint8 else to_uint8(images)), labels


def stacked(batch: list[Any]) -> Labelled:
    """Return items, as torch's own datasets give them one by one, as a batch."""
    items = [item if isinstance(item, tuple | list) else (item,) for item in batch]
    if not all(isinstance(item[0], Tensor) for item in items):
        kind = type(items[0][0]).__name__
        raise ValueError(f"an item of the dataset is a {kind}; expected an image tensor, or a tuple of one and a label")
    labels = [int(item[1]) for item in items if len(item) > 1 and not isinstance(item[1], str)]
    images = torch.stack([item[0] for item in items])
    return images, torch.tensor(labels) if len(labels) == len(items) else None
