"""Clips of a folder: folders of frame images, or video files; flat or with one folder per class; of any length."""

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.base import Batch, BatchDataset, Size, integer, one_of
from datamodules.clips import ClipDataModule
from datamodules.decode import Fit, Target
from datamodules.layout import set_folders, top
from datamodules.listing import listing
from datamodules.order import Key, mix, shuffled
from datamodules.reader import BrokenDataError, OnError
from datamodules.sequences import ClipFiles, clip_folder, find_clips
from datamodules.video import VIDEOS


class Windows(Dataset[Batch]):
    """Windows of a subset of a folder's clips: chosen by the key in training, in the middle in evaluation.

    Args:
        files: All clips of the folder.
        labels: Labels of all clips, `(M,)` int64.
        usable: Indices of the clips that are long enough.
        rows: Indices of the clips in this set, `(N,)`.
        frames: Frames of a window.
        every: Stride in frames.
        flip: Mirror half of the windows, chosen by their keys.
    """

    def __init__(
        self,
        files: ClipFiles,
        labels: Tensor,
        usable: Tensor,
        rows: Tensor,
        frames: int,
        every: int,
        flip: bool = False,
    ) -> None:
        self.files, self.labels, self.usable, self.rows = files, labels, usable, rows
        self.frames, self.every, self.flip = frames, every, flip

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> Batch:
        """Return a clip `(C, T, H, W)` and its label `()`, both of the next readable clip if this one is broken."""
        row, word = (key, None) if isinstance(key, int) else key
        within = (int(self.rows[(row + i) % len(self)]) for i in range(len(self)))
        for clip in chain(within, self.usable.tolist()):  # as a last resort from another set
            window = self.files.window(clip, self._indices(int(self.files.lengths[clip]), word))
            if window is not None:
                mirrored = self.flip and word is not None and mix(word) & 1
                return window.flip(-1) if mirrored else window, self.labels[clip]
        raise BrokenDataError(f"None of the {len(self.usable)} clips in {self.files.root} can be read.")

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return the clips `(N, C, T, H, W)` and labels `(N,)` of the keys."""
        clips, labels = zip(*(self[key] for key in keys), strict=True)
        return torch.stack(clips), torch.stack(labels)

    def _indices(self, length: int, word: int | None) -> range:
        span = spanned(self.frames, self.every)
        places = length - span + 1
        start = (places - 1) // 2 if word is None else mix(word, 1) % places
        return range(start, start + span, self.every)


class FrameFolderDataModule(ClipDataModule):
    """Clips of a folder: flat (all labels are 0), or with class folders `ROOT/CLASS/...`.

    Labels are the indices of the sorted class names. A root with a clip directly in it is flat. The folders `train` and
    `val` or `test` are the three sets.

    A clip is a folder of images, in the natural order of their names (2 before 10), or a video file. Videos are GIF or,
    with the extra `video`, mp4, avi, mov, mkv and webm. They are decoded from the beginning, so they should be short.

    Training uses a random window of a clip each time, validation and tests use the middle one. Frames are resized one
    by one, so they may differ in size. A flip is the same for all frames. Clips that are too short are omitted. If a
    frame is unreadable, the next clip is used.

    Args:
        root: Folder of the clips.
        size: Height and width to which all frames are resized.
        channels: 1 (grey), 3 (colour) or 4 (colour and alpha); not more than the frames have.
        frames: Number of frames of every clip.
        every: Stride: use every frame (1), every second one (2), ...
        batch_size: Clips per process and batch.
        fit: How other aspect ratios are fitted: crop the centre, pad with black, or stretch.
        flip: Mirror training clips horizontally at random.
        on_error: For unreadable files, skip (use the next readable clip and warn once) or raise.
        val_size: Number of clips kept for validation, chosen by the seed; by default one in twenty, at least one.
        test_size: Number of clips kept for tests; 0 uses the validation clips.
        infinite: Repeat the training clips until an epoch has at least 100 batches.
        seed: Seed of the split and, with the run's seed, of the training order, windows and flips.
        num_workers: Processes that load clips; by default the number of CPU cores, at most 8.
    """

    def __init__(
        self,
        root: str | Path,
        size: Size = 64,
        channels: int = 3,
        frames: int = 16,
        every: int = 1,
        batch_size: int = 16,
        fit: Fit = "crop",
        flip: bool = False,
        on_error: OnError = "skip",
        val_size: int | None = None,
        test_size: int = 0,
        infinite: bool = True,
        seed: int = 0,
        num_workers: int | None = None,
    ) -> None:
        workers = min(8, os.cpu_count() or 1) if num_workers is None else num_workers
        super().__init__(size, channels, frames, batch_size, workers, seed, infinite)
        self.every = integer("every", every, least=1)
        self.fit: Fit = one_of("fit", fit, ("crop", "pad", "stretch"))
        self.flip = flip
        self.on_error: OnError = one_of("on_error", on_error, ("skip", "raise"))
        self.val_size = None if val_size is None else integer("val_size", val_size, least=0)
        self.test_size = integer("test_size", test_size, least=0)
        self.root = clip_folder(root)
        found = find_clips(self.root)
        sets = set_folders({top(clip.path) for clip in found if "/" in clip.path})
        self._set_folders = sets if len(sets) > 1 else {}  # folders of train, val and test, if there are any
        self._clips = [clip for clip in found if not self._set_folders or top(clip.path) in self._set_folders.values()]
        if len(self._clips) < len(found):
            say = f"{len(found) - len(self._clips)} clips outside the folders {', '.join(self._set_folders.values())}"
            warnings.warn(f"{say} in {self.root} are left out", stacklevel=2)

    @property
    def classes(self) -> list[str]:
        """Names of the class folders in the order of their labels; empty for a flat folder."""
        names = {self._kind(clip.path) for clip in self._clips}
        return [] if "" in names else sorted(names)

    def _kind(self, path: str) -> str:
        """Return the name of the class folder of a clip, or an empty string."""
        inner = path.partition("/")[2] if self._set_folders else path
        return top(inner) if "/" in inner else ""

    @property
    def left_out(self) -> Counter[str]:
        """Number of unused files by kind."""
        others = Counter(listing(self.root).others)
        return Counter({kind: count for kind, count in others.items() if kind[1:] not in VIDEOS})

    @property
    def num_classes(self) -> int:
        """Number of class folders with clips; 1 for a flat folder."""
        return max(1, len(self.classes))

    def splits(self) -> tuple[BatchDataset, BatchDataset, BatchDataset]:
        """Return windows of the training, validation and test clips.

        Raises:
            ValueError: All clips are too short, none remains for training, the frames have fewer channels, or PyAV is
                needed but not installed.
            OSError: No clip is readable, or one is not and `on_error` is raise.
        """
        files = ClipFiles(
            self.root, self._clips, Target(self.channels, self.size, self.fit), self.on_error, self.num_workers > 0
        )
        span = spanned(self.frames, self.every)
        needed = "frames" if self.every == 1 else f"(frames - 1) x every + 1 = {self.frames - 1} x {self.every} + 1"
        usable = files.long_enough(span, needed)
        files.check_channels()
        label = {name: i for i, name in enumerate(self.classes)}
        labels = torch.tensor([label.get(self._kind(path), 0) for path in files.paths])
        train, val, test = (
            Windows(files, labels, usable, usable[rows], self.frames, self.every, flip)
            for rows, flip in zip(self._rows(files.paths, usable), (self.flip, False, False), strict=True)
        )
        train[0]  # in a broken file the header may still be intact
        return train, val, test

    def _rows(self, paths: list[str], usable: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the indices of the usable clips for training, validation and tests."""
        if self._set_folders:
            tops = [top(paths[clip]) for clip in usable.tolist()]
            rows = {
                name: torch.tensor([i for i, found in enumerate(tops) if found == folder], dtype=torch.long)
                for name, folder in self._set_folders.items()
            }
            if not len(rows["train"]):
                raise ValueError(f"no clip in {self.root / self._set_folders['train']} is long enough to train on")
            held = rows["val"] if "val" in rows else rows["test"]
            return rows["train"], held, rows.get("test", held)
        return self._drawn_rows(len(usable))

    def _drawn_rows(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        val_size = min(count - 1, max(1, round(count / 20))) if self.val_size is None else self.val_size
        if val_size + self.test_size >= count:
            raise ValueError(
                f"val_size and test_size must together be less than the number of clips ({count}), "
                f"got {val_size} and {self.test_size}."
            )
        rows, held_out = shuffled(count, self.seed), val_size + self.test_size
        val, test, train = rows[:val_size], rows[val_size:held_out], rows[held_out:]
        return train.sort().values, val.sort().values, (test if self.test_size else val).sort().values


def spanned(frames: int, every: int) -> int:
    """Return the length in a clip, in frames, of a window of `frames` frames with stride `every`."""
    return (frames - 1) * every + 1
