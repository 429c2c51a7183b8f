"""SPADE, Park et al. 2019 (arXiv 1903.07291): images of label maps by spatially adaptive normalisation.

A normalisation layer removes what label maps say: a region of one class becomes zeros. So each layer here scales and
shifts its normalised maps pixel by pixel, with factors that a small network computes from the label map.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, relu

from gans.checks import at_least
from gans.networks import patch
from gans.networks.layers import InstanceNorm2d, Size, doublings, image_size, padded, xavier_init
from gans.networks.spectral import normalise

MOST = 6  # doublings; 5 for 256 pixels, as in the paper
SMALLEST = 8  # pixels of the shorter side of the first maps, at least
DOUBLED = (6, 5, 4, 3, 1, 2)  # blocks before which maps are doubled; images of few pixels take the first of them
INNER = 3  # blocks at the lowest resolutions

SpadeNorm = Literal["instance", "batch"]


class OneHot(nn.Module):
    """Label maps in colours, `(N, C, H, W)` in [-1, 1], to maps of zeros and ones `(N, classes, H, W)`.

    Each pixel belongs to the class with the nearest colour. The colours are a buffer, so a checkpoint contains them.
    They begin as `classes` greys, evenly spaced from black to white.

    Args:
        classes: number of classes.
        channels: of the label maps.
    """

    colours: Tensor  # (classes, C), in [-1, 1]
    constants = ("colours",)  # buffers that no step changes

    def __init__(self, classes: int, channels: int = 3) -> None:
        super().__init__()
        at_least(2, classes=classes)
        self.register_buffer("colours", torch.linspace(-1, 1, classes)[:, None].repeat(1, channels))

    def forward(self, maps: Tensor) -> Tensor:
        """Return one-hot maps in the dtype of `maps`. There is no gradient."""
        colours, wide = self.colours, maps.to(torch.promote_types(maps.dtype, torch.float32))
        # No product of matrices: in TF32 or half precision it would not tell neighbouring greys apart.
        distance = torch.zeros((), device=maps.device)
        for channel in range(colours.shape[1]):
            distance = distance + (wide[:, channel, None] - colours[:, channel, None, None]).square()
        numbers = torch.arange(len(colours), device=maps.device)
        return (distance.argmin(1, keepdim=True) == numbers[:, None, None]).to(maps.dtype)


class Spade(nn.Module):
    """Normalised maps, scaled and shifted at each pixel by what a label map says there.

    Args:
        channels: of the maps.
        classes: channels of the label map.
        hidden: channels of the layer between the label map and the factors.
    """

    def __init__(self, channels: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.shared = nn.Conv2d(classes, hidden, 3, padding=1)
        self.factors = nn.Conv2d(hidden, 2 * channels, 3, padding=1)  # gamma and beta

    def forward(self, normed: Tensor, labels: Tensor) -> Tensor:
        """Return `(1 + gamma) normed + beta` for normalised maps `(N, C, h, w)` and labels `(N, classes, h, w)`."""
        gamma, beta = self.factors(relu(self.shared(labels))).chunk(2, 1)
        return torch.addcmul(beta + normed, gamma, normed)


class Block(nn.Module):
    """Residual block of two convolutions, each behind a SPADE layer; the skip has one too if widths differ.

    Args:
        before: channels of the maps.
        after: channels of the result.
        classes: channels of the label map.
        hidden: as in `Spade`.
        norm: `instance`, or `batch` with running statistics; neither has parameters.
        spectral_norm: spectral normalisation of the convolutions, but not of those on labels.
    """

    def __init__(
        self, before: int, after: int, classes: int, hidden: int, norm: SpadeNorm, spectral_norm: bool
    ) -> None:
        super().__init__()
        middle = min(before, after)
        self.norms = nn.ModuleList(parameter_free(norm, width) for width in (before, middle))
        self.spades = nn.ModuleList(Spade(width, classes, hidden) for width in (before, middle))
        self.convs = nn.ModuleList([nn.Conv2d(before, middle, 3, padding=1), nn.Conv2d(middle, after, 3, padding=1)])
        differs = before != after
        self.skip_spade = Spade(before, classes, hidden) if differs else None
        self.skip_conv = nn.Conv2d(before, after, 1, bias=False) if differs else None
        self.apply(xavier_init)
        for conv in (*self.convs, self.skip_conv):
            if spectral_norm and conv is not None:
                normalise(conv)

    def forward(self, maps: Tensor, labels: Tensor) -> Tensor:
        """Return maps `(N, after, h, w)` of maps `(N, before, h, w)` and labels `(N, classes, h, w)`."""
        normed, skip = self.norms[0](maps), maps
        if self.skip_spade is not None and self.skip_conv is not None:
            skip = self.skip_conv(self.skip_spade(normed, labels))
        made = self.convs[0](leaky_relu(self.spades[0](normed, labels), 0.2))
        changed: Tensor = self.convs[1](leaky_relu(self.spades[1](self.norms[1](made), labels), 0.2))
        return skip + changed


def parameter_free(norm: SpadeNorm, channels: int) -> nn.Module:
    """Return a normalisation layer without gain and shift.

    Raises:
        ValueError: if `norm` is unknown.
    """
    if norm not in ("instance", "batch"):
        raise ValueError(f"norm is {norm!r}; expected instance or batch")
    return InstanceNorm2d(channels) if norm == "instance" else nn.BatchNorm2d(channels, affine=False)


class Generator(nn.Module):
    """One-hot label maps `(N, classes, H, W)` to images `(N, channels, H, W)` in [-1, 1], of any H and W.

    It begins with the label map at the lowest resolution, and has seven blocks. It holds the colours of the classes, so
    that they come with its weights.

    Args:
        size: image side, or (height, width), in training; it determines the number of doublings, so that the first maps
            have 8 to 15 pixels on the shorter side.
        classes: channels of the label maps.
        channels: of the images.
        width: channels of the last block's maps; the first have 16 times as many.
        hidden: channels of the layer between label map and factors; 128 in the paper.
        norm: normalisation without parameters: `instance`, or `batch`.
        spectral_norm: spectral normalisation of the blocks' convolutions.
        source_channels: of label maps in colours.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        size: Size,
        classes: int,
        channels: int,
        width: int = 64,
        hidden: int = 128,
        norm: SpadeNorm = "instance",
        spectral_norm: bool = True,
        source_channels: int = 3,
    ) -> None:
        super().__init__()
        at_least(1, width=width, hidden=hidden)
        self.one_hot = OneHot(classes, source_channels)
        count = min(MOST, doublings(image_size(size), SMALLEST))
        doubled = DOUBLED[:count]
        widths = [width * factor for factor in (16, 16, 16, 16, 8, 4, 2, 1)]
        # Image pixels per pixel of each block's maps.
        self.steps = [2 ** sum(place > block for place in doubled) for block in range(len(widths) - 1)]
        self.multiple, self.step = self.steps[0], self.steps[INNER - 1]
        self.first = nn.Conv2d(classes, widths[0], 3, padding=1).apply(xavier_init)
        self.blocks = nn.ModuleList(
            Block(before, after, classes, hidden, norm, spectral_norm) for before, after in pairwise(widths)
        )
        self.last = nn.Conv2d(width, channels, 3, padding=1).apply(xavier_init)

    def forward(self, labels: Tensor) -> Tensor:
        """Return images for one-hot label maps."""
        height, width = labels.shape[-2:]
        labels = padded(labels, self.multiple, 2 * self.multiple)  # an instance norm needs more than one pixel
        maps = self.through(self.inner(strided(labels, self.step)), labels, range(INNER, len(self.steps)), self.step)
        made = torch.tanh(self.last(leaky_relu(maps, 0.2)))
        return made.contiguous()[..., :height, :width]

    def inner(self, labels: Tensor) -> Tensor:
        """Return the maps `(N, 16 width, h, w)` of the first blocks, for label maps at 1 / `step` of the resolution."""
        small = strided(labels, self.multiple // self.step)
        return self.through(self.first(small), labels, range(INNER), self.multiple, self.step)

    def through(self, maps: Tensor, labels: Tensor, blocks: Sequence[int], step: int, scale: int = 1) -> Tensor:
        """Return maps after some blocks.

        Args:
            maps: `(N, C, h, w)`.
            labels: label maps.
            blocks: numbers of the blocks.
            step: image pixels per pixel of `maps`.
            scale: image pixels per pixel of `labels`.
        """
        for block in blocks:
            if self.steps[block] < step:
                step = self.steps[block]
                maps = interpolate(maps, scale_factor=2.0, mode="nearest")
            maps = self.blocks[block](maps, strided(labels, step // scale))
        return maps


def strided(labels: Tensor, step: int) -> Tensor:
    """Return every `step`-th pixel of label maps `(N, classes, H, W)`, as nearest-neighbour interpolation does."""
    return labels[..., ::step, ::step]


class Opinion(NamedTuple):
    """Output of the critic.

    Attributes:
        logits: `(N, scales, h, w)`.
        maps: of all hidden layers of all scales.
    """

    logits: Tensor
    maps: tuple[Tensor, ...]


class Discriminator(patch.Discriminator):
    """A patch critic of several scales that also returns its hidden maps, for feature matching."""

    def forward(self, images: Tensor, *given: Tensor) -> Opinion:  # type: ignore[override]
        """Return logits and maps of images and conditions."""
        seen = self.seen(images, *given)
        return Opinion(self.together([maps[-1] for maps in seen]), tuple(part for maps in seen for part in maps[:-1]))
