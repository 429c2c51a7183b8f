"""The palette of label maps: read from a file, or found in the maps themselves."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from datamodules.decode import Half, UnreadableImageError, halved, read_whole
from datamodules.palette import MOST, Palette, read_palette

LOOKED_AT = 500  # maps, spread over a folder, in which colours are searched
FLAT = 12  # largest difference of levels in the neighbourhood of a pixel that counts as the inside of a region
RADIUS = 32  # levels: colours of compressed maps that are nearer belong to one class
LEAST = 5e-4  # share of the pixels that a class has at least, where colours are compressed
GRID, SIDE = 4, 64  # levels of a bin of the colours that are counted, and bins a channel
BASE = torch.tensor([SIDE * SIDE, SIDE, 1])
FAR = 0.02  # share of the pixels unlike all colours about which a run is warned

Counts: TypeAlias = tuple["np.typing.NDArray[Any]", "np.typing.NDArray[Any]"]  # coded colours, how often each occurs


class Found(NamedTuple):
    """A palette, and what was seen in the maps.

    Attributes:
        palette: Colours of the classes.
        maps: Number of maps that were looked at.
        shares: Share of the pixels of each class.
        far: Share of the pixels inside regions that are more than 32 levels away from all colours.
    """

    palette: Palette
    maps: int
    shares: tuple[float, ...]
    far: float

    def describe(self) -> str:
        """Return the report of a run: the classes with their colours and shares."""
        names = self.palette.names or tuple(map(str, range(len(self.shares))))
        each = [
            f"{name} #{bytes(colour).hex()} {100 * share:.2g} %"
            for name, colour, share in zip(names, self.palette.colours, self.shares, strict=True)
        ]
        more = f"; {100 * self.far:.2g} % of their inside is unlike all of them" if self.far >= 1e-4 else ""
        return f"{len(each)} colours, of {self.maps:,} maps: {', '.join(each)}{more}"


def check_labels(labels: object) -> str | int | None:
    """Return the argument `labels` if it is None, `auto`, a number of classes or the path of a JSON file.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(labels, str) and labels.isdecimal():
        labels = int(labels)
    if labels is None or (isinstance(labels, str) and (labels == "auto" or labels.endswith(".json"))):
        return labels
    if type(labels) is int and 2 <= labels <= MOST:
        return labels
    raise ValueError(f"labels is {labels!r}; expected auto, a number of classes from 2 to {MOST}, or a .json file")


def found(labels: str | int, root: Path, paths: Sequence[str], half: Half | None = None) -> Found:
    """Return the palette of label maps.

    Args:
        labels: `auto`, the number of classes, or the path of a JSON file, see `read_palette`.
        root: Folder or zip archive of the maps.
        paths: Maps in it, relative to the root. At most 500 of them, spread evenly, are looked at.
        half: Half of each image that is the map, or None for the whole image.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The maps have more or fewer colours.
    """
    every = max(1, -(-len(paths) // LOOKED_AT))
    read = None if labels == "auto" or isinstance(labels, int) else read_palette(Path(str(labels)).expanduser())

    def one(path: str) -> tuple[Counts, Counts] | None:
        try:
            return counted(halved(read_whole(root / path, 3), half))
        except UnreadableImageError:  # whoever reads the map for training reports it
            return None

    with warnings.catch_warnings(), ThreadPoolExecutor(4) as pool:
        warnings.simplefilter("ignore")  # outside of the threads, which share the filters
        seen = [counts for counts in pool.map(one, paths[::every]) if counts is not None]
    (colours, counts), (inner, inside) = (added([both[part] for both in seen]) for part in (0, 1))
    palette = read or palette_of(colours, counts, inner, inside, labels, root)
    shares = torch.zeros(len(palette.colours), dtype=torch.float64)
    shares.index_add_(0, palette.classes(colours.T[:, None])[0], counts.double())
    near = torch.tensor(palette.colours)[palette.classes(inner.T[:, None])[0]]
    away = inside[(inner - near).square().sum(1) > RADIUS**2]
    result = Found(palette, len(seen), tuple((shares / counts.sum()).tolist()), float(away.sum() / inside.sum()))
    if result.far > FAR:
        warnings.warn(
            f"{100 * result.far:.2g} % of the pixels of the label maps in {root} are unlike all "
            f"{len(shares)} colours of labels; they become the nearest",
            stacklevel=2,
        )
    return result


def counted(pixels: Tensor) -> tuple[Counts, Counts]:
    """Return the coded colours of a map `(3, H, W)` uint8 and their counts, of all pixels and of the inside of regions.

    Compression changes the colours at the edges of regions.
    """
    wide = pixels.to(torch.int64)
    codes = (wide[0] << 16) | (wide[1] << 8) | wide[2]
    inside = codes
    if min(codes.shape) > 4:
        values = pixels.float()[None]
        spread = max_pool2d(values, 5, 1) + max_pool2d(-values, 5, 1)
        inside = codes[2:-2, 2:-2][spread[0].amax(0) <= FLAT]
    return np.unique(codes.numpy(), return_counts=True), np.unique(inside.numpy(), return_counts=True)


def added(parts: Sequence[Counts]) -> tuple[Tensor, Tensor]:
    """Return the different colours `(K, 3)` int64 of coded and counted ones, and their sums `(K,)`."""
    codes, counts = (np.concatenate([part[i] for part in parts] or [np.zeros(0, np.int64)]) for i in (0, 1))
    numbers, rows = np.unique(codes, return_inverse=True)
    values = torch.from_numpy(numbers)
    sums = torch.zeros(len(values), dtype=torch.int64).index_add_(0, torch.from_numpy(rows), torch.from_numpy(counts))
    return torch.stack([values >> 16, values >> 8 & 255, values & 255], 1), sums


def palette_of(
    colours: Tensor, counts: Tensor, inner: Tensor, inside: Tensor, labels: str | int, root: Path
) -> Palette:
    """Return the palette of maps with these colours `(K, 3)` int64 and their counts `(K,)`.

    Maps without losses have at most 256 colours, and each is a class; classes are sorted by colour. Compression adds
    colours: then the most frequent colour inside regions is a class with all that are near it, and so on.

    Args:
        colours: Colours of all pixels.
        counts: Their counts.
        inner: Colours of the inside of regions.
        inside: Their counts.
        labels: `auto` or the number of classes.
        root: Folder of the maps, for messages.

    Raises:
        ValueError: There are fewer than two classes, or not as many as `labels` asks for.
    """
    exact = len(colours) <= (labels if isinstance(labels, int) else MOST)
    classes = colours if exact else peaks(inner, inside)
    count = len(classes)
    if count < 2 or (isinstance(labels, int) and count != labels):
        expected = f"{labels} colours" if isinstance(labels, int) else "at least 2 colours"
        raise ValueError(f"labels expects {expected}, but the label maps in {root} have {count}")
    order = sorted(map(tuple, classes.tolist()))
    return Palette(tuple((red, green, blue) for red, green, blue in order))


def peaks(colours: Tensor, counts: Tensor) -> Tensor:
    """Return the centres `(K, 3)` of at most 256 clusters of colours, the most frequent first."""
    codes, rows = torch.unique((colours // GRID * BASE).sum(1), return_inverse=True)
    bins = codes[:, None] // BASE % SIDE
    heights = torch.zeros(len(bins), dtype=torch.int64).index_add_(0, rows, counts)
    least, centres = LEAST * float(counts.sum()), list[Tensor]()
    free = torch.ones(len(colours), dtype=torch.bool)
    while len(centres) < MOST and len(bins):
        peak = int(heights.argmax())
        if heights[peak] < max(1, least):
            break
        near = free & ((colours - (GRID * bins[peak] + GRID // 2)).square().sum(1) <= RADIUS**2)
        weights = counts[near].double()
        centre = ((colours[near] * weights[:, None]).sum(0) / weights.sum()).round()
        centres.append(centre.to(torch.int64))
        free &= ~near
        heights = heights.index_add(0, rows[near], -counts[near])
        heights[peak] = 0
    return torch.stack(centres) if centres else colours[:0]
