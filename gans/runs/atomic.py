"""Atomic writing of files.

A file is written under a temporary name `.partial-*` in the folder of its target, and renamed when it is complete. So
a reader always finds a complete file, the old or the new one. A failed write keeps the old file and removes the
partial one. A partial file of a killed process is removed by the next process that writes to the folder.
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
except ImportError:  # Windows, where partial files of killed processes are not removed
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

MARK = ".partial-"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # limits of the disk, the quota, the file size

_swept: set[Path] = set()  # folders in which this process has removed old partial files


class UnwrittenError(OSError):
    """A file could not be written. No partial file is left, and an existing file of that name is unchanged.

    Args:
        path: path of the file.
        error: error of the operating system.
        size: bytes that the file needs, if known.
    """

    def __init__(self, path: Path, error: OSError, size: int | None = None) -> None:
        message = f"cannot write {path}: {error.strerror or error}"
        if error.errno in FULL:
            free = shutil.disk_usage(existing(path.parent)).free
            needs = f"it needs {readable(size)}, and " if size else ""
            message += f" ({needs}{readable(free)} are free on the disk of {path.parent})"
        super().__init__(message + (f"; the existing {path.name} is unchanged" if path.is_file() else ""))
        self.errno = error.errno


class Partial(io.BufferedIOBase):
    """A binary file for writing that counts the bytes.

    After a failed write it continues to count without writing, so that the size of the whole file is known at the end.

    Args:
        file: the underlying file.
    """

    def __init__(self, file: io.FileIO) -> None:
        self.file = file
        self.size = 0
        self.error: OSError | None = None

    def write(self, data: "Buffer", /) -> int:
        """Write bytes and return their number."""
        rest = memoryview(data).cast("B")
        count = len(rest)
        self.size += count
        while len(rest) and self.error is None:
            try:
                rest = rest[self.file.write(rest) :]  # a nearly full disk may accept only a part
            except OSError as error:
                self.error = error
        return count


def full(error: BaseException) -> bool:
    """Return whether an error, or one in its chain of causes, means a full disk."""
    chain: BaseException | None = error
    seen: set[int] = set()  # the chain is a cycle if an inner error was raised again
    while chain is not None and id(chain) not in seen:
        if isinstance(chain, OSError) and chain.errno in FULL:
            return True
        seen.add(id(chain))
        chain = chain.__cause__ or chain.__context__
    return False


def readable(size: int) -> str:
    """Return a number of bytes as text, in bytes, kB, MB or GB, rounded up."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size} {unit}"
        size = -(-size // 1000)
    return f"{size} GB"


def existing(folder: Path) -> Path:
    """Return a folder, or its nearest parent that exists."""
    return next(there for there in [folder, *folder.absolute().parents] if there.exists())


@contextlib.contextmanager
def opened(path: str | Path, durable: bool = True) -> Iterator[Any]:
    """Open a file for atomic writing and create its folder. If the block raises no error, it is renamed to `path`.

    Args:
        path: path of the file.
        durable: wait until the content is on the disk (fsync). Set it to False for many small files.

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
    """Yield a temporary path with the suffix of `path`, for libraries that need a path, and rename it as `opened` does.

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
    """Write bytes to a file atomically, see `opened`, and return its path.

    Raises:
        UnwrittenError: if the file cannot be written.
    """
    with opened(path, durable) as file:
        file.write(content)
    return Path(path).expanduser()


@contextlib.contextmanager
def reserved(path: Path) -> Iterator[tuple[Path, int]]:
    """Create an empty partial file for `path`, and yield its path and file descriptor.

    If it has not been renamed at the end of the block, it is removed, with the folders that were created for it. The
    file is locked, which shows other processes that it is in use.
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
                with contextlib.suppress(OSError):  # the folder is not empty
                    folder.rmdir()
        os.close(descriptor)


def created(path: Path) -> tuple[Path, int]:
    """Return path and file descriptor of a new locked file in the folder of `path`."""
    while True:
        partial = path.with_name(f"{MARK}{secrets.token_hex(8)}{path.suffix}")
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if fcntl is None:
            return partial, descriptor
        with contextlib.suppress(OSError):  # a file system without locks, where `sweep` cannot lock either
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if partial.exists():  # else another process removed it as abandoned before it was locked
            return partial, descriptor
        os.close(descriptor)


def rename(partial: Path, path: Path) -> None:
    """Rename a complete file to its final name.

    Raises:
        UnwrittenError: if that is not possible.
    """
    try:
        os.replace(partial, path)
    except OSError as error:
        raise UnwrittenError(path, error) from error


def no_space(error: BaseException, descriptor: int) -> OSError | None:
    """Return the operating system's error if the disk is full, else None.

    C++ libraries report a failed write without its reason. So for other errors than `OSError` a test write is made.
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
    """Remove partial files of processes that have ended. It runs once per process and folder."""
    folder = folder.absolute()
    if folder in _swept or fcntl is None:
        return
    _swept.add(folder)
    for partial in folder.glob(f"{MARK}*"):
        with contextlib.suppress(OSError), partial.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            partial.unlink()
