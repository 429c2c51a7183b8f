"""Unpaired images of two domains, from two folders."""

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from datamodules.base import Batch, BatchDataset, split
from datamodules.files import ImageFiles, existing_folder, image_files
from datamodules.layout import both_sides, split_folders
from datamodules.order import Key, mix
from datamodules.pairs import PairDataModule, Side, Views, stacked
from datamodules.reader import OnError
from datamodules.windows import picture_of


class Unpaired(Dataset[Batch]):
    """Unpaired images of two sets. The key of an item draws its partner in training; in evaluation partners are fixed.

    The length is that of the larger set, whose images are all used. Images of the smaller set are drawn at random.

    Args:
        sources: Reader of the source images.
        targets: Reader of the target images.
        views: What is shown of an image, independent for both sides.
        windows: Rows of each image of the larger set. They have one partner.
    """

    def __init__(self, sources: ImageFiles, targets: ImageFiles, views: Views, windows: int = 1) -> None:
        self.sides, self.views, self.windows = (sources, targets), views, windows
        self.pictures = max(map(len, self.sides)) if all(map(len, self.sides)) else 0

    def __len__(self) -> int:
        return self.pictures * self.windows

    def __getitem__(self, key: Key) -> Batch:
        """Return an image `(C, H, W)` of each set, or the next readable one if a file is broken."""
        source, target = self.__getitems__([key])
        return source[0], target[0]

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return the images `(N, C, H, W)` of both sets."""
        found = []
        for (index, word), some in groupby(keys, lambda key: picture_of(key, self.windows)):
            images = [self._image(side, index, word) for side in (0, 1)]
            found += [tuple(self._view(side, images[side], key) for side in (0, 1)) for key in some]
            del images  # before the next ones are decoded
        return stacked(found)

    def _image(self, side: int, index: int, word: int | None) -> Tensor:
        """Return an image of a set: that of an index, or one that the word draws."""
        files = self.sides[side]
        count = len(files)
        drawn = count < self.pictures or (side == 1 and len(self.sides[0]) == count)
        start = mix(word, 3) % count if drawn and word is not None else index
        return files.first_readable((start + i) % count for i in range(count))[1]

    def _view(self, side: int, image: Tensor, key: Key) -> Tensor:
        """Return what an item shows of an image."""
        own = key if isinstance(key, int) else (key[0], mix(key[1], 4 + side))
        return self.views(image, own, self.sides[side].target)


class UnpairedFoldersDataModule(PairDataModule):
    """Unpaired images `(source, target)` of two folders A and B, in independent random order.

    An epoch has the length of the larger folder. A and B can be two folders, each flat or with folders `train`, `val`
    and `test`. They can also be in one root: as `A` and `B`, or as `trainA`, `trainB`, `testA` and `testB`, the layout
    of CycleGAN's data sets. If only one of `val` and `test` exists, it is used for both. If both are missing, a random
    part of the images is used.

    Args:
        root: Folder or .zip of A, or of both.
        target_root: Folder of B; None if both are in `root`.
        on_error: For unreadable files, skip (use the next readable image and warn once) or raise.
        options: Arguments of `PairDataModule`.
    """

    items = "images of the larger side"

    def __init__(
        self,
        root: str | Path,
        target_root: str | Path | None = None,
        on_error: OnError = "skip",
        **options: Any,
    ) -> None:
        super().__init__(root, target_root, on_error=on_error, **options)
        if not all(self._folders()):
            expected = "expected them, A and B, or target_root"
            raise ValueError(f"{self.root} has no folders trainA and trainB; {expected}")

    def splits(self) -> tuple[BatchDataset, BatchDataset, BatchDataset]:
        """Return the training, validation and test images.

        Raises:
            ValueError: The images have fewer channels, or the cache does not fit into memory.
            OSError: A folder has no images.
        """
        folders = self._folders()
        shared = [name for name in ("val", "test") if all(name in folder for folder in folders)]
        train = [self._side(folder["train"]) for folder in folders]
        if shared:
            held = [self._set([self._side(folder[name]) for folder in folders]) for name in (shared[0], shared[-1])]
            return self._set(train, training=True), held[0], held[1]
        rows = [split(len(side.paths), self._val_size(len(side.paths)), self.seed) for side in train]
        kept = self._set(train, [val for _, val in rows])
        return self._set(train, [some for some, _ in rows], training=True), kept, kept

    def _folders(self) -> list[dict[str, Path]]:
        """Return the folders of the sets for the sources and for the targets."""
        both = [split_folders(self.root, side) for side in "AB"]
        if self.target_root is not None or not all(both):
            roots = both_sides(self.root) if self.target_root is None else (self.root, self.target_root)
            both = [split_folders(root) or {"train": root} for root in roots or ()] or [{}]
        return both if self.direction == "a_to_b" else both[::-1]

    def _side(self, folder: Path) -> Side:
        return Side(existing_folder(folder), sorted(image_files(folder)))

    def _val_size(self, count: int) -> int:
        return min(count - 1, max(1, round(count / 20))) if self.val_size is None else self.val_size

    def _set(self, sides: list[Side], rows: list[Tensor] | None = None, training: bool = False) -> BatchDataset:
        """Return these images of both sides. Those for training are cropped and flipped at random."""
        read = partial(self._read, sides, rows, training)
        return self.moving(read) if training else read(0)

    def _read(self, sides: list[Side], rows: list[Tensor] | None, training: bool, more: int) -> BatchDataset:
        """Return these images of both sides, read `more` pixels larger than the crop."""
        sources, targets = (
            self.reader(side, channels, more, some)
            for side, channels, some in zip(
                sides, (self.source_channels, self.channels), rows or (None, None), strict=True
            )
        )
        return self.shown(partial(Unpaired, sources, targets), training)
