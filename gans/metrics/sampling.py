"""The subject of an evaluation: the images of a model or of a data set, which depend on a seed and a count alone.

Image i is the same for every count, batch size and number of processes. Models that translate make image i of an item
of a data set; `gans.engine.interface` says what models offer.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gans.engine.interface import BrokenSamplesError, classes, conditions, seeded, unclipped, undisturbed
from gans.latent import draw, key, truncate
from gans.metrics.rows import Labelled, chosen, items, placed, stored
from gans.pictures.images import to_uint8

BLOCK = 250  # images that are made together; each block has a seed of its own


@dataclass(frozen=True)
class Samples:
    """The images that a model makes of latents.

    Args:
        model: has `sample(n)`.
        truncation: of the latents, or None.
        about: description for the report.
    """

    model: nn.Module
    truncation: float | None = None
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """Number of classes of the labels; 0 if the images have no labels of the data."""
        return conditions(self.model)

    def images(self, count: int, seed: int, rank: int = 0, world: int = 1) -> Iterator[Labelled]:
        """Yield the share of process `rank` of `count` images, uint8 `(n, C, H, W)`, with labels `(n,)` or None.

        A class-conditional model (with `num_classes`) gets label `i % num_classes` for image i. A model with
        `num_categories` gets its categories in the same way, but they are not labels of the data, so None is returned.

        Raises:
            ValueError: if the model has no `sample(n)`, or its images another range than [-1, 1].
        """
        kinds = classes(self.model)
        options: dict[str, Any] = {} if self.truncation is None else {"truncation": self.truncation}
        for rows in blocks(count, rank, world):
            if kinds:
                options["labels"] = torch.arange(rows.start, rows.start + BLOCK) % kinds
            # The last block is whole too, so that image i does not depend on the count.
            images = unclipped(self.model, BLOCK, key("evaluate", seed, rows.start // BLOCK), **options)
            check_made(images, f"{type(self.model).__name__}.sample")
            labels = options["labels"][: len(rows)] if self.classes else None
            yield to_uint8(images[: len(rows)]), labels


@dataclass(frozen=True)
class Translations:
    """The images that a model makes of items of a data set. The seed chooses the items and their order.

    Args:
        model: has `translate`, see `gans.engine.interface`.
        given: data set of its inputs.
        about: description for the report.
    """

    model: nn.Module
    given: Any
    about: dict[str, Any] = field(default_factory=dict)
    classes: ClassVar[int] = 0

    def images(self, count: int, seed: int, rank: int = 0, world: int = 1) -> Iterator[Labelled]:
        """Yield the share of process `rank` of `count` images, uint8 `(n, C, H, W)`, without labels.

        Raises:
            ValueError: if there are fewer items, or the images have another range than [-1, 1].
        """
        name = type(self.model).__name__
        if len(self.given) < count:
            raise ValueError(f"{count:,} images were asked of {name}, which is given {len(self.given):,} to translate")
        order = chosen(len(self.given), count, seed)
        for rows in blocks(count, rank, world):
            batch = placed(items(self.given, order[rows.start : rows.stop]), self.model)
            own = key("evaluate", seed, rows.start // BLOCK)
            given = self.model.inputs(batch)  # type: ignore[operator]
            translate: Any = self.model.translate
            with undisturbed(self.model, own):
                images = translate(*given, **seeded(translate, own)).float()
            check_made(images, f"{name}.translate")
            yield to_uint8(images), None


@dataclass(frozen=True)
class Pictures:
    """The images of a data set. The seed chooses them and their order.

    Args:
        dataset: its items are images, or tuples of one and a label.
        numbers: `(K,)` the labels that the reference has for the labels of `dataset`; None ignores labels.
        about: description for the report.
    """

    dataset: Any
    numbers: Tensor | None = None
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """Number of classes; 0 if labels are ignored."""
        return 0 if self.numbers is None else len(self.numbers)

    def images(self, count: int, seed: int, rank: int = 0, world: int = 1) -> Iterator[Labelled]:
        """Yield the share of process `rank` of `count` images, uint8 `(n, C, H, W)`, with labels `(n,)` or None."""
        order = chosen(len(self.dataset), count, seed)
        share = [order[row] for rows in blocks(count, rank, world) for row in rows]
        for images, labels in stored(self.dataset, share):
            yield images, None if self.numbers is None or labels is None else self.numbers[labels]


Subject = Samples | Translations | Pictures  # what can be evaluated


def blocks(count: int, rank: int = 0, world: int = 1) -> Iterator[range]:
    """Yield the image numbers of this process's blocks. All processes together have 0..count-1 once."""
    for start in range(rank * BLOCK, count, world * BLOCK):
        yield range(start, min(start + BLOCK, count))


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


def latents(module: Any, rows: range, seed: int, truncation: float | None = None) -> Tensor:
    """Return the latents `(len(rows), latent_dim)` of samples `rows`, on the CPU.

    `Samples` makes its images of them, because `sample(n, seed=S)` draws its latents from `key(S)`.
    """
    dtype, parts = next(module.generator.parameters()).dtype, []
    for block in range(rows.start // BLOCK, -(-rows.stop // BLOCK)):
        first = max(0, rows.start - block * BLOCK)
        shape = (min(BLOCK, rows.stop - block * BLOCK) - first, module.latent_dim)
        own = key(key("evaluate", seed, block))
        parts.append(draw(shape, own, module.prior, dtype=dtype, first=first))
    z = torch.cat(parts)
    return z if truncation is None else truncate(z, truncation)
