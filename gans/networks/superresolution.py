"""SRResNet of Ledig et al. 2016 (arXiv 1609.04802) and RRDB of Wang et al. 2018 (arXiv 1809.00219), without BatchNorm.

Both work at the resolution of the input and upsample at the end, by pixel shuffle (Shi et al. 2016, arXiv 1609.05158)
or nearest neighbours. Their output is added to the interpolated input and is 0 at initialisation, so training starts
from the interpolation baseline. With a scale of 1 the network is a residual denoiser like DnCNN (Zhang et al. 2016,
arXiv 1608.03981). ESRGAN's published networks are RRDB with `enlarge: nearest`, `base: none` and `unit: true`.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, pad, pixel_shuffle, pixel_unshuffle

from gans.checks import at_least
from gans.networks.layers import channels_last, widened

Kernel = Literal["bicubic", "bilinear"]
Base = Kernel | Literal["none"]
Enlarge = Literal["shuffle", "nearest", "direct"]
SCALES = (1, 2, 3, 4, 8)
STEPS = {scale: (scale,) if scale == 3 else (2,) * (scale.bit_length() - 1) for scale in (*SCALES, 16, 32)}
RESIDUAL = 0.2  # factor of the residual branches in dense blocks
START = 0.1  # factor of the initial weights in blocks, so that a deep stack starts near the identity


def enlarged(images: Tensor, scale: int, kernel: Kernel = "bicubic") -> Tensor:
    """Return images `(N, C, scale H, scale W)`, interpolated like Pillow (bicubic with a = -0.5), in float32 inside."""
    if scale == 1:
        return images
    wide: Tensor = widened(images)
    sides = [scale * side for side in images.shape[-2:]]
    return interpolate(wide, sides, mode=kernel, antialias=True).to(images.dtype)


class Residual(nn.Module):
    """Residual block of two 3x3 convolutions for maps `(N, width, h, w)`.

    Args:
        width: channels of the maps.
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
    """Dense block of five 3x3 convolutions for maps `(N, width, h, w)`, with a residual connection.

    The input of each convolution is the block's input concatenated with the outputs of all previous convolutions.

    Args:
        width: channels of the maps.
        growth: output channels of each convolution but the last.
    """

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv(width + i * growth, growth if i < 4 else width) for i in range(5))
        smaller(self)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape."""
        inputs = [maps]
        for layer in self.convs[:-1]:
            inputs.append(leaky_relu(layer(torch.cat(inputs, 1)), 0.2))
        changed: Tensor = maps + RESIDUAL * self.convs[-1](torch.cat(inputs, 1))
        return changed


class RRDB(nn.Module):
    """Residual-in-residual dense block: three dense blocks for maps `(N, width, h, w)`, with a residual connection.

    Args:
        width: channels of the maps.
        growth: `growth` of the dense blocks.
    """

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(Dense(width, growth) for _ in range(3)))

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape."""
        changed: Tensor = maps + RESIDUAL * self.layers(maps)
        return changed


class Generator(nn.Module):
    """Images `(N, channels, H, W)` to images `(N, channels, scale H, scale W)`, for any H and W.

    The output is not bounded, because the interpolation itself overshoots [-1, 1] at edges.

    Args:
        channels: number of image channels.
        scale: upscaling factor: 1, 2, 3, 4 or 8.
        width: channels of all layers.
        blocks: number of blocks. The papers use 16 residual blocks or 23 RRDB.
        growth: `growth` of RRDB blocks; None uses residual blocks.
        base: kernel of the interpolation that the network's output is added to, or `none`.
        enlarge: `shuffle`, convolutions to more channels and pixel shuffles; `nearest`, ESRGAN's nearest neighbours
            and convolutions; or `direct`, a pixel shuffle of the last layer, so that no layer works on the large maps.
        shrink: factor by which a pixel unshuffle makes the maps smaller before the first layer: 1, 2 or 4. Blocks cost
            `shrink`^2 times less. Real-ESRGAN has 2 for a scale of 2. Sides that are no multiple are padded meanwhile.
        unit: the layers work on values in [0, 1], as in published weights, and not in [-1, 1].

    Raises:
        ValueError: if `scale`, `base`, `enlarge` or `shrink` is not supported, or a number is too small.
    """

    def __init__(
        self,
        channels: int,
        scale: int = 4,
        width: int = 64,
        blocks: int = 16,
        growth: int | None = None,
        base: Base = "bicubic",
        enlarge: Enlarge = "shuffle",
        shrink: int = 1,
        unit: bool = False,
    ) -> None:
        super().__init__()
        at_least(1, width=width, blocks=blocks, growth=1 if growth is None else growth)
        if scale not in SCALES:
            raise ValueError(f"scale is {scale}; expected one of {', '.join(map(str, SCALES))}")
        if shrink not in (1, 2, 4) or scale * shrink not in STEPS:
            raise ValueError(f"shrink is {shrink}; expected 1, 2 or 4, and 1 for a scale of 3")
        if base not in ("bicubic", "bilinear", "none"):
            raise ValueError(f"base is {base}; expected bicubic, bilinear or none")
        if enlarge not in ("shuffle", "nearest", "direct"):
            raise ValueError(f"enlarge is {enlarge}; expected shuffle, nearest or direct")
        self.scale, self.base, self.shrink, self.unit = scale, base, shrink, unit
        self.multiple = shrink  # tiles of images start at multiples of it, as the pixel unshuffle does
        self.head = conv(channels * shrink**2, width)
        body = [Residual(width) if growth is None else RRDB(width, growth) for _ in range(blocks)]
        self.body = nn.Sequential(*body, conv(width, width))
        self.shuffle = scale * shrink if enlarge == "direct" else 1  # of the images, behind the last layer
        steps = () if enlarge == "direct" else STEPS[scale * shrink]
        self.ups = nn.ModuleList(upsampling(width, by, enlarge) for by in steps)
        self.tail, self.last = conv(width, width), conv(width, channels * self.shuffle**2)
        if base != "none":
            nn.init.zeros_(self.last.weight)
        channels_last(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return images `(N, channels, scale H, scale W)` for images `(N, channels, H, W)`."""
        images = (images + 1) / 2 if self.unit else images
        maps = self.head(self.smaller(images))
        maps = maps + self.body(maps)
        for up in self.ups:
            maps = leaky_relu(up(maps), 0.2)
        made: Tensor = self.last(leaky_relu(self.tail(maps), 0.2))
        made = (pixel_shuffle(made, self.shuffle) if self.shuffle > 1 else made).contiguous()
        made = made[..., : self.scale * images.shape[-2], : self.scale * images.shape[-1]]
        if self.base != "none":
            made = enlarged(images, self.scale, self.base) + made
        return 2 * made - 1 if self.unit else made

    def smaller(self, images: Tensor) -> Tensor:
        """Return images as maps `(N, shrink^2 channels, H / shrink, W / shrink)`, sides rounded up."""
        if self.shrink == 1:
            return images
        height, width = images.shape[-2:]
        maps: Tensor = pad(images, (0, -width % self.shrink, 0, -height % self.shrink), mode="replicate")
        return pixel_unshuffle(maps, self.shrink)


def upsampling(width: int, by: int, kind: Enlarge) -> nn.Sequential:
    """Return layers that enlarge maps `(N, width, h, w)` `by` times."""
    if kind == "nearest":
        return nn.Sequential(nn.Upsample(scale_factor=by), conv(width, width))
    return nn.Sequential(conv(width, width * by**2), nn.PixelShuffle(by))


def conv(before: int, after: int) -> nn.Conv2d:
    """Return a padded 3x3 convolution, initialised for leaky ReLU (He et al. 2015)."""
    layer = nn.Conv2d(before, after, 3, padding=1)
    nn.init.kaiming_normal_(layer.weight, 0.2)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


@torch.no_grad()
def smaller(block: nn.Module) -> None:
    """Multiply the weights of all convolutions of a block by `START`, in place."""
    for part in block.modules():
        if isinstance(part, nn.Conv2d):
            part.weight.mul_(START)
