"""What data modules of stored images share: sets of images of a reader, and the options of reading and of splitting."""

import os
import warnings
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.base import (
    Batch,
    BatchDataset,
    ImageDataModule,
    Size,
    integer,
    one_of,
    pair,
    quiet_about_workers,
    split,
)
from datamodules.cached import CachedLoader
from datamodules.decode import Half, Target
from datamodules.files import listed
from datamodules.order import Key, mix
from datamodules.reader import Cache, OnError, Reader
from datamodules.resident import ResidentLoader, keep_on, sent
from datamodules.windows import CUTS, Cut, ValFit, View, cutting, reading, warn_of_small


@dataclass(frozen=True)
class Contents:
    """What is known about stored images without opening them.

    Attributes:
        labels: Label of each image, `(N,)` int64.
        classes: Names of the classes in the order of the labels; empty if there are no classes.
        sets: Row indices of the sets train, val and test; empty if the images are not divided into sets.
        left_out: Number of unused items by kind.
        unclassed: Reason why there are no classes.
    """

    labels: Tensor
    classes: list[str]
    sets: dict[str, Tensor]
    left_out: Counter[str]
    unclassed: str


class StoredImages(Dataset[Batch]):
    """A subset of the images of a reader.

    Args:
        files: Reader of all images.
        labels: Labels of all images, `(M,)` int64.
        rows: Indices of the images in this set, `(N,)`.
        flip: Mirror half of the images, chosen by their keys.
        view: The part of an image that an item shows; None for images that the reader has resized.
    """

    def __init__(
        self, files: Reader, labels: Tensor, rows: Tensor, flip: bool = False, view: View | None = None
    ) -> None:
        self.files, self.labels, self.rows, self.flip, self.view = files, labels, rows, flip, view
        self._usable: Tensor | None = None  # `rows` without broken images, when all have been read

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> Batch:
        """Return an image `(C, H, W)` and its label `()`, both of the next readable one if this is broken."""
        images, labels = self.__getitems__([key])
        return images[0], labels[0]

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return the images `(N, C, H, W)` and labels `(N,)` of the keys."""
        rows = [key if isinstance(key, int) else key[0] for key in keys]
        indices = self.rows[rows]
        images = self.files.cached(indices)
        if images is None:
            indices, images = self._read(keys, rows, indices.tolist())
        if self.flip:
            mirrored = self.mirrored(keys)
            images[mirrored] = images[mirrored].flip(-1)
        return images, self.labels[indices]

    @property
    def missing(self) -> int:
        """Number of images of this set that are neither cached nor broken."""
        return self.files.missing(self.rows)

    def resident(self, keys: Sequence[Key]) -> Batch:
        """Return the same as `__getitems__`, on the device that keeps the images, see `datamodules.resident`."""
        pixels = self.files.resident
        assert pixels is not None
        if self._usable is None:
            self._usable = self._without_broken()
        indices = self._usable[[key if isinstance(key, int) else key[0] for key in keys]]
        mirrored = self.mirrored(keys).long() if self.flip else torch.zeros_like(indices)
        numbers = sent(torch.stack([indices, self.labels[indices], mirrored]), pixels.device)
        images = pixels.index_select(0, numbers[0])
        if self.flip:
            images = torch.where(numbers[2].bool()[:, None, None, None], images.flip(-1), images)
        return images, numbers[1]

    def mirrored(self, keys: Sequence[Key]) -> Tensor:
        """Return whether the images of the keys are mirrored, `(N,)` bool."""
        return torch.tensor([not isinstance(key, int) and mix(key[1]) % 2 == 1 for key in keys])

    def _without_broken(self) -> Tensor:
        """Return the index of a readable image for each row, `(N,)`."""
        usable = self.rows.clone()
        for row in self.files.is_broken(self.rows).nonzero().flatten().tolist():
            usable[row] = self._readable(row)[0]
        return usable

    def _read(self, keys: Sequence[Key], rows: Sequence[int], indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return indices `(N,)` and images `(N, C, H, W)`. An image is read once for neighbours in the batch."""
        used, images = [], []
        for _, some in groupby(zip(indices, rows, keys, strict=True), itemgetter(0)):
            neighbours = list(some)
            index, image = self._readable(neighbours[0][1])
            used += [index] * len(neighbours)
            if self.view is None:
                images += [image] * len(neighbours)
            else:  # now, so that a single decoded photograph is in memory
                images += [self.view(image, key, self.files.target) for _, _, key in neighbours]
            del image  # before the next one is decoded
        return torch.tensor(used), torch.stack(images)

    def _readable(self, row: int) -> tuple[int, Tensor]:
        """Return index and image of the first readable row from a row on, as a last resort from another set."""
        within = (int(self.rows[(row + i) % len(self)]) for i in range(len(self)))
        return self.files.first_readable(chain(within, range(len(self.files))))


class StoredImagesDataModule(ImageDataModule):
    """Base of data modules whose images are decoded when they are needed. Subclasses say where the images are.

    If the stored images are divided into train and val or test, these are the three sets. If only one of `val` and
    `test` exists, it is used for both. Otherwise a random part of the images is used for validation and tests.

    Sizes, aspect ratios and formats may be mixed, see `datamodules.decode`. Alpha is composed over white unless
    `channels` is 4.

    Args:
        size: Height and width to which all images are resized.
        channels: 1 (grey), 3 (colour; grey images are repeated) or 4 (colour and alpha, which some image must have).
        batch_size: Images per process and batch.
        fit: How images are fitted: crop the centre, pad with black, stretch, or take a random window of `size` without
            resizing, see `datamodules.windows`.
        scale_range: Minimum and maximum of a random factor by which an image is enlarged before a window is taken.
        turn: Turn training windows by a random number of quarter turns.
        windows: Windows of each image in an epoch. They are neighbours in the order, so that an image is decoded once
            for all of them. `batch_size` should be a multiple.
        val_fit: For windows, the form of validation and test images: window (default; fixed windows), whole (in their
            own sizes), crop, pad or stretch.
        half: Use only the left or right half of every image, such as of files that contain a pair.
        crop: Side, or height and width, of a centre crop in original pixels before resizing, such as 148 for CelebA.
        flip: Mirror training images horizontally at random.
        cache: true caches decoded images in memory shared by the workers of a process, so that each is decoded once.
            The workers end when the images are cached. device decodes all images before the first batch and keeps them
            on the device of each process, without workers in training. Batches are the same.
        on_error: For unreadable images, skip (use the next readable image and warn once) or raise.
        val_fraction: Share of the images kept for validation if there is no set for it, chosen by the seed. At least
            one image is kept unless it is 0.
        val_size: Number of images kept for validation, instead of `val_fraction`.
        infinite: Repeat the training images until an epoch has at least 100 batches.
        seed: Seed of the split and, with the run's seed, of the training order and flips.
        num_workers: Processes that load images; by default the number of CPU cores, at most 8.
    """

    def __init__(
        self,
        size: Size = 64,
        channels: int = 3,
        batch_size: int = 64,
        fit: Cut = "crop",
        scale_range: tuple[float, float] = (1.0, 1.0),
        turn: bool = False,
        windows: int = 1,
        val_fit: ValFit | None = None,
        half: Half | None = None,
        crop: Size | None = None,
        flip: bool = False,
        cache: Cache = False,
        on_error: OnError = "skip",
        val_fraction: float = 0.05,
        val_size: int | None = None,
        infinite: bool = True,
        seed: int = 0,
        num_workers: int | None = None,
    ) -> None:
        workers = min(8, os.cpu_count() or 1) if num_workers is None else num_workers
        super().__init__(size, channels, batch_size, workers, seed, infinite)
        self.fit: Cut = one_of("fit", fit, CUTS)
        self.cutting = cutting(self.size, fit, scale_range, turn, windows, val_fit)
        self.windows, self.whole = windows, val_fit == "whole"
        self.half: Half | None = one_of("half", half, ("left", "right", None))
        self.crop = None if crop is None else pair("crop", crop)
        self.flip, self.cache = flip, one_of("cache", cache, (False, True, "device"))
        if cache == "device" and self.on_host:
            raise ValueError(f"cache is device; expected true or false, because {self.on_host}.")
        if cache == "device" and self.cutting:
            raise ValueError("cache is device; expected true or false, because windows are taken on the CPU.")
        self.on_error: OnError = one_of("on_error", on_error, ("skip", "raise"))
        if not 0 <= val_fraction < 1:
            raise ValueError(f"val_fraction must be at least 0 and less than 1, got {val_fraction!r}.")
        self.val_fraction = val_fraction
        self.val_size = None if val_size is None else integer("val_size", val_size, least=0)
        if cache and not self.cutting:
            quiet_about_workers()

    on_host = ""  # reason why batches are made on the CPU and images cannot be kept on the device

    @property
    @abstractmethod
    def contents(self) -> Contents:
        """What is known about the images without opening them. It is found once."""

    @abstractmethod
    def reader(self) -> Reader:
        """Return a new reader of all images, which converts them to `target`."""

    @property
    def classes(self) -> list[str]:
        """Names of the classes in the order of their labels; empty if there are none."""
        return self.contents.classes

    @property
    def num_classes(self) -> int:
        """Number of classes; 1 if there are none."""
        return max(1, len(self.classes))

    @property
    def unclassed(self) -> str:  # type: ignore[override]
        """Reason why there are no classes."""
        return self.contents.unclassed

    @property
    def left_out(self) -> Counter[str]:
        """Number of unused items by kind."""
        return Counter(self.contents.left_out)

    def splits(self) -> tuple[BatchDataset, BatchDataset, BatchDataset]:
        """Return the training, validation and test images. The last two may be the same.

        Raises:
            ValueError: `channels` is 4 and no image has alpha, or the cache does not fit into memory.
            OSError: Most images cannot be read, or one cannot and `on_error` is raise.
        """
        labels, classes, sets = self.contents.labels, self.contents.classes, self.contents.sets
        files = self.reader()
        self._readers.append(files)
        files.check_channels()
        if self.cache:
            files.allocate(self.cache)
        files.check_readable()  # the header of a broken image may still be intact
        if self.cutting:
            warn_of_small(files)
        train = sets.get("train", torch.arange(len(files)))
        parts = {name: rows for name, rows in sets.items() if name != "train"}
        if not parts:
            kept, val = split(len(train), self._val_size(len(train)), self.seed)
            parts["val"], train = train[val], train[kept]
        held = {name: self.shown(files, labels, rows) for name, rows in parts.items()}
        first = held["val"] if "val" in held else held["test"]
        last = held.get("test", first)
        counts = torch.bincount(labels[train], minlength=len(classes)).tolist()
        without = [name for name, count in zip(classes, counts, strict=True) if not count] if classes else []
        if without:
            warnings.warn(f"no training images are of the classes {listed(without)}", stacklevel=2)
        return self.shown(files, labels, train, training=True), first, last

    @property
    def target(self) -> Target:
        """The form to which the reader converts images: native size for windows."""
        return Target(self.channels, self.size, reading(self.fit), self.crop, self.half)

    def shown(self, files: Reader, labels: Tensor, rows: Tensor, training: bool = False) -> BatchDataset:
        """Return a set of the images `rows`, with a row for each window."""

        def make(view: View | None, count: int) -> BatchDataset:
            return StoredImages(files, labels, rows.repeat_interleave(count), self.flip and training, view)

        return make(None, 1) if self.cutting is None else self.cutting.shown(make, training)

    def loader(self, kind: type[DataLoader[Batch]], dataset: BatchDataset, **options: Any) -> DataLoader[Batch]:
        """Return a dataloader of a class, or one of cached images or of images on the device.

        Raises:
            ValueError: The images do not fit into the free memory of the device.
            OSError: Most images cannot be read, or one cannot and `on_error` is raise.
        """
        if not self.cache or not isinstance(dataset, StoredImages):
            return super().loader(kind, dataset, **options)
        if self.cache != "device" or self.trainer is None:
            return super().loader(CachedLoader, dataset, **options)
        keep_on(self.trainer.strategy.root_device, dataset.files, self.num_workers)
        return ResidentLoader(dataset, **options)

    def everything(self) -> StoredImages:
        """Return the images of all sets, without flips, with their labels."""
        train = self._datasets()[0]
        assert isinstance(train, StoredImages)
        return StoredImages(train.files, train.labels, torch.arange(len(train.files)), view=train.view)

    def _val_size(self, count: int) -> int:
        if self.val_size is not None:
            return self.val_size
        return min(count - 1, max(1, round(count * self.val_fraction))) if self.val_fraction else 0
