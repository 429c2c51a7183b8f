"""Stacked MNIST (Metz et al. 2017, arXiv 1611.02163): three digits as red, green and blue, which give 1,000 classes."""

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
    """Triples of random digits, stacked on access.

    The digits of image i are a function of the seed and i. They do not depend on the number of images.

    Args:
        digits: Grey images and their labels from 0 to 9.
        count: Number of triples.
        seed: Seed of the triples.
    """

    def __init__(self, digits: ImageTensors, count: int, seed: int) -> None:
        self.digits = digits
        generator = torch.Generator().manual_seed(seed)
        # Without digits, as in an empty validation set, there are no triples.
        self.triples = torch.randint(max(len(digits), 1), (count if len(digits) else 0, 3), generator=generator)

    def __len__(self) -> int:
        return len(self.triples)

    def __getitem__(self, key: Key) -> Batch:
        """Return one image `(3, H, W)` and its label `()`."""
        images, labels = self.__getitems__([key])
        return images[0], labels[0]

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return the images `(N, 3, H, W)` and labels `(N,)` of the keys: 100 x red + 10 x green + blue digit."""
        triples = self.triples[torch.tensor([key if isinstance(key, int) else key[0] for key in keys])]
        red, green, blue = self.digits.labels[triples].unbind(1)
        return self.digits.images[triples, 0], 100 * red + 10 * green + blue


class StackedMNISTDataModule(MNISTDataModule):
    """Three random MNIST digits as the channels of an RGB image, from the files of `MNISTDataModule`.

    The sets share no digit. The validation set has `val_size` triples of the `val_size` digits kept for it. The test
    set has 10,000 triples of the 10,000 test digits.

    Args:
        root: Folder that contains `MNIST/raw`; it may be read-only if the files exist.
        size: Height and width. 28 keeps the original pixels, 32 adds two black pixels on each side, others resize.
        channels: Must be 3; on the command line it sets the model's channels too.
        batch_size: Images per process and batch.
        val_size: Number of the 60,000 digits kept for validation, chosen by the seed.
        count: Number of training images.
        seed: Seed of the split, of the triples and, with the run's seed, of the training order.
        num_workers: Processes that load images; 0 is fastest, because the digits are in memory.
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
        """Return `count` triples of training digits, and as many triples as digits for validation and tests."""
        train, val, test = super().splits()
        return self._stacked(train, self.count, 0), self._stacked(val, len(val), 1), self._stacked(test, len(test), 2)

    def _stacked(self, digits: BatchDataset, count: int, part: int) -> Stacks:
        assert isinstance(digits, ImageTensors)
        return Stacks(digits, count, mix(self.seed, part))

    def _read(self, train: bool) -> tuple[Tensor, Tensor]:
        images, labels = super()._read(train)
        return images[:, :1], labels  # the three channels are equal
