"""Adaptive instance normalisation and the decoder of its result, Huang and Belongie 2017 (arXiv 1703.06868)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import instance_norm

from gans.checks import at_least
from gans.networks.layers import channels_last
from gans.reconstruction import VGG19_CONVOLUTIONS, moments


def adain(
    content: Tensor, style: Tensor, strength: float = 1.0, norm: Callable[[Tensor], Tensor] = instance_norm
) -> Tensor:
    """Return the maps `(N, C, h, w)` of a content image with the means and deviations of the maps of a style image.

    The result is `s(style) (f - m(content)) / s(content) + m(style)`. The style maps may have another size.

    Args:
        content: maps f `(N, C, h, w)`.
        style: maps `(N, C, h', w')`.
        strength: weight of the result, from 0 to 1; the rest is the content map f.
        norm: returns `(f - m) / s` of the content. A layer can be passed, for which `gans.pictures.tiles` computes the
            statistics of the whole image.
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
    """Maps `(N, C, h, w)`, 2x2 or larger, to images `(N, channels, H, W)` in [-1, 1]. It mirrors the encoder.

    By default it has as many layers at each resolution, and ends with tanh. With `mirrored` it is the authors' decoder:
    it has VGG19's layers in reverse, and its images, in [0, 1] inside, are not bounded.

    Nearest-neighbour upsampling reverses each downsampling of the encoder. There is no normalisation layer, because it
    would remove the style.

    Args:
        given: channels of the maps.
        halvings: number of downsamplings by 2 in the encoder.
        channels: channels of the images.
        width: channels of the last hidden layer, doubled at each lower resolution, up to 8 times.
        mirrored: use the authors' layers.
    """

    def __init__(self, given: int, halvings: int, channels: int, width: int, mirrored: bool = False) -> None:
        super().__init__()
        at_least(1, width=width)
        at_least(0, halvings=halvings)
        self.norm = nn.InstanceNorm2d(given)  # normalises the content maps in `adain`, before the decoder
        self.mirrored = mirrored
        widths: Sequence[int] = [width * min(2**level, 8) for level in range(halvings + 1)]
        layers = [] if mirrored else convolution(given, widths[-1])
        for level in reversed(range(halvings)):
            first = mirrored and level == halvings - 1
            layers += convolution(given if first else widths[level + 1], widths[level])
            layers += [nn.Upsample(scale_factor=2.0, mode="nearest")]
            for _ in range(VGG19_CONVOLUTIONS[level] - 1 if mirrored else 1):
                layers += convolution(widths[level], widths[level])
        layers += [] if mirrored else convolution(width, width)
        self.layers = channels_last(nn.Sequential(*layers, nn.ReflectionPad2d(1), nn.Conv2d(width, channels, 3)))

    def forward(self, maps: Tensor) -> Tensor:
        """Return images `(N, channels, H, W)` in [-1, 1] for `maps` `(N, C, h, w)`."""
        images: Tensor = self.layers(maps)
        return (2 * images - 1 if self.mirrored else images.tanh()).contiguous()
