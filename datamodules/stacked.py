"""Stacked MNIST (Metz et al. 2017, arXiv 1611.02163): three digits as red, green and blue, 1,000 classes to cover."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.base import Batch, BatchDataset, ImageTensors, Size, integer, one_of
from datamodules.mnist import MNISTDataModule
from datamodules.order import Key, mix


class Stacks(Dataset[Batch]):
    """Triples of random digits, put together when they are asked for.

    Which digits are in image i depends on the seed and i alone, not on the number of images.

    Args:
        digits: grey images and their labels from 0 to 9.
        count: number of triples.
        seed: seed of the triples.
    """

    def __init__(self, digits: ImageTensors, count: int, seed: int) -> None:
        self.digits = digits
        generator = torch.Generator().manual_seed(seed)
        # With no digits there are no triples: an empty validation set.
        self.triples = torch.randint(max(len(digits), 1), (count if len(digits) else 0, 3), generator=generator)

    def __len__(self) -> int:
        return len(self.triples)

    def __getitem__(self, key: Key) -> Batch:
        """Return one image `(3, H, W)` and its label `()`."""
        images, labels = self.__getitems__([key])
        return images[0], labels[0]

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return the images `(N, 3, H, W)` and labels `(N,)` of the keys; the red digit counts hundreds."""
        triples = self.triples[torch.tensor([key if isinstance(key, int) else key[0] for key in keys])]
        red, green, blue = self.digits.labels[triples].unbind(1)
        return self.digits.images[triples, 0], 100 * red + 10 * green + blue


class StackedMNISTDataModule(MNISTDataModule):
    """Three random MNIST digits as the channels of an RGB image, from the files of `MNISTDataModule`.

    No digit is in two of the sets: the triples for validation are of `val_size` digits kept for it, as many as they
    are, and the 10,000 for tests of the 10,000 test digits.

    Args:
        root: Folder that holds `MNIST/raw`; it may be read-only if the files are there.
        size: Height and width; 28 are the original pixels, 32 adds two black pixels on each side, others resize.
        channels: 3; a model on the command line takes its own from here.
        batch_size: Images per process and batch.
        val_size: Number of the 60,000 digits kept for validation, chosen by the seed.
        count: Number of training images.
        seed: Seed of the split, of the triples and, with the run's seed, of the training order.
        num_workers: Loading processes; the digits are in memory, so 0 is fastest.
        infinite: Repeat the training images until an epoch has at least 100 batches.
    """

    num_classes = 1000

    def __init__(
        self,
        root: str | Path = "data",
        size: Size = 32,
        channels: Literal[3] = 3,
        batch_size: int = 64,
        val_size: int = 5000,
        count: int = 128_000,
        seed: int = 0,
        num_workers: int = 0,
        infinite: bool = False,
    ) -> None:
        super().__init__(
            root, size, one_of("channels", channels, (3,)), batch_size, val_size, seed, num_workers, infinite
        )
        self.count = integer("count", count, least=1)

    def splits(self) -> tuple[BatchDataset, BatchDataset, BatchDataset]:
        """Return `count` triples of the training digits, and as many triples as digits for validation and test."""
        train, val, test = super().splits()
        return self._stacked(train, self.count, 0), self._stacked(val, len(val), 1), self._stacked(test, len(test), 2)

    def _stacked(self, digits: BatchDataset, count: int, part: int) -> Stacks:
        assert isinstance(digits, ImageTensors)
        return Stacks(digits, count, mix(self.seed, part))

    def _read(self, train: bool) -> tuple[Tensor, Tensor]:
        images, labels = super()._read(train)
        return images[:, :1], labels  # of three equal channels
