"""SRResNet of Ledig et al. 2016 (arXiv 1609.04802) and RRDB of Wang et al. 2018 (arXiv 1809.00219), without BatchNorm.

Both work in the size of the images given, and enlarge at the end by pixel shuffles (Shi et al. 2016, arXiv
1609.05158). What they make is added to the images as interpolation enlarges them, and is nothing at the start: a
network begins with the baseline. With a scale of 1 that is a residual denoiser as DnCNN (Zhang et al. 2016, arXiv
1608.03981).
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

from gans.checks import at_least
from gans.networks.layers import widened

Kernel = Literal["bicubic", "bilinear"]
SHUFFLES = {1: (), 2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}  # factors of each scale
RESIDUAL = 0.2  # share of what the dense blocks add
START = 0.1  # of the usual weights in the blocks: many of them in a row begin near the identity


def enlarged(images: Tensor, scale: int, kernel: Kernel = "bicubic") -> Tensor:
    """Return images `(N, C, scale H, scale W)`, interpolated as Pillow does, with a = -0.5, in single precision."""
    if scale == 1:
        return images
    wide: Tensor = widened(images)
    sides = [scale * side for side in images.shape[-2:]]
    return interpolate(wide, sides, mode=kernel, antialias=True).to(images.dtype)


class Residual(nn.Module):
    """Maps `(N, width, h, w)` plus what two convolutions make of them.

    Args:
        width: channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv(width, width), nn.ReLU(inplace=True), conv(width, width))
        smaller(self)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape."""
        changed: Tensor = maps + self.layers(maps)
        return changed


class Dense(nn.Module):
    """Maps `(N, width, h, w)` plus a share of what five convolutions make, each of which sees all before it.

    Args:
        width: channels.
        growth: channels that each convolution but the last adds to those seen.
    """

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv(width + i * growth, growth if i < 4 else width) for i in range(5))
        smaller(self)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape."""
        seen = [maps]
        for layer in self.convs[:-1]:
            seen.append(leaky_relu(layer(torch.cat(seen, 1)), 0.2))
        changed: Tensor = maps + RESIDUAL * self.convs[-1](torch.cat(seen, 1))
        return changed


class RRDB(nn.Module):
    """Maps `(N, width, h, w)` plus a share of what three dense blocks make of them.

    Args:
        width: channels.
        growth: of the dense blocks.
    """

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(Dense(width, growth) for _ in range(3)))

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape."""
        changed: Tensor = maps + RESIDUAL * self.layers(maps)
        return changed


class Generator(nn.Module):
    """Images `(N, channels, H, W)` to images `(N, channels, scale H, scale W)`, of any H and W.

    What comes out is not bounded: interpolation itself overshoots [-1, 1] at edges.

    Args:
        channels: of the images.
        scale: how much larger they become: 1, 2, 3, 4 or 8.
        width: channels of all layers.
        blocks: how many of them follow each other; 16 residual ones, 23 RRDB in the papers.
        growth: channels that a convolution of RRDB adds; None has residual blocks.
        base: kernel of the interpolation that the network's images are added to.

    Raises:
        ValueError: for another scale, or no layers.
    """

    def __init__(
        self,
        channels: int,
        scale: int = 4,
        width: int = 64,
        blocks: int = 16,
        growth: int | None = None,
        base: Kernel = "bicubic",
    ) -> None:
        super().__init__()
        at_least(1, width=width, blocks=blocks, growth=1 if growth is None else growth)
        if scale not in SHUFFLES:
            raise ValueError(f"scale is {scale}; expected one of {', '.join(map(str, SHUFFLES))}")
        if base not in ("bicubic", "bilinear"):
            raise ValueError(f"base is {base}; expected bicubic or bilinear")
        self.scale, self.base = scale, base
        self.head = conv(channels, width)
        body = [Residual(width) if growth is None else RRDB(width, growth) for _ in range(blocks)]
        self.body = nn.Sequential(*body, conv(width, width))
        ups = [nn.Sequential(conv(width, width * by**2), nn.PixelShuffle(by)) for by in SHUFFLES[scale]]
        self.ups = nn.ModuleList(ups)
        self.tail, self.last = conv(width, width), conv(width, channels)
        nn.init.zeros_(self.last.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Return images `(N, channels, scale H, scale W)` of images `(N, channels, H, W)`."""
        maps = self.head(images)
        maps = maps + self.body(maps)
        for up in self.ups:
            maps = leaky_relu(up(maps), 0.2)
        added: Tensor = self.last(leaky_relu(self.tail(maps), 0.2))
        return enlarged(images, self.scale, self.base) + added


def conv(before: int, after: int) -> nn.Conv2d:
    """Return a convolution of 3x3 that keeps the size, its weights drawn for leaky rectifiers (He et al. 2015)."""
    layer = nn.Conv2d(before, after, 3, padding=1)
    nn.init.kaiming_normal_(layer.weight, 0.2)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


@torch.no_grad()
def smaller(block: nn.Module) -> None:
    """Begin with a tenth of the weights in all convolutions of a block."""
    for part in block.modules():
        if isinstance(part, nn.Conv2d):
            part.weight.mul_(START)
