"""The subject of an evaluation: the images of a model or of a data set, which depend on a seed and a count alone.

Image i is the same for every count, batch size and number of processes. Models that translate make image i of an item
of a data set; `gans.engine.interface` says what models offer.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gans.engine.interface import BrokenSamplesError, classes, conditions, translates, unclipped, undisturbed
from gans.latent import draw, key, truncate
from gans.metrics.rows import Labelled, chosen, items, placed, stored
from gans.pictures.images import to_uint8

# Each block of latents has its own random key. So image i does not depend on the number of images, as it would with a
# single call of torch.randn.
BLOCK = 250


@dataclass(frozen=True)
class Subject:
    """What is evaluated: the images that a model makes, or those of a data set.

    Args:
        about: description for the report.
    """

    about: dict[str, Any] = field(default_factory=dict, kw_only=True)

    @property
    def classes(self) -> int:
        """Number of classes of the labels; 0 if the images have no labels of the data."""
        raise NotImplementedError

    def images(self, count: int, seed: int, rank: int = 0, world: int = 1) -> Iterator[Labelled]:
        """Yield the share of process `rank` of `count` images, uint8 `(n, C, H, W)`, with labels `(n,)` or None."""
        raise NotImplementedError


@dataclass(frozen=True)
class Samples(Subject):
    """The images that a model makes.

    Args:
        model: has `sample(n)`, or translates.
        given: data set of inputs, for a model that translates.
        truncation: of the latents, or None.
    """

    model: nn.Module
    given: Any = None
    truncation: float | None = None

    @property
    def classes(self) -> int:
        """Number of classes of a class-conditional model; 0 for others."""
        return 0 if translates(self.model) else conditions(self.model)

    def images(self, count: int, seed: int, rank: int = 0, world: int = 1) -> Iterator[Labelled]:
        """Yield samples as `generated` does."""
        return generated(self.model, count, seed, self.truncation, rank, world, self.given)


@dataclass(frozen=True)
class Pictures(Subject):
    """The images of a data set. The seed chooses them and their order.

    Args:
        dataset: its items are images, or tuples of one and a label.
        numbers: `(K,)` the labels that the reference has for the labels of `dataset`; None ignores labels.
    """

    dataset: Any
    numbers: Tensor | None = None

    @property
    def classes(self) -> int:
        """Number of classes; 0 if labels are ignored."""
        return 0 if self.numbers is None else len(self.numbers)

    def images(self, count: int, seed: int, rank: int = 0, world: int = 1) -> Iterator[Labelled]:
        """Yield rows of the data set."""
        order = chosen(len(self.dataset), count, seed)
        share = [order[row] for rows in blocks(count, rank, world) for row in rows]
        for images, labels in stored(self.dataset, share):
            yield images, None if self.numbers is None or labels is None else self.numbers[labels]


def blocks(count: int, rank: int = 0, world: int = 1) -> Iterator[range]:
    """Yield the image numbers of this process's blocks. All processes together have 0..count-1 once."""
    for start in range(rank * BLOCK, count, world * BLOCK):
        yield range(start, min(start + BLOCK, count))


def generated(
    module: nn.Module,
    count: int,
    seed: int,
    truncation: float | None = None,
    rank: int = 0,
    world: int = 1,
    given: Any = None,
) -> Iterator[Labelled]:
    """Yield this process's share of `count` samples as uint8 `(n, C, H, W)` with their labels `(n,)`, or None.

    A class-conditional model (with `num_classes`) gets label `i % num_classes` for image i. A model with
    `num_categories` gets its categories in the same way, but they are not labels of the data, so None is returned. A
    module that translates makes image i of item i of the data set `given`.
    """
    if translates(module):
        yield from translations(module, count, seed, rank, world, given)
        return
    kinds = classes(module)
    for rows in blocks(count, rank, world):
        options: dict[str, Any] = {} if truncation is None else {"truncation": truncation}
        if kinds:
            options["labels"] = torch.arange(rows.start, rows.start + BLOCK) % kinds
        # The last block is whole too, so that image i does not depend on the count.
        images = unclipped(module, BLOCK, key("evaluate", seed, rows.start // BLOCK), **options)
        check_made(images, f"{type(module).__name__}.sample")
        labels = options["labels"][: len(rows)] if conditions(module) else None
        yield to_uint8(images[: len(rows)]), labels


def check_made(images: Tensor, by: str) -> None:
    """Check the range of images of a model before they are clipped to [-1, 1]. Some overshoot is allowed.

    Raises:
        BrokenSamplesError: if they are not finite.
        ValueError: if they have another range: no value is negative, and some are above 2.
    """
    least, most = (float(value) for value in images.aminmax())
    if not images.isfinite().all():
        raise BrokenSamplesError(f"{by} gave NaN or infinity")
    if least >= 0 and most > 2:
        raise ValueError(f"{by} gave images in [{least:.3g}, {most:.3g}]; expected [-1, 1]")


def translations(module: nn.Module, count: int, seed: int, rank: int, world: int, given: Any) -> Iterator[Labelled]:
    """Yield this process's share of the translations of `count` items of a data set, as `generated` does.

    The seed chooses the items and their order. The first items alone could all be of one class.

    Raises:
        ValueError: if there are fewer items, or no data set.
    """
    if given is None or len(given) < count:
        there = 0 if given is None else len(given)
        raise ValueError(
            f"{count:,} images were asked of {type(module).__name__}, which is given {there:,} to translate"
        )
    order = chosen(len(given), count, seed)
    for rows in blocks(count, rank, world):
        batch = placed(items(given, order[rows.start : rows.stop]), module)
        with undisturbed(module, key("evaluate", seed, rows.start // BLOCK)):
            images = module.translate(*module.inputs(batch)).float()  # type: ignore[operator]
        check_made(images, f"{type(module).__name__}.translate")
        yield to_uint8(images), None


def latents(module: Any, rows: range, seed: int, truncation: float | None = None) -> Tensor:
    """Return the latents `(len(rows), latent_dim)` of samples `rows`, those of `generated`, drawn on the CPU.

    They are the same for every device. `generated` draws on the device of the module, and a GPU draws other numbers.
    """
    dtype, parts = next(module.generator.parameters()).dtype, []
    for block in range(rows.start // BLOCK, -(-rows.stop // BLOCK)):
        whole = draw((BLOCK, module.latent_dim), key("evaluate", seed, block), module.prior, dtype=dtype)
        parts.append(whole[max(0, rows.start - block * BLOCK) : rows.stop - block * BLOCK])
    z = torch.cat(parts)
    return z if truncation is None else truncate(z, truncation)
