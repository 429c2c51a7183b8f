"""Files that are written whole or not at all.

A file is written under a name `.partial-*` in the folder of its target, and renamed when it is whole. A reader sees
the old file or the new one. A write that fails leaves the old file and no partial one. A partial file that a killed
process has left is removed by the next process that writes to the folder.
"""

import contextlib
import errno
import io
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import fcntl
except ImportError:  # Windows, where partial files of killed processes stay
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

MARK = ".partial-"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a disk, a quota, the size of a file

_swept: set[Path] = set()  # folders that this process has looked for partial files in


class UnwrittenError(OSError):
    """A file could not be written; nothing of it was left, and what had its name is unchanged.

    Args:
        path: of the file.
        error: of the operating system.
        size: bytes that the file needs, if it is known.
    """

    def __init__(self, path: Path, error: OSError, size: int | None = None) -> None:
        told = f"cannot write {path}: {error.strerror or error}"
        if error.errno in FULL:
            free = shutil.disk_usage(existing(path.parent)).free
            needs = f"it needs {readable(size)}, and " if size else ""
            told += f" ({needs}{readable(free)} are free on the disk of {path.parent})"
        super().__init__(told + (f"; the {path.name} that was there is unchanged" if path.is_file() else ""))
        self.errno = error.errno


class Partial(io.BufferedIOBase):
    """A binary file that can be written to, and that counts what it is given.

    After a failed write it frees the disk and counts on, so that the size of the whole file is known at its end.

    Args:
        file: where the bytes go.
    """

    def __init__(self, file: io.FileIO) -> None:
        self.file = file
        self.size = 0
        self.error: OSError | None = None

    def write(self, data: "Buffer", /) -> int:
        """Write bytes, and return how many they are."""
        rest = memoryview(data).cast("B")
        count = len(rest)
        self.size += count
        while len(rest) and self.error is None:
            try:
                rest = rest[self.file.write(rest) :]  # a disk that is nearly full takes a part
            except OSError as error:
                self.error = error
        return count


def full(error: BaseException) -> bool:
    """Return whether an error, or one that it came from, is that of a full disk."""
    chain: BaseException | None = error
    seen: set[int] = set()  # the chain is a ring where an inner error is raised again
    while chain is not None and id(chain) not in seen:
        if isinstance(chain, OSError) and chain.errno in FULL:
            return True
        seen.add(id(chain))
        chain = chain.__cause__ or chain.__context__
    return False


def readable(size: int) -> str:
    """Return a number of bytes in a unit that leaves few digits."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size} {unit}"
        size = -(-size // 1000)
    return f"{size} GB"


def existing(folder: Path) -> Path:
    """Return a folder, or the nearest above it that exists."""
    return next(there for there in [folder, *folder.absolute().parents] if there.exists())


@contextlib.contextmanager
def opened(path: str | Path, durable: bool = True) -> Iterator[Any]:
    """Open `path` for writing, making its folder; it gets the content when the block has ended without an error.

    Args:
        path: of the file.
        durable: wait until the content is on the disk. Many small files that can be made again need not.

    Raises:
        UnwrittenError: if the file cannot be written.
    """
    path = Path(path).expanduser()
    if path.exists() and not path.is_file() and not path.is_dir():  # a device or a pipe cannot be replaced
        with open(path, "wb", buffering=0) as device:
            yield Partial(device)
        return
    with reserved(path) as (partial, locked), os.fdopen(os.dup(locked), "wb", buffering=0) as file:
        writer = Partial(file)
        try:
            yield writer
        except Exception:
            if writer.error is None:
                raise
        if writer.error is None:
            try:
                if durable:
                    os.fsync(locked)
            except OSError as error:
                writer.error = error
        if writer.error is not None:
            os.ftruncate(locked, 0)
            raise UnwrittenError(path, writer.error, writer.size) from writer.error
        rename(partial, path)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Return a file beside `path`, of the same suffix, for what can only write to a name; renamed as in `opened`.

    Raises:
        UnwrittenError: if the disk is full, or the file cannot be renamed.
    """
    path = Path(path).expanduser()
    with reserved(path) as (partial, locked):
        try:
            yield partial
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        except Exception as error:
            if refused := no_space(error, locked):
                raise UnwrittenError(path, refused) from error
            raise
        rename(partial, path)


def write(path: str | Path, content: bytes, durable: bool = True) -> Path:
    """Write bytes to a file as `opened` does, and return its path.

    Raises:
        UnwrittenError: if the file cannot be written.
    """
    with opened(path, durable) as file:
        file.write(content)
    return Path(path).expanduser()


@contextlib.contextmanager
def reserved(path: Path) -> Iterator[tuple[Path, int]]:
    """Make an empty partial file for `path`, and return its name and descriptor; it is removed if it was not renamed.

    Folders that were made for it are removed with it. It is locked, which says that its process lives.
    """
    made = [folder for folder in path.absolute().parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        sweep(path.parent)
        partial, descriptor = created(path)
    except OSError as error:
        raise UnwrittenError(path, error) from error
    try:
        yield partial, descriptor
    finally:
        if partial.exists():
            partial.unlink()
            for folder in made:
                with contextlib.suppress(OSError):  # something else is in it
                    folder.rmdir()
        os.close(descriptor)


def created(path: Path) -> tuple[Path, int]:
    """Return name and descriptor of a new locked file beside `path`."""
    while True:
        partial = path.with_name(f"{MARK}{secrets.token_hex(8)}{path.suffix}")
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if fcntl is None:
            return partial, descriptor
        with contextlib.suppress(OSError):  # a file system without locks, where `sweep` cannot lock either
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if partial.exists():  # else another process took it for abandoned before it was locked
            return partial, descriptor
        os.close(descriptor)


def rename(partial: Path, path: Path) -> None:
    """Give a whole file its name.

    Raises:
        UnwrittenError: if that is not possible.
    """
    try:
        os.replace(partial, path)
    except OSError as error:
        raise UnwrittenError(path, error) from error


def no_space(error: BaseException, descriptor: int) -> OSError | None:
    """Return the error of a full disk: the one that `error` came from, or that of writing a little more.

    Libraries in C++ report a failed write without its reason.
    """
    if isinstance(error, OSError):
        return error if full(error) else None
    try:
        os.lseek(descriptor, 0, os.SEEK_END)
        os.write(descriptor, bytes(1 << 16))
        os.fsync(descriptor)
    except OSError as refused:
        return refused if full(refused) else None
    return None


def sweep(folder: Path) -> None:
    """Remove the partial files of processes that have ended, the first time that this process writes to a folder."""
    folder = folder.absolute()
    if folder in _swept or fcntl is None:
        return
    _swept.add(folder)
    for partial in folder.glob(f"{MARK}*"):
        with contextlib.suppress(OSError), partial.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            partial.unlink()
