"""Gated convolutions for inpainting, Yu et al. 2019 (arXiv 1806.03589): DeepFill v2 without contextual attention.

A gated convolution computes features f and gates g, and returns ELU(f) * sigmoid(g). So it learns which pixels are
valid. The first stage gives a coarse result, the second stage refines it.

The generator differs from the paper's, which is in `deepfill`, in four points. There is no contextual attention, so the
second stage has one branch. Skip connections add the maps before a downsampling to those after the upsampling, which
helps with narrow holes. The layer of half the width before the output is omitted. The initialisation preserves the
scale of activations. The critic is the paper's.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, leaky_relu, pad

from gans.checks import at_least
from gans.networks.layers import Size, channels_last, image_size, padded
from gans.networks.pullpush import changed, pull_push, start_near_fill
from gans.networks.spectral import xavier
from gans.networks.strided import double_and_convolve

HALVINGS = 2
KERNEL = 5  # of the critic's convolutions
DILATIONS = (2, 4, 8, 16)  # of the middle layers: a receptive field of 61 pixels at a quarter of the resolution
CRITIC = (1, 2, 4, 4, 4, 4)  # channels of the critic's layers, in multiples of its width
GAIN = 2.5  # of the feature weights: for N(0, 1) input, ELU(f) sigmoid(g) has a mean square of about 1


def composed(made: Tensor, images: Tensor, masks: Tensor) -> Tensor:
    """Return `made` where masks `(N, 1, H, W)` are 1 (the holes), and `images` unchanged where they are 0."""
    return torch.where(masks > 0.5, made, images)


class Gated(nn.Module):
    """Gated convolution from `(N, before, h, w)` to `(N, after, h, w)`, or half as high and wide with a stride of 2.

    Args:
        before: input channels.
        after: output channels.
        kernel: kernel size.
        stride: stride; 2 halves the sides.
        dilation: dilation of the kernel.
        enlarge: upsample the input by 2 (nearest neighbour) before the convolution.
    """

    def __init__(
        self, before: int, after: int, kernel: int = 3, stride: int = 1, dilation: int = 1, enlarge: bool = False
    ) -> None:
        super().__init__()
        self.enlarge = enlarge
        self.conv = nn.Conv2d(before, 2 * after, kernel, stride, dilation * (kernel // 2), dilation)
        spread = (before * kernel**2) ** -0.5
        with torch.no_grad():
            self.conv.weight[:after].normal_(0, GAIN * spread)
            self.conv.weight[after:].normal_(0, spread)
            assert self.conv.bias is not None
            self.conv.bias.zero_()

    def forward(self, maps: Tensor) -> Tensor:
        """Return ELU(f) * sigmoid(g), `(N, after, h, w)`."""
        convolved = double_and_convolve(self.conv, maps) if self.enlarge else self.conv(maps)
        features, gates = convolved.chunk(2, 1)
        return self.activate(features) * gates.sigmoid()

    def activate(self, features: Tensor) -> Tensor:
        """Return the activation of features, an ELU."""
        return elu(features)


class Stage(nn.Module):
    """One stage: images with holes and masks to completed images. Sides must be multiples of 4.

    Args:
        channels: number of image channels.
        width: channels at full resolution; the middle layers have four times as many.
        dilations: dilations of the middle layers.
        base: the given images are filled, and the output is the difference from them, before the tanh.
    """

    step = 2  # image pixels per pixel of the maps that `inner` receives

    def __init__(self, channels: int, width: int, dilations: tuple[int, ...], base: bool = False) -> None:
        super().__init__()
        self.base = base
        once, twice = 2 * width, 4 * width
        self.first = Gated(channels + 1, width, 5)
        self.descend = nn.Sequential(Gated(width, once, stride=2), Gated(once, once))
        self.middle = nn.Sequential(
            Gated(once, twice, stride=2), Gated(twice, twice),
            *(Gated(twice, twice, dilation=dilation) for dilation in dilations),
            Gated(twice, twice), Gated(twice, once, enlarge=True),
        )  # fmt: skip
        self.rise = nn.Sequential(Gated(once, once), Gated(once, width, enlarge=True))
        self.last = nn.Conv2d(width, channels, 3, padding=1)
        if base:
            start_near_fill(self.last)
        channels_last(self)

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return images `(N, channels, H, W)` in [-1, 1].

        Args:
            images: with 0 in the holes, or with a fill of them, if there is a base.
            masks: `(N, 1, H, W)`, 1 in holes.
        """
        whole = self.first(torch.cat([images, masks], 1))
        half = self.descend(whole)
        made: Tensor = self.last(whole + self.rise(half + self.inner(half)))
        return (changed(made, images, masks) if self.base else made.tanh()).contiguous()

    def inner(self, maps: Tensor) -> Tensor:
        """Return the output of the middle layers for maps `(N, 2 width, h, w)`, in the same shape.

        A method of its own, because `gans.pictures.tiles` evaluates layers with a large receptive field separately.
        """
        made: Tensor = self.middle(maps)
        return made


class Generator(nn.Module):
    """Images `(N, channels, H, W)` with holes, of any H and W, to completed images in [-1, 1].

    Args:
        size: image side, or (height, width), in training; larger dilations are omitted.
        channels: number of image channels.
        width: channels at full resolution; the middle layers have four times as many. The paper's is 24, because half
            of the 48 channels of its convolutions are gates.
        refine: add a second stage, whose input is the first stage's result in the holes.
        base: fill holes smoothly first, see `pullpush`. Each stage returns the sum of its input and a learned
            difference, before the tanh, so a fresh network nearly returns the fill. The paper does without.
    """

    multiple = 2**HALVINGS  # the sides are padded to multiples of this

    def __init__(self, size: Size, channels: int, width: int = 48, refine: bool = True, base: bool = False) -> None:
        super().__init__()
        at_least(1, width=width)
        self.base = base
        side = min(image_size(size)) / 2**HALVINGS
        dilations = tuple(dilation for dilation in DILATIONS if dilation < side)
        self.stages = nn.ModuleList(Stage(channels, width, dilations, base) for _ in range(2 if refine else 1))

    def guesses(self, images: Tensor, masks: Tensor) -> list[Tensor]:
        """Return the output of each stage, `(N, channels, H, W)` in [-1, 1], for all pixels; the final one is last."""
        height, width = images.shape[-2:]
        hole = padded(masks.to(images), 2**HALVINGS)
        known = padded(images, 2**HALVINGS)
        given, made = pull_push(known, hole) if self.base else torch.where(hole > 0.5, 0.0, known), []
        for stage in self.stages:
            guess = stage(given, hole)
            made.append(guess[..., :height, :width])
            given = composed(guess, known, hole)
        return made

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return the output of the last stage, given images and masks `(N, 1, H, W)` that are 1 in holes."""
        return self.guesses(images, masks)[-1]


class Discriminator(nn.Module):
    """SN-PatchGAN: images `(N, channels, H, W)`, with conditions, to logits `(N, 4 width, H / 64, W / 64)`.

    It consists of six 5x5 convolutions of stride 2. Each has spectral normalisation (Miyato et al. 2018, arXiv
    1802.05957) and a leaky ReLU, also the last. Every value of the last map is a logit, with a receptive field of 253
    pixels. Sides are rounded up.

    Args:
        channels: number of channels of the images and conditions together.
        width: channels of the first layer; the second has twice, the others four times as many. The paper uses 64.
        spectral_norm: use spectral normalisation in all layers.
    """

    def __init__(self, channels: int, width: int = 64, spectral_norm: bool = True) -> None:
        super().__init__()
        at_least(1, width=width)
        widths = [channels, *(width * times for times in CRITIC)]
        self.layers = nn.ModuleList(
            xavier(nn.Conv2d(before, after, KERNEL, 2), spectral_norm=spectral_norm)
            for before, after in pairwise(widths)
        )
        channels_last(self)

    def features(self, images: Tensor, *given: Tensor) -> list[Tensor]:
        """Return the maps of all layers but the last, for feature matching losses."""
        return self.maps(images, *given)[:-1]

    def forward(self, images: Tensor, *given: Tensor) -> Tensor:
        """Return logits, higher for realistic patches that match the conditions `given`."""
        return self.maps(images, *given)[-1]

    def maps(self, images: Tensor, *given: Tensor) -> list[Tensor]:
        """Return the maps of all layers."""
        found = [torch.cat([images, *given], 1)]
        for layer in self.layers:
            found.append(leaky_relu(layer(surrounded(found[-1])), 0.2))
        return found[1:]


def surrounded(maps: Tensor) -> Tensor:
    """Return maps with the zero padding of TensorFlow's SAME for a stride of 2: an odd pixel is added at the end."""
    sides = [KERNEL - 2 + side % 2 for side in maps.shape[-2:]]
    above, left = (side // 2 for side in sides)
    return pad(maps, (left, sides[1] - left, above, sides[0] - above))
