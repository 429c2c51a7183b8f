"""Gated convolutions for images with holes, Yu et al. 2019 (arXiv 1806.03589): DeepFill v2 without its attention.

A layer makes features f and gates g of its maps and gives ELU(f) * sigmoid(g): it learns where there is something to
see, which a plain convolution takes for granted. A coarse stage guesses, a second one refines what was guessed.

Differences from the paper's generator: no contextual attention, and so one branch in the second stage; maps from before
a halving are added behind the doubling, as narrow holes need their neighbours; the layer of half the width in front of
the images is left out; weights start with the spread that keeps signals alive. The critic is the paper's.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, interpolate, leaky_relu, pad

from gans.checks import at_least
from gans.networks.layers import Size, image_size, padded
from gans.networks.spectral import xavier

HALVINGS = 2
KERNEL = 5  # of the critic
DILATIONS = (2, 4, 8, 16)  # of the middle layers: together they see 61 pixels of maps a quarter as large
CRITIC = (1, 2, 4, 4, 4, 4)  # times the critic's width: channels of its layers
GAIN = 2.5  # of the features: with N(0, 1) coming in, ELU(f) sigmoid(g) has a mean square of about 1 again


def composed(made: Tensor, images: Tensor, masks: Tensor) -> Tensor:
    """Return `made` in the holes, where masks `(N, 1, H, W)` are 1, and `images`, bit for bit, where they are 0."""
    return torch.where(masks > 0.5, made, images)


class Gated(nn.Module):
    """Maps `(N, before, h, w)` to `(N, after, h, w)`, or half as high and wide with a stride of 2.

    Args:
        before: channels of the maps.
        after: channels of what becomes of them.
        kernel: side of the convolution.
        stride: 2 halves.
        dilation: how far apart the kernel's pixels are.
        enlarge: double the maps before, pixel by pixel.
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
        """Return ELU(f) * sigmoid(g)."""
        if self.enlarge:
            maps = interpolate(maps, scale_factor=2.0, mode="nearest")
        features, gates = self.conv(maps).chunk(2, 1)
        seen: Tensor = elu(features) * gates.sigmoid()
        return seen


class Stage(nn.Module):
    """Images with holes and their masks, `(N, channels + 1, H, W)` of sides that are multiples of 4, to whole images.

    Args:
        channels: of the images.
        width: channels next to the images; four times as many in the middle.
        dilations: of the middle layers.
    """

    step = 2  # pixels between places of the inner maps

    def __init__(self, channels: int, width: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
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

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return images `(N, channels, H, W)` in [-1, 1] for those whose holes are 0, and masks `(N, 1, H, W)`."""
        whole = self.first(torch.cat([images, masks], 1))
        half = self.descend(whole)
        made: Tensor = self.last(whole + self.rise(half + self.inner(half)))
        return made.tanh()

    def inner(self, maps: Tensor) -> Tensor:
        """Return what the middle layers make of maps `(N, 2 width, h, w)`; these see far, see `gans.pictures.tiles`."""
        made: Tensor = self.middle(maps)
        return made


class Generator(nn.Module):
    """Images `(N, channels, H, W)` with holes, of any H and W, to whole ones in [-1, 1].

    Args:
        size: image side, or (height, width), of training; middle layers reach no further.
        channels: of the images.
        width: channels next to the images; four times as many in the middle. The paper has 48.
        refine: have a second stage, which is given the first one's guess in the holes.
    """

    multiple = 2**HALVINGS  # of the sides

    def __init__(self, size: Size, channels: int, width: int = 48, refine: bool = True) -> None:
        super().__init__()
        at_least(1, width=width)
        side = min(image_size(size)) / 2**HALVINGS
        dilations = tuple(dilation for dilation in DILATIONS if dilation < side)
        self.stages = nn.ModuleList(Stage(channels, width, dilations) for _ in range(2 if refine else 1))

    def guesses(self, images: Tensor, masks: Tensor) -> list[Tensor]:
        """Return what each stage makes, `(N, channels, H, W)` in [-1, 1], known places included, the best last."""
        height, width = images.shape[-2:]
        hole = padded(masks.to(images), 2**HALVINGS)
        known = padded(images, 2**HALVINGS)
        given, made = torch.where(hole > 0.5, 0.0, known), []
        for stage in self.stages:
            guess = stage(given, hole)
            made.append(guess[..., :height, :width])
            given = composed(guess, known, hole)
        return made

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return the last stage's guess for images and masks `(N, 1, H, W)`, 1 where there is a hole."""
        return self.guesses(images, masks)[-1]


class Discriminator(nn.Module):
    """SN-PatchGAN: images `(N, channels, H, W)`, and what they shall fit, to logits `(N, 4 width, H / 64, W / 64)`.

    Six convolutions of 5x5 that halve, rounded up, each with spectral norm (Miyato et al. 2018, arXiv 1802.05957) and a
    leaky rectifier, the last included. Each number of the last maps is a logit, in each channel; it sees 253 pixels.

    Args:
        channels: of the images, and of all that they are judged with, together.
        width: channels after the first layer; two, then four times as many after the others. The paper has 64.
        spectral_norm: normalise the weights of all layers.
    """

    def __init__(self, channels: int, width: int = 64, spectral_norm: bool = True) -> None:
        super().__init__()
        at_least(1, width=width)
        widths = [channels, *(width * times for times in CRITIC)]
        self.layers = nn.ModuleList(
            xavier(nn.Conv2d(before, after, KERNEL, 2), spectral_norm=spectral_norm)
            for before, after in pairwise(widths)
        )

    def features(self, images: Tensor, *given: Tensor) -> list[Tensor]:
        """Return the maps of all layers but the last, for losses that compare them."""
        return self.maps(images, *given)[:-1]

    def forward(self, images: Tensor, *given: Tensor) -> Tensor:
        """Return logits, higher where images, together with `given`, look real."""
        return self.maps(images, *given)[-1]

    def maps(self, images: Tensor, *given: Tensor) -> list[Tensor]:
        """Return the maps of all layers."""
        found = [torch.cat([images, *given], 1)]
        for layer in self.layers:
            found.append(leaky_relu(layer(surrounded(found[-1])), 0.2))
        return found[1:]


def surrounded(maps: Tensor) -> Tensor:
    """Return maps with the zeros that TensorFlow's SAME puts around them for a stride of 2, the odd one behind."""
    sides = [KERNEL - 2 + side % 2 for side in maps.shape[-2:]]
    above, left = (side // 2 for side in sides)
    return pad(maps, (left, sides[1] - left, above, sides[0] - above))
