"""Files in folders and zip archives, by the same kind of path, such as `photos.zip/cats/1.png`.

An archive is not unpacked. Its table of contents is read once per process and shared with forked workers. Every read
opens the archive again, so workers, threads and processes can read it at the same time.
"""

import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

PACKED = (".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar", ".gz")
HEADER = 30  # bytes of a member's header before its name; bytes 26 to 30 are the lengths of name and extra field
ENCRYPTED = 0x1  # flag of encrypted members
# Folders that systems and tools create, in lower case. Their images are thumbnails or copies.
LEFT_BEHIND = {"@eadir", "__macosx", "__pycache__", "$recycle.bin", "#recycle", "@recycle", "lost+found", "@tmp"}
LEFT_BEHIND_FILES = {"thumbs.db", "desktop.ini", "icon\r"}


class Contents(NamedTuple):
    """The members of an archive, sorted by name.

    They are stored in arrays, because the reference counts of a million objects would be copied into every worker.
    """

    names: "np.ndarray[Any, np.dtype[np.bytes_]]"  # folders end with "/"
    entries: "np.ndarray[Any, np.dtype[np.int64]]"  # (N, 6): offset, packed size, size, method, checksum, flags

    def find(self, name: str) -> int | None:
        """Return the index of a member, or None."""
        wanted = os.fsencode(name)
        row = int(np.searchsorted(self.names, np.bytes_(wanted)))
        return row if row < len(self.names) and self.names[row] == wanted else None

    def below(self, folder: str) -> range:
        """Return the indices of all members in a folder, whose name ends with "/" or is empty."""
        first = int(np.searchsorted(self.names, np.bytes_(os.fsencode(folder))))
        # "0" is the next character after "/".
        last = int(np.searchsorted(self.names, np.bytes_(os.fsencode(folder[:-1] + "0")))) if folder else None
        return range(first, len(self.names) if last is None else last)


def within(path: str | Path) -> tuple[str, str] | None:
    """Return the zip archive in a path and the path inside it, or None without an archive.

    The path inside is empty for the whole archive.
    """
    text = os.fspath(path)
    lower = text.lower()
    end = lower.find(".zip")
    while end >= 0:
        end += 4
        if (end == len(text) or text[end] in f"/{os.sep}") and os.path.isfile(text[:end]):
            return text[:end], text[end + 1 :].replace(os.sep, "/")
        end = lower.find(".zip", end)
    return None


def contents(archive: str) -> Contents:
    """Return the table of contents of an archive. It is read again if the file has changed.

    Raises:
        ValueError: The archive is damaged or encrypted.
    """
    state = os.stat(archive)
    return _contents(os.path.abspath(archive), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _contents(archive: str, modified: int, size: int) -> Contents:
    try:
        with zipfile.ZipFile(archive) as file:
            infos = {info.filename.replace("\\", "/").removeprefix("./").lstrip("/"): info for info in file.infolist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{archive} is not a readable zip archive ({error})") from error
    if any(info.flag_bits & ENCRYPTED for info in infos.values()):
        raise ValueError(f"{archive} is encrypted; expected a zip archive without a password")
    # UTF-8 bytes have the same order as text, and as the paths in a folder.
    rows = sorted((os.fsencode(name), info) for name, info in infos.items() if name)
    entries = [
        (info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC, info.flag_bits)
        for _, info in rows
    ]
    names = np.array([name for name, _ in rows], dtype=np.bytes_)
    return Contents(names, np.array(entries, dtype=np.int64).reshape(len(rows), 6))


def opened(path: str | Path) -> BinaryIO:
    """Return an open file. A member of an archive is unpacked into memory.

    Raises:
        OSError: The file does not exist, or the archive is damaged.
    """
    place = within(path)
    if place is None:
        return open(path, "rb")
    archive, name = place
    held = contents(archive)
    row = held.find(name)
    if row is None:
        raise FileNotFoundError(f"no {name} in {archive}")
    offset, packed, size, method, checksum, _ = held.entries[row].tolist()
    if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile supports some rare methods
        try:
            with zipfile.ZipFile(archive) as file:
                return io.BytesIO(file.read(name))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, KeyError) as error:
            raise OSError(str(error)) from error
    with open(archive, "rb") as raw:
        raw.seek(offset)
        header = raw.read(HEADER)
        raw.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), os.SEEK_CUR)
        data = raw.read(packed)
    try:
        if method == zipfile.ZIP_DEFLATED:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, max(1, size))  # at most the declared size
    except zlib.error as error:
        raise OSError(f"damaged in the archive ({error})") from error
    if len(data) != size or zlib.crc32(data) != checksum:
        raise OSError("damaged in the archive")
    return io.BytesIO(data)


def size_of(path: str | Path) -> int:
    """Return the size of a file in bytes, unpacked, or 0 if it does not exist."""
    place = within(path)
    if place is None:
        return os.path.getsize(path) if os.path.isfile(path) else 0
    held = contents(place[0])
    row = held.find(place[1])
    return 0 if row is None else int(held.entries[row, 2])


def read_text(path: str | Path) -> str:
    """Return the text of a file, without a byte order mark.

    Raises:
        UnicodeDecodeError: The text is not UTF-8.
        OSError: The file cannot be read.
    """
    with opened(path) as file:
        return file.read().decode("utf-8-sig")


def is_file(path: str | Path) -> bool:
    """Return whether a file exists, in a folder or in an archive."""
    place = within(path)
    if place is None or not place[1]:
        return os.path.isfile(path)
    return contents(place[0]).find(place[1]) is not None


def is_folder(path: str | Path) -> bool:
    """Return whether a folder exists. A zip archive counts as a folder."""
    place = within(path)
    if place is None:
        return os.path.isdir(path)
    return not place[1] or len(contents(place[0]).below(f"{place[1]}/")) > 0


def folders(path: str | Path) -> list[str]:
    """Return the sorted names of the direct subfolders, without hidden ones and those of systems and tools."""
    place = within(path)
    if place is None:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not skipped(entry.name, folder=True))
    prefix = f"{place[1]}/" if place[1] else ""
    held = contents(place[0])
    inner = (os.fsdecode(held.names[row])[len(prefix) :].partition("/") for row in held.below(prefix))
    return sorted({name for name, slash, _ in inner if slash and not skipped(name, folder=True)})


def walk(root: str | Path) -> Iterator[str]:
    """Yield the relative paths of all files and folders in a folder or an archive, in no particular order.

    The separator is "/", and folders end with "/". Hidden files and files of systems and tools are skipped. Links are
    followed, except links to a parent folder.
    """
    place = within(root)
    if place is None:
        yield from _walk(root, "", ())
        return
    prefix = f"{place[1]}/" if place[1] else ""
    held = contents(place[0])
    seen: set[str] = set()  # folders are derived from paths, because not every archive lists them
    for row in held.below(prefix):
        path = os.fsdecode(held.names[row])[len(prefix) :]
        *above, name = path.split("/")
        if any(skipped(part, folder=True) for part in above) or (name and skipped(name, folder=False)):
            continue
        for i in range(len(above)):
            folder = "/".join(above[: i + 1]) + "/"
            if folder not in seen:
                seen.add(folder)
                yield folder
        if name:
            yield path


def _walk(root: str | Path, under: str, above: tuple[str, ...]) -> Iterator[str]:
    folder = os.path.join(root, under)
    real = os.path.realpath(folder)
    if real in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            is_dir = entry.is_dir()
            if skipped(entry.name, is_dir):
                continue
            if is_dir:
                yield f"{under}{entry.name}/"
                yield from _walk(root, f"{under}{entry.name}/", (*above, real))
            # Pipes are skipped, because reading one would block. A broken link counts as an unreadable file.
            elif entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path)):
                yield under + entry.name


def skipped(name: str, folder: bool) -> bool:
    """Return whether a file or folder is hidden or was created by a system or tool."""
    return name.startswith(".") or name.lower() in (LEFT_BEHIND if folder else LEFT_BEHIND_FILES)
