"""Large pictures through a network in tiles that overlap, whose seams are blended."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def starts(side: int, tile: int, overlap: int) -> list[int]:
    """Return where tiles of a side begin, evenly, so that they cover `side` pixels and overlap by that much or more.

    Raises:
        ValueError: if there is no tile, or the overlap is no less.
    """
    if tile < 1:
        raise ValueError(f"tile is {tile}; expected at least 1")
    if not 0 <= overlap < tile:
        raise ValueError(f"overlap is {overlap}; expected less than the tile, {tile}, and at least 0")
    if side <= tile:
        return [0]
    count = -(-(side - overlap) // (tile - overlap))
    return [round(i * (side - tile) / (count - 1)) for i in range(count)]


def windows(height: int, width: int, tile: int, overlap: int) -> Iterator[tuple[slice, slice]]:
    """Yield the rows and columns of each tile."""
    for top in starts(height, tile, overlap):
        for left in starts(width, tile, overlap):
            yield slice(top, min(top + tile, height)), slice(left, min(left + tile, width))


def ramp(length: int, overlap: int) -> Tensor:
    """Return the weights `(length,)` of a tile's pixels: 1, less over `overlap` pixels towards both ends, never 0."""
    inwards = torch.arange(length) + 1.0
    return torch.minimum(inwards, inwards.flip(0)).clamp(max=overlap + 1) / (overlap + 1)


def tiled(
    function: Callable[..., Tensor],
    inputs: tuple[Tensor, ...],
    tile: int,
    overlap: int,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return what a function makes of images `(1, C, H, W)`, of all inputs alike, a tile at a time, on the CPU.

    The function may enlarge images by a whole number. Where tiles overlap, each counts the less the nearer its edge is.

    Args:
        function: images to images, `(1, C, h, w)`.
        inputs: images of one height and width.
        tile: pixels of a tile's sides.
        overlap: pixels that neighbours share at least; 0 shows seams.
        device: where the tiles are sent.
    """
    height, width = inputs[0].shape[-2:]
    total = weight = torch.zeros(())
    for rows, columns in windows(height, width, tile, overlap):
        made = function(*(part[..., rows, columns].to(device) for part in inputs)).float().cpu()
        scale = made.shape[-1] // (columns.stop - columns.start)
        if total.ndim == 0:
            total = torch.zeros(1, made.shape[1], scale * height, scale * width)
            weight = torch.zeros(scale * height, scale * width)
        shares = torch.outer(*(ramp(side, scale * overlap) for side in made.shape[-2:]))
        place = (
            slice(scale * rows.start, scale * rows.stop),
            slice(scale * columns.start, scale * columns.stop),
        )
        total[..., place[0], place[1]] += shares * made
        weight[place] += shares
    return total / weight
