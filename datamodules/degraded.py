"""Pairs of clean and degraded images, for restoration, super-resolution, colourisation and inpainting."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from datamodules.base import Batch, BatchDataset
from datamodules.degrade import Chain
from datamodules.digits import DigitsDataModule
from datamodules.folder import ImageFolderDataModule
from datamodules.kernels import sharpened
from datamodules.mnist import MNISTDataModule
from datamodules.order import Key, mix
from datamodules.reader import BrokenDataError
from datamodules.windows import WholeImages

Sets = tuple[BatchDataset, BatchDataset, BatchDataset]


class Degraded(Dataset[Batch]):
    """Pairs of degraded sources and clean targets.

    In training the degradation of an image is a function of the item's key, so it differs each time. In evaluation it
    is fixed. If the chain is a mask, items are the image and its mask.

    Args:
        clean: The clean images.
        chain: The degradation.
        seed: Seed of the degradation in evaluation.
        reverse: Use clean sources and degraded targets.
        sharpen: Weight of an unsharp mask. Sources are made of sharpened images, which are the third part of an item.
    """

    def __init__(
        self, clean: BatchDataset, chain: Chain, seed: int, reverse: bool = False, sharpen: float = 0.0
    ) -> None:
        self.clean, self.chain, self.seed, self.reverse, self.sharpen = clean, chain, seed, reverse, sharpen

    def __len__(self) -> int:
        return len(self.clean)

    def __getitem__(self, key: Key) -> Batch:
        """Return a source and its target `(C, H, W)`, or an image and its mask."""
        return tuple(part[0] for part in self.__getitems__([key]))

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return the sources and targets `(N, C, H, W)` of the keys, or images and masks."""
        images, _ = self.clean.__getitems__(keys)
        # Whole images may have any size. The protocols of super-resolution crop them to multiples of the scale.
        height, width = (side - side % self.chain.scale for side in images.shape[-2:])
        if not height or not width:
            tall, wide = images.shape[-2:]
            raise BrokenDataError(
                f"An image has {wide}x{tall} pixels; expected at least {self.chain.scale} a side, the scale in degrade."
            )
        images = images[..., :height, :width]
        words = [mix(self.seed, key) if isinstance(key, int) else mix(key[1], 5) for key in keys]
        sharp = torch.stack([sharpened(image, self.sharpen) for image in images]) if self.sharpen else images
        made = torch.stack([self.chain(image, word) for image, word in zip(sharp, words, strict=True)])
        if self.sharpen:
            return made, images, sharp
        return (images, made) if self.chain.hole or self.reverse else (made, images)


def degraded(sets: Sets, chain: Chain, seed: int, reverse: bool = False, sharpen: float = 0.0) -> Sets:
    """Return the three sets with degraded images. A shared validation and test set stays shared.

    Only training images are sharpened, for held-out ones are compared with images as they are.
    """
    train, val, test = sets

    def made(clean: BatchDataset, word: int) -> BatchDataset:
        if isinstance(clean, WholeImages):
            return WholeImages(made(clean.images, word), made(clean.windows, word))
        return Degraded(clean, chain, word, reverse)

    kept = made(val, seed)
    return Degraded(train, chain, seed, reverse, sharpen), kept, kept if test is val else made(test, mix(seed, 1))


class DegradedFolderDataModule(ImageFolderDataModule):
    """Images of a folder, degraded on access, with batches `(source, target)`, or `(image, mask)` for a mask.

    For batches see `datamodules.pairs`.

    Args:
        root: Folder of the clean images.
        degrade: Degradation, such as `noise 0..55`, `downscale 4 bicubic` or `mask brush`, or several steps separated
            by commas; see `datamodules.grammar`. `real` is Real-ESRGAN's (Wang et al. 2021, arXiv 2107.10833).
        reverse: Learn the degradation: with `grey`, batches are `(colour, grey)`.
        sharpen: Weight of an unsharp mask on training images, 0.5 in Real-ESRGAN, or 0. Sources are made of the
            sharpened images, and batches of training are `(source, target, sharpened target)`.
        options: Arguments of `ImageFolderDataModule`.
    """

    on_host = "images are degraded on the CPU"

    def __init__(
        self,
        root: str | Path,
        degrade: str = "noise 0..55",
        reverse: bool = False,
        sharpen: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(root, **options)
        self.chain = Chain(degrade, self.size, self.channels)
        self.reverse = reverse
        if reverse and (self.chain.hole or self.chain.scale > 1):
            raise ValueError(f"degrade is {degrade}; expected, for reverse, no mask and images of the same size")
        if not 0 <= sharpen <= 10:
            raise ValueError(f"sharpen is {sharpen}; expected a weight from 0 to 10")
        if sharpen and (self.chain.hole or reverse or self.channels == 4):
            raise ValueError(f"sharpen is {sharpen}; expected 0 for a mask, for reverse and for images with alpha")
        self.sharpen = sharpen

    @property
    def num_classes(self) -> int:
        """1, because classes are ignored."""
        return 1

    @property
    def classes(self) -> list[str]:
        """Empty, because classes are ignored."""
        return []

    @property
    def unclassed(self) -> str:  # type: ignore[override]
        """Empty, because classes are not expected."""
        return ""

    def splits(self) -> Sets:
        """Return the training images and, twice, the validation images, degraded."""
        return degraded(super().splits(), self.chain, self.seed, self.reverse, self.sharpen)


class DegradedMNISTDataModule(MNISTDataModule):
    """MNIST, degraded on access, with batches `(source, target)`, or `(image, mask)` for a mask.

    Args:
        root: Folder that contains `MNIST/raw`.
        degrade: Degradation, see `DegradedFolderDataModule`.
        options: Arguments of `MNISTDataModule`.
    """

    num_classes = 1

    def __init__(self, root: str | Path = "data", degrade: str = "noise 0..55", **options: Any) -> None:
        super().__init__(root, **options)
        self.chain = Chain(degrade, self.size, self.channels)

    def splits(self) -> Sets:
        """Return the training, validation and test images, degraded."""
        return degraded(super().splits(), self.chain, self.seed)


class DegradedDigitsDataModule(DigitsDataModule):
    """scikit-learn's digits, degraded on access, without a download.

    Args:
        degrade: Degradation, see `DegradedFolderDataModule`.
        options: Arguments of `DigitsDataModule`.
    """

    num_classes = 1

    def __init__(self, degrade: str = "noise 0..55", **options: Any) -> None:
        super().__init__(**options)
        self.chain = Chain(degrade, self.size, self.channels)

    def splits(self) -> Sets:
        """Return the training images and, twice, the validation images, degraded."""
        return degraded(super().splits(), self.chain, self.seed)
