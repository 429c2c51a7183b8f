"""Reader of stored images by number: decoded on access, with a cache and a record of images that cannot be decoded."""

import contextlib
import os
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from math import prod
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from datamodules.archive import within
from datamodules.decode import Header, Target, UnreadableImageError, converted, header
from datamodules.encoded import EncodedFiles

OnError: TypeAlias = Literal["skip", "raise"]
Cache: TypeAlias = bool | Literal["device"]

LOOKED_AT = 32  # images, spread over all, whose headers are read first
GREY = 1024  # images, spread over all, whose headers are read before they count as grey
DECODED = 12  # images, spread over all, that are decoded as a check
UNKNOWN, CACHED, BROKEN = 0, 1, 2


class BrokenDataError(OSError):
    """Images of a data set cannot be read. It may be raised in the middle of a run, in a worker process."""


class Reader:
    """Images that are decoded by their number, with a record of broken ones and, after `allocate`, a cache.

    The cache has the pixels of images of one size, and the encoded bytes of images that are read in their own sizes.
    Records and cache are in memory shared by all workers. Subclasses say how an image is opened.

    Args:
        count: Number of images.
        place: What holds the images, for messages.
        lock: An existing file or folder, which is locked when a broken image is recorded.
        target: Form to which images are converted.
        on_error: For broken images, skip (warn once) or raise.
        shared: Whether worker processes will read.
    """

    kind = "images"  # name of the stored items in messages

    def __init__(
        self, count: int, place: str | Path, lock: Path, target: Target, on_error: OnError, shared: bool
    ) -> None:
        self.place, self.lock, self.target, self.on_error, self.shared = place, lock, target, on_error, shared
        self._state = in_shared_memory(torch.full((count,), UNKNOWN, dtype=torch.uint8))
        self._pixels: Tensor | None = None
        self._encoded: EncodedFiles | None = None
        self.resident: Tensor | None = None  # all images on the device, after `move`

    @abstractmethod
    def name(self, index: int) -> str:
        """Return the name of an image in messages."""

    @abstractmethod
    def opened(self, index: int, data: bytes | None = None) -> AbstractContextManager[Any]:
        """Open an image with Pillow, which decodes its pixels when they are asked for.

        Args:
            index: Number of the image.
            data: Encoded bytes of the image, if they have been read.

        Raises:
            UnreadableImageError: It cannot be opened, or an error was raised while it was open.
        """

    def encoded(self, index: int) -> bytes:
        """Return the encoded bytes of an image, of a reader that has `sizes`.

        Raises:
            UnreadableImageError: They cannot be read.
        """
        raise NotImplementedError

    def sizes(self) -> list[int]:
        """Return the numbers of encoded bytes of all images.

        Raises:
            ValueError: Images are not stored as encoded bytes.
        """
        raise ValueError(f"cache is true; expected false for windows, because {self.what} have no encoded bytes")

    def headers(self, indices: Sequence[int]) -> list[Header | UnreadableImageError]:
        """Return the headers of images, or the errors."""

        def one(index: int) -> Header | UnreadableImageError:
            try:
                with self.opened(index) as file:
                    return header(file)
            except UnreadableImageError as error:
                return error

        return [one(index) for index in indices]

    def __len__(self) -> int:
        return len(self._state)

    @property
    def what(self) -> str:
        """The images and their place, for messages."""
        return f"{self.kind} in {self.place}"

    def first_readable(self, candidates: Iterable[int]) -> tuple[int, Tensor]:
        """Return the first index among `candidates` whose image can be decoded, and the image `(C, H, W)` uint8.

        Raises:
            OSError: No image can be decoded, or one cannot and `on_error` is raise.
        """
        for index in candidates:
            image = self.read(index)
            if image is not None:
                return index, image
        raise BrokenDataError(f"None of the {len(self)} {self.what} can be read.")

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
        """Return an image `(C, H, W)` uint8, or None if it is broken.

        Raises:
            OSError: The image is broken and `on_error` is raise.
        """
        state = int(self._state[index])
        if state == BROKEN:
            return None
        if state == CACHED and self._pixels is not None:
            return self._pixels[index]
        try:
            image = self._decoded(index)
        except UnreadableImageError as error:
            self._broken(index, error)
            return None
        if self._pixels is not None:
            self._pixels[index] = image
            self._state[index] = CACHED  # after the pixels, because another worker may read at the same time
        return image

    def _decoded(self, index: int) -> Tensor:
        """Return an image of its file, or of its cached bytes, which are read if they are not there yet."""
        data = None
        if self._encoded is not None:
            known = self._state[index] == CACHED
            data = self._encoded.get(index) if known else self.encoded(index)
        with self.opened(index, data) as file:
            image = converted(file, self.target)
        if self._encoded is not None and data is not None and self._encoded.put(index, data):
            self._state[index] = CACHED
        return image

    @property
    def nbytes(self) -> int:
        """Size of all decoded images in bytes."""
        return len(self) * prod(self.target.shape)

    def allocate(self, cache: Cache = True) -> None:
        """Cache decoded images, or the bytes of images in their own sizes, from now on in memory shared by all workers.

        Args:
            cache: Value of the user's argument, for the error message.

        Raises:
            ValueError: The images do not fit into the free memory.
        """
        free = free_memory(self.shared)
        if self.target.fit == "native":
            sizes = self.sizes()
            if sum(sizes) > free:
                raise ValueError(
                    f"cache={str(cache).lower()} needs {sum(sizes) / 2**30:.3g} GiB for the {len(self)} {self.what}, "
                    f"but {free / 2**30:.3g} GiB of memory are free: use cache=false."
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

        Alpha is searched in all images. Colour is searched in about a thousand images, spread over all, because missing
        colour causes only a warning.

        Raises:
            ValueError: The target has alpha, but no image has it.
            OSError: Most images cannot be read, or one cannot and `on_error` is raise.
        """
        if self.target.channels == 1:
            return
        colour = alpha = False
        looked_at = 0
        for found in self._looks(len(self) if self.target.channels == 4 else GREY):
            looked_at += 1
            colour, alpha = colour or found.colour, alpha or found.alpha
            if alpha if self.target.channels == 4 else colour:
                return
        if self.target.channels == 4 and not alpha:
            raise ValueError(
                f"channels=4 needs images with an alpha channel, but those in {self.place} have none: "
                f"set channels to {3 if colour else 1}."
            )
        if looked_at:
            many = len(self) > looked_at + self.broken
            which = f"{looked_at:,} images that were checked" if many else f"{len(self)} images"
            warnings.warn(
                f"all {which} in {self.place} are grey: with channels=3 they have three equal channels", stacklevel=2
            )

    def check_readable(self) -> None:
        """Decode a few images, spread over all, to find broken data before training.

        Raises:
            OSError: More than half of all images are broken, or one is and `on_error` is raise.
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
        """Number of images that were found to be broken so far, by all workers of this process."""
        return int((self._state == BROKEN).sum())

    def is_broken(self, indices: Tensor) -> Tensor:
        """Return whether the images were found to be broken so far, `(N,)` bool."""
        return self._state[indices] == BROKEN

    def broken_names(self) -> list[str]:
        """Return the names of broken images."""
        return [self.name(index) for index in (self._state == BROKEN).nonzero().flatten().tolist()]

    def _looks(self, most: int) -> Iterator[Header]:
        """Yield the headers of about `most` images, spread over all."""
        every = max(1, len(self) // most)
        step = every * max(1, len(self) // (every * LOOKED_AT))
        order = [*range(0, len(self), step), *(i for i in range(0, len(self), every) if i % step)]
        at_once = LOOKED_AT
        while order:
            indices, order = [i for i in order[:at_once] if self._state[i] != BROKEN], order[at_once:]
            for index, found in zip(indices, self.headers(indices), strict=True):
                if isinstance(found, UnreadableImageError):
                    self._broken(index, found)
                else:
                    yield found
            at_once = 4096

    def _broken(self, index: int, error: UnreadableImageError) -> None:
        """Record a broken image. Warn about the first one, and again at ten times as many.

        Raises:
            OSError: `on_error` is raise, or more than half of all images are broken.
        """
        name = self.name(index)
        if self.on_error == "raise":
            raise BrokenDataError(f"Cannot read image {name} ({error}); on_error=skip would leave it out.") from error
        with locked(self.lock):
            if self._state[index] == BROKEN:
                return
            self._state[index] = BROKEN
            count = self.broken
        if 2 * count > len(self):
            raise BrokenDataError(
                f"At least {count} of the {len(self)} {self.what} cannot be read, expected at most half of them; "
                f"one is {name} ({error})."
            ) from error
        if count == 1:
            warnings.warn(f"skipping unreadable image {name} ({error}); more are counted", stacklevel=2)
        elif str(count).strip("0") == "1":
            warnings.warn(f"{count} of the {len(self)} {self.what} are unreadable so far", stacklevel=2)


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
