"""Inference on large images in tiles, with the same result as for the whole image.

A tile differs from the same part of the whole image in three ways:

- A tile has borders inside the image. So tiles overlap: the pixels next to such a border are dropped, the rest is
  blended.
- A network with strides samples every 2^k-th pixel. So tiles start at multiples of that number.
- Some layers depend on the whole image. `nn.InstanceNorm2d` needs the mean and variance of all its maps. A
  translator's inner layers have a receptive field larger than any overlap.

For such layers `tiled` works in passes. Each pass runs all tiles up to the first such layer whose global input is not
known yet, and collects it. For an instance norm it collects mean and variance, with which the next passes normalise.
For inner layers it collects the maps, which are small there, and runs the layers on the whole maps. Passes stop at
that layer, so most of them are cheap.

`strips` yields the result in rows from top to bottom, as soon as no other tile overlaps them. So memory holds the
result of one row of tiles, and not of the whole image.

A network declares its inner layers by a method `inner(maps)` for maps `(N, C, h, w)`, which preserves height and width.
Its attribute `step` is the number of image pixels per pixel of these maps.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from gans.pictures.colour import full

# Maximum size in bytes of the maps that inner layers process at once. The layers need several times as much memory.
# CycleGAN's network of width 64 has inner maps of 64 bytes per image pixel, that of pix2pix 16.
INNER_BYTES = 2**30


def starts(side: int, tile: int, overlap: int, multiple: int = 1) -> list[int]:
    """Return the start positions of evenly spaced tiles along one side of an image.

    Args:
        side: pixels of the side.
        tile: pixels of a tile; enlarged if it is smaller than `overlap + multiple`.
        overlap: minimum overlap of neighbours in pixels.
        multiple: all positions are multiples of this.

    Raises:
        ValueError: if `tile` is below 1, or `overlap` is not from 0 to below `tile`.
    """
    if tile < 1:
        raise ValueError(f"tile is {tile}; expected at least 1")
    if not 0 <= overlap < tile:
        raise ValueError(f"overlap is {overlap}; expected less than the tile, {tile}, and at least 0")
    tile = max(tile, overlap + multiple)
    if side <= tile:
        return [0]
    last = -(-(side - tile) // multiple)
    steps = -(-last // ((tile - overlap) // multiple))
    return [multiple * (last * i // steps) for i in range(steps + 1)]


class Piece(NamedTuple):
    """The range of a tile along one side of the image, and its blending weights.

    Args:
        pixels: range of the tile in pixels.
        ends: positions of weight 1/2, between the tile and its neighbours; infinite at the borders of the image.
        blends: width of the blending zone around each end, in pixels.
    """

    pixels: slice
    ends: tuple[float, float]
    blends: tuple[float, float]

    @property
    def length(self) -> int:
        """Length of the range in pixels."""
        return int(self.pixels.stop - self.pixels.start)

    def weights(self, count: int) -> Tensor:
        """Return blending weights `(count,)` for a map that has `count` pixels along this range.

        The weights of all tiles sum to 1.
        """
        places = self.pixels.start + (torch.arange(count, dtype=torch.float64) + 0.5) * (self.length / count)
        rise, fall = (
            (way * (places - end) / max(blend, 1e-6) + 0.5).clamp(0, 1)
            for way, end, blend in zip((1, -1), self.ends, self.blends, strict=True)
        )
        return torch.minimum(rise, fall).float()

    def on(self, count: int) -> slice:
        """Return the range of the tile on a map of the whole image, on which the tile has `count` pixels."""
        first = self.pixels.start * count // self.length
        return slice(first, first + count)


def pieces(side: int, tile: int, overlap: int, multiple: int = 1) -> list[Piece]:
    """Return the tiles along one side. Of an overlap each drops the outer third, and the middle third is blended.

    Raises:
        ValueError: see `starts`.
    """
    begins = starts(side, tile, overlap, multiple)
    tile = max(tile, overlap + multiple)
    reach = [(start, min(start + tile, side)) for start in begins]
    shared = [(after[0], before[1]) for before, after in pairwise(reach)]
    cuts = [-torch.inf, *((first + last) / 2 for first, last in shared), torch.inf]
    room = min(after - before for before, after in pairwise(cuts))
    blends = [0.0, *(min((last - first) / 3, room) for first, last in shared), 0.0]
    return [Piece(slice(*ends), (cuts[i], cuts[i + 1]), (blends[i], blends[i + 1])) for i, ends in enumerate(reach)]


class Tile(NamedTuple):
    """A rectangular part of the image."""

    rows: Piece
    columns: Piece

    def cut(self, image: Tensor) -> Tensor:
        """Return the tile of an image `(..., H, W)`."""
        return image[..., self.rows.pixels, self.columns.pixels]

    def weights(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Return the blending weights `(height,)` and `(width,)` for maps of this tile."""
        return self.rows.weights(height), self.columns.weights(width)


class Moments:
    """Mean and variance of maps over the whole image, accumulated over tiles in float64.

    Source: Chan, Golub and LeVeque 1983.
    """

    def __init__(self) -> None:
        self.weight, self.mean, self.squares = 0.0, torch.zeros(()), torch.zeros(())

    def add(self, tile: Tile, maps: Tensor) -> None:
        """Add a tile's maps `(1, C, h, w)`, weighted by its blending weights."""
        maps = full(maps)
        rows, columns = (weights.to(maps) for weights in tile.weights(*maps.shape[-2:]))
        weight = float(rows.sum() * columns.sum())
        if not weight:
            return
        mean = rows @ (maps[0] @ columns).T / weight
        squares = (rows @ ((maps[0] - mean[:, None, None]).square() @ columns).T).double().cpu()
        apart, total = mean.double().cpu() - self.mean, self.weight + weight
        self.squares = self.squares + squares + apart.square() * (self.weight * weight / total)
        self.mean, self.weight = self.mean + apart * (weight / total), total

    def normalised(self, norm: nn.InstanceNorm2d, maps: Tensor) -> Tensor:
        """Return maps normalised by the accumulated statistics and transformed by the gain and bias of `norm`."""
        wide = full(maps)
        mean, variance = self.mean.to(wide), (self.squares / self.weight).to(wide)
        return batch_norm(wide, mean, variance, norm.weight, norm.bias, eps=norm.eps).to(maps)


class Gathered:
    """Maps of the whole image on the CPU, collected from tiles.

    Args:
        size: (height, width) of the image.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size, self.maps = size, torch.zeros(())

    def add(self, tile: Tile, maps: Tensor) -> None:
        """Add a tile's maps `(1, C, h, w)`. Overlaps are blended."""
        height, width = maps.shape[-2:]
        if self.maps.ndim == 0:
            sides = (self.size[0] * height // tile.rows.length, self.size[1] * width // tile.columns.length)
            self.maps = torch.zeros(1, maps.shape[1], *sides)
        rows, columns = tile.weights(height, width)
        part = self.maps[..., tile.rows.on(height), tile.columns.on(width)]
        part += torch.outer(rows, columns) * maps.float().cpu()

    def of(self, tiles: Sequence[Tile], maps: Tensor) -> Tensor:
        """Return the parts of tiles in the shape, dtype and device of `maps`, `(N, C, h, w)` for N tiles."""
        height, width = maps.shape[-2:]
        parts = [self.maps[..., tile.rows.on(height), tile.columns.on(width)] for tile in tiles]
        return torch.cat(parts).to(maps)


class ReachedError(Exception):
    """Raised to stop a tile at a layer whose global input is not known yet."""


class TooLargeError(Exception):
    """Raised if the maps of the whole image are too large for the inner layers."""


class Whole:
    """The layers of a network that depend on the whole image, and their collected inputs.

    Args:
        network: searched for `nn.InstanceNorm2d` without running statistics, and for modules with a method `inner`.
        inner: run inner layers on the maps of the whole image; else they run in tiles like all other layers.
    """

    def __init__(self, network: nn.Module | None, inner: bool = True) -> None:
        parts = [] if network is None else list(network.modules())
        self.norms = [part for part in parts if isinstance(part, nn.InstanceNorm2d) and part.running_mean is None]
        self.inners: list[Any] = [part for part in parts if inner and callable(getattr(part, "inner", None))]
        self.known: list[Moments | Gathered] = []  # in the order in which a forward pass calls these layers
        self.tiles: Sequence[Tile] = ()  # the current tiles, equally large; without any, layers are called unchanged
        self.size = (0, 0)
        self.called = 0
        self.collected: Moments | Gathered | None = None
        self.finish: Callable[[], None] | None = None

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Replace the methods of these layers inside the `with` block."""
        plain = [(norm, "forward", self.normalise) for norm in self.norms]
        whole = [(part, "inner", self.run_inner) for part in self.inners]
        try:
            for part, name, method in plain + whole:
                setattr(part, name, partial(method, part))
            yield
        finally:
            for part, name, _ in plain + whole:
                part.__dict__.pop(name, None)

    def normalise(self, norm: nn.InstanceNorm2d, maps: Tensor) -> Tensor:
        """Return maps `(N, C, h, w)` of N tiles, normalised by the statistics of the whole image."""
        if not self.tiles:
            return type(norm).forward(norm, maps)
        known = self.lookup(maps, Moments)
        assert isinstance(known, Moments)
        return known.normalised(norm, maps)

    def run_inner(self, part: Any, maps: Tensor) -> Tensor:
        """Return the current tiles' parts of the inner layers' output for the whole image."""
        if not self.tiles:
            inner: Tensor = type(part).inner(part, maps)
            return inner
        share = maps.shape[-2] * maps.shape[-1] / (self.tiles[0].rows.length * self.tiles[0].columns.length)
        if maps.shape[1] * 4 * share * self.size[0] * self.size[1] > INNER_BYTES:
            raise TooLargeError
        kind = maps.device.type
        mixed = torch.autocast(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
        gradients = torch.is_grad_enabled()

        def finish(gathered: Gathered) -> None:
            self.tiles = ()
            try:
                with torch.set_grad_enabled(gradients), mixed:
                    gathered.maps = type(part).inner(part, gathered.maps.to(maps)).float().cpu()
            except torch.OutOfMemoryError as error:  # of a GPU
                raise TooLargeError from error

        known = self.lookup(maps, partial(Gathered, self.size), finish)
        assert isinstance(known, Gathered)
        return known.of(self.tiles, maps)

    def lookup(
        self,
        maps: Tensor,
        collector: Callable[[], Moments | Gathered],
        finish: Callable[[Any], None] | None = None,
    ) -> Moments | Gathered:
        """Return the collected input of the layer that is being called.

        Raises:
            ReachedError: if it is not known yet. The tiles' maps have then been added to it.
        """
        number, self.called = self.called, self.called + 1
        if number < len(self.known):
            return self.known[number]
        if self.collected is None:
            self.collected = collector()
        with torch.autocast(maps.device.type, enabled=False):
            for tile, part in zip(self.tiles, torch.split(maps, 1), strict=True):
                self.collected.add(tile, part)
        self.finish = partial(finish, self.collected) if finish else None
        raise ReachedError

    def end_pass(self) -> bool:
        """End a pass. Return whether it has collected the input of a layer, which is known from now on."""
        found, self.collected, finish, self.finish = self.collected, None, self.finish, None
        if found is None:
            return False
        if finish:
            finish()
        self.known.append(found)
        return True


def tiled(
    function: Callable[..., Tensor],
    inputs: tuple[Tensor, ...],
    tile: int,
    overlap: int,
    device: torch.device | str = "cpu",
    network: nn.Module | None = None,
    multiple: int = 1,
) -> Tensor:
    """Return `function(*inputs)` for large images, computed tile by tile, as float32 on the CPU.

    Args:
        function: see `strips`.
        inputs: images `(N, C, H, W)` of the same N, H and W.
        tile: see `strips`, as all other arguments.
        overlap: minimum overlap of neighbours in pixels.
        device: device on which the tiles are computed.
        network: network that the function calls.
        multiple: the network pads sides to multiples of this.

    Raises:
        ValueError: see `starts`.
    """
    # One image at a time, because the statistics of instance norms are per image.
    rows = zip(*(torch.split(part, 1) for part in inputs), strict=True)
    made = [torch.cat(list(strips(function, row, tile, overlap, device, network, multiple)), -2) for row in rows]
    return torch.cat(made) if len(made) > 1 else made[0]


def strips(
    function: Callable[..., Tensor],
    inputs: tuple[Tensor, ...],
    tile: int,
    overlap: int,
    device: torch.device | str = "cpu",
    network: nn.Module | None = None,
    multiple: int = 1,
    batch: int = 1,
) -> Iterator[Tensor]:
    """Yield the rows of `function(*inputs)` for one large image from top to bottom, computed tile by tile.

    Each strip is `(1, C, h, W)`, float32, on the CPU. The function may upscale images by an integer. Without instance
    norms and inner layers there is one pass. The result equals that of the whole image up to rounding if the overlap
    is at least three times the radius of the receptive field. If there are inner layers, only the receptive field of
    the outer layers counts.

    Args:
        function: images to images, `(n, C, h, w)` each, with n up to `batch`. It may change the type of its inputs.
        inputs: images `(1, C, H, W)` of the same H and W.
        tile: maximum side of a tile in pixels, rounded down to a multiple of `multiple`, but at least one multiple
            larger than the overlap.
        overlap: minimum overlap of neighbours in pixels; 0 gives visible seams.
        device: device on which the tiles are computed.
        network: network that the function calls, searched for layers that depend on the whole image.
        multiple: the network pads sides to multiples of this, by repeating the last row and column.
        batch: number of tiles that are computed at once.

    Raises:
        ValueError: see `starts`.
    """
    starts(1, tile, overlap)  # checks the arguments
    height, width = inputs[0].shape[-2:]
    if max(height, width) <= tile:
        yield function(*(part.to(device) for part in inputs)).float().cpu()
        return
    # The image is padded before tiling, so that the padding is that of the whole image.
    wide = tuple(repeated(part, -height % multiple, -width % multiple) for part in inputs)
    try:
        rows = passes(function, wide, tile, overlap, device, Whole(network), multiple, batch)
        first = next(rows)
    except TooLargeError:  # before there is any result
        rows = passes(function, wide, tile, overlap, device, Whole(network, inner=False), multiple, batch)
        first = next(rows)
    scale = first.shape[-1] // wide[0].shape[-1]
    left = scale * height
    for strip in chain([first], rows):
        if left > 0:
            yield strip[..., :left, : scale * width]
        left -= strip.shape[-2]


def repeated(image: Tensor, below: int, right: int) -> Tensor:
    """Return an image `(..., H, W)` of any type with its last row and column repeated so many times."""
    if right:
        image = torch.cat([image, image[..., -1:].expand(*image.shape[:-1], right)], -1)
    if below:
        image = torch.cat([image, image[..., -1:, :].expand(*image.shape[:-2], below, -1)], -2)
    return image


def passes(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    tile: int,
    overlap: int,
    device: torch.device | str,
    whole: Whole,
    multiple: int,
    batch: int,
) -> Iterator[Tensor]:
    """Yield `strips` for images whose sides are multiples of `multiple`, after as many passes as needed."""
    size = whole.size = (int(inputs[0].shape[-2]), int(inputs[0].shape[-1]))
    step = max((part.step for part in whole.inners), default=multiple)
    tile = max(tile // multiple, -(-(overlap + step) // multiple)) * multiple
    downwards, across = (pieces(side, tile, overlap, step) for side in size)
    with whole.patched():
        while True:
            band = Band(size[1])
            for rows, below in zip(downwards, [*downwards[1:], None], strict=True):
                for columns in alike(across, batch):
                    whole.tiles, whole.called = [Tile(rows, piece) for piece in columns], 0
                    cut = (torch.cat([place.cut(part) for place in whole.tiles]) for part in inputs)
                    try:
                        made = function(*(part.to(device) for part in cut)).float().cpu()
                    except ReachedError:
                        continue
                    for place, part in zip(whole.tiles, torch.split(made, 1), strict=True):
                        band.add(place, part)
                if band.begun:
                    yield band.take(size[0] if below is None else below.pixels.start)
            if not whole.end_pass():
                return


def alike(pieces: Sequence[Piece], most: int) -> Iterator[list[Piece]]:
    """Yield the tiles of a row in groups of equal size, each of at most so many."""
    group: list[Piece] = []
    for piece in pieces:
        if group and (len(group) == most or piece.length != group[0].length):
            yield group
            group = []
        group.append(piece)
    yield group


class Band:
    """The rows of the result to which tiles are still added.

    Args:
        width: of the image in pixels.
    """

    def __init__(self, width: int) -> None:
        self.width, self.first, self.scale = width, 0, 1
        self.rows = torch.zeros(1, 0, 0, 0)

    @property
    def begun(self) -> bool:
        """Whether a tile has been added."""
        return self.rows.shape[-1] > 0

    def add(self, tile: Tile, made: Tensor) -> None:
        """Add the result `(1, C, h, w)` of a tile, weighted by its blending weights."""
        self.scale = made.shape[-1] // tile.columns.length
        down, across = tile.weights(*made.shape[-2:])
        top = self.scale * (tile.rows.pixels.start - self.first)
        if (missing := top + made.shape[-2] - self.rows.shape[-2]) > 0:
            more = torch.zeros(1, made.shape[1], missing, self.scale * self.width)
            self.rows = torch.cat([self.rows, more], -2) if self.begun else more
        part = self.rows[..., top : top + made.shape[-2], tile.columns.on(made.shape[-1])]
        part += torch.outer(down, across) * made

    def take(self, end: int) -> Tensor:
        """Return the rows above the row `end` of the image, and keep the others."""
        count = self.scale * (end - self.first)
        done, self.rows, self.first = self.rows[..., :count, :], self.rows[..., count:, :].clone(), end
        return done
