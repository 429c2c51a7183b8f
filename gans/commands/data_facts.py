"""Facts about stored images that need no training: formats, modes, sizes, broken images and duplicates."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from statistics import median
from typing import Any

from datamodules.decode import Target, UnreadableImageError, converted
from datamodules.reader import Reader

AT_ONCE = 4096  # images whose headers are read at once
MOST = 2**28  # bytes that are read to find duplicates; images of different numbers of bytes are not read
Watch = Callable[[Iterable[int]], Iterator[int]]


@dataclass
class Facts:
    """What was found.

    Attributes:
        formats: number of images by format.
        modes: number of images by Pillow's mode.
        sizes: number of images by (width, height).
        alpha: number of images with alpha.
        grey: number of images without colour.
        broken: reason for each broken image, by its number.
    """

    formats: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    alpha: int = 0
    grey: int = 0
    broken: dict[int, str] = field(default_factory=dict)

    @property
    def sides(self) -> tuple[int, int, int]:
        """Minimum, median and maximum of the shorter sides of all images, in pixels; 0 without readable images."""
        shorter = [min(size) for size, count in self.sizes.items() for _ in range(count)]
        return (min(shorter), round(median(shorter)), max(shorter)) if shorter else (0, 0, 0)


def facts(reader: Reader, decode: bool, watch: Watch) -> Facts:
    """Return facts about all images of a reader.

    Args:
        reader: of the images.
        decode: decode all images, and not only the headers, which are intact in truncated files.
        watch: shows the progress over numbers of images.
    """
    found = Facts()
    numbers = watch(range(len(reader)))
    while indices := list(islice(numbers, AT_ONCE)):
        for index, header in zip(indices, reader.headers(indices), strict=True):
            if isinstance(header, UnreadableImageError):
                found.broken[index] = str(header)
                continue
            if decode and (why := undecodable(reader, index)):
                found.broken[index] = why
                continue
            found.formats[header.format or "array"] += 1
            found.modes[header.mode] += 1
            found.sizes[header.width, header.height] += 1
            found.alpha += header.alpha
            found.grey += not header.colour
    return found


def undecodable(reader: Reader, index: int) -> str:
    """Return the reason why an image cannot be decoded, or "" if it can."""
    try:
        with reader.opened(index) as file:
            converted(file, Target(3, (1, 1), "native"))
    except UnreadableImageError as error:
        return str(error)
    return ""


def duplicates(reader: Reader) -> list[list[int]] | None:
    """Return groups of images with the same encoded bytes, or None if too much had to be read to find them.

    Only images with equal numbers of bytes are read.
    """
    try:
        sizes = reader.sizes()
    except ValueError:  # images that are not stored as bytes
        return None
    alike = defaultdict(list)
    for index, size in enumerate(sizes):
        alike[size].append(index)
    groups = [indices for size, indices in alike.items() if size and len(indices) > 1]
    if sum(sizes[index] for indices in groups for index in indices) > MOST:
        return None
    found: dict[Any, list[int]] = defaultdict(list)
    for indices in groups:
        for index in indices:
            try:
                found[hashlib.blake2b(reader.encoded(index), digest_size=16).digest()].append(index)
            except UnreadableImageError:
                continue  # it is reported as broken
    return [indices for indices in found.values() if len(indices) > 1]
