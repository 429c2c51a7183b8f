"""Two folders of images that show the same kinds of things in two ways, without pairs."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from torch import Tensor
from torch.utils.data import Dataset

from datamodules.base import Batch, BatchDataset, split
from datamodules.files import ImageFiles, OnError, existing_folder, image_files
from datamodules.layout import both_sides, split_folders
from datamodules.order import Key, mix
from datamodules.pairs import PairDataModule, Side, Views, stacked


class Unpaired(Dataset[Batch]):
    """Images of one set, each beside one of another set that its key draws; in order they are beside the next one.

    The length is that of the larger set, all of which is shown; the smaller one is drawn from.

    Args:
        sources: Files of one set.
        targets: Files of the other.
        views: Window and mirroring, chosen for each side by itself.
    """

    def __init__(self, sources: ImageFiles, targets: ImageFiles, views: Views) -> None:
        self.sides, self.views = (sources, targets), views

    def __len__(self) -> int:
        return max(map(len, self.sides)) if all(map(len, self.sides)) else 0

    def __getitem__(self, key: Key) -> Batch:
        """Return an image `(C, H, W)` of each set, the next readable ones where one is broken."""
        row, word = (key, None) if isinstance(key, int) else key
        images = []
        for side, files in enumerate(self.sides):
            count = len(files)
            drawn = count < len(self) or (side == 1 and len(self.sides[0]) == count)
            start = mix(word, 3) % count if drawn and word is not None else row
            _, image = files.first_readable((start + i) % count for i in range(count))
            images.append(self.views(image, None if word is None else mix(word, 4 + side)))
        return images[0], images[1]

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return the images `(N, C, H, W)` of both sets."""
        return stacked(self[key] for key in keys)


class UnpairedFoldersDataModule(PairDataModule):
    """Images of two folders, A and B, in independent order: `(source, target)`, which have nothing to do with another.

    An epoch has the length of the larger folder. Either both folders are given, each flat or with folders `train`,
    `val` and `test`, or one with the folders `trainA` and `trainB`, and `testA` and `testB`, as CycleGAN's sets have,
    or with the folders `A` and `B`. What is missing of validation and test images is taken from the other or, if both
    are, chosen by the seed.

    Args:
        root: Folder or .zip of A, or of both.
        target_root: Folder of B; None for the second layout.
        on_error: For unreadable files, skip (use the next readable image and warn once) or raise.
        options: As in `PairDataModule`.
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
            ValueError: `channels` is more than the images have, or the cache more than memory holds.
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
        """Return the folders of the splits of the sources and of the targets."""
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
        """Return these images of both sides; those for training move and are mirrored."""
        read = partial(self._read, sides, rows, self.flip and training)
        return cast(BatchDataset, self.moving(read)) if training else read(0)

    def _read(self, sides: list[Side], rows: list[Tensor] | None, flip: bool, more: int) -> Unpaired:
        """Return these images of both sides, read larger by `more` pixels than what is shown of them."""
        sources, targets = (
            self.reader(side, channels, more, some)
            for side, channels, some in zip(
                sides, (self.source_channels, self.channels), rows or (None, None), strict=True
            )
        )
        return Unpaired(sources, targets, Views(self.size, flip))
