"""Networks of FastGAN, Liu et al. 2021 (arXiv 2101.04775), for training on a hundred images up to 1024 pixels a side.

A skip-layer excitation scales the channels of a high resolution by gates that a low resolution computes. The critic has
decoders: what it keeps of a real image must suffice to reconstruct the image, so it cannot look at a detail alone.

The layers are those of the authors' code, which has more than the paper: a second, smaller image of the generator, a
branch of the critic for it, and a third decoder. Parameters with `width` 64 and 3 channels, latents of 256:

    pixels     generator   discriminator, with decoders of 3,139,488
    256       29,127,846      11,526,160
    512       29,174,392      11,526,496
    1024      29,176,512      11,528,192

Sides are a base of 4 to 7 pixels, doubled up to eight times: 64, 80, 96, 112, 128, 160, ..., and rectangles, such as
96x128. "Level" counts the doublings. The base takes the place of the authors' 4 pixels in the start and in the gates.

Differences from the authors' code: tanh at all sizes, where theirs omits it at 256 and 512 pixels; stored noise outside
training; a quarter of its own for each image. Their code has no sizes below 256; here the networks end at an earlier
level, and the smaller image has half of the sides.
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import glu, interpolate, leaky_relu

from gans.networks.layers import Size, channels_last, doublings, image_channels, image_size
from gans.networks.spectral import normalise
from gans.networks.strided import double_and_convolve

# Channels at each level in multiples of `width`: at 4, 8, 16, ... 1024 pixels.
GENERATOR = (16, 8, 4, 2, 2, 1, 1 / 2, 1 / 4, 1 / 8)
CRITIC = (16, 16, 8, 4, 2, 1, 1 / 2, 1 / 4, 1 / 8)  # one level further out: at 2, 4, 8, ... 512 pixels
DECODER = (4, 2, 2, 1)  # in multiples of half the width, after each doubling
SMALL = 5  # level of the largest second image, 128 pixels
CRITIC_FROM = 6  # level at which the critic's blocks begin, 256 pixels
GATED = 4  # levels between both ends of the generator's gates
HIGHEST = 8


def shape(size: Size) -> tuple[tuple[int, int], int]:
    """Return the base `(h, w)`, and how often it is doubled to `size`.

    Raises:
        ValueError: if `size` is no such multiple, or smaller than 16 pixels.
    """
    height, width = sides = image_size(size)
    levels = min(HIGHEST, doublings(sides))
    factor = 2**levels
    if min(sides) < 16 or height % factor or width % factor:
        near = nearest(sides)
        raise ValueError(
            f"size is {height}x{width}; FastGAN needs at least 16 pixels a side and multiples of {factor}, "
            f"such as {near[0]}x{near[1]}"
        )
    return (height // factor, width // factor), levels


def nearest(sides: tuple[int, int]) -> tuple[int, int]:
    """Return the size that FastGAN can make next to `sides`: the shorter one is rounded first."""
    least = max(16, min(sides))
    factor = 2 ** min(HIGHEST, doublings((least, least)))
    least = round(least / factor) * factor
    factor = 2 ** min(HIGHEST, doublings((least, least)))
    height, width = (max(least, round(side / factor) * factor) for side in sides)
    return height, width


def channels_of(multiples: tuple[float, ...], width: int) -> list[int]:
    """Return `multiples` of `width`, at least 1 each.

    Raises:
        ValueError: if `width` is not positive.
    """
    if width < 1:
        raise ValueError(f"width is {width}; expected at least 1")
    return [max(1, int(multiple * width)) for multiple in multiples]


def small_level(levels: int) -> int:
    """Return the level of the generator's second image, which the decoders' images have too."""
    return min(SMALL, max(2, levels - 1))


def convolution(
    inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, padding: int = 0
) -> nn.Conv2d:
    """Return a spectrally normalised convolution without bias, with a weight of N(0, 0.02)."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    nn.init.normal_(layer.weight, std=0.02)
    normalise(layer)
    return layer


def norm(channels: int) -> nn.BatchNorm2d:
    """Return BatchNorm with a gain of N(1, 0.02)."""
    layer = nn.BatchNorm2d(channels)
    nn.init.normal_(layer.weight, 1, 0.02)
    return layer


class Start(nn.Conv2d):
    """Latents `(N, inputs)` to maps `(N, outputs, h, w)`: a transposed convolution of one pixel, spectrally normalised.

    The weight is `(outputs, inputs, h, w)`, as in a convolution, so that its first axis is that of the outputs.
    """

    def __init__(self, inputs: int, outputs: int, base: tuple[int, int]) -> None:
        super().__init__(inputs, outputs, base, bias=False)
        nn.init.normal_(self.weight, std=0.02)
        normalise(self)

    def forward(self, z: Tensor) -> Tensor:
        """Return maps for latents."""
        maps = z @ self.weight.transpose(0, 1).flatten(1)
        return maps.view(-1, self.out_channels, *self.kernel_size)


class Gate(nn.Sequential):
    """Gates `(N, outputs, 1, 1)` in (0, 1) of maps at a lower resolution, see section 3.1 of the paper.

    Args:
        inputs: channels of these maps.
        outputs: channels of the maps that the gates multiply.
        base: side of a pooled map.
        level: of the maps that are pooled to it.
    """

    def __init__(self, inputs: int, outputs: int, base: tuple[int, int], level: int) -> None:
        first, second = convolution(inputs, outputs, base), convolution(outputs, outputs, 1)
        pool = nn.AvgPool2d(2**level) if level else nn.Identity()
        super().__init__(pool, first, nn.SiLU(), second, nn.Sigmoid())


# -- the generator -----------------------------------------------------------------------------------------------------


class UpBlock(nn.Module):
    """Nearest-neighbour doubling, a 3x3 convolution, BatchNorm and a gated linear unit."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = convolution(inputs, 2 * outputs, 3, padding=1)
        self.norm = norm(2 * outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """Return `(N, outputs, 2 h, 2 w)` for `(N, inputs, h, w)`."""
        return glu(self.norm(double_and_convolve(self.convolution, maps)), 1)


class NoisyUpBlock(nn.Module):
    """An `UpBlock` with noise before its BatchNorm, and the same again without doubling."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution1, self.noise1 = convolution(inputs, 2 * outputs, 3, padding=1), Noise()
        self.convolution2, self.noise2 = convolution(outputs, 2 * outputs, 3, padding=1), Noise()
        self.norm1, self.norm2 = norm(2 * outputs), norm(2 * outputs)

    def forward(self, maps: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return `(N, outputs, 2 h, 2 w)` for `(N, inputs, h, w)` and noise `(N or 1, 1, 2 h, 2 w)`."""
        maps = self.noise1(double_and_convolve(self.convolution1, maps), first)
        maps = self.noise2(self.convolution2(glu(self.norm1(maps), 1)), second)
        return glu(self.norm2(maps), 1)


class Noise(nn.Module):
    """Noise on all channels alike, times a learned weight that begins at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, maps: Tensor, noise: Tensor) -> Tensor:
        """Return `maps` with `noise` `(N or 1, 1, h, w)`."""
        return maps + (self.weight * noise).to(maps.dtype)


class Generator(nn.Module):
    """Latents `(N, latent_dim)` to images `(N, channels, height, width)` in [-1, 1].

    Args:
        latent_dim: length of a latent.
        size: image side, or (height, width), see the top of this file.
        channels: 1, 3 or 4.
        width: channels at 128 pixels, from which those of all levels follow.

    Attributes:
        noise_dim: numbers of noise for an image, those of all layers.
        noise: the stored noise `(noise_dim,)`, N(0, 1).
        small: height and width of the second image.
    """

    noise: Tensor

    def __init__(self, latent_dim: int, size: Size, channels: int, width: int) -> None:
        super().__init__()
        base, levels = shape(size)
        hidden = channels_of(GENERATOR, width)
        self.start, self.start_norm = Start(latent_dim, 2 * hidden[0], base), norm(2 * hidden[0])
        self.blocks, self.gates = nn.ModuleList(), nn.ModuleDict()
        for level in range(1, levels + 1):
            kind = NoisyUpBlock if level % 2 else UpBlock
            self.blocks.append(kind(hidden[level - 1], hidden[level]))
            if GATED <= level < HIGHEST:
                low = level - GATED
                self.gates[str(level)] = Gate(hidden[low], hidden[level], base, low)
        self.small_level = small_level(levels)
        self.to_small = convolution(hidden[self.small_level], image_channels(channels), 1)
        self.to_image = convolution(hidden[levels], channels, 3, padding=1)
        self.small = (base[0] << self.small_level, base[1] << self.small_level)
        self.noise_sides = [(base[0] << level, base[1] << level) for level in range(1, levels + 1, 2) for _ in range(2)]
        self.noise_dim = sum(height * breadth for height, breadth in self.noise_sides)
        self.register_buffer("noise", torch.randn(self.noise_dim))
        channels_last(self)

    def forward(self, z: Tensor, noise: Tensor | None = None, both: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Return images for `z` `(N, latent_dim)`.

        Args:
            z: latents.
            noise: N(0, 1), `(N, noise_dim)`; None takes the stored noise, the same for all images.
            both: also return the smaller second images `(N, channels, *small)`.
        """
        drawn = self.noise_maps(self.noise[None] if noise is None else noise)
        maps = [glu(self.start_norm(self.start(z)), 1)]
        for level, block in enumerate(self.blocks, 1):
            found = block(maps[-1], next(drawn), next(drawn)) if level % 2 else block(maps[-1])
            if str(level) in self.gates:
                found = found * self.gates[str(level)](maps[level - GATED])
            maps.append(found)
        images = self.to_image(maps[-1]).tanh().contiguous()
        return (images, self.to_small(maps[self.small_level]).tanh().contiguous()) if both else images

    def noise_maps(self, noise: Tensor) -> Iterator[Tensor]:
        """Yield the noise `(N, 1, h, w)` of each layer, out of that of all layers `(N, noise_dim)`."""
        parts = torch.split(noise, [height * breadth for height, breadth in self.noise_sides], 1)
        for part, sides in zip(parts, self.noise_sides, strict=True):
            yield part.view(-1, 1, *sides)


# -- the discriminator -------------------------------------------------------------------------------------------------


def down(inputs: int, outputs: int) -> list[nn.Module]:
    """Return the layers of a 4x4 convolution that halves maps, BatchNorm and leaky ReLU."""
    return [convolution(inputs, outputs, 4, 2, 1), norm(outputs), nn.LeakyReLU(0.2, inplace=True)]


class DownBlock(nn.Module):
    """Halve maps by two convolutions, and by pooling and a 1x1 convolution; return the mean of both."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.main = nn.Sequential(*down(inputs, outputs), convolution(outputs, outputs, 3, padding=1), norm(outputs))
        self.direct = nn.Sequential(nn.AvgPool2d(2), convolution(inputs, outputs, 1), norm(outputs))

    def forward(self, maps: Tensor) -> Tensor:
        """Return `(N, outputs, h / 2, w / 2)` for `(N, inputs, h, w)`."""
        return (leaky_relu(self.main(maps), 0.2) + leaky_relu(self.direct(maps), 0.2)) / 2


class Decoder(nn.Sequential):
    """Maps `(N, inputs, h, w)` to images `(N, channels, h * 2^doublings, w * 2^doublings)` in [-1, 1]."""

    def __init__(self, inputs: int, channels: int, width: int, doublings: int) -> None:
        hidden = [inputs, *channels_of(DECODER[:doublings], max(1, width // 2))]
        blocks = [UpBlock(before, after) for before, after in pairwise(hidden)]
        super().__init__(*blocks, convolution(hidden[-1], channels, 3, padding=1), nn.Tanh())


class Discriminator(nn.Module):
    """Images `(N, channels, height, width)` to logits `(N, K)`, and to reconstructions.

    The first logits are of patches of the image, the others of patches of its smaller version. Their number K depends
    on the base alone: 25 and 25 at 256 pixels.

    Args:
        size: image side, or (height, width), see the top of this file.
        channels: 1, 3 or 4.
        width: channels of the map of 64 pixels, from which those of all levels follow.
    """

    def __init__(self, size: Size, channels: int, width: int) -> None:
        super().__init__()
        base, levels = shape(size)
        hidden = channels_of(CRITIC, width)
        self.size, self.level = image_size(size), small_level(levels)
        self.small = (base[0] << self.level, base[1] << self.level)
        first = min(levels, CRITIC_FROM)
        outer = levels - first  # halvings before the blocks
        if outer:
            entry = convolution(image_channels(channels), hidden[levels], 4, 2, 1)
        else:
            entry = convolution(image_channels(channels), hidden[levels + 1], 3, padding=1)
        layers: list[nn.Module] = [entry, nn.LeakyReLU(0.2, inplace=True)]
        for level in range(levels, first + 1, -1):
            layers += down(hidden[level], hidden[level - 1])
        self.entry = nn.Sequential(*layers)
        self.blocks, self.gates = nn.ModuleList(), nn.ModuleDict()
        for level in range(first - 1, 0, -1):
            self.blocks.append(DownBlock(hidden[level + 2], hidden[level + 1]))
            if level + 3 <= first:
                self.gates[str(level)] = Gate(hidden[level + 4], hidden[level + 1], base, level + 3)
        self.first = first
        self.head = nn.Sequential(
            convolution(hidden[2], hidden[1], 1),
            norm(hidden[1]),
            nn.LeakyReLU(0.2, inplace=True),
            convolution(hidden[1], 1, 4),
        )
        layers = [convolution(channels, hidden[self.level + 1], 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        for level in range(self.level - 1, 1, -1):
            layers += down(hidden[level + 2], hidden[level + 1])
        self.small_branch, self.small_head = nn.Sequential(*layers), convolution(hidden[3], 1, 4)
        inputs = {"whole": hidden[2], "quarter": hidden[3], "small": hidden[3]}
        self.decoders = nn.ModuleDict(
            {name: Decoder(count, channels, width, self.level - 1) for name, count in inputs.items()}
        )
        channels_last(self)

    def forward(
        self, images: Tensor, small: Tensor | None = None, quarter: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return logits `(N, K)`, higher for realistic images, and with `quarter` reconstructions besides.

        Args:
            images: `(N, C, H, W)`.
            small: the smaller images `(N, C, *small)`; None takes every n-th pixel of `images`.
            quarter: which quarter of each image the second decoder reconstructs, `(N,)`, see `quarters`.

        Returns:
            The logits, and the reconstructions `(N, 3, C, *small)`: of the image from the last maps, of its quarter
            from the same quarter of the maps before them, and of the image from the maps of the smaller image.
        """
        if images.shape[2:] != self.size:
            raise ValueError(f"images have the size {tuple(images.shape[2:])}; expected {self.size}")
        maps = {self.first: self.entry(images)}
        for level, block in zip(range(self.first - 1, 0, -1), self.blocks, strict=True):
            found = block(maps[level + 1])
            if str(level) in self.gates:
                found = found * self.gates[str(level)](maps[level + 3])
            maps[level] = found
        shrunk = self.small_branch(interpolate(images, self.small) if small is None else small)
        logits = torch.cat([self.head(maps[1]).flatten(1), self.small_head(shrunk).flatten(1)], 1)
        if quarter is None:
            return logits
        decoded = {"whole": maps[1], "quarter": quarters(maps[2], quarter), "small": shrunk}
        return logits, torch.stack([self.decoders[name](part) for name, part in decoded.items()], 1)

    def targets(self, images: Tensor, quarter: Tensor) -> Tensor:
        """Return what the decoders should make of images `(N, C, H, W)`: `(N, 3, C, *small)`, see `forward`."""
        whole, part = interpolate(images, self.small), interpolate(quarters(images, quarter), self.small)
        return torch.stack([whole, part, whole], 1)


def quarters(maps: Tensor, which: Tensor) -> Tensor:
    """Return a quarter `(N, C, h / 2, w / 2)` of each of `maps` `(N, C, h, w)`.

    Args:
        maps: maps or images.
        which: `(N,)`; 0 and 1 are the upper left and right quarters, 2 and 3 the lower ones.
    """
    height, width = maps.shape[2] // 2, maps.shape[3] // 2
    parts = maps.reshape(*maps.shape[:2], 2, height, 2, width).movedim((2, 4), (1, 2)).flatten(1, 2)
    return parts[torch.arange(len(maps), device=maps.device), which]
