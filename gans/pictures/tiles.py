"""Large pictures through a network in tiles, with the result that the whole picture would give.

Three things make a tile differ from the same place of the whole picture:

- A tile has edges inside the picture. Tiles overlap: the pixels next to such an edge are dropped, the rest is blended.
- A network with strides looks at every 2^k-th pixel. Tiles begin at multiples of that number.
- Some layers depend on the whole picture: `nn.InstanceNorm2d` on the mean and variance of its maps, and a translator's
  inner layers because their receptive field is larger than any overlap.

For the last, `tiled` computes in passes. Each pass runs all tiles up to the first such layer whose input over the whole
picture is not known yet, and collects that: for an instance norm mean and variance, which the next passes normalise
with; for inner layers the maps themselves, which are small there and go through these layers whole. Passes end early,
so most of them cost little. A network says which layers are its inner ones by a method `inner(maps)`, which keeps
height and width of maps `(N, C, h, w)`, and by `step`, the pixels between neighbours on these maps.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise, product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, pad

# Bytes of the maps that may go through inner layers whole; these need several times as much. The maps of CycleGAN's
# network, width 64, have 64 bytes a pixel, those of pix2pix 16.
INNER_BYTES = 2**30


def starts(side: int, tile: int, overlap: int, multiple: int = 1) -> list[int]:
    """Return where tiles of a side begin, evenly, so that they cover `side` pixels and overlap by that much or more.

    All begin at multiples of a number. A tile that is too small for a step of one multiple becomes larger.

    Raises:
        ValueError: if there is no tile, or the overlap is no less.
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
    """A tile's part of one side of the picture.

    Args:
        pixels: from where to where the tile reaches.
        ends: where it counts half, next to its neighbours; infinite at the ends of the picture.
        blends: over how many pixels it fades out around each of the two.
    """

    pixels: slice
    ends: tuple[float, float]
    blends: tuple[float, float]

    @property
    def length(self) -> int:
        """Pixels."""
        return int(self.pixels.stop - self.pixels.start)

    def weights(self, count: int) -> Tensor:
        """Return the weights `(count,)` of the pixels, or of maps that have so many places in their stead.

        Those of all tiles sum to 1.
        """
        places = self.pixels.start + (torch.arange(count, dtype=torch.float64) + 0.5) * (self.length / count)
        rise, fall = (
            (way * (places - end) / max(blend, 1e-6) + 0.5).clamp(0, 1)
            for way, end, blend in zip((1, -1), self.ends, self.blends, strict=True)
        )
        return torch.minimum(rise, fall).float()

    def on(self, count: int) -> slice:
        """Return the tile's places on maps of the whole picture, given how many the tile has."""
        first = self.pixels.start * count // self.length
        return slice(first, first + count)


def pieces(side: int, tile: int, overlap: int, multiple: int = 1) -> list[Piece]:
    """Return the tiles of a side. Each drops the outer third of what it shares with a neighbour; the middle is blended.

    Raises:
        ValueError: as `starts` does.
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
    """A rectangle of the picture."""

    rows: Piece
    columns: Piece

    def cut(self, image: Tensor) -> Tensor:
        """Return this part of an image `(..., H, W)`."""
        return image[..., self.rows.pixels, self.columns.pixels]

    def weights(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Return the weights `(height,)` and `(width,)` of the places of this tile's maps."""
        return self.rows.weights(height), self.columns.weights(width)


class Moments:
    """Mean and variance over the picture of maps that come in parts (Chan, Golub and LeVeque 1983), in float64."""

    def __init__(self) -> None:
        self.weight, self.mean, self.squares = 0.0, torch.zeros(()), torch.zeros(())

    def add(self, tile: Tile, maps: Tensor) -> None:
        """Add a tile's maps `(1, C, h, w)`, each place with its weight."""
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
        """Return maps normalised by what was added, as `norm` does."""
        mean, variance = self.mean.to(maps), (self.squares / self.weight).to(maps)
        return batch_norm(maps, mean, variance, norm.weight, norm.bias, eps=norm.eps)


class Gathered:
    """Maps of the whole picture, on the CPU, of which the tiles give their parts.

    Args:
        size: (height, width) of the picture.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size, self.maps = size, torch.zeros(())

    def add(self, tile: Tile, maps: Tensor) -> None:
        """Add a tile's maps `(1, C, h, w)`; where tiles overlap they are blended."""
        height, width = maps.shape[-2:]
        if self.maps.ndim == 0:
            sides = (self.size[0] * height // tile.rows.length, self.size[1] * width // tile.columns.length)
            self.maps = torch.zeros(1, maps.shape[1], *sides)
        rows, columns = tile.weights(height, width)
        part = self.maps[..., tile.rows.on(height), tile.columns.on(width)]
        part += torch.outer(rows, columns) * maps.float().cpu()

    def of(self, tile: Tile, maps: Tensor) -> Tensor:
        """Return a tile's part, given maps that were there before."""
        height, width = maps.shape[-2:]
        return self.maps[..., tile.rows.on(height), tile.columns.on(width)].to(maps)


class ReachedError(Exception):
    """A tile has come as far as it can before more is known of the whole picture."""


class TooLargeError(Exception):
    """The picture's maps are too large for inner layers to take them whole."""


class Whole:
    """The layers of a network that depend on the whole picture, and what is known of it.

    Args:
        network: its `nn.InstanceNorm2d` without running statistics, and its modules with a method `inner`, are found.
        inner: whether inner layers are given the whole picture's maps; else they work in tiles as all others do.
    """

    def __init__(self, network: nn.Module | None, inner: bool = True) -> None:
        parts = [] if network is None else list(network.modules())
        self.norms = [part for part in parts if isinstance(part, nn.InstanceNorm2d) and part.running_mean is None]
        self.inners: list[Any] = [part for part in parts if inner and callable(getattr(part, "inner", None))]
        self.known: list[Moments | Gathered] = []  # in the order in which a forward pass calls these layers
        self.tile: Tile | None = None  # None: the layers work as ever
        self.size = (0, 0)
        self.called = 0
        self.collected: Moments | Gathered | None = None
        self.finish: Callable[[], None] | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Stand between the network and these layers meanwhile."""
        plain = [(norm, "forward", self.normalise) for norm in self.norms]
        whole = [(part, "inner", self.inside) for part in self.inners]
        try:
            for part, name, method in plain + whole:
                setattr(part, name, partial(method, part))
            yield
        finally:
            for part, name, _ in plain + whole:
                part.__dict__.pop(name, None)

    def normalise(self, norm: nn.InstanceNorm2d, maps: Tensor) -> Tensor:
        """Return maps `(1, C, h, w)` of a tile, normalised by the statistics of the whole picture."""
        if self.tile is None:
            return type(norm).forward(norm, maps)
        known = self.asked(self.tile, maps, Moments)
        assert isinstance(known, Moments)
        return known.normalised(norm, maps)

    def inside(self, part: Any, maps: Tensor) -> Tensor:
        """Return what inner layers make of the whole picture's maps, the part of a tile."""
        if self.tile is None:
            inner: Tensor = type(part).inner(part, maps)
            return inner
        share = maps.shape[-2] * maps.shape[-1] / (self.tile.rows.length * self.tile.columns.length)
        if maps.shape[1] * 4 * share * self.size[0] * self.size[1] > INNER_BYTES:
            raise TooLargeError

        def finish(gathered: Gathered) -> None:
            self.tile = None
            try:
                gathered.maps = type(part).inner(part, gathered.maps.to(maps)).float().cpu()
            except torch.OutOfMemoryError as error:  # of a GPU
                raise TooLargeError from error

        known = self.asked(self.tile, maps, partial(Gathered, self.size), finish)
        assert isinstance(known, Gathered)
        return known.of(self.tile, maps)

    def asked(
        self,
        tile: Tile,
        maps: Tensor,
        collector: Callable[[], Moments | Gathered],
        finish: Callable[[Any], None] | None = None,
    ) -> Moments | Gathered:
        """Return what is known at the layer that is called next.

        Raises:
            ReachedError: if nothing is, once the tile's maps have been collected.
        """
        number, self.called = self.called, self.called + 1
        if number < len(self.known):
            return self.known[number]
        if self.collected is None:
            self.collected = collector()
        self.collected.add(tile, maps)
        self.finish = partial(finish, self.collected) if finish else None
        raise ReachedError

    def learnt(self) -> bool:
        """Return whether the pass that has ended has collected something; know it from now on."""
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
    """Return what a function makes of images `(N, C, H, W)`, all inputs alike, a tile at a time, `float32` on the CPU.

    The function may enlarge images by a whole number. Without a network, and with one that has neither instance norms
    nor inner layers, there is one pass. The result is that of the whole picture but for rounding, if a third of the
    overlap is the receptive field's radius or more, that of the outer layers only where there are inner ones.

    Args:
        function: images to images, `(1, C, h, w)`.
        inputs: images of one height and width.
        tile: pixels of a tile's sides at most; a multiple of `multiple` is taken, which is more if there is none less.
        overlap: pixels that neighbours share at least; 0 shows seams.
        device: where the tiles are sent.
        network: what the function uses, to look for layers that depend on the whole picture.
        multiple: of which the network pads sides, by repeating the last row and column.

    Raises:
        ValueError: as `starts` does.
    """
    if len(inputs[0]) > 1:  # a norm's statistics are one image's
        rows = zip(*(torch.split(part, 1) for part in inputs), strict=True)
        return torch.cat([tiled(function, row, tile, overlap, device, network, multiple) for row in rows])
    starts(1, tile, overlap)  # complains of them
    height, width = inputs[0].shape[-2:]
    if max(height, width) <= tile:
        return function(*(part.to(device) for part in inputs)).float().cpu()
    # The surplus is that of the whole picture, in all of its last tiles.
    below, right = -height % multiple, -width % multiple
    wide = tuple(pad(part, (0, right, 0, below), mode="replicate") for part in inputs)
    try:
        made = passes(function, wide, tile, overlap, device, Whole(network), multiple)
    except TooLargeError:
        made = passes(function, wide, tile, overlap, device, Whole(network, inner=False), multiple)
    scale = made.shape[-1] // wide[0].shape[-1]
    return made[..., : scale * height, : scale * width]


def passes(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    tile: int,
    overlap: int,
    device: torch.device | str,
    whole: Whole,
    multiple: int,
) -> Tensor:
    """Return what a function makes of images whose sides are multiples, in as many passes as it needs."""
    size = whole.size = (int(inputs[0].shape[-2]), int(inputs[0].shape[-1]))
    step = max((part.step for part in whole.inners), default=multiple)
    tile = max(tile // multiple, -(-(overlap + step) // multiple)) * multiple
    sides = [pieces(side, tile, overlap, step) for side in size]
    total = torch.zeros(())
    with whole.watched():
        while True:
            for rows, columns in product(*sides):
                whole.tile, whole.called = Tile(rows, columns), 0
                try:
                    made = function(*(whole.tile.cut(part).to(device) for part in inputs)).float().cpu()
                except ReachedError:
                    continue
                scale = made.shape[-1] // columns.length
                if total.ndim == 0:
                    total = torch.zeros(1, made.shape[1], scale * size[0], scale * size[1])
                down, across = whole.tile.weights(*made.shape[-2:])
                total[..., rows.on(made.shape[-2]), columns.on(made.shape[-1])] += torch.outer(down, across) * made
            if not whole.learnt():
                return total
