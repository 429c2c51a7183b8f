"""The real images that `gans explore neighbours` and `spectrum` compare with: their flags, and a part of a split."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from gans.commands.parser import Parser
from gans.commands.splits import Split, bar
from gans.explore.generators import still
from gans.metrics.rows import chosen, stored


def add_data(flags: Parser) -> None:
    """Add the flags of the data, and of the part of them that is used."""
    flags.add_argument("--split", type=Split, default="train", help="the real images to compare with")
    flags.add_argument("--reference", type=int, help="how many of them; by default all")
    flags.add_lightning_class_args(L.LightningDataModule, "data", subclass_mode=True, required=False)


class RealImages:
    """Real images in the order of their data set; of clips the middle frames.

    Args:
        dataset: of images, or of tuples that begin with one.
        count: how many of them; None takes all.
    """

    def __init__(self, dataset: Any, count: int | None) -> None:
        self.dataset = dataset
        self.rows = sorted(chosen(len(dataset), count))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    def images(self, which: list[int]) -> Tensor:
        """Return some of the images, uint8 `(N, C, H, W)`."""
        return torch.cat([still(block) for block, _ in stored(self.dataset, [self.rows[i] for i in which])])

    def blocks(self, what: str) -> Iterator[Tensor]:
        """Yield all images in blocks, uint8 `(n, C, H, W)`, with a progress bar."""
        for block, _ in bar(what, len(self))(stored(self.dataset, self.rows)):
            yield still(block)

    def check_shape(self, shape: tuple[int, int, int], checkpoint: Path) -> None:
        """Check that the images have the shape `(C, H, W)` of a checkpoint's images.

        Raises:
            ValueError: if not.
        """
        there = tuple(self.images([0]).shape[1:])
        if there != shape:
            raise ValueError(
                f"{checkpoint} makes images of shape {shape} (channels, height, width), the data are "
                f"{there}: give --data.size and --data.channels"
            )
