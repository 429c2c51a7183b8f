"""Paired images of folders: pictures side by side in one file, or two folders with the same names."""

from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from datamodules.base import BatchDataset, split
from datamodules.layout import both_sides, split_folders
from datamodules.pairs import PairDataModule, Pairs, Side, Views, check_pairs, matched


class PairedFolderDataModule(PairDataModule):
    """Pairs `(source, target)`: A is the left half of each picture of a folder and B the right, or A and B are folders.

    Folders `train`, `val` and `test` below (in both, for two folders) are the three sets, and what is missing of the
    latter two is taken from the other or, if both are, chosen by the seed. A root may hold the two folders itself: as
    `A` and `B`, with the sets above or below them, or as `trainA` and `trainB`, `testA` and `testB`. Window and
    mirroring are the same for both images of a pair. Pictures that are not of an even width, pairs of unequal size and
    files that cannot be read are refused by their names.

    Args:
        root: Folder or .zip of the pictures side by side, or of A, or of the folders A and B.
        target_root: Folder of B, with the names of A; None if all is in `root`.
        options: As in `PairDataModule`.
    """

    def __init__(self, root: str | Path, target_root: str | Path | None = None, **options: Any) -> None:
        super().__init__(root, target_root, **options)

    def splits(self) -> tuple[BatchDataset, BatchDataset, BatchDataset]:
        """Return the training, validation and test pairs.

        Raises:
            ValueError: Pairs cannot be used, `channels` is more than the images have, or the cache than memory holds.
        """
        train = self._sides("train")
        held = {name: self._set(self._sides(name)) for name in self._folders() if name != "train"}
        if not held:
            return self._chosen(train)
        val = held.get("val") or held["test"]
        return self._set(train, training=True), val, held.get("test") or val

    def _folders(self) -> dict[str, tuple[Path, Path | None]]:
        """Return the folders of A and of B for each set; no B for pictures side by side, only `train` for no sets."""
        here, other = self.root, self.target_root
        if other is None:
            sides = [split_folders(here, side) for side in "AB"]
            if all(sides):
                return {name: (folder, sides[1].get(name, here / f"{name}B")) for name, folder in sides[0].items()}
            here, other = both_sides(here) or (here, None)
        sets = split_folders(here)
        if other is None:
            return {name: (folder, None) for name, folder in sets.items()} or {"train": (here, None)}
        partners = split_folders(other)
        named: dict[str, tuple[Path, Path | None]] = {
            name: (folder, partners.get(name, other / folder.name)) for name, folder in sets.items()
        }
        return named or {"train": (here, other)}

    def _sides(self, name: str | None = None) -> tuple[Side, Side]:
        """Return the sources and targets of a set, by default for training, whose files have been looked at."""
        sides = matched(*self._folders()[name or "train"])
        check_pairs(*sides)
        return sides if self.direction == "a_to_b" else sides[::-1]

    def _chosen(self, sides: tuple[Side, Side]) -> tuple[BatchDataset, BatchDataset, BatchDataset]:
        count = len(sides[0].paths)
        val_size = min(count - 1, max(1, round(count / 20))) if self.val_size is None else self.val_size
        train, val = split(count, val_size, self.seed)
        kept = self._set(sides, rows=val)
        return self._set(sides, rows=train, training=True), kept, kept

    def _set(self, sides: tuple[Side, Side], rows: torch.Tensor | None = None, training: bool = False) -> BatchDataset:
        """Return the pairs of these rows; those for training move and are mirrored."""
        read = partial(self._read, sides, rows, self.flip and training)
        return cast(BatchDataset, self.moving(read)) if training else read(0)

    def _read(self, sides: tuple[Side, Side], rows: torch.Tensor | None, flip: bool, more: int) -> Pairs:
        """Return the pairs of these rows, read larger by `more` pixels than what is shown of them."""
        sources, targets = (
            self.reader(side, channels, more, rows)
            for side, channels in zip(sides, (self.source_channels, self.channels), strict=True)
        )
        return Pairs(sources, targets, Views(self.size, flip))
