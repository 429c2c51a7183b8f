"""Unpaired digits in two domains, original and degraded. The known digit measures whether a translation keeps it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from datamodules.base import Batch, BatchDataset, one_of
from datamodules.degrade import Chain
from datamodules.degraded import Sets
from datamodules.digits import DigitsDataModule
from datamodules.mnist import MNISTDataModule
from datamodules.order import Key, mix, shuffled
from datamodules.pairs import Direction


class Rows(Dataset[Batch]):
    """A subset of a data set.

    Args:
        dataset: Images and labels.
        rows: Row indices, in order.
    """

    def __init__(self, dataset: BatchDataset, rows: Sequence[int]) -> None:
        self.dataset, self.rows = dataset, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> Batch:
        """Return one image and its label."""
        return self.dataset[self._key(key)]

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return the images `(N, C, H, W)` and labels `(N,)` of the keys."""
        return self.dataset.__getitems__([self._key(key) for key in keys])

    def _key(self, key: Key) -> Key:
        return self.rows[key] if isinstance(key, int) else (self.rows[key[0]], key[1])


class Changed(Dataset[Batch]):
    """Unpaired source and target images, of which one side is degraded.

    In training, the key of an item draws its target and its degradation. In evaluation, both are fixed: the target is
    the next image.

    Args:
        sources: Images and labels of the source domain.
        targets: Images of the target domain.
        chain: Degradation of one side.
        direction: a_to_b degrades the sources, b_to_a the targets.
        seed: Seed of the degradation in evaluation.
    """

    def __init__(
        self, sources: BatchDataset, targets: BatchDataset, chain: Chain, direction: Direction, seed: int
    ) -> None:
        self.sides, self.chain, self.seed = (sources, targets), chain, seed
        self.changed = 0 if direction == "a_to_b" else 1

    def __len__(self) -> int:
        return len(self.sides[0]) if len(self.sides[1]) else 0

    def __getitem__(self, key: Key) -> Batch:
        """Return a source and a target `(C, H, W)`, and the label of the source `()`."""
        source, target, label = self.__getitems__([key])
        return source[0], target[0], label[0]

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return the sources and targets `(N, C, H, W)` of the keys, and the labels `(N,)` of the sources."""
        count = len(self.sides[1])
        partners = [(key + 1 if isinstance(key, int) else mix(key[1], 3)) % count for key in keys]
        sources, labels = self.sides[0].__getitems__(keys)
        images = [sources, self.sides[1].__getitems__(partners)[0]]
        words = [mix(self.seed, key) if isinstance(key, int) else mix(key[1], 5) for key in keys]
        made = [self.chain(image, word) for image, word in zip(images[self.changed], words, strict=True)]
        images[self.changed] = torch.stack(made)
        return images[0], images[1], labels


def change(text: str, size: tuple[int, int], channels: int) -> Chain:
    """Return the degradation that `text` describes.

    Raises:
        ValueError: A step is unknown, cuts holes or changes the size of images.
    """
    chain = Chain(text, size, channels)
    if chain.hole or chain(torch.zeros(channels, *size, dtype=torch.uint8), 0).shape[1:] != size:
        raise ValueError(f"degrade is {text}; expected steps that leave images of the same size, such as invert")
    return chain


def changed(sets: Sets, chain: Chain, direction: Direction, seed: int) -> Sets:
    """Return the three sets in two domains. No training image is in both domains."""
    train, val, test = sets
    order, half = shuffled(len(train), seed, 2).tolist(), len(train) // 2
    kept = Changed(val, val, chain, direction, seed)
    return (
        Changed(Rows(train, order[half:]), Rows(train, order[:half]), chain, direction, seed),
        kept,
        kept if test is val else Changed(test, test, chain, direction, mix(seed, 1)),
    )


class UnpairedMNISTDataModule(MNISTDataModule):
    """Unpaired MNIST in two domains, with batches `(source, target, label of the source)`, see `datamodules.pairs`.

    Domain A is one half of the training images, degraded. Domain B is the other half, unchanged. All validation and
    test images are in both domains, in an order that pairs different images.

    Args:
        root: Folder that contains `MNIST/raw`.
        degrade: Degradation of domain A: `invert`, `rotate 90`, `tint` (for 3 channels), or any steps of
            `datamodules.grammar` that preserve the size.
        direction: a_to_b translates the degraded images of A to B, b_to_a the reverse.
        options: Arguments of `MNISTDataModule`.
    """

    num_classes = 1

    def __init__(
        self, root: str | Path = "data", degrade: str = "invert", direction: Direction = "a_to_b", **options: Any
    ) -> None:
        super().__init__(root, **options)
        self.chain = change(degrade, self.size, self.channels)
        self.direction: Direction = one_of("direction", direction, ("a_to_b", "b_to_a"))

    def splits(self) -> Sets:
        """Return the training, validation and test images in two domains."""
        return changed(super().splits(), self.chain, self.direction, self.seed)


class UnpairedDigitsDataModule(DigitsDataModule):
    """Unpaired scikit-learn digits in two domains, like `UnpairedMNISTDataModule`, without a download.

    Args:
        degrade: Degradation of domain A, see `UnpairedMNISTDataModule`.
        direction: a_to_b translates the degraded images of A to B, b_to_a the reverse.
        options: Arguments of `DigitsDataModule`.
    """

    num_classes = 1

    def __init__(self, degrade: str = "invert", direction: Direction = "a_to_b", **options: Any) -> None:
        super().__init__(**options)
        self.chain = change(degrade, self.size, self.channels)
        self.direction: Direction = one_of("direction", direction, ("a_to_b", "b_to_a"))

    def splits(self) -> Sets:
        """Return the training images and, twice, the validation images in two domains."""
        return changed(super().splits(), self.chain, self.direction, self.seed)
