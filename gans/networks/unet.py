"""U-Net of pix2pix, Isola et al. 2017 (arXiv 1611.07004), after Ronneberger et al. 2015 (arXiv 1505.04597).

Images are downsampled to a single row or column, at most eight times, and upsampled again, with skip connections at
each resolution. The channels of the skip come before the upsampled ones, as in published weights. Any image size is
supported: sides are padded, and the result is cropped.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, relu

from gans.networks.layers import Norm, Size, doublings, image_size, norm_layer, normal_init, padded

DEEPEST = 8  # downsamplings of the paper's 256x256 images
OUTER = 3  # levels of high resolution, outside of `inner`
DROPPED = 3  # number of innermost upsampling layers at full width with dropout


def depth_of(size: Size) -> int:
    """Return the number of downsamplings for images of `size`.

    Raises:
        ValueError: if a side is shorter than 2 pixels.
    """
    height, width = image_size(size)
    if min(height, width) < 2:
        raise ValueError(f"size is {height}x{width}; a U-Net needs at least 2 pixels a side")
    return min(DEEPEST, doublings((height, width), smallest=1))


class Generator(nn.Module):
    """Images `(N, source_channels, H, W)` to images `(N, channels, H, W)` in [-1, 1], of any H and W.

    Args:
        size: image side, or (height, width), in training; it determines the depth.
        source_channels: channels of the input images.
        channels: channels of the output images.
        width: channels after the first downsampling, doubled at each further one, up to 8 times.
        norm: normalisation of all layers but the outermost and the innermost, which has too few pixels.
        dropout: dropout rate of the innermost upsampling layers in training, the paper's only source of noise.

    Raises:
        ValueError: if `size`, `width` or `dropout` is out of range.
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
        self.outer = min(OUTER, self.depth - 1)  # levels outside of `inner`, which `gans.pictures.tiles` can tile
        self.multiple, self.step = 2**self.depth, 2**self.outer
        widths = [width * min(2**level, 8) for level in range(self.depth)]
        self.halvings, self.doublings = nn.ModuleList(), nn.ModuleList()
        for level, after in enumerate(widths):
            before = widths[level - 1] if level else source_channels
            inner = 0 < level < self.depth - 1
            down = [nn.Conv2d(before, after, 4, 2, 1, bias=not inner or norm == "none")]
            self.halvings.append(nn.Sequential(*down, norm_layer(norm, after) if inner else nn.Identity()))
        for level in reversed(range(self.depth)):
            before = widths[level] * (1 if level == self.depth - 1 else 2)  # the skip and the upsampled maps
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
        """Return the output of the inner levels for maps `(N, C, h, w)`."""
        return self.through(maps, range(self.outer, self.depth), lambda deepest: deepest)

    def through(self, maps: Tensor, levels: range, below: Callable[[Tensor], Tensor]) -> Tensor:
        """Return maps after the downsampling of `levels`, the function `below`, and the upsampling of `levels`."""
        skips = []
        for level in levels:
            maps = self.halvings[level](leaky_relu(maps, 0.2) if level else maps)
            skips.append(maps)
        maps = below(maps)
        for level in reversed(levels):
            skip = skips.pop()
            both = torch.cat([skip, maps], 1) if level < self.depth - 1 else skip
            maps = self.doublings[self.depth - 1 - level](relu(both))
        return maps
