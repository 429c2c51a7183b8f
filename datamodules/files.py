"""The image files of a folder: listed in a fixed order, decoded on access, with a cache and a list of broken files."""

import contextlib
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from datamodules.archive import PACKED, is_folder, opened, size_of, walk, within
from datamodules.decode import COMMON, EXTENSIONS, Target, UnreadableImageError, look_all, read_image, reason
from datamodules.encoded import EncodedFiles

OnError: TypeAlias = Literal["skip", "raise"]
Cache: TypeAlias = bool | Literal["device"]

LOOKED_AT = 32  # images, spread over a folder, whose headers are read first
GREY = 1024  # images, spread over a folder, whose headers are read before it counts as grey
DECODED = 12  # images, spread over a folder, that are decoded as a check
NAMED = 5  # maximum number of files in a message
UNKNOWN, CACHED, BROKEN = 0, 1, 2


class BrokenDataError(OSError):
    """Files of a data set cannot be read. It may be raised in the middle of a run, in a worker process."""


class ImageFiles:
    """Reader of the image files of a folder, which records broken files and, after `allocate`, caches the images.

    The cache has the pixels of images of one size, and the bytes of files that are read in their own sizes.

    Records and cache are in memory shared by all workers.

    Args:
        root: Folder or zip archive.
        paths: Paths of image files, relative to the root.
        target: Form to which images are converted.
        on_error: For broken files, skip (warn once) or raise.
        shared: Whether worker processes will read.
    """

    def __init__(self, root: Path, paths: list[str], target: Target, on_error: OnError, shared: bool) -> None:
        self.root, self.target, self.on_error, self.shared = root, target, on_error, shared
        # One array, because the reference counts of a million strings would be copied into every worker.
        self._paths = np.array([os.fsencode(path) for path in paths])
        self._state = in_shared_memory(torch.full((len(paths),), UNKNOWN, dtype=torch.uint8))
        self._pixels: Tensor | None = None
        self._encoded: EncodedFiles | None = None
        self.resident: Tensor | None = None  # all images on the device, after `move`

    def __len__(self) -> int:
        return len(self._paths)

    def path(self, index: int) -> Path:
        """Return the path of a file."""
        return self.root / os.fsdecode(self._paths[index])

    def paths(self) -> Iterator[Path]:
        """Yield the paths of all files."""
        return map(self.path, range(len(self)))

    def first_readable(self, candidates: Iterable[int]) -> tuple[int, Tensor]:
        """Return the first index among `candidates` whose file can be decoded, and its image `(C, H, W)` uint8.

        Raises:
            OSError: No file can be decoded, or one cannot and `on_error` is raise.
        """
        for index in candidates:
            image = self.read(index)
            if image is not None:
                return index, image
        raise BrokenDataError(f"None of the {len(self)} image files in {self.root} can be read.")

    def cached(self, indices: Tensor) -> Tensor | None:
        """Return a batch of images `(N, C, H, W)` if all of them are cached, else None."""
        if self._pixels is None or bool((self._state[indices] != CACHED).any()):
            return None
        return self._pixels.index_select(0, indices)

    def missing(self, indices: Tensor) -> int:
        """Return how many of these images are neither cached nor broken."""
        if self._pixels is None:
            return len(indices)
        return int((self._state[indices] == UNKNOWN).sum())

    def read(self, index: int) -> Tensor | None:
        """Return an image `(C, H, W)` uint8, or None if its file is broken.

        Raises:
            OSError: The file is broken and `on_error` is raise.
        """
        state = int(self._state[index])
        if state == BROKEN:
            return None
        if state == CACHED and self._pixels is not None:
            return self._pixels[index]
        try:
            path = self.path(index)
            image = read_image(path, self.target) if self._encoded is None else self._decoded(path, index)
        except UnreadableImageError as error:
            self._broken(index, error)
            return None
        if self._pixels is not None:
            self._pixels[index] = image
            self._state[index] = CACHED  # after the pixels, because another worker may read at the same time
        return image

    def _decoded(self, path: Path, index: int) -> Tensor:
        """Return an image of the cached bytes of its file, which are read if they are not there yet."""
        assert self._encoded is not None
        if self._state[index] == CACHED:
            return read_image(path, self.target, self._encoded.get(index))
        try:
            with opened(path) as file:
                data = file.read()
        except OSError as error:
            raise UnreadableImageError(reason(path, error)) from error
        image = read_image(path, self.target, data)
        if self._encoded.put(index, data):
            self._state[index] = CACHED
        return image

    @property
    def nbytes(self) -> int:
        """Size of all decoded images in bytes."""
        return len(self) * prod(self.target.shape)

    def allocate(self, cache: Cache = True) -> None:
        """Cache decoded images, or the bytes of files in their own sizes, from now on in memory shared by all workers.

        Args:
            cache: Value of the user's argument, for the error message.

        Raises:
            ValueError: The images do not fit into the free memory.
        """
        free = free_memory(self.shared)
        if self.target.fit == "native":
            sizes = [size_of(path) for path in self.paths()]
            if sum(sizes) > free:
                raise ValueError(
                    f"cache={str(cache).lower()} needs {sum(sizes) / 2**30:.3g} GiB for the {len(self)} files in "
                    f"{self.root}, but {free / 2**30:.3g} GiB of memory are free: use cache=false."
                )
            self._encoded = EncodedFiles(sizes)
            if self.shared:
                in_shared_memory(self._encoded.bytes)
            return
        if self.nbytes > free:
            raise ValueError(
                f"cache={str(cache).lower()} needs {self.nbytes / 2**30:.3g} GiB for {len(self)} images of "
                f"{self.target.shape}, but {free / 2**30:.3g} GiB of memory are free: use a smaller size or "
                "cache=false."
            )
        pixels = torch.empty(len(self), *self.target.shape, dtype=torch.uint8)
        self._pixels = in_shared_memory(pixels) if self.shared else pixels

    def move(self, device: torch.device) -> None:
        """Move the cached images to a device as `resident`. All images that are not broken must be cached.

        On a CPU the cache itself is used. On other devices the cache is given back to the system.
        """
        assert self._pixels is not None
        self.resident = self._pixels.to(device)
        if device.type != "cpu":
            self._pixels = None

    def check_channels(self) -> None:
        """Check by their headers that some image has the channels of the target.

        Alpha is searched in all images. Colour is searched in about a thousand images, spread over the folder, because
        missing colour causes only a warning.

        Raises:
            ValueError: The target has alpha, but no image has it.
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
            which = f"{looked_at:,} images that were checked" if many else f"{len(self)} images"
            warnings.warn(
                f"all {which} in {self.root} are grey: with channels=3 they have three equal channels", stacklevel=2
            )

    def check_readable(self) -> None:
        """Decode a few images, spread over the folder, to find broken data before training.

        Raises:
            OSError: More than half of all files are broken, or one is and `on_error` is raise.
        """
        some = range(0, len(self), max(1, -(-len(self) // DECODED)))
        if 4 * sum(self.read(index) is None for index in some) <= len(some):
            return
        readable = 0
        for index in range(len(self)):  # `_broken` raises as soon as there are too many
            readable += self.read(index) is not None
            if 2 * readable >= len(self):
                return

    @property
    def broken(self) -> int:
        """Number of files that were found to be broken so far, by all workers of this process."""
        return int((self._state == BROKEN).sum())

    def is_broken(self, indices: Tensor) -> Tensor:
        """Return whether the files were found to be broken so far, `(N,)` bool."""
        return self._state[indices] == BROKEN

    def broken_paths(self) -> list[str]:
        """Return the paths of broken files, relative to the root."""
        return [os.fsdecode(self._paths[i]) for i in (self._state == BROKEN).nonzero().flatten().tolist()]

    def _looks(self, most: int) -> Iterator[tuple[bool, bool]]:
        """Yield colour and alpha of about `most` images, spread over the folder, from their headers."""
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
        """Record a broken file. Warn about the first one, and again at ten times as many.

        Raises:
            OSError: `on_error` is raise, or more than half of all files are broken.
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


def listed(names: Sequence[str]) -> str:
    """Return the first names and the number of the others, as text."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")


def is_image(path: str) -> bool:
    """Return whether the installed Pillow reads files with this extension."""
    return os.path.splitext(path)[1][1:].lower() in EXTENSIONS


def image_files(root: str | Path) -> Iterator[str]:
    """Yield the relative paths of all image files in a folder or an archive, in no particular order.

    The separator is "/". Hidden files and files of systems and tools are skipped. Links are followed, except links to a
    parent folder.
    """
    return (path for path in walk(root) if not path.endswith("/") and is_image(path))


def existing_folder(root: str | Path, word: str = "root") -> Path:
    """Return the path of a folder or zip archive that contains at least one image.

    Args:
        root: Path of the folder or archive.
        word: Name of the argument in error messages.

    Raises:
        FileNotFoundError: The folder does not exist or contains no image.
        NotADirectoryError: The path is a file of another kind.
        ValueError: The archive is damaged or encrypted.
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
        raise FileNotFoundError(f"{word} is {path}, which contains no images (looked for {shown}).")
    return path


def free_memory(shared: bool) -> int:
    """Return the free memory in bytes. In containers shared memory may have a smaller limit."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, StopIteration):
        # Not SC_AVPHYS_PAGES, which counts the page cache as used.
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    if shared and os.path.isdir("/dev/shm"):
        stat = os.statvfs("/dev/shm")
        free = min(free, stat.f_bavail * stat.f_frsize)
    return free


def in_shared_memory(tensor: Tensor) -> Tensor:
    """Return the tensor, moved to memory that worker processes can write to."""
    return tensor.share_memory_()  # type: ignore[no-untyped-call,no-any-return]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Context manager that locks a file or folder for other processes. Workers need only the path."""
    place = within(path)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError, OSError):  # no lock on Windows or for unreadable files
            import fcntl

            handle = os.open(place[0] if place else path, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
