"""Residual networks of WGAN-GP and SNGAN (Gulrajani et al. 2017, arXiv 1704.00028; Miyato et al. 2018, 1802.05957).

They support any image size, as `gans.networks.dcgan` does. The table has SNGAN's networks for 3 channels and latents of
128. `growth` and `shape` return these options for each size:

    pixels  generator            discriminator                                          parameters of each
    32      width 256, growth 1  width 128, growth 1, smallest 8, flat_blocks 2    4,276,739   1,053,825
    48      width 64             width 64, smallest 3                              4,878,083  10,141,441
    64      width 64             width 64, smallest 2, flat_blocks 0              12,220,675  10,141,441
    128     width 64             width 64                                         32,150,787  29,017,857

SAGAN's networks (Zhang et al. 2019, arXiv 1805.08318) have `attention=(32,)`, classes and spectral normalisation in
both networks. WGAN-GP's critic has `pool="mean"` and no spectral normalisation.

`blocks="mimicry"` gives the blocks of Lee and Town 2020 (Mimicry, arXiv 2005.02494), whose code has published weights.
Its generator upsamples bilinearly. In its discriminator the ReLU before a block acts on the shortcut's input too.

The networks use the `channels_last` memory format, which makes a step on a CPU 20 to 25 % faster. The images have the
default format.
"""

from itertools import pairwise
from math import prod
from typing import Literal, TypedDict, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, relu
from torchvision.transforms.functional import center_crop

from gans.networks.attention import SelfAttention, attended
from gans.networks.conditional import Classified, ConditionalBatchNorm2d, Embedded, Head, check_labels, make_head
from gans.networks.layers import Size, channels_last, doublings, image_channels, image_size
from gans.networks.minibatch import deviation
from gans.networks.resample import upsample
from gans.networks.spectral import xavier
from gans.networks.strided import convolve_and_pool, double_and_convolve

Blocks = Literal["authors", "mimicry"]


class Shape(TypedDict):
    """Arguments of a discriminator that depend on the image size."""

    growth: int
    smallest: int
    flat_blocks: int


def growth(size: Size) -> int:
    """Return the generator's `growth`: 1 up to 32 pixels, as in the papers' networks for CIFAR-10, else 2."""
    return 1 if min(image_size(size)) <= 32 else 2


# The paper's shapes by the shorter side of the image. Larger images than 128 pixels use the shape for 128.
SHAPES = {
    32: Shape(growth=1, smallest=8, flat_blocks=2),
    48: Shape(growth=2, smallest=3, flat_blocks=1),
    64: Shape(growth=2, smallest=2, flat_blocks=0),
    128: Shape(growth=2, smallest=4, flat_blocks=1),
}


def shape(size: Size) -> Shape:
    """Return the discriminator's shape for the paper's next larger size."""
    side = min(image_size(size))
    return SHAPES[next((limit for limit in SHAPES if side <= limit), 128)]


def widths(size: tuple[int, int], width: int, growth: int, levels: int) -> list[int]:
    """Return the channels of `levels` levels, the highest resolution first: `width` times powers of `growth`.

    The maximum is 16 x `width`.

    Raises:
        ValueError: if a side of `size` is shorter than 2 pixels, or `width` or `growth` is not positive.
    """
    if min(size) < 2:
        raise ValueError(f"size is {size[0]}x{size[1]}; a convolutional network needs at least 2 pixels a side")
    if width < 1 or growth < 1:
        raise ValueError(f"width is {width} and growth {growth}; expected at least 1 each")
    return [width * min(growth**level, 16) for level in range(levels)]


def convolution(inputs: int, outputs: int, side: int, spectral_norm: bool, gain: float = 1) -> nn.Conv2d:
    """Return a convolution with a `side` x `side` kernel and padding that preserves the size of its input."""
    return xavier(nn.Conv2d(inputs, outputs, side, padding=side // 2), gain, spectral_norm)


def attention_layers(follows: list[bool], channels: list[int], spectral_norm: bool) -> nn.ModuleList:
    """Return a layer for every level: self-attention where `follows` is true, else the identity."""
    levels = zip(follows, channels, strict=True)
    return nn.ModuleList(SelfAttention(width, spectral_norm) if on else nn.Identity() for on, width in levels)


def normalisation(channels: int, num_classes: int, batch_norm: bool) -> nn.Module:
    """Return BatchNorm, class-conditional if there are classes, or the identity."""
    if num_classes:
        return ConditionalBatchNorm2d(channels, num_classes)
    return nn.BatchNorm2d(channels) if batch_norm else nn.Identity()


def double(features: Tensor) -> Tensor:
    """Return features upsampled by 2 (nearest neighbour), `(N, C, 2 H, 2 W)`."""
    return interpolate(features, scale_factor=2, mode="nearest")


def check_blocks(blocks: str) -> None:
    """Raise a ValueError unless `blocks` is known."""
    if blocks not in get_args(Blocks):
        raise ValueError(f"blocks is {blocks}; expected one of {', '.join(get_args(Blocks))}")


# The first ReLU of a block is not in-place, because the shortcut may read the same features.


class GeneratorBlock(nn.Module):
    """Residual block with upsampling by 2: twice (normalisation, ReLU, 3x3 convolution), and a 1x1 shortcut.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        num_classes: number of classes for conditional BatchNorm; 0 means unconditional.
        batch_norm: use BatchNorm.
        spectral_norm: use spectral normalisation in the convolutions.
        bilinear: upsample bilinearly instead of repeating the nearest pixel.
    """

    def __init__(
        self, inputs: int, outputs: int, num_classes: int, batch_norm: bool, spectral_norm: bool, bilinear: bool
    ) -> None:
        super().__init__()
        self.bilinear = bilinear
        self.norm1 = normalisation(inputs, num_classes, batch_norm)
        self.conv1 = convolution(inputs, outputs, 3, spectral_norm, gain=2**0.5)
        self.norm2 = normalisation(outputs, num_classes, batch_norm)
        self.conv2 = convolution(outputs, outputs, 3, spectral_norm, gain=2**0.5)
        self.shortcut = convolution(inputs, outputs, 1, spectral_norm)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        """Return `(N, outputs, 2 H, 2 W)` for `(N, inputs, H, W)` and, if class-conditional, labels `(N,)`."""
        classes = () if labels is None else (labels,)
        hidden = relu(self.norm1(features, *classes))
        hidden = self.conv1(upsample(hidden)) if self.bilinear else double_and_convolve(self.conv1, hidden)
        hidden = self.conv2(relu(self.norm2(hidden, *classes), inplace=True))
        # A 1x1 convolution commutes with upsampling (and with pooling below), and is cheaper on the smaller map.
        shortcut = self.shortcut(features)
        result: Tensor = hidden + (upsample(shortcut) if self.bilinear else double(shortcut))
        return result


class DiscriminatorBlock(nn.Module):
    """Residual block: twice (ReLU, 3x3 convolution), with a 1x1 convolution as shortcut where the shape changes.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        down: downsample by average pooling over 2x2 pixels.
        first: the input is an image, so there is no ReLU before the first convolution.
        spectral_norm: use spectral normalisation in the convolutions.
        rectified: the shortcut reads the features after the ReLU that is before the first convolution.
    """

    def __init__(
        self, inputs: int, outputs: int, down: bool, first: bool, spectral_norm: bool, rectified: bool
    ) -> None:
        super().__init__()
        hidden = outputs if first else inputs
        self.first, self.down, self.rectified = first, down, rectified and not first
        self.conv1 = convolution(inputs, hidden, 3, spectral_norm, gain=2**0.5)
        self.conv2 = convolution(hidden, outputs, 3, spectral_norm, gain=2**0.5)
        changes = down or inputs != outputs
        self.shortcut: nn.Module = convolution(inputs, outputs, 1, spectral_norm) if changes else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Return `(N, outputs, H // 2, W // 2)` for `(N, inputs, H, W)`, or `(N, outputs, H, W)` unless `down`."""
        entering = features if self.first else relu(features)
        features = entering if self.rectified else features
        hidden = relu(self.conv1(entering), inplace=True)
        hidden = convolve_and_pool(self.conv2, hidden) if self.down else self.conv2(hidden)
        result: Tensor = hidden + self.shortcut(avg_pool2d(features, 2) if self.down else features)
        return result


class Generator(nn.Module):
    """Latents `(N, latent_dim)`, and classes `(N,)`, to images `(N, channels, height, width)` in [-1, 1].

    Args:
        latent_dim: length of a latent.
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        width: channels of the last hidden layer.
        growth: factor of the channels from each level to the one before, up to 16 x `width`. SNGAN uses 1 at 32 pixels.
        num_classes: number of classes for conditional BatchNorm in every block; 0 means unconditional.
        batch_norm: use BatchNorm in every hidden layer.
        spectral_norm: use spectral normalisation in every layer, as SAGAN does.
        attention: sides of the feature maps that self-attention follows, see `gans.networks.attention.attended`.
        blocks: `mimicry` upsamples bilinearly, as that library does.

    Raises:
        ValueError: if there are classes, but no BatchNorm, or the blocks are unknown.
    """

    def __init__(
        self,
        latent_dim: int,
        size: Size,
        channels: int,
        width: int,
        growth: int = 2,
        num_classes: int = 0,
        batch_norm: bool = True,
        spectral_norm: bool = False,
        attention: tuple[int, ...] = (),
        blocks: Blocks = "authors",
    ) -> None:
        super().__init__()
        check_blocks(blocks)
        if num_classes < 0 or (num_classes and not batch_norm):
            raise ValueError(f"num_classes is {num_classes}; expected 0 or more, and 0 without batch_norm")
        self.size, self.num_classes = image_size(size), num_classes
        levels = doublings(self.size)
        hidden = widths(self.size, width, growth, levels + 1)[::-1]
        scale = 2**levels
        self.base = (hidden[0], -(-self.size[0] // scale), -(-self.size[1] // scale))
        self.linear = xavier(nn.Linear(latent_dim, prod(self.base)), spectral_norm=spectral_norm)
        self.blocks = nn.ModuleList(
            GeneratorBlock(inputs, outputs, num_classes, batch_norm, spectral_norm, blocks == "mimicry")
            for inputs, outputs in pairwise(hidden)
        )
        sides = [min(self.base[1:]) * 2 ** (level + 1) for level in range(levels)]
        self.attentions = attention_layers(attended(sides, attention, self.size), hidden[1:], spectral_norm)
        self.norm = normalisation(width, 0, batch_norm)
        self.image = convolution(width, image_channels(channels), 3, spectral_norm)
        channels_last(self)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1] for `z` `(N, latent_dim)`, of classes `labels` `(N,)`.

        Raises:
            ValueError: if labels are missing, not expected, or not classes of the network. The range is checked on the
                CPU only.
        """
        check_labels(labels, z.shape[0], self.num_classes)
        features = self.linear(z).unflatten(1, self.base)
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            features = attention(block(features, labels))
        images = torch.tanh(self.image(relu(self.norm(features)))).contiguous()
        if images.shape[-2:] == self.size:
            return images
        cropped: Tensor = center_crop(images, list(self.size))
        return cropped


class Discriminator(nn.Module):
    """Images `(N, channels, height, width)`, and classes `(N,)`, to logits `(N,)`.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        width: channels of the first block.
        growth: factor of the channels from each block to the next, up to 16 x `width`; 1 for a constant width.
        smallest: smallest side after downsampling, in pixels. The image is downsampled at least once.
        flat_blocks: blocks after the last downsampling.
        pool: `sum` of the last features over all pixels, as in SNGAN, or `mean`, as in WGAN-GP.
        num_classes: number of classes; 0 means unconditional.
        head: `projection` takes the class as input, `auxiliary` (ACGAN) predicts it, `embedding` (ContraGAN, ReACGAN)
            embeds image and class in one space. Ignored without classes.
        embedding_dim: length of an embedding, of the head `embedding`.
        spectral_norm: use spectral normalisation in every layer.
        attention: sides of the feature maps that self-attention follows, see `gans.networks.attention.attended`.
        minibatch_std: group size of a `MinibatchStd` layer before the last block; 0 for none. It mixes samples.
        blocks: `mimicry` rectifies the input of shortcuts too, as that library does.
    """

    def __init__(
        self,
        size: Size,
        channels: int,
        width: int,
        growth: int = 2,
        smallest: int = 4,
        flat_blocks: int = 1,
        pool: Literal["sum", "mean"] = "sum",
        num_classes: int = 0,
        head: Head = "projection",
        embedding_dim: int = 512,
        spectral_norm: bool = True,
        attention: tuple[int, ...] = (),
        minibatch_std: int = 0,
        blocks: Blocks = "authors",
    ) -> None:
        super().__init__()
        check_blocks(blocks)
        if smallest < 1 or flat_blocks < 0 or num_classes < 0:
            given = f"smallest is {smallest}, flat_blocks {flat_blocks}, num_classes {num_classes}"
            raise ValueError(f"{given}; expected at least 1, 0 and 0")
        if pool not in ("sum", "mean"):
            raise ValueError(f"pool is {pool!r}; expected sum or mean")
        self.size, self.num_classes, self.pool = image_size(size), num_classes, pool
        halvings = doublings(self.size, smallest)
        hidden = widths(self.size, width, growth, halvings + flat_blocks)
        inputs = [image_channels(channels), *hidden[:-1]]
        inputs[-1] += minibatch_std > 0
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(*ends, level < halvings, level == 0, spectral_norm, blocks == "mimicry")
            for level, ends in enumerate(zip(inputs, hidden, strict=True))
        )
        sides = [min(self.size) >> min(level + 1, halvings) for level in range(len(hidden))]
        self.attentions = attention_layers(attended(sides, attention, self.size), hidden, spectral_norm)
        if (spread := deviation(minibatch_std)) is not None:
            self.blocks[-1] = nn.Sequential(spread, self.blocks[-1])
        self.head = make_head(hidden[-1], num_classes, head, spectral_norm, embedding_dim)
        channels_last(self)

    def features(self, images: Tensor) -> Tensor:
        """Return the pooled features `(N, C)` of images `(N, channels, H, W)`, the input of the head.

        Raises:
            ValueError: if the images have another size than the network.
        """
        if images.shape[-2:] != self.size:
            given, expected = ("x".join(map(str, size)) for size in (images.shape[-2:], self.size))
            raise ValueError(f"images are {given}; expected {expected}, the size of this discriminator")
        features = images
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            features = attention(block(features))
        pixels = relu(features).flatten(2)
        return pixels.sum(2) if self.pool == "sum" else pixels.mean(2)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor | Classified | Embedded:
        """Return logits `(N,)`, higher for realistic images. Two heads return more: `Classified` and `Embedded`.

        Args:
            images: `(N, C, H, W)`.
            labels: classes `(N,)`, required by the heads `projection` and `embedding`, and ignored by `auxiliary`.

        Raises:
            ValueError: if labels are missing, not expected, or not classes of the network. The range is checked on the
                CPU only.
        """
        output: Tensor | Classified | Embedded = self.head(self.features(images), labels)
        return output
