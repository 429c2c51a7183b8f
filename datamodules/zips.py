"""Zip archives: their table of contents, and single members."""

import os
import zipfile
import zlib
from collections.abc import Sequence

from datamodules.members import Members, sorted_members

HEADER = 30  # bytes of a member's header before its name; bytes 26 to 30 are the lengths of name and extra field
ENCRYPTED = 0x1  # flag of encrypted members
COLUMNS = 5  # offset, packed size, method, checksum, size


def index(archive: str) -> Members:
    """Return the table of contents.

    Raises:
        ValueError: The archive is damaged or encrypted.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            infos = file.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{archive} is not a readable zip archive ({error})") from error
    if any(info.flag_bits & ENCRYPTED for info in infos):
        raise ValueError(f"{archive} is encrypted; expected a zip archive without a password")
    entries = (
        (info.filename, (info.header_offset, info.compress_size, info.compress_type, info.CRC, info.file_size))
        for info in infos
    )
    return sorted_members(entries, COLUMNS)


def read(archive: str, name: str, entry: Sequence[int]) -> bytes:
    """Return the content of a member, given its row in the table.

    Raises:
        OSError: The archive is damaged.
    """
    offset, packed, method, checksum, size = entry
    if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile supports some rare methods
        try:
            with zipfile.ZipFile(archive) as file:
                return file.read(name)
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
    return data
