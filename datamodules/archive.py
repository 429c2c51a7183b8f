"""Files in folders and in zip and tar archives, by the same kind of path, such as `photos.zip/cats/1.png`.

An archive is not unpacked. Its table of contents is read once per process and shared with forked workers. Every read
opens the archive again, so workers, threads and processes can read it at the same time.

A folder of tar archives and nothing else holds shards. Each of them counts as a subfolder.
"""

import io
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO

from datamodules import tars, zips
from datamodules.members import Members

INDEX = {".zip": zips.index, ".tar": tars.index}
READ = {".zip": zips.read, ".tar": tars.read}
ARCHIVE = re.compile(r"\.(zip|tar)(?=/|$)" if os.sep == "/" else r"\.(zip|tar)(?=/|\\|$)", re.IGNORECASE)
# Files that may lie beside shards.
BESIDE = (".json", ".txt", ".csv", ".tsv", ".parquet", ".idx", ".md", ".yaml", "")
PACKED = (".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar", ".gz")
# Folders that systems and tools create, in lower case. Their images are thumbnails or copies.
LEFT_BEHIND = {"@eadir", "__macosx", "__pycache__", "$recycle.bin", "#recycle", "@recycle", "lost+found", "@tmp"}
LEFT_BEHIND_FILES = {"thumbs.db", "desktop.ini", "icon\r"}


def within(path: str | Path) -> tuple[str, str] | None:
    """Return the archive in a path and the path inside it, or None without an archive.

    The path inside is empty for the whole archive.
    """
    text = os.fspath(path)
    for match in ARCHIVE.finditer(text):
        if os.path.isfile(text[: match.end()]):
            return text[: match.end()], text[match.end() + 1 :].replace(os.sep, "/")
    return None


def contents(archive: str) -> Members:
    """Return the table of contents of an archive. It is read again if the file has changed.

    Raises:
        ValueError: The archive is damaged or encrypted.
    """
    state = os.stat(archive)
    return _contents(os.path.abspath(archive), state.st_mtime_ns, state.st_size)


@cache  # a data set may have thousands of shards, and each is read at random
def _contents(archive: str, modified: int, size: int) -> Members:
    return INDEX[archive[-4:].lower()](archive)


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
    return io.BytesIO(READ[archive[-4:].lower()](archive, name, held.entries[row].tolist()))


def size_of(path: str | Path) -> int:
    """Return the size of a file in bytes, unpacked, or 0 if it does not exist."""
    place = within(path)
    if place is None:
        return os.path.getsize(path) if os.path.isfile(path) else 0
    held = contents(place[0])
    row = held.find(place[1])
    return 0 if row is None else int(held.entries[row, -1])


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
    """Return whether a folder exists. An archive counts as a folder."""
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
    yield from _walk(root, "", ()) if place is None else _members(*place)


def _members(archive: str, folder: str) -> Iterator[str]:
    prefix = f"{folder}/" if folder else ""
    held = contents(archive)
    seen: set[str] = set()  # folders are derived from paths, because not every archive lists them
    for row in held.below(prefix):
        path = os.fsdecode(held.names[row])[len(prefix) :]
        *above, name = path.split("/")
        if any(skipped(part, folder=True) for part in above) or (name and skipped(name, folder=False)):
            continue
        for i in range(len(above)):
            inner = "/".join(above[: i + 1]) + "/"
            if inner not in seen:
                seen.add(inner)
                yield inner
        if name:
            yield path


def _walk(root: str | Path, under: str, above: tuple[str, ...]) -> Iterator[str]:
    folder = os.path.join(root, under)
    real = os.path.realpath(folder)
    if real in above:
        return
    shards: list[str] = []
    alone = True  # whether there is nothing but shards and what may lie beside them
    with os.scandir(folder) as entries:
        for entry in entries:
            is_dir = entry.is_dir()
            if skipped(entry.name, is_dir):
                continue
            if not is_dir and entry.name[-4:].lower() == ".tar":
                shards.append(under + entry.name)
                continue
            alone = alone and not is_dir and os.path.splitext(entry.name)[1].lower() in BESIDE
            if is_dir:
                yield f"{under}{entry.name}/"
                yield from _walk(root, f"{under}{entry.name}/", (*above, real))
            # Pipes are skipped, because reading one would block. A broken link counts as an unreadable file.
            elif entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path)):
                yield under + entry.name
    for shard in shards:
        if not alone:
            yield shard
            continue
        yield f"{shard}/"
        for path in _members(os.path.join(root, shard), ""):
            yield f"{shard}/{path}"


def skipped(name: str, folder: bool) -> bool:
    """Return whether a file or folder is hidden or was created by a system or tool."""
    return name.startswith(".") or name.lower() in (LEFT_BEHIND if folder else LEFT_BEHIND_FILES)
