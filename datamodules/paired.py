"""Paired images of folders: both images side by side in one file, or two folders with the same file names."""

from functools import partial
from pathlib import Path
from typing import Any

import torch

from datamodules.base import BatchDataset, split
from datamodules.labels import Found, check_labels, found
from datamodules.layout import both_sides, split_folders
from datamodules.pairs import PairDataModule, Pairs, Side, check_pairs, matched
from datamodules.palette import Palette


class PairedFolderDataModule(PairDataModule):
    """Pairs `(source, target)` from two folders A and B, or from the left (A) and right (B) halves of images.

    The folders `train`, `val` and `test` (in both A and B) are the three sets. If only one of `val` and `test` exists,
    it is used for both. If both are missing, a random part of the pairs is used. A root may contain both folders: `A`
    and `B`, with the sets above or below them, or `trainA`, `trainB`, `testA` and `testB`.

    Crop and flip are the same for both images of a pair. Images with halves must have an even width, and both images of
    a pair must have the same size. Unreadable files raise an error.

    Args:
        root: Folder or .zip of images with halves, or of A, or of the folders A and B.
        target_root: Folder of B, with the same file names as A; None if both are in `root`.
        labels: The sources are label maps, whose pixels become the nearest colour of a palette. It is found in the
            training maps, with `auto` or the number of classes, or is a JSON file, see `datamodules.palette`.
        options: Arguments of `PairDataModule`.
    """

    def __init__(
        self,
        root: str | Path,
        target_root: str | Path | None = None,
        labels: str | int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(root, target_root, **options)
        self.labels = check_labels(labels)
        if self.labels is not None and self.source_channels == 4:
            raise ValueError("labels is for maps without alpha; expected source_channels 1 or 3, not 4")
        self._found: Found | None = None

    @property
    def palette(self) -> Palette | None:
        """Colours of the label maps in the order of the classes, or None without `labels`."""
        if self.labels is None:
            return None
        if self._found is None:
            maps = self._sides("train")[0]
            self._found = found(self.labels, maps.root, maps.paths, maps.half)
        return self._found.palette

    def describe(self) -> dict[str, str]:
        """Return a summary in words, with the colours of the label maps."""
        lines = super().describe()
        return lines | {"labels": self._found.describe()} if self._found else lines

    def splits(self) -> tuple[BatchDataset, BatchDataset, BatchDataset]:
        """Return the training, validation and test pairs.

        Raises:
            ValueError: A pair is not valid, the images have fewer channels, or the cache does not fit into memory.
        """
        train = self._sides("train")
        held = {name: self._set(self._sides(name)) for name in self._folders() if name != "train"}
        if not held:
            return self._chosen(train)
        val = held.get("val") or held["test"]
        return self._set(train, training=True), val, held.get("test") or val

    def _folders(self) -> dict[str, tuple[Path, Path | None]]:
        """Return the folders of A and B for each set. B is None for halves. Without sets there is only `train`."""
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
        """Return the sources and targets of a set, by default for training, after a check of their files."""
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
        """Return the pairs of these rows. Those for training are cropped and flipped at random."""
        read = partial(self._read, sides, rows, training)
        return self.moving(read) if training else read(0)

    def _read(self, sides: tuple[Side, Side], rows: torch.Tensor | None, training: bool, more: int) -> BatchDataset:
        """Return the pairs of these rows, read `more` pixels larger than the crop."""
        sources, targets = (
            self.reader(side, channels, more, rows, palette)
            for side, channels, palette in zip(
                sides, (self.source_channels, self.channels), (self.palette, None), strict=True
            )
        )
        return self.shown(partial(Pairs, sources, targets), training)
