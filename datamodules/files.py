"""The image files of a folder: found in a fixed order, decoded when asked for, broken ones and pixels remembered."""

import contextlib
import os
import warnings
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from datamodules.decode import Target, UnreadableImageError, look, read_image

OnError: TypeAlias = Literal["skip", "raise"]

EXTENSIONS = ("jpg", "jpeg", "png", "bmp", "gif", "webp", "tif", "tiff", "ppm", "pgm", "pbm")
LOOKED_AT = 32  # images whose headers decide whether the folder has colour and alpha
UNKNOWN, CACHED, BROKEN = 0, 1, 2


class ImageFiles:
    """Decodes the images of a folder and remembers which are broken and, after `allocate`, their pixels.

    What it remembers is in shared memory, so the workers of a process, also later ones, know it from each other.

    Args:
        root: The folder.
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

    def first_readable(self, candidates: Iterable[int]) -> tuple[int, Tensor]:
        """Return the first candidate that can be decoded and its image `(C, H, W)` uint8.

        Raises:
            OSError: None can, or one before it cannot and `on_error` is raise.
        """
        for index in candidates:
            image = self.read(index)
            if image is not None:
                return index, image
        raise OSError(f"None of the {len(self)} image files in {self.root} can be read.")

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
        """Check that the channels asked for are there, in the headers of 32 images all over the folder.

        Raises:
            ValueError: All of them are grey but colour is asked for, or none has alpha but alpha is.
            OSError: No file has a readable header, or one has not and `on_error` is raise.
        """
        step = max(1, len(self) // LOOKED_AT)
        spaced = range(0, len(self), step)
        # Where all of the sample is broken, any readable image counts.
        looks = list(islice(self._looks(spaced), LOOKED_AT)) or list(islice(self._looks(range(len(self))), 1))
        if not looks:
            raise OSError(f"None of the {len(self)} image files in {self.root} can be read.")
        colour, alpha = any(look[0] for look in looks), any(look[1] for look in looks)
        if self.target.channels == 4 and not alpha:
            raise ValueError(
                f"channels=4 needs images with an alpha channel, but those in {self.root} have none: "
                f"set channels to {3 if colour else 1}."
            )
        if self.target.channels == 3 and not colour:
            raise ValueError(
                f"channels=3 needs colour images, but those in {self.root} are greyscale: set channels to 1."
            )

    def _looks(self, indices: Iterable[int]) -> Iterator[tuple[bool, bool]]:
        for index in indices:
            if self._state[index] == BROKEN:
                continue
            try:
                yield look(self.path(index))
            except UnreadableImageError as error:
                self._broken(index, error)

    def _broken(self, index: int, error: UnreadableImageError) -> None:
        path = self.path(index)
        if self.on_error == "raise":
            raise OSError(f"Cannot read image {path} ({error}); on_error=skip would leave it out.") from error
        with locked(path):
            if self._state[index] == BROKEN:
                return
            self._state[index] = BROKEN
        skipped = int((self._state == BROKEN).sum())
        warnings.warn(f"skipping unreadable image {path} ({error}); {skipped} skipped so far", stacklevel=2)


def image_files(root: str | Path, under: str = "", above: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the paths of all image files in a folder, relative to it, with "/", in no order; hidden ones are left out.

    Links are followed, except to a folder they are in.
    """
    folder = os.path.join(root, under)
    real = os.path.realpath(folder)
    if real in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from image_files(root, f"{under}{entry.name}/", (*above, real))
            elif entry.name.rpartition(".")[2].lower() in EXTENSIONS and "." in entry.name:
                yield under + entry.name


def existing_folder(root: str | Path) -> Path:
    """Return the path of a folder with at least one image file in it.

    Raises:
        FileNotFoundError: There is no such folder, or no image file in it.
        NotADirectoryError: It is a file.
    """
    path = Path(root)
    if not path.exists():
        raise FileNotFoundError(f"root must be a folder of images, but {path} does not exist.")
    if not path.is_dir():
        raise NotADirectoryError(f"root must be a folder of images, but {path} is a file.")
    if next(image_files(path), None) is None:
        raise FileNotFoundError(f"root is {path}, which holds no images (looked for {', '.join(EXTENSIONS)}).")
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
    """Let one process at a time pass for a file; the file is the lock, so there is nothing to pass to workers."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError, OSError):  # not on Windows, not for files that cannot be opened
            import fcntl

            fcntl.flock(stack.enter_context(open(path, "rb")), fcntl.LOCK_EX)
        yield
