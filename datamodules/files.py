"""The image files of a folder: found in a fixed order, decoded when asked for, broken ones and pixels remembered."""

import contextlib
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from datamodules.archive import PACKED, is_folder, walk, within
from datamodules.decode import COMMON, EXTENSIONS, Target, UnreadableImageError, look_all, read_image

OnError: TypeAlias = Literal["skip", "raise"]

LOOKED_AT = 32  # images all over a folder whose headers are looked at first
GREY = 1024  # images all over a folder that are looked at before it is called grey
DECODED = 12  # images all over a folder that are decoded first
NAMED = 5  # files in a message
UNKNOWN, CACHED, BROKEN = 0, 1, 2


class BrokenDataError(OSError):
    """Files of a data set cannot be read, which may first be seen in the middle of a run, in a worker process."""


class ImageFiles:
    """Decodes the images of a folder and remembers which are broken and, after `allocate`, their pixels.

    What it remembers is in shared memory, so the workers of a process, also later ones, know it from each other.

    Args:
        root: The folder or zip archive.
        paths: Image files, relative to it.
        target: What every image becomes.
        on_error: For a broken file, skip (warn once) or raise.
        shared: Whether worker processes are going to read.
    """

    def __init__(self, root: Path, paths: list[str], target: Target, on_error: OnError, shared: bool) -> None:
        self.root, self.target, self.on_error, self.shared = root, target, on_error, shared
        # One array: counting references to a million strings would copy all their pages into every worker.
        self._paths = np.array([os.fsencode(path) for path in paths])
        self._state = in_shared_memory(torch.full((len(paths),), UNKNOWN, dtype=torch.uint8))
        self._pixels: Tensor | None = None

    def __len__(self) -> int:
        return len(self._paths)

    def path(self, index: int) -> Path:
        """Return the path of a file."""
        return self.root / os.fsdecode(self._paths[index])

    def paths(self) -> Iterator[Path]:
        """Yield the paths of all files."""
        return map(self.path, range(len(self)))

    def first_readable(self, candidates: Iterable[int]) -> tuple[int, Tensor]:
        """Return the first candidate that can be decoded and its image `(C, H, W)` uint8.

        Raises:
            OSError: None can, or one before it cannot and `on_error` is raise.
        """
        for index in candidates:
            image = self.read(index)
            if image is not None:
                return index, image
        raise BrokenDataError(f"None of the {len(self)} image files in {self.root} can be read.")

    def cached(self, indices: Tensor) -> Tensor | None:
        """Return a batch of images `(N, C, H, W)` in one gather if all of them are in memory, else None."""
        if self._pixels is None or bool((self._state[indices] != CACHED).any()):
            return None
        return self._pixels[indices]

    def read(self, index: int) -> Tensor | None:
        """Return an image `(C, H, W)` uint8, or None if its file is broken.

        Raises:
            OSError: It is broken and `on_error` is raise.
        """
        state = int(self._state[index])
        if state == BROKEN:
            return None
        if state == CACHED and self._pixels is not None:
            return self._pixels[index]
        try:
            image = read_image(self.path(index), self.target)
        except UnreadableImageError as error:
            self._broken(index, error)
            return None
        if self._pixels is not None:
            self._pixels[index] = image
            self._state[index] = CACHED  # after the pixels: another worker may be looking
        return image

    def allocate(self) -> None:
        """Keep decoded images from now on, in memory that all workers share.

        Raises:
            ValueError: They do not fit into the free memory.
        """
        shape = (len(self), self.target.channels, *self.target.size)
        needed, free = int(np.prod(shape)), free_memory(self.shared)
        if needed > free:
            raise ValueError(
                f"cache=true needs {needed / 2**30:.3g} GiB for {len(self)} images of {shape[1:]}, but "
                f"{free / 2**30:.3g} GiB of memory are free: use a smaller size or cache=false."
            )
        pixels = torch.empty(shape, dtype=torch.uint8)
        self._pixels = in_shared_memory(pixels) if self.shared else pixels

    def check_channels(self) -> None:
        """Check that the channels asked for are in the images: look at their headers until one has them.

        Alpha is looked for in all images. Grey images may become colour ones, which is only warned of, so colour is
        looked for in no more than about a thousand of them, all over the folder.

        Raises:
            ValueError: Alpha is asked for, but none has it.
            OSError: Most files cannot be read, or one cannot and `on_error` is raise.
        """
        if self.target.channels == 1:
            return
        colour = alpha = False
        looked_at = 0
        for has in self._looks(len(self) if self.target.channels == 4 else GREY):
            looked_at += 1
            colour, alpha = colour or has[0], alpha or has[1]
            if alpha if self.target.channels == 4 else colour:
                return
        if self.target.channels == 4 and not alpha:
            raise ValueError(
                f"channels=4 needs images with an alpha channel, but those in {self.root} have none: "
                f"set channels to {3 if colour else 1}."
            )
        if looked_at:
            many = len(self) > looked_at + self.broken
            which = f"{looked_at:,} images looked at" if many else f"{len(self)} images"
            warnings.warn(
                f"all {which} in {self.root} are grey: with channels=3 they have three equal channels", stacklevel=2
            )

    def check_readable(self) -> None:
        """Decode a few images all over the folder, so that a broken folder is refused before anything is trained.

        Raises:
            OSError: More than half of all files are broken, or one is and `on_error` is raise.
        """
        some = range(0, len(self), max(1, -(-len(self) // DECODED)))
        if 4 * sum(self.read(index) is None for index in some) <= len(some):
            return
        readable = 0
        for index in range(len(self)):  # `_broken` refuses as soon as there are too many
            readable += self.read(index) is not None
            if 2 * readable >= len(self):
                return

    @property
    def broken(self) -> int:
        """How many files have turned out to be broken so far, in all workers of this process."""
        return int((self._state == BROKEN).sum())

    def broken_paths(self) -> list[str]:
        """Return their paths, relative to the root."""
        return [os.fsdecode(self._paths[i]) for i in (self._state == BROKEN).nonzero().flatten().tolist()]

    def _looks(self, most: int) -> Iterator[tuple[bool, bool]]:
        """Yield colour and alpha of about `most` images all over the folder, from their headers, at first of a few."""
        every = max(1, len(self) // most)
        step = every * max(1, len(self) // (every * LOOKED_AT))
        order = [*range(0, len(self), step), *(i for i in range(0, len(self), every) if i % step)]
        at_once = LOOKED_AT
        while order:
            indices, order = [i for i in order[:at_once] if self._state[i] != BROKEN], order[at_once:]
            for index, found in zip(indices, look_all([self.path(i) for i in indices]), strict=True):
                if isinstance(found, UnreadableImageError):
                    self._broken(index, found)
                else:
                    yield found
            at_once = 4096

    def _broken(self, index: int, error: UnreadableImageError) -> None:
        """Note a broken file; warn of the first one, and again when there are ten times as many.

        Raises:
            OSError: `on_error` is raise, or more than half of all are broken.
        """
        path = self.path(index)
        if self.on_error == "raise":
            raise BrokenDataError(f"Cannot read image {path} ({error}); on_error=skip would leave it out.") from error
        with locked(self.root):
            if self._state[index] == BROKEN:
                return
            self._state[index] = BROKEN
            count = self.broken
        if 2 * count > len(self):
            raise BrokenDataError(
                f"At least {count} of the {len(self)} image files in {self.root} cannot be read, expected at most half "
                f"of them; one is {path} ({error})."
            ) from error
        if count == 1:
            warnings.warn(f"skipping unreadable image {path} ({error}); more are counted", stacklevel=2)
        elif str(count).strip("0") == "1":
            warnings.warn(f"{count} of the {len(self)} image files in {self.root} are unreadable so far", stacklevel=2)


class Listing(NamedTuple):
    """What is below a folder or in an archive: images, files of other kinds, and folders."""

    paths: list[str]  # of the images, relative, with "/"; sorted as text, so not by a locale or file system
    others: dict[str, int]  # how many files of each other extension, such as ".txt"
    folders: set[str]


def listing(root: str | Path) -> Listing:
    """Return what is below a folder or in an archive; hidden files and folders that systems leave behind are not."""
    paths, others, folders = [], Counter[str](), set()
    for path in walk(root):
        if path.endswith("/"):
            folders.add(path[:-1])
        elif is_image(path):
            paths.append(path)
        else:
            others[os.path.splitext(path)[1].lower() or "without extension"] += 1
    return Listing(sorted(paths), dict(others.most_common()), folders)


def listed(names: Sequence[str]) -> str:
    """Return the first of the names, and how many more there are."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")


def is_image(path: str) -> bool:
    """Return whether a file is named as an image that the installed Pillow reads."""
    return os.path.splitext(path)[1][1:].lower() in EXTENSIONS


def image_files(root: str | Path) -> Iterator[str]:
    """Yield the paths of all image files below a folder or in an archive, relative to it, with "/", in no order.

    Hidden ones, and folders that systems leave behind, are left out. Links are followed, except to a folder they are
    in.
    """
    return (path for path in walk(root) if not path.endswith("/") and is_image(path))


def existing_folder(root: str | Path, word: str = "root") -> Path:
    """Return the path of a folder, or zip archive, with at least one image file in it.

    Raises:
        FileNotFoundError: There is no such folder, or no image file in it.
        NotADirectoryError: It is a file.
        ValueError: It is a damaged or encrypted archive.
    """
    path = Path(root).expanduser()
    if not is_folder(path):
        if not path.exists():
            raise FileNotFoundError(f"{word} must be a folder of images, but {path} does not exist.")
        if path.name.lower().endswith(PACKED):
            raise NotADirectoryError(f"{word} is {path}, an archive: unpack it and give the folder, or make it a .zip.")
        raise NotADirectoryError(f"{word} must be a folder of images or a .zip, but {path} is a file.")
    if next(image_files(path), None) is None:
        shown = f"{', '.join(COMMON)} and {len(EXTENSIONS) - len(COMMON)} other kinds"
        raise FileNotFoundError(f"{word} is {path}, which holds no images (looked for {shown}).")
    return path


def free_memory(shared: bool) -> int:
    """Return how many bytes can be allocated; shared memory may have a limit of its own, as in containers."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, StopIteration):
        # Not SC_AVPHYS_PAGES: reading a data set fills the page cache, which that counts as taken.
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    if shared and os.path.isdir("/dev/shm"):
        stat = os.statvfs("/dev/shm")
        free = min(free, stat.f_bavail * stat.f_frsize)
    return free


def in_shared_memory(tensor: Tensor) -> Tensor:
    """Return the tensor, moved to where worker processes can write to it too."""
    return tensor.share_memory_()  # type: ignore[no-untyped-call,no-any-return]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time pass for a file or folder; it is the lock, so there is nothing to pass to workers."""
    place = within(path)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError, OSError):  # not on Windows, not for files that cannot be opened
            import fcntl

            handle = os.open(place[0] if place else path, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
