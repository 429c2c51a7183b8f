"""Image files that cannot be read, each in its own way, for the tests of whatever reads images."""

import struct
import zlib

import numpy as np
from PIL import Image


def png_header(width, height):
    """A PNG that claims a size and has no pixels."""
    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b"IHDR" + body, b"IDAT" + zlib.compress(b"")
    packed = (struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def truncated(path, source):
    source.save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def photo(width=64, height=64):
    generator = np.random.default_rng(0)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


BROKEN = {
    "truncated.jpg": lambda path: truncated(path, photo()),
    "truncated.png": lambda path: truncated(path, photo()),
    "empty.png": lambda path: path.write_bytes(b""),
    "text.jpg": lambda path: path.write_text("not an image"),
    "bomb.png": lambda path: path.write_bytes(png_header(100_000, 100_000)),
    "headless.gif": lambda path: path.write_bytes(b"GIF89a"),
}
