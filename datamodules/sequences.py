"""The clips of a folder, which are folders of frames or video files: listed in a fixed order, read by windows."""

import os
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from datamodules.archive import PACKED, skipped
from datamodules.decode import COMMON, EXTENSIONS, Target, UnreadableImageError
from datamodules.files import ImageFiles
from datamodules.reader import BrokenDataError, OnError, in_shared_memory, locked
from datamodules.video import VIDEOS, count_frames, read_frames

IMAGES = tuple(name for name in EXTENSIONS if name not in VIDEOS)
NAMED = 3  # examples in a warning


class Clip(NamedTuple):
    """A clip's path in the root, with "/", and the names of its frames in order, which are empty for a video."""

    path: str
    frames: tuple[str, ...] = ()


class ClipFiles:
    """Reader of the clips of a folder.

    Args:
        root: The folder.
        clips: The clips.
        target: Form to which frames are converted.
        on_error: For unreadable files, skip (warn once) or raise.
        shared: Whether worker processes will read.

    Raises:
        OSError: A video has no readable header and `on_error` is raise.
        ValueError: PyAV is needed but not installed.
    """

    def __init__(self, root: Path, clips: list[Clip], target: Target, on_error: OnError, shared: bool) -> None:
        self.root, self.target, self.on_error = root, target, on_error
        self.paths = [clip.path for clip in clips]
        counts = torch.tensor([len(clip.frames) for clip in clips])
        names = [f"{clip.path}/{name}" for clip in clips for name in clip.frames]
        self._images = ImageFiles(root, names, target, on_error, shared)
        self._first = counts.cumsum(0) - counts
        self.videos = counts == 0
        self._warned = in_shared_memory(torch.zeros(len(clips), dtype=torch.uint8))
        self.lengths = self._with_videos(counts)

    def check_channels(self) -> None:
        """Check that some frame has the channels of the target, as for images. Videos are not checked.

        Raises:
            ValueError: The target has alpha, but no frame has it.
            OSError: Most files cannot be read, or one cannot and `on_error` is raise.
        """
        if not self.videos.any():
            self._images.check_channels()

    def window(self, clip: int, indices: range) -> Tensor | None:
        """Return the frames `(C, T, H, W)` uint8 of a clip, or None if one of them cannot be read.

        Raises:
            OSError: A frame cannot be read and `on_error` is raise.
        """
        if self.videos[clip]:
            try:
                return read_frames(self.root / self.paths[clip], indices, self.target)
            except UnreadableImageError as error:
                self._broken(clip, error)
                return None
        frames = []
        for index in indices:
            frame = self._images.read(int(self._first[clip]) + index)
            if frame is None:
                return None
            frames.append(frame)
        return torch.stack(frames, 1)

    def long_enough(self, span: int, needed: str) -> Tensor:
        """Return the indices of the clips with at least `span` frames. Warn about the others.

        Args:
            span: Minimum number of frames.
            needed: Name of the minimum in the error message.

        Raises:
            ValueError: All clips are shorter.
            OSError: No clip is readable.
        """
        readable = self.lengths > 0
        if not readable.any():
            raise OSError(f"None of the {len(self.paths)} clips in {self.root} can be read.")
        short = (readable & (self.lengths < span)).nonzero().flatten().tolist()
        if len(short) == readable.sum():
            longest = int(self.lengths.argmax())
            raise ValueError(
                f"sequences in {self.root} have at most {int(self.lengths[longest])} frames ({self.paths[longest]}); "
                f"expected at least {needed} = {span}."
            )
        if short:
            named = (f"{self.paths[clip]} ({int(self.lengths[clip])})" for clip in short)
            skipping(len(short), len(self.paths), f"clips with fewer than {span} frames", list(named))
        return (self.lengths >= span).nonzero().flatten()

    def _with_videos(self, counts: Tensor) -> Tensor:
        """Return the number of frames of each clip, which is 0 for an unreadable video."""
        lengths, unreadable = counts.clone(), []
        for clip in self.videos.nonzero().flatten().tolist():
            try:
                lengths[clip] = count_frames(self.root / self.paths[clip])
            except UnreadableImageError as error:
                if self.on_error == "raise":
                    raise self._error(clip, error) from error
                unreadable.append(f"{self.paths[clip]} ({error})")
        if unreadable:
            skipping(len(unreadable), len(self.paths), "clips, unreadable videos", unreadable)
        return lengths

    def _broken(self, clip: int, error: UnreadableImageError) -> None:
        # The video is not marked as broken: results must not depend on the order in which windows are read.
        if self.on_error == "raise":
            raise self._error(clip, error) from error
        path = self.root / self.paths[clip]
        with locked(path):
            if self._warned[clip]:
                return
            self._warned[clip] = 1
        warnings.warn(f"skipping the unreadable part of video {path} ({error})", stacklevel=2)

    def _error(self, clip: int, error: UnreadableImageError) -> BrokenDataError:
        path = self.root / self.paths[clip]
        return BrokenDataError(f"Cannot read video {path} ({error}); on_error=skip would leave it out.")


def skipping(count: int, total: int, what: str, named: list[str]) -> None:
    """Warn that some clips are omitted, with examples."""
    examples = ", ".join(named[:NAMED]) + (", ..." if count > NAMED else "")
    warnings.warn(f"skipping {count} of {total} {what}: {examples}", stacklevel=2)


def clip_folder(root: str | Path) -> Path:
    """Return the path of a folder of clips.

    Raises:
        FileNotFoundError: The folder does not exist.
        NotADirectoryError: The path is a file.
    """
    path = Path(root).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"root must be a folder of clips, but {path} does not exist.")
    if not path.is_dir():
        archive = path.name.lower().endswith((".zip", *PACKED))
        hint = ", an archive: unpack it and give the folder" if archive else ""
        raise NotADirectoryError(f"root must be a folder of clips, but {path} is a file{hint}.")
    return path


def find_clips(root: Path) -> list[Clip]:
    """Return the clips of a folder, sorted by path: video files, and folders with images.

    A folder with images is a clip if it has more images than videos and no subfolder with images. Its videos are then
    ignored. Images directly in the root are ignored.

    Raises:
        FileNotFoundError: There are no clips.
    """
    images, videos = _scan(root)
    inner = {above for folder in images for above in _above(folder)}
    frames = {
        folder: names
        for folder, names in images.items()
        if folder and folder not in inner and len(names) > len(videos.get(folder, ()))
    }
    clips = [Clip(folder, tuple(sorted(names, key=natural))) for folder, names in frames.items()]
    clips += [
        Clip(f"{folder}/{name}" if folder else name)
        for folder, names in videos.items()
        if not frames.keys() & {folder, *_above(folder)}
        for name in names
    ]
    if not clips:
        hint = "; images directly in it are not a clip: give the parent folder" if "" in images else ""
        raise FileNotFoundError(
            f"root is {root}, which contains no clips (looked for folders of {', '.join(COMMON)} and other images, and "
            f"for files of {', '.join(VIDEOS)}){hint}."
        )
    return sorted(clips)


def natural(name: str) -> tuple[list[Any], str]:
    """Return a key for sorting in natural order: frame2 comes before frame10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))], name


def _above(folder: str) -> set[str]:
    parts = folder.split("/")
    return {"/".join(parts[:i]) for i in range(1, len(parts))}


def _scan(root: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return the names of images and of videos by folder, "" for the root. Links are followed, hidden files skipped."""
    images: dict[str, list[str]] = {}
    videos: dict[str, list[str]] = {}
    seen = set()
    for folder, below, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link, possibly to a parent folder
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not skipped(name, folder=True))  # a fixed order for links
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        for name in names:
            extension = "" if skipped(name, folder=False) else os.path.splitext(name)[1][1:].lower()
            for extensions, found in ((IMAGES, images), (VIDEOS, videos)):
                if extension in extensions:
                    found.setdefault("" if relative == "." else relative, []).append(name)
    return images, videos
