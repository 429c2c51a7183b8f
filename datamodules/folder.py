"""Any folder of images, flat or with one folder per class, of any size, kind and quality."""

import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

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
from datamodules.decode import Fit, Half, Target
from datamodules.files import ImageFiles, OnError, existing_folder, image_files
from datamodules.order import Key, mix


class FolderImages(Dataset[Batch]):
    """Some of a folder's images.

    Args:
        files: All image files of the folder.
        labels: Labels of all of them, `(M,)` int64.
        rows: Which of them belong to this set, `(N,)`.
        flip: Mirror half of the images, as their keys say.
    """

    def __init__(self, files: ImageFiles, labels: Tensor, rows: Tensor, flip: bool = False) -> None:
        self.files, self.labels, self.rows, self.flip = files, labels, rows, flip

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> Batch:
        """Return an image `(C, H, W)` and its label `()`, both of the next readable file if this one is broken."""
        images, labels = self.__getitems__([key])
        return images[0], labels[0]

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return the images `(N, C, H, W)` and labels `(N,)` of the keys."""
        rows = [key if isinstance(key, int) else key[0] for key in keys]
        indices = self.rows[rows]
        images = self.files.cached(indices)
        if images is None:
            readable = [self._readable(row) for row in rows]
            indices = torch.tensor([index for index, _ in readable])
            images = torch.stack([image for _, image in readable])
        if self.flip:
            mirrored = torch.tensor([not isinstance(key, int) and mix(key[1]) & 1 for key in keys], dtype=torch.bool)
            images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        return images, self.labels[indices]

    def _readable(self, row: int) -> tuple[int, Tensor]:
        """Return index and image of the first readable file from a row on, if need be one of the other sets."""
        within = (int(self.rows[(row + i) % len(self)]) for i in range(len(self)))
        return self.files.first_readable(chain(within, range(len(self.files))))


class ImageFolderDataModule(ImageDataModule):
    """Images of a folder: flat (all labels 0) or `ROOT/CLASS/...` (a label is the index of the sorted class name).

    A root with images directly in it is flat, folders in it included. Sizes, aspect ratios and kinds may be mixed:
    palettes, CMYK, 16 bits and animations (their first frame) are converted, alpha is composited over white unless
    `channels` is 4. Hidden files are left out. Test images are the validation images.

    Args:
        root: Folder of the images (jpg, jpeg, png, bmp, gif, webp, tif, tiff, ppm, pgm, pbm).
        size: Height and width that every image gets.
        channels: 1 (grey), 3 (colour) or 4 (colour and alpha); at most what the images have.
        batch_size: Images per process and batch.
        fit: How other aspect ratios fit: crop the centre, pad with black, or stretch.
        half: Take the left or right half of every picture only, as of pictures that hold a pair.
        crop: Side, or height and width, of a centre crop in original pixels before resizing, such as 148 for CelebA.
        flip: Mirror training images from left to right at random.
        cache: Keep decoded images in memory, shared by the workers of a process, so that each is decoded once.
        on_error: For unreadable files, skip (use the next readable image and warn once) or raise.
        val_fraction: Share of the images kept for validation, at least one unless it is 0; chosen by the seed.
        val_size: Number of images kept for validation, instead of `val_fraction`.
        infinite: Repeat the training images until an epoch has at least 100 batches.
        seed: Seed of the split and, with the run's seed, of the training order and flips.
        num_workers: Loading processes; by default the number of processors, at most 8.
    """

    def __init__(
        self,
        root: str | Path,
        size: Size = 64,
        channels: int = 3,
        batch_size: int = 64,
        fit: Fit = "crop",
        half: Half | None = None,
        crop: Size | None = None,
        flip: bool = False,
        cache: bool = False,
        on_error: OnError = "skip",
        val_fraction: float = 0.05,
        val_size: int | None = None,
        infinite: bool = True,
        seed: int = 0,
        num_workers: int | None = None,
    ) -> None:
        workers = min(8, os.cpu_count() or 1) if num_workers is None else num_workers
        super().__init__(size, channels, batch_size, workers, seed, infinite)
        self.fit: Fit = one_of("fit", fit, ("crop", "pad", "stretch"))
        self.half: Half | None = one_of("half", half, ("left", "right", None))
        self.crop = None if crop is None else pair("crop", crop)
        self.flip, self.cache = flip, cache
        self.on_error: OnError = one_of("on_error", on_error, ("skip", "raise"))
        if not 0 <= val_fraction < 1:
            raise ValueError(f"val_fraction must be at least 0 and less than 1, got {val_fraction!r}.")
        self.val_fraction = val_fraction
        self.val_size = None if val_size is None else integer("val_size", val_size, least=0)
        self.root = existing_folder(root)
        self._found: tuple[list[str], list[str]] | None = None
        if cache:
            quiet_about_workers()

    @property
    def classes(self) -> list[str]:
        """Names of the class folders in the order of their labels; empty for a flat folder."""
        return self._scan()[1]

    @property
    def num_classes(self) -> int:
        """Number of class folders with images in them; 1 for a flat folder."""
        return max(1, len(self.classes))

    def splits(self) -> tuple[BatchDataset, BatchDataset, BatchDataset]:
        """Return the training images and, twice, the validation images.

        Raises:
            ValueError: `channels` is more than the images have, or the cache more than memory holds.
            OSError: No file is readable, or one is not and `on_error` is raise.
        """
        paths, classes = self._scan()
        label = {name: i for i, name in enumerate(classes)}
        labels = torch.tensor([label.get(path.partition("/")[0], 0) for path in paths])
        target = Target(self.channels, self.size, self.fit, self.crop, self.half)
        files = ImageFiles(self.root, paths, target, self.on_error, shared=self.num_workers > 0)
        files.check_channels()
        if self.cache:
            files.allocate()
        files.first_readable(range(len(files)))  # headers may be all that is left of broken files
        train, val = split(len(paths), self._val_size(len(paths)), self.seed)
        kept = FolderImages(files, labels, val)
        return FolderImages(files, labels, train, self.flip), kept, kept

    def _val_size(self, count: int) -> int:
        if self.val_size is not None:
            return self.val_size
        return min(count - 1, max(1, round(count * self.val_fraction))) if self.val_fraction else 0

    def _scan(self) -> tuple[list[str], list[str]]:
        """Return the sorted paths and, unless the folder is flat, the sorted names of its classes."""
        if self._found is None:
            # Sorted as text, the order does not depend on the machine's locale or file system.
            paths = sorted(image_files(self.root))
            flat = any("/" not in path for path in paths)
            self._found = paths, [] if flat else sorted({path.partition("/")[0] for path in paths})
        return self._found
