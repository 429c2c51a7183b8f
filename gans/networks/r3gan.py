"""Residual networks of R3GAN, Huang et al. 2024 (arXiv 2501.05441), for any image size.

Both networks are stacks of one residual block without normalisation: 1x1 convolution, grouped 3x3, 1x1. Instead, Fix-up
initialisation (Zhang et al. 2019, arXiv 1901.09321) starts every branch at zero. Train them with `losses.Relativistic`
and `penalties.zero_centered` on both real and fake images. The paper's schedules are in `gans.engine.schedules`.

As in the paper, the generator's output is linear, without tanh, so it does not saturate. Values outside [-1, 1] are
clipped only when images are saved. The discriminator receives the unclipped images.

Zero padding in resampling and the initialisation of class embeddings follow the authors' code. With weights copied
from it the images and logits are the same.
"""

from itertools import pairwise
from typing import TypedDict, TypeVar

import torch
from torch import Tensor, nn
from torchvision.transforms.functional import center_crop

from gans.networks.conditional import check_labels
from gans.networks.grouped import GroupedConv2d
from gans.networks.layers import Size, doublings, image_size, map_channels
from gans.networks.resample import downsample, upsample


class Plan(TypedDict):
    """Arguments of both networks, see `Generator`."""

    width: int
    max_width: int
    blocks: int
    group_width: int
    expansion: int


# The paper's settings by data set. IMAGENET is for 32 or 64 pixels with 1000 classes.
CIFAR10 = Plan(width=768, max_width=768, blocks=2, group_width=16, expansion=2)
FFHQ64 = Plan(width=384, max_width=768, blocks=2, group_width=16, expansion=2)
FFHQ256 = Plan(width=96, max_width=768, blocks=2, group_width=16, expansion=2)
IMAGENET = Plan(width=1536, max_width=1536, blocks=2, group_width=32, expansion=2)
# Not in the paper: a small model for training on a CPU, with 60 thousand parameters per network at 32 pixels.
SMALL = Plan(width=8, max_width=128, blocks=1, group_width=16, expansion=2)

SLOPE = 0.2  # negative slope of the leaky ReLU


def widths(size: tuple[int, int], width: int, max_width: int) -> list[int]:
    """Return the channels of every stage, lowest resolution first: `width` at the highest, doubled at each lower one.

    Raises:
        ValueError: if a side of `size` is shorter than 8 pixels, or a width is not positive.
    """
    if min(size) < 8:
        raise ValueError(f"size is {size[0]}x{size[1]}; R3GAN needs at least 8 pixels a side")
    if width < 1 or max_width < width:
        raise ValueError(f"width is {width} and max_width {max_width}; expected 1 <= width <= max_width")
    return [min(width * 2**level, max_width) for level in range(doublings(size) + 1)][::-1]


Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


@torch.no_grad()
def normal(layer: Layer, gain: float = 1.0) -> Layer:
    """Return `layer` with weights N(0, gain / sqrt(fan in)) and biases of 0. A gain of 1 preserves the variance."""
    layer.weight.normal_().mul_(gain * layer.weight[0].numel() ** -0.5)
    if layer.bias is not None:
        layer.bias.zero_()
    return layer


class Block(nn.Module):
    """Residual block for features `(N, width, H, W)`. It is the identity at initialisation.

    Args:
        width: channels of the features.
        group_width: channels per group of the 3x3 convolution; the number of groups is the paper's cardinality.
        expansion: channels inside the branch, in multiples of `width`.
        depth: number of residual branches in the whole network, from which Fix-up computes the scale of the weights.

    Raises:
        ValueError: if `group_width` does not divide the channels inside the branch.
    """

    def __init__(self, width: int, group_width: int, expansion: int, depth: int) -> None:
        super().__init__()
        inner = width * expansion
        if group_width < 1 or inner < 1 or inner % group_width:
            raise ValueError(f"group_width is {group_width}; expected a divisor of width x expansion = {inner}")
        # The gain of He et al. 2015 for a leaky ReLU, times depth^(-1 / (2m - 2)) with m = 3 convolutions per branch.
        gain = (2 / (1 + SLOPE**2)) ** 0.5 * depth**-0.25
        self.branch = nn.Sequential(
            normal(nn.Conv2d(width, inner, 1), gain),
            nn.LeakyReLU(SLOPE, inplace=True),
            normal(GroupedConv2d(inner, inner, 3, padding=1, groups=inner // group_width), gain),
            nn.LeakyReLU(SLOPE, inplace=True),
            normal(nn.Conv2d(inner, width, 1, bias=False), 0),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the shape of the input."""
        changed: Tensor = features + self.branch(features)
        return changed


class Up(nn.Module):
    """Features `(N, inputs, H, W)` to `(N, outputs, 2 H, 2 W)`: a 1x1 convolution, then upsampling."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mix = nn.Identity() if inputs == outputs else normal(nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, features: Tensor) -> Tensor:
        """Return the upsampled features."""
        return upsample(self.mix(features), "zeros")


class Down(nn.Module):
    """Features `(N, inputs, H, W)` to `(N, outputs, H // 2, W // 2)`: downsampling, then a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mix = nn.Identity() if inputs == outputs else normal(nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, features: Tensor) -> Tensor:
        """Return the downsampled features."""
        mixed: Tensor = self.mix(downsample(features, "zeros"))
        return mixed


class Generator(nn.Module):
    """Latents `(N, latent_dim)` to images `(N, channels, height, width)` with values near [-1, 1], but unbounded.

    Args:
        latent_dim: length of a latent; 64 in the paper.
        size: image side, or (height, width), at least 8 pixels.
        channels: of the images, or of other maps such as codes.
        width: channels of the stage of highest resolution, doubled at each lower one.
        max_width: maximum number of channels of a stage.
        blocks: residual blocks per stage.
        group_width: channels per group of the 3x3 convolutions.
        expansion: channels inside a block, in multiples of its width.
        num_classes: number of classes, whose embedding is concatenated with the latent; 0 means unconditional.
    """

    def __init__(
        self,
        latent_dim: int,
        size: Size,
        channels: int,
        width: int,
        max_width: int = 768,
        blocks: int = 2,
        group_width: int = 16,
        expansion: int = 2,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        self.size = image_size(size)
        hidden = widths(self.size, width, max_width)
        scale = 2 ** (len(hidden) - 1)
        base = (-(-self.size[0] // scale), -(-self.size[1] // scale))
        self.embedding = embedding(num_classes, latent_dim, num_classes)
        inputs = latent_dim if self.embedding is None else 2 * latent_dim
        self.project = normal(nn.Linear(inputs, hidden[0], bias=False))
        self.basis = nn.Parameter(torch.randn(hidden[0], *base))
        layers: list[nn.Module] = stage(hidden[0], blocks, group_width, expansion, len(hidden))
        for inputs, outputs in pairwise(hidden):
            layers += [Up(inputs, outputs), *stage(outputs, blocks, group_width, expansion, len(hidden))]
        layers += [normal(nn.Conv2d(width, map_channels(channels), 1, bias=False))]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images `(N, C, H, W)` for `z` `(N, latent_dim)` and, if class-conditional, `labels` `(N,)`.

        Raises:
            ValueError: if labels are missing, not expected, or not classes of the network.
        """
        embedded = embed(self.embedding, labels, z.shape[0])
        inputs = z if embedded is None else torch.cat([z, embedded], 1)
        images: Tensor = self.layers(self.project(inputs)[:, :, None, None] * self.basis)
        if images.shape[-2:] == self.size:
            return images
        cropped: Tensor = center_crop(images, list(self.size))
        return cropped


class Discriminator(nn.Module):
    """Images `(N, channels, height, width)` to logits `(N,)`. It mirrors the generator.

    Args:
        size: image side, or (height, width), at least 8 pixels.
        channels: of the images, or of other maps such as codes.
        width: channels of the stage of highest resolution, doubled at each lower one.
        max_width: maximum number of channels of a stage.
        blocks: residual blocks per stage.
        group_width: channels per group of the 3x3 convolutions.
        expansion: channels inside a block, in multiples of its width.
        num_classes: number of classes; 0 means unconditional. A class-conditional logit is the inner product of the
            features with the class embedding, as in Miyato and Koyama 2018 (arXiv 1802.05637).
    """

    def __init__(
        self,
        size: Size,
        channels: int,
        width: int,
        max_width: int = 768,
        blocks: int = 2,
        group_width: int = 16,
        expansion: int = 2,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        height, breadth = image_size(size)
        hidden = widths((height, breadth), width, max_width)[::-1]
        layers: list[nn.Module] = [normal(nn.Conv2d(map_channels(channels), width, 1, bias=False))]
        for inputs, outputs in pairwise(hidden):
            layers += [*stage(inputs, blocks, group_width, expansion, len(hidden)), Down(inputs, outputs)]
        layers += stage(hidden[-1], blocks, group_width, expansion, len(hidden))
        # It mirrors the generator's basis: a depthwise convolution over the whole map.
        scale, deepest = 2 ** (len(hidden) - 1), hidden[-1]
        base = (height // scale, breadth // scale)
        layers += [normal(GroupedConv2d(deepest, deepest, base, groups=deepest, bias=False))]
        self.layers = nn.Sequential(*layers)
        self.embedding = embedding(num_classes, deepest, num_classes * deepest)
        self.project = normal(nn.Linear(deepest, 1 if self.embedding is None else deepest, bias=False))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits `(N,)`, higher for realistic images (of the classes `labels` `(N,)`, if class-conditional).

        Raises:
            ValueError: if labels are missing, not expected, or not classes of the network.
        """
        embedded = embed(self.embedding, labels, len(images))
        features: Tensor = self.layers(images)
        features = self.project(features.view(len(images), -1))
        logits = features.squeeze(1) if embedded is None else (features * embedded).sum(1)
        return logits


def stage(width: int, blocks: int, group_width: int, expansion: int, stages: int) -> list[nn.Module]:
    """Return the residual blocks of one stage of a network with `stages` stages.

    Raises:
        ValueError: if `blocks` is below 1.
    """
    if blocks < 1:
        raise ValueError(f"blocks is {blocks}; expected at least 1 a stage")
    return [Block(width, group_width, expansion, blocks * stages) for _ in range(blocks)]


def embedding(num_classes: int, length: int, fan_in: int) -> nn.Embedding | None:
    """Return class embeddings of variance 1 / `fan_in`, or None for 0 classes.

    In the authors' code the embedding is a linear layer on one-hot labels, so its fan-in is the number of classes. The
    discriminator also divides it by the square root of its length.

    Raises:
        ValueError: if `num_classes` is negative.
    """
    if num_classes < 0:
        raise ValueError(f"num_classes is {num_classes}; expected 0 (no labels) or more")
    if num_classes == 0:
        return None
    vectors = nn.Embedding(num_classes, length)
    nn.init.normal_(vectors.weight, std=fan_in**-0.5)
    return vectors


def embed(vectors: nn.Embedding | None, labels: Tensor | None, count: int) -> Tensor | None:
    """Return the embeddings `(N, length)` of `labels` `(N,)`, or None in an unconditional network.

    Raises:
        ValueError: if the labels are not `count` classes of the network, or not None in an unconditional network.
    """
    check_labels(labels, count, 0 if vectors is None else vectors.num_embeddings)
    embedded: Tensor | None = None if vectors is None else vectors(labels)
    return embedded
