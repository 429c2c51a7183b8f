"""Compact super-resolution network of Real-ESRGAN, Wang et al. 2021 (arXiv 2107.10833), the authors' `SRVGGNetCompact`.

It is a stack of 3x3 convolutions at the resolution of the input, with a pixel shuffle at the end (Shi et al. 2016,
arXiv 1609.05158). Its output is added to the nearest-neighbour enlargement of the input. It has no branches and no
layers at the resolution of the output, so it suits video and CPUs.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gans.checks import at_least
from gans.networks.layers import channels_last
from gans.networks.superresolution import SCALES, conv

SLOPE = 0.25  # of the PReLU for negative values at initialisation, PyTorch's


class Generator(nn.Module):
    """Images `(N, channels, H, W)` to images `(N, channels, scale H, scale W)`, for any H and W.

    The output is not bounded. At initialisation it is the nearest-neighbour enlargement.

    Args:
        channels: number of image channels.
        scale: upscaling factor: 1, 2, 3, 4 or 8.
        width: channels of all layers.
        blocks: number of convolutions between the first and the last one. The authors have 16, or 32.
        unit: the layers work on values in [0, 1], as in published weights, and not in [-1, 1].

    Raises:
        ValueError: if `scale` is not supported, or a number is too small.
    """

    def __init__(self, channels: int, scale: int = 4, width: int = 64, blocks: int = 32, unit: bool = False) -> None:
        super().__init__()
        at_least(1, width=width, blocks=blocks)
        if scale not in SCALES:
            raise ValueError(f"scale is {scale}; expected one of {', '.join(map(str, SCALES))}")
        self.scale, self.unit = scale, unit
        layers: list[nn.Module] = []
        for before in (channels, *[width] * blocks):
            layers += [conv(before, width), nn.PReLU(width, SLOPE)]
        last = conv(width, channels * scale**2)
        nn.init.zeros_(last.weight)
        self.layers = channels_last(nn.Sequential(*layers, last, nn.PixelShuffle(scale)))

    def forward(self, images: Tensor) -> Tensor:
        """Return images `(N, channels, scale H, scale W)` for images `(N, channels, H, W)`."""
        added: Tensor = self.layers((images + 1) / 2 if self.unit else images).contiguous()
        base = interpolate(images, scale_factor=float(self.scale), mode="nearest")
        return torch.add(base, added, alpha=2 if self.unit else 1)
