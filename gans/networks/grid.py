"""Encoder and decoder of an autoencoder whose codes are grids, as in Rombach et al. 2022 (arXiv 2112.10752).

The layout is that of latent diffusion's autoencoder: residual blocks with GroupNorm at each resolution, and
self-attention at the lowest one. Two things differ. The first halving rearranges pixels into channels, and the last
doubling does the reverse, so no convolution works at the full resolution. And each network is added to a linear layer,
which starts as the lowest frequencies of a block cosine transform (Ahmed et al. 1974, as in JPEG): training starts from
that reconstruction, and learns the difference.
"""

import math
from itertools import product
from math import prod
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import group_norm, interpolate, pixel_shuffle, pixel_unshuffle, silu

from gans.checks import at_least
from gans.networks.attention import SelfAttention
from gans.networks.layers import Size, channels_last, image_channels, image_size
from gans.networks.manifold import Moments

GROUP = 16  # channels of a group of GroupNorm
WIDEST = 4  # channels of the widest level, relative to those of the first
FACTORS = (2, 4, 8, 16)
LOG_VARIANCE = -6.0  # of codes at initialisation


def code_size(size: Size, factor: int) -> tuple[int, int]:
    """Return (height, width) of the grid of codes of images of `size`.

    Raises:
        ValueError: if `factor` is not 2, 4, 8 or 16, or does not divide the sides.
    """
    height, width = image_size(size)
    if factor not in FACTORS:
        raise ValueError(f"factor is {factor}; expected 2, 4, 8 or 16")
    if height % factor or width % factor:
        raise ValueError(f"size is {height}x{width}; expected multiples of {factor}, the factor")
    return height // factor, width // factor


def widths(width: int, factor: int) -> list[int]:
    """Return the channels of each level, from the highest resolution to the lowest."""
    return [width * min(2**level, WIDEST) for level in range(factor.bit_length() - 1)]


def cosines(channels: int, side: int, count: int) -> Tensor:
    """Return the `count` lowest of the orthonormal cosine functions of blocks, `(count, channels, side, side)`.

    They are products of a function of the channel, the row and the column. Of three channels these functions are their
    mean and two differences. A difference counts as a higher frequency than the mean, and half as much detail of it.
    """

    def basis(length: int) -> Tensor:
        places = (torch.arange(length) + 0.5) * torch.arange(length)[:, None]
        waves: Tensor = (math.pi / length * places).cos() * (2 / length) ** 0.5
        return torch.cat([waves[:1] / 2**0.5, waves[1:]])

    def height(colour: int, row: int, column: int) -> float:
        return (row**2 + column**2) * (3 if colour else 1) + 1.5 * colour

    of_colour, of_side = basis(channels), basis(side)
    orders = sorted(product(range(channels), range(side), range(side)), key=lambda order: height(*order))
    waves = [torch.einsum("c,i,j->cij", of_colour[k], of_side[i], of_side[j]) for k, i, j in orders[:count]]
    return torch.stack(waves)


@torch.no_grad()
def start_as_cosines(layer: nn.Conv2d | nn.ConvTranspose2d, factor: int) -> None:
    """Set a layer with kernels of three blocks a side so that its middle block is `cosines`, and the rest is 0.

    Channels of a code beyond the number of these functions start at 0.
    """
    codes, channels = layer.weight.shape[:2]
    waves = cosines(channels, factor, codes)
    layer.weight.zero_()
    layer.weight[: len(waves), :, factor : 2 * factor, factor : 2 * factor] = waves
    cast(Tensor, layer.bias).zero_()


def silenced(layer: nn.Conv2d) -> nn.Conv2d:
    """Return a convolution with its weights and bias set to 0."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(cast(Tensor, layer.bias))
    return layer


class Norm(nn.GroupNorm):
    """GroupNorm with groups of about 16 channels, followed by SiLU. The output does not depend on the batch.

    Args:
        channels: channels of the maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(max(n for n in range(1, max(1, channels // GROUP) + 1) if channels % n == 0), channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape `(N, channels, h, w)` and dtype."""
        normed = group_norm(maps, self.num_groups, self.weight, self.bias, self.eps)
        return silu(normed).to(maps.dtype)  # under autocast, group_norm returns float32


class Block(nn.Module):
    """Residual block of two 3x3 convolutions on maps `(N, channels, h, w)`. It is the identity at initialisation.

    Args:
        channels: channels of the maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Norm(channels),
            nn.Conv2d(channels, channels, 3, padding=1),
            Norm(channels),
            silenced(nn.Conv2d(channels, channels, 3, padding=1)),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape."""
        result: Tensor = maps + self.layers(maps)
        return result


class Upsample(nn.Module):
    """Twice the height and width by repetition, then a 3x3 convolution.

    Args:
        channels: channels of the input.
        outputs: channels of the output.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, outputs, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps `(N, outputs, 2 h, 2 w)`."""
        result: Tensor = self.conv(interpolate(maps, scale_factor=2.0, mode="nearest"))
        return result


class Encoder(nn.Module):
    """Images `(N, channels, H, W)` to grids `(N, code_channels, H / factor, W / factor)`.

    Args:
        size: image side, or (height, width), multiples of `factor`.
        channels: 1, 3 or 4.
        code_channels: channels of a code.
        factor: reduction of each side, 2, 4, 8 or 16.
        width: channels at half the resolution, doubled at each lower one, up to 4 times.
        depth: residual blocks at each resolution.
        attention: self-attention at the lowest resolution.
        variances: return as many log-variances of codes too, `(N, 2 code_channels, h, w)` together.
    """

    def __init__(
        self,
        size: Size,
        channels: int,
        code_channels: int,
        factor: int,
        width: int,
        depth: int,
        attention: bool = False,
        variances: bool = False,
    ) -> None:
        super().__init__()
        at_least(1, code_channels=code_channels, width=width)
        at_least(0, depth=depth)
        code_size(size, factor)
        self.image_shape = (image_channels(channels), *image_size(size))
        self.linear = nn.Conv2d(channels, code_channels, 3 * factor, stride=factor, padding=factor)
        start_as_cosines(self.linear, factor)
        wide = widths(width, factor)
        parts: list[nn.Module] = [nn.Conv2d(4 * channels, width, 3, padding=1)]
        for level, given in enumerate(wide):
            if level:
                parts.append(nn.Conv2d(wide[level - 1], given, 3, stride=2, padding=1))
            parts += [Block(given) for _ in range(depth)]
        parts += [SelfAttention(wide[-1])] if attention else []
        last = silenced(nn.Conv2d(wide[-1], (2 if variances else 1) * code_channels, 3, padding=1))
        if variances:
            nn.init.constant_(cast(Tensor, last.bias)[code_channels:], LOG_VARIANCE)
        self.layers = nn.Sequential(*parts, Norm(wide[-1]), last)
        channels_last(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return grids, `(N, code_channels, h, w)`, with log-variances `(N, 2 code_channels, h, w)`.

        Raises:
            ValueError: for images of another shape.
        """
        if tuple(images.shape[1:]) != self.image_shape:
            raise ValueError(f"images have shape {tuple(images.shape[1:])}; expected {self.image_shape}")
        linear, learned = self.linear(images), self.layers(pixel_unshuffle(images, 2))
        codes, *rest = learned.split(linear.shape[1], dim=1)
        return torch.cat([linear + codes, *rest], 1).contiguous()


class Decoder(nn.Module):
    """Codes `(N, code_channels, h, w)` to images `(N, channels, factor h, factor w)` in [-1, 1].

    Args:
        channels: 1, 3 or 4.
        code_channels: channels of a code.
        factor: enlargement of each side, 2, 4, 8 or 16.
        width: channels at half the resolution of images, doubled at each lower one, up to 4 times.
        depth: residual blocks at each resolution.
        attention: self-attention at the lowest resolution.
    """

    def __init__(
        self, channels: int, code_channels: int, factor: int, width: int, depth: int, attention: bool = False
    ) -> None:
        super().__init__()
        at_least(1, code_channels=code_channels, width=width)
        at_least(0, depth=depth)
        wide = widths(width, factor)[::-1]
        self.linear = nn.ConvTranspose2d(code_channels, image_channels(channels), 3 * factor, factor, factor)
        start_as_cosines(self.linear, factor)
        parts: list[nn.Module] = [nn.Conv2d(code_channels, wide[0], 3, padding=1)]
        for level, given in enumerate(wide):
            parts += [Upsample(wide[level - 1], given)] if level else []
            parts += [Block(given) for _ in range(depth)]
            parts += [SelfAttention(given)] if attention and not level else []
        self.hidden = nn.Sequential(*parts, Norm(wide[-1]))
        self.last = silenced(nn.Conv2d(wide[-1], 4 * channels, 3, padding=1))
        channels_last(self)

    def forward(self, codes: Tensor) -> Tensor:
        """Return images, clipped to [-1, 1]."""
        return self.finished(*self.prepared(codes)).clamp(-1, 1)

    def prepared(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs of `finished`: the maps in front of the last layer, and the images of the linear layer."""
        return self.hidden(codes), self.linear(codes)

    def finished(self, maps: Tensor, linear: Tensor) -> Tensor:
        """Return the images, not clipped, as losses need them."""
        return (linear + pixel_shuffle(self.last(maps), 2)).contiguous()


class ChannelMoments(Moments):
    """Running moments of the channels of grids `(N, c, h, w)`; every place of a grid is one of their vectors."""

    def update(self, vectors: Tensor, share: float = 1.0, begin: bool = True) -> None:
        """Update the moments with the grids `(N, c, h, w)` of a batch or of a part of it, see `Moments.update`."""
        super().update(rows(vectors), share, begin)

    def whiten(self, vectors: Tensor) -> Tensor:
        """Return whitened grids `(N, c, h, w)`: their channels have mean 0, variance 1 and are not correlated."""
        return grids(super().whiten(rows(vectors)), vectors)

    def colour(self, white: Tensor) -> Tensor:
        """Return the grids `(N, c, h, w)` for whitened ones. It is the inverse of `whiten`."""
        return grids(super().colour(rows(white)), white)


def rows(grid: Tensor) -> Tensor:
    """Return the vectors `(N h w, c)` of grids `(N, c, h, w)`."""
    return grid.movedim(1, -1).flatten(0, -2)


def grids(vectors: Tensor, like: Tensor) -> Tensor:
    """Return the grids of vectors `(N h w, c)`, in the shape `(N, c, h, w)` of `like`."""
    n, c, h, w = like.shape
    return vectors.view(n, h, w, c).movedim(-1, 1).contiguous()


class Generator(nn.Module):
    """Latents `(N, c h w)` to images `(N, C, H, W)`, by way of whitened codes `(N, c, h, w)` and codes.

    It holds the encoder too, so that an average of the weights has an encoder and a decoder that fit each other.

    Args:
        code_shape: (c, h, w) of a code.
        encoder: network from images to codes.
        decoder: network from codes to images.
        latent: network from latents `(N, c, h, w)` to whitened codes; None is the identity, which gives Gaussian codes.
    """

    def __init__(
        self, code_shape: tuple[int, int, int], encoder: Encoder, decoder: Decoder, latent: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.code_shape = code_shape
        self.encoder, self.decoder = encoder, decoder
        self.codes = ChannelMoments(code_shape[0])
        self.latent = latent or nn.Identity()

    @property
    def latent_dim(self) -> int:
        """Length of a latent."""
        return prod(self.code_shape)

    def forward(self, z: Tensor) -> Tensor:
        """Return images in [-1, 1] for `z` `(N, c h w)`."""
        white = self.latent(z.reshape(-1, *self.code_shape))
        images: Tensor = self.decoder(self.codes.colour(white))
        return images

    def baked(self) -> nn.Sequential:
        """Return the same function as a plain `nn.Sequential`, with the current moments as a 1x1 convolution."""
        channels = self.code_shape[0]
        colour = nn.Conv2d(channels, channels, 1).to(self.codes.mean)
        with torch.no_grad():
            colour.weight.copy_(self.codes.factor[:, :, None, None])
            cast(Tensor, colour.bias).copy_(self.codes.mean)
        return nn.Sequential(nn.Unflatten(1, self.code_shape), self.latent, colour, self.decoder)
