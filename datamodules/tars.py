"""Tar archives without compression: their table of contents, kept in the user's cache, and single members.

A tar archive has no table of contents. Its members are visited once, which takes about 15 microseconds each.
"""

import os
import tarfile
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, cast

from datamodules import kept
from datamodules.members import Members, sorted_members

COLUMNS = 2  # offset of the content, size
LARGE = 1_000  # members; the table of a smaller archive is not kept
KIND = "tars"


def index(archive: str) -> Members:
    """Return the table of contents. It is kept in the user's cache until size or modification time change.

    Raises:
        ValueError: The archive is damaged, truncated or compressed.
    """
    return Members(**kept.of_file(KIND, archive, lambda: sorted_members(visited(archive), COLUMNS)._asdict(), LARGE))


def read(archive: str, name: str, entry: Sequence[int]) -> bytes:
    """Return the content of a member, given its row in the table.

    Raises:
        OSError: The archive is truncated.
    """
    offset, size = entry
    with open(archive, "rb", buffering=0) as raw:
        data = os.pread(raw.fileno(), size, offset)
        if len(data) != size:
            raise OSError("damaged in the archive")
        return data


def visited(archive: str) -> Iterator[tuple[str, Sequence[int]]]:
    """Yield name, offset and size of the regular files in an archive. Hard links have those of their files.

    Raises:
        ValueError: The archive is damaged, truncated or compressed.
    """
    places: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(archive, "r:") as file:
            for member in file:
                if member.islnk() and member.linkname in places:
                    places[member.name] = places[member.linkname]
                elif member.isreg() and not member.issparse():
                    places[member.name] = (member.offset_data, member.size)
                cast(Any, file).members = []  # else all headers stay in memory
            end = file.offset
    except (tarfile.TarError, OSError, ValueError) as error:
        raise ValueError(f"{archive} is not a readable tar archive ({error})") from error
    with open(archive, "rb") as raw:
        raw.seek(end)
        block = raw.read(tarfile.BLOCKSIZE)
    if block.strip(b"\0"):  # tarfile takes a damaged header for the end
        raise ValueError(f"{archive} is not a readable tar archive (damaged at byte {end:,})")
    if not block:
        warnings.warn(f"{archive} has no end mark: it may be truncated between two files", stacklevel=2)
    yield from places.items()
