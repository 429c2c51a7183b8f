"""Adaptive instance normalisation and a decoder of what it gives, Huang and Belongie 2017 (arXiv 1703.06868)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import instance_norm

from gans.checks import at_least
from gans.reconstruction import moments


def adain(
    content: Tensor, style: Tensor, strength: float = 1.0, norm: Callable[[Tensor], Tensor] = instance_norm
) -> Tensor:
    """Return maps `(N, C, h, w)` of a content with the means and deviations of those of a style, of any size.

    `s(style) (f - m(content)) / s(content) + m(style)`, mixed with f itself for a strength below 1. `norm` gives
    `(f - m) / s` of the content: a layer of the caller's. `gans.pictures.tiles` gives it the statistics of the whole
    picture.
    """
    mean, std = moments(style)
    return torch.lerp(content, std * norm(content) + mean, strength)


def convolution(before: int, after: int) -> list[nn.Module]:
    """Return a 3x3 convolution with reflection padding and a ReLU."""
    conv = nn.Conv2d(before, after, 3)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return [nn.ReflectionPad2d(1), conv, nn.ReLU(inplace=True)]


class Decoder(nn.Module):
    """Maps `(N, C, h, w)`, 2x2 or larger, to images `(N, channels, H, W)` in [-1, 1], the mirror of their encoder.

    Each halving of the encoder is doubled pixel by pixel, between convolutions. Nothing normalises: it would undo the
    style.

    Args:
        given: channels of the maps.
        halvings: how often the encoder has halved the image.
        channels: of the images.
        width: channels next to the images; twice as many further in, up to 8 times.
    """

    def __init__(self, given: int, halvings: int, channels: int, width: int) -> None:
        super().__init__()
        at_least(1, width=width)
        at_least(0, halvings=halvings)
        self.norm = nn.InstanceNorm2d(given)  # of contents, before the decoder: see `adain`
        widths: Sequence[int] = [width * min(2**level, 8) for level in range(halvings + 1)]
        layers = convolution(given, widths[-1])
        for level in reversed(range(halvings)):
            layers += convolution(widths[level + 1], widths[level])
            layers += [nn.Upsample(scale_factor=2.0, mode="nearest"), *convolution(widths[level], widths[level])]
        layers += convolution(width, width)
        self.layers = nn.Sequential(*layers, nn.ReflectionPad2d(1), nn.Conv2d(width, channels, 3))

    def forward(self, maps: Tensor) -> Tensor:
        """Return images."""
        made: Tensor = self.layers(maps)
        return made.tanh()
