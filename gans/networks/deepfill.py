"""DeepFill v2's generator, Yu et al. 2019 (arXiv 1806.03589): gated convolutions in two stages, contextual attention.

The first stage fills holes coarsely. The second sees its result in two branches, of dilated convolutions and of
contextual attention, whose maps are decoded together.

Layers and widths are those of the authors' code, where half of the channels of a convolution are gates: its `cnum` of
48 is a `width` of 24 here. Convolutions of stride 2 are padded at the end, as in TensorFlow. With the authors' weights
the network computes the authors' outputs. Fresh weights differ: they preserve the scale of activations, see `gated`.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from gans.checks import at_least
from gans.networks.contextual import attended, subsampled
from gans.networks.gated import DILATIONS, Gated, composed
from gans.networks.layers import Size, channels_last, image_size, padded

MULTIPLE = 8  # the attention compares maps of an eighth of the sides


class Halved(Gated):
    """Gated 3x3 convolution of stride 2, with zero padding at the bottom and right alone."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, stride=2)
        self.conv.padding = (0, 0)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps `(N, after, h / 2, w / 2)`."""
        return super().forward(pad(maps, (0, 1, 0, 1)))


class Rectified(Gated):
    """Gated 3x3 convolution with a ReLU of the features in place of the ELU."""

    def activate(self, features: Tensor) -> Tensor:
        """Return the activation of features."""
        return features.relu()


def dilated(width: int, dilations: Iterable[int]) -> Iterable[Gated]:
    """Return gated convolutions of maps with `width` channels, one for each dilation."""
    return (Gated(width, width, dilation=dilation) for dilation in dilations)


def decoder(before: int, width: int, channels: int) -> nn.Sequential:
    """Return the layers from maps with `before` channels at a quarter of the resolution to images in [-1, 1]."""
    return nn.Sequential(
        Gated(before, 4 * width), Gated(4 * width, 4 * width),
        Gated(4 * width, 2 * width, enlarge=True), Gated(2 * width, 2 * width),
        Gated(2 * width, width, enlarge=True), Gated(width, max(1, width // 2)),
        nn.Conv2d(max(1, width // 2), channels, 3, padding=1), nn.Tanh(),
    )  # fmt: skip


class Coarse(nn.Module):
    """First stage: images `(N, channels, H, W)` with holes and masks to completed images.

    Its input has a channel of ones besides, which tells the image from the zero padding around it.
    """

    def __init__(self, channels: int, width: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        twice, four = 2 * width, 4 * width
        self.descend = nn.Sequential(
            Gated(channels + 2, width, 5), Halved(width, twice), Gated(twice, twice),
            Halved(twice, four), Gated(four, four), Gated(four, four), *dilated(four, dilations),
        )  # fmt: skip
        self.rise = decoder(four, width, channels)

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return images `(N, channels, H, W)` in [-1, 1], given images with 0 in the holes and masks `(N, 1, H, W)`."""
        made: Tensor = self.rise(self.descend(torch.cat([images, torch.ones_like(masks), masks], 1)))
        return made.contiguous()


class Refinement(nn.Module):
    """Second stage: images `(N, channels, H, W)` whose holes are filled coarsely to better ones."""

    def __init__(self, channels: int, width: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        twice, four = 2 * width, 4 * width
        self.dilated = nn.Sequential(
            Gated(channels, width, 5), Halved(width, width), Gated(width, twice),
            Halved(twice, twice), Gated(twice, four), Gated(four, four), *dilated(four, dilations),
        )  # fmt: skip
        self.attending = nn.Sequential(
            Gated(channels, width, 5), Halved(width, width), Gated(width, twice),
            Halved(twice, four), Gated(four, four), Rectified(four, four),
        )  # fmt: skip
        self.attended = nn.Sequential(Gated(four, four), Gated(four, four))
        self.rise = decoder(2 * four, width, channels)

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return images `(N, channels, H, W)` in [-1, 1]; masks `(N, 1, H, W)` say what the attention may not copy."""
        copied = attended(self.attending(images), subsampled(masks, 4))
        made: Tensor = self.rise(torch.cat([self.dilated(images), self.attended(copied)], 1))
        return made.contiguous()


class Generator(nn.Module):
    """Images `(N, channels, H, W)` with holes, of any H and W, to completed images in [-1, 1].

    The attention copies from what it is given: in tiles, see `gans.pictures.tiles`, from the tile alone.

    Args:
        size: image side, or (height, width), in training; larger dilations are omitted.
        channels: number of image channels.
        width: channels at full resolution; four times as many in the middle. The paper's is 24.
    """

    multiple = MULTIPLE  # the sides are padded to multiples of this

    def __init__(self, size: Size, channels: int, width: int = 24) -> None:
        super().__init__()
        at_least(1, width=width)
        dilations = tuple(dilation for dilation in DILATIONS if dilation < min(image_size(size)) / 4)
        self.coarse = Coarse(channels, width, dilations)
        self.refinement = Refinement(channels, width, dilations)
        channels_last(self)

    def guesses(self, images: Tensor, masks: Tensor) -> list[Tensor]:
        """Return the output of both stages, `(N, channels, H, W)` in [-1, 1], for all pixels; the final one is last."""
        height, width = images.shape[-2:]
        hole, known = padded(masks.to(images), self.multiple), padded(images, self.multiple)
        coarse = self.coarse(torch.where(hole > 0.5, 0.0, known), hole)
        refined = self.refinement(composed(coarse, known, hole), hole)
        return [made[..., :height, :width] for made in (coarse, refined)]

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return the output of the last stage, given images and masks `(N, 1, H, W)` that are 1 in holes."""
        return self.guesses(images, masks)[-1]
