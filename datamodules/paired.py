"""Paired images of folders: pictures side by side in one file, or two folders with the same names."""

import os
from pathlib import Path

import torch

from datamodules.base import BatchDataset, Size, integer, one_of, quiet_about_workers, split
from datamodules.decode import Fit, Target
from datamodules.files import OnError, existing_folder
from datamodules.pairs import Direction, PairDataModule, Pairs, Side, Views, check_pairs, matched, split_folders


class PairedFolderDataModule(PairDataModule):
    """Pairs `(source, target)`: A is the left half of each picture of a folder and B the right, or A and B are folders.

    Where there are folders `train`, `val` and `test` below (in both, for two folders), they are the three sets, and
    what is missing of the latter two is taken from the other or, if both are, chosen by the seed. Window and mirroring
    are the same for both images of a pair. Pictures that are not of an even width, pairs of unequal size and files
    that cannot be read are refused by their names.

    Args:
        root: Folder of the pictures side by side, or of A.
        target_root: Folder of B, with the names of A; None for pictures side by side.
        direction: Which of both is the source.
        size: Height and width that every image gets.
        channels: Of the targets: 1 (grey), 3 (colour) or 4 (colour and alpha).
        source_channels: Of the sources; None is `channels`.
        batch_size: Pairs per process and batch.
        fit: How other aspect ratios fit: crop the centre, pad with black, or stretch.
        jitter: Pixels that training images are larger by before a random window of `size` is taken; pix2pix has 30.
        flip: Mirror training pairs from left to right at random.
        cache: Keep decoded images in memory, so that each is decoded once.
        on_error: For files that turn out to be unreadable later on, raise or skip (use the next pair and warn once).
        val_size: Pairs kept for validation where there is no folder for it; by default one in twenty, at least one.
        infinite: Repeat the training pairs until an epoch has at least 100 batches.
        seed: Seed of the split and, with the run's seed, of the training order, windows and flips.
        num_workers: Loading processes; by default the number of processors, at most 8.
    """

    def __init__(
        self,
        root: str | Path,
        target_root: str | Path | None = None,
        direction: Direction = "a_to_b",
        size: Size = 256,
        channels: int = 3,
        source_channels: int | None = None,
        batch_size: int = 1,
        fit: Fit = "crop",
        jitter: int = 0,
        flip: bool = True,
        cache: bool = False,
        on_error: OnError = "raise",
        val_size: int | None = None,
        infinite: bool = True,
        seed: int = 0,
        num_workers: int | None = None,
    ) -> None:
        workers = min(8, os.cpu_count() or 1) if num_workers is None else num_workers
        given = channels if source_channels is None else source_channels
        super().__init__(size, channels, given, batch_size, workers, seed, infinite)
        self.direction: Direction = one_of("direction", direction, ("a_to_b", "b_to_a"))
        self.fit: Fit = one_of("fit", fit, ("crop", "pad", "stretch"))
        self.jitter = integer("jitter", jitter, least=0)
        self.flip, self.cache = flip, cache
        self.on_error: OnError = one_of("on_error", on_error, ("skip", "raise"))
        self.val_size = None if val_size is None else integer("val_size", val_size, least=0)
        self.root = existing_folder(root)
        self.target_root = None if target_root is None else existing_folder(target_root)
        if cache:
            quiet_about_workers()

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
