"""PatchGAN of pix2pix, Isola et al. 2017 (arXiv 1611.07004): a critic that judges each patch of an image by itself.

With several scales as in pix2pixHD, Wang et al. 2018 (arXiv 1711.11585): further critics see the image halved, and
halved again, whose patches are as much larger.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from gans.checks import at_least
from gans.networks.layers import Init, Norm, Size, image_size, norm_layer, normal_init
from gans.networks.resample import Halving
from gans.networks.spectral import normalise

SMALLEST = 6  # pixels of a side that one halving and two layers without padding enough leave a logit of


def halvings(size: Size, most: int = 3) -> int:
    """Return how many layers of a critic of such images halve them, at most `most`; three see patches of 70 pixels.

    Raises:
        ValueError: if the images are too small for one.
    """
    height, width = image_size(size)
    side = min(height, width)
    if side < SMALLEST:
        raise ValueError(f"size is {height}x{width}; a patch discriminator needs at least {SMALLEST} pixels a side")
    return max(count for count in range(1, most + 1) if count == 1 or side // 2**count >= 3)


class Scale(nn.Module):
    """Images of one scale to a logit for each patch.

    Args:
        channels: of the images and of what they are judged with.
        width: channels after the first layer; twice as many after each further one, up to 8 times.
        layers: how many of them halve the image.
        norm: of all hidden layers but the first.
        spectral_norm: normalise the weights of all layers.
        antialias: blur where the image is halved, behind a convolution that does not, instead of a stride of 2.
        init: how the weights begin.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        layers: int,
        norm: Norm,
        spectral_norm: bool,
        antialias: bool = False,
        init: Init = normal_init,
    ) -> None:
        super().__init__()
        widths = [width * min(2**level, 8) for level in range(layers + 1)]
        self.layers = nn.ModuleList()
        for level, after in enumerate([*widths, 1]):
            normed = norm if 0 < level <= layers else "none"
            before = widths[level - 1] if level else channels
            halves, last = level < layers, level == len(widths)
            conv = nn.Conv2d(before, after, 4, 2 if halves and not antialias else 1, 1, bias=normed == "none")
            more = [] if last else [norm_layer(normed, after), nn.LeakyReLU(0.2, inplace=True)]
            blur = [Halving()] if halves and antialias else []
            layer = nn.Sequential(conv, *more, *blur).apply(init)
            if spectral_norm:
                normalise(conv)
            self.layers.append(layer)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps of all layers, the last of which are the logits `(N, 1, h, w)`."""
        maps = [images]
        for layer in self.layers:
            maps.append(layer(maps[-1]))
        return maps[1:]


class Discriminator(nn.Module):
    """Images `(N, channels, H, W)`, and what they shall fit, to logits `(N, scales, h, w)`, one for each patch.

    The logits of smaller scales are repeated to as many as the largest has: each scale has the same say in a mean.

    Args:
        size: image side, or (height, width).
        channels: of the images, and of all that they are judged with, together.
        width: channels after the first layer; twice as many after each further one, up to 8 times.
        layers: how many layers halve the image, as far as its size allows; 3 see patches of 70 pixels.
        scales: critics, each of which sees the image half as large as the one before.
        norm: of all hidden layers but the first.
        spectral_norm: normalise the weights of all layers.
        antialias: blur where the image is halved, as CUT does; logits are as many as without.
        init: how the weights begin.
    """

    def __init__(
        self,
        size: Size,
        channels: int,
        width: int = 64,
        layers: int = 3,
        scales: int = 1,
        norm: Norm = "instance",
        spectral_norm: bool = False,
        antialias: bool = False,
        init: Init = normal_init,
    ) -> None:
        super().__init__()
        at_least(1, width=width, layers=layers, scales=scales)
        height, breadth = image_size(size)
        sizes = [(height // 2**scale, breadth // 2**scale) for scale in range(scales)]
        self.scales = nn.ModuleList(
            Scale(channels, width, halvings(smaller, layers), norm, spectral_norm, antialias, init) for smaller in sizes
        )

    def features(self, images: Tensor, *given: Tensor) -> list[Tensor]:
        """Return the maps of all hidden layers of all scales, for losses that compare them."""
        return [maps for scale in self.seen(images, *given) for maps in scale[:-1]]

    def forward(self, images: Tensor, *given: Tensor) -> Tensor:
        """Return logits `(N, scales, h, w)`, higher where images, together with `given`, look real."""
        logits = [maps[-1] for maps in self.seen(images, *given)]
        sides = logits[0].shape[-2:]
        return torch.cat([logits[0], *(interpolate(smaller, sides, mode="nearest-exact") for smaller in logits[1:])], 1)

    def seen(self, images: Tensor, *given: Tensor) -> Sequence[list[Tensor]]:
        """Return the maps of all layers of each scale."""
        maps, found = torch.cat([images, *given], 1), []
        for number, scale in enumerate(self.scales):
            maps = avg_pool2d(maps, 2) if number else maps
            found.append(scale(maps))
        return found
