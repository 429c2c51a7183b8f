"""PatchGAN of pix2pix, Isola et al. 2017 (arXiv 1611.07004): a critic with one logit for each patch of an image.

It may have several scales, as pix2pixHD (Wang et al. 2018, arXiv 1711.11585): each further critic receives the image
downsampled by 2 once more.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from gans.checks import at_least
from gans.networks.layers import Init, Norm, Size, channels_last, image_size, norm_layer, normal_init
from gans.networks.resample import Halving
from gans.networks.spectral import normalise

SMALLEST = 6  # pixels a side: one layer of stride 2 and two of stride 1 leave one logit


def halvings(size: Size, most: int = 3) -> int:
    """Return the number of downsampling layers for images of `size`, at most `most`; 3 give patches of 70 pixels.

    Raises:
        ValueError: if the images are too small for one such layer.
    """
    height, width = image_size(size)
    side = min(height, width)
    if side < SMALLEST:
        raise ValueError(f"size is {height}x{width}; a patch discriminator needs at least {SMALLEST} pixels a side")
    return max(count for count in range(1, most + 1) if count == 1 or side // 2**count >= 3)


class Scale(nn.Module):
    """The critic of one scale: images to a logit for each patch.

    Args:
        channels: number of channels of the images and conditions together.
        width: channels of the first layer, doubled in each further one, up to 8 times.
        layers: number of downsampling layers.
        norm: normalisation of all hidden layers but the first.
        spectral_norm: use spectral normalisation in all layers.
        antialias: downsample with a blur after each convolution instead of a stride of 2.
        init: initialisation of the weights.
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
        channels_last(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps of all layers; the last one is the logits `(N, 1, h, w)`."""
        maps = [images]
        for layer in self.layers:
            maps.append(layer(maps[-1]))
        return maps[1:]


class MultiScale(nn.Module):
    """Critics of images `(N, channels, H, W)`, with conditions, to logits `(N, scales, h, w)`.

    The logits of lower scales are upsampled to the largest map, so that all scales have the same weight in a mean.

    Args:
        critics: one for each scale, from images to the maps of all layers, of which the last one is the logits. Each
            receives the image at half the resolution of the one before.
    """

    def __init__(self, critics: Iterable[nn.Module]) -> None:
        super().__init__()
        self.scales = nn.ModuleList(critics)

    def features(self, images: Tensor, *given: Tensor) -> list[Tensor]:
        """Return the maps of all hidden layers of all scales, for feature matching losses."""
        return [maps for scale in self.seen(images, *given) for maps in scale[:-1]]

    def forward(self, images: Tensor, *given: Tensor) -> Tensor:
        """Return logits `(N, scales, h, w)`, higher for realistic patches that match the conditions `given`."""
        return self.together([maps[-1] for maps in self.seen(images, *given)])

    def together(self, logits: Sequence[Tensor]) -> Tensor:
        """Return the logits of all scales, `(N, 1, h, w)` each, as `(N, scales, h, w)` in the first one's size."""
        sides = logits[0].shape[-2:]
        return torch.cat([logits[0], *(interpolate(smaller, sides, mode="nearest-exact") for smaller in logits[1:])], 1)

    def seen(self, images: Tensor, *given: Tensor) -> Sequence[list[Tensor]]:
        """Return the maps of all layers of each scale."""
        maps, found = torch.cat([images, *given], 1), []
        for number, scale in enumerate(self.scales):
            maps = avg_pool2d(maps, 2) if number else maps
            found.append(scale(maps))
        return found


class Discriminator(MultiScale):
    """Images `(N, channels, H, W)`, with conditions, to logits `(N, scales, h, w)`, one for each patch.

    The logits of lower scales are upsampled to the largest map, so that all scales have the same weight in a mean.

    Args:
        size: image side, or (height, width).
        channels: number of channels of the images and conditions together.
        width: channels of the first layer, doubled in each further one, up to 8 times.
        layers: number of downsampling layers, fewer for small images; 3 give patches of 70 pixels.
        scales: number of critics; each receives the image at half the resolution of the one before.
        norm: normalisation of all hidden layers but the first.
        spectral_norm: use spectral normalisation in all layers.
        antialias: blur before downsampling, as CUT does. The number of logits is the same.
        init: initialisation of the weights.
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
        at_least(1, width=width, layers=layers, scales=scales)
        height, breadth = image_size(size)
        sizes = [(height // 2**scale, breadth // 2**scale) for scale in range(scales)]
        super().__init__(
            Scale(channels, width, halvings(smaller, layers), norm, spectral_norm, antialias, init) for smaller in sizes
        )
