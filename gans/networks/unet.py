"""U-Net of pix2pix, Isola et al. 2017 (arXiv 1611.07004), after Ronneberger et al. 2015 (arXiv 1505.04597).

Images are halved down to a single row or column, at most eight times, and doubled up again; each doubling sees what
the halving of its size has seen. Its channels are those of the skip, then those that come up, as in published weights.
Sides that cannot be halved so often are padded, and the surplus is cut off, so that any size goes through.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, relu

from gans.networks.layers import Norm, Size, doublings, image_size, norm_layer, normal_init, padded

DEEPEST = 8  # halvings of the paper's 256 pixels
OUTER = 3  # halvings and doublings next to the image, whose maps are large
DROPPED = 3  # of the innermost doublings at full width have dropout


def depth_of(size: Size) -> int:
    """Return how often images of a size are halved.

    Raises:
        ValueError: if a side cannot be halved at all.
    """
    height, width = image_size(size)
    if min(height, width) < 2:
        raise ValueError(f"size is {height}x{width}; a U-Net needs at least 2 pixels a side")
    return min(DEEPEST, doublings((height, width), smallest=1))


class Generator(nn.Module):
    """Images `(N, source_channels, H, W)` to images `(N, channels, H, W)` in [-1, 1], of any H and W.

    Args:
        size: image side, or (height, width), of training; it decides the depth.
        source_channels: of the images given.
        channels: of the images made.
        width: channels after the first halving; twice as many after each further one, up to 8 times.
        norm: of all layers but the outermost and the innermost, which has too few pixels for it.
        dropout: share of the maps left out in training by the innermost doublings; the paper's only noise.
    """

    def __init__(
        self,
        size: Size,
        source_channels: int,
        channels: int,
        width: int = 64,
        norm: Norm = "instance",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width is {width}; expected at least 1")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; expected a number from 0 to below 1")
        self.depth = depth_of(size)
        self.outer = min(OUTER, self.depth - 1)  # levels; those below see the whole image, see `gans.pictures.tiles`
        self.multiple, self.step = 2**self.depth, 2**self.outer
        widths = [width * min(2**level, 8) for level in range(self.depth)]
        self.halvings, self.doublings = nn.ModuleList(), nn.ModuleList()
        for level, after in enumerate(widths):
            before = widths[level - 1] if level else source_channels
            inner = 0 < level < self.depth - 1
            down = [nn.Conv2d(before, after, 4, 2, 1, bias=not inner or norm == "none")]
            self.halvings.append(nn.Sequential(*down, norm_layer(norm, after) if inner else nn.Identity()))
        for level in reversed(range(self.depth)):
            before = widths[level] * (1 if level == self.depth - 1 else 2)  # the skip, and what came up
            after = widths[level - 1] if level else channels
            up: list[nn.Module] = [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=not level or norm == "none")]
            up += [norm_layer(norm, after)] if level else []
            dropped = dropout and level and self.depth - 1 > level >= self.depth - 1 - DROPPED
            up += [nn.Dropout(dropout)] if dropped and widths[level - 1] == 8 * width else []
            self.doublings.append(nn.Sequential(*up))
        self.apply(normal_init)

    def forward(self, images: Tensor) -> Tensor:
        """Return images `(N, channels, H, W)` in [-1, 1] for images `(N, source_channels, H, W)`."""
        height, width = images.shape[-2:]
        maps = self.through(padded(images, self.multiple), range(self.outer), self.inner)
        made: Tensor = torch.tanh(maps[..., :height, :width])
        return made

    def inner(self, maps: Tensor) -> Tensor:
        """Return what comes up at the level of maps `(N, C, h, w)`, from the levels below."""
        return self.through(maps, range(self.outer, self.depth), lambda deepest: deepest)

    def through(self, maps: Tensor, levels: range, below: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what the halvings of some levels, `below` and the doublings of these levels make of maps."""
        seen = []
        for level in levels:
            maps = self.halvings[level](leaky_relu(maps, 0.2) if level else maps)
            seen.append(maps)
        maps = below(maps)
        for level in reversed(levels):
            skip = seen.pop()
            both = torch.cat([skip, maps], 1) if level < self.depth - 1 else skip
            maps = self.doublings[self.depth - 1 - level](relu(both))
        return maps
