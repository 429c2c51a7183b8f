"""Paired images of folders: pictures side by side in one file, or two folders with the same names."""

from pathlib import Path
from typing import Any

import torch

from datamodules.base import BatchDataset, split
from datamodules.decode import Target
from datamodules.pairs import PairDataModule, Pairs, Side, Views, check_pairs, matched, split_folders


class PairedFolderDataModule(PairDataModule):
    """Pairs `(source, target)`: A is the left half of each picture of a folder and B the right, or A and B are folders.

    Where there are folders `train`, `val` and `test` below (in both, for two folders), they are the three sets, and
    what is missing of the latter two is taken from the other or, if both are, chosen by the seed. Window and mirroring
    are the same for both images of a pair. Pictures that are not of an even width, pairs of unequal size and files
    that cannot be read are refused by their names.

    Args:
        root: Folder of the pictures side by side, or of A.
        target_root: Folder of B, with the names of A; None for pictures side by side.
        options: As in `PairDataModule`.
    """

    def __init__(self, root: str | Path, target_root: str | Path | None = None, **options: Any) -> None:
        super().__init__(root, target_root, **options)

    def splits(self) -> tuple[BatchDataset, BatchDataset, BatchDataset]:
        """Return the training, validation and test pairs.

        Raises:
            ValueError: Pairs cannot be used, `channels` is more than the images have, or the cache than memory holds.
        """
        folders = split_folders(self.root)
        if not folders:
            return self._chosen(self._sides(None))
        train = self._sides("train")
        held = {name: self._set(self._sides(name)) for name in folders if name != "train"}
        if not held:
            return self._chosen(train)
        val = held.get("val") or held["test"]
        return self._set(train, training=True), val, held.get("test") or val

    def _sides(self, name: str | None) -> tuple[Side, Side]:
        """Return the sources and targets of a split that has a folder, or of all there is."""
        folders = [folder if name is None or folder is None else folder / name for folder in self._roots()]
        assert folders[0] is not None
        sides = matched(folders[0], folders[1])
        check_pairs(*sides)
        return sides if self.direction == "a_to_b" else sides[::-1]

    def _roots(self) -> tuple[Path, Path | None]:
        return self.root, self.target_root

    def _chosen(self, sides: tuple[Side, Side]) -> tuple[BatchDataset, BatchDataset, BatchDataset]:
        count = len(sides[0].paths)
        val_size = min(count - 1, max(1, round(count / 20))) if self.val_size is None else self.val_size
        train, val = split(count, val_size, self.seed)
        kept = self._set(sides, rows=val)
        return self._set(sides, rows=train, training=True), kept, kept

    def _set(self, sides: tuple[Side, Side], rows: torch.Tensor | None = None, training: bool = False) -> Pairs:
        """Return the pairs of these rows; those for training are read larger by the jitter."""
        more = self.jitter if training else 0
        size = (self.size[0] + more, self.size[1] + more)
        sources, targets = (
            side.files(Target(channels, size, self.fit), self.on_error, self.num_workers > 0, self.cache, rows)
            for side, channels in zip(sides, (self.source_channels, self.channels), strict=True)
        )
        return Pairs(sources, targets, Views(self.size, self.flip and training))
