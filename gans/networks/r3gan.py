"""Residual networks without tricks: R3GAN, Huang et al. 2024 (arXiv 2501.05441), for any image size.

Both players are stacks of one residual block, without any normalisation: 1x1 convolution, grouped 3x3, 1x1. Fix-up
initialisation (Zhang et al. 2019, arXiv 1901.09321) takes the place of normalisation: every branch starts at zero, so
that a network of any depth starts as its resampling and 1x1 convolutions alone. To be trained with
`losses.Relativistic` and `penalties.zero_centered` on both real and fake images; see the paper's schedules in
`gans.engine.schedules`.

The generator's image is a linear output as in the paper, not a tanh: nothing saturates, and what leaves [-1, 1] is
clipped for pictures only. The discriminator sees it as it is.

Resampling pads with zeros and class embeddings start as in the authors' code, so that weights copied from it give the
same images and logits here.
"""

from itertools import pairwise
from typing import TypedDict, TypeVar

import torch
from torch import Tensor, nn
from torchvision.transforms.functional import center_crop

from gans.networks.conditional import check_labels
from gans.networks.layers import Size, doublings, image_channels, image_size
from gans.networks.resample import downsample, upsample


class Plan(TypedDict):
    """The numbers that both players are built from, see `Generator`."""

    width: int
    max_width: int
    blocks: int
    group_width: int
    expansion: int


# The paper's, by data set: 32, 64 and 256 pixels, and 32 or 64 pixels with 1000 classes.
CIFAR10 = Plan(width=768, max_width=768, blocks=2, group_width=16, expansion=2)
FFHQ64 = Plan(width=384, max_width=768, blocks=2, group_width=16, expansion=2)
FFHQ256 = Plan(width=96, max_width=768, blocks=2, group_width=16, expansion=2)
IMAGENET = Plan(width=1536, max_width=1536, blocks=2, group_width=32, expansion=2)
# Ours, for a processor without a GPU: 60 thousand parameters a player at 32 pixels.
SMALL = Plan(width=8, max_width=128, blocks=1, group_width=16, expansion=2)

SLOPE = 0.2  # of the leaky ReLU


def widths(size: tuple[int, int], width: int, max_width: int) -> list[int]:
    """Return the channels of every stage from the coarsest to the finest: `width` at the finest, doubling inwards.

    Raises:
        ValueError: if a side of `size` is under 8 pixels or a width is not positive.
    """
    if min(size) < 8:
        raise ValueError(f"size is {size[0]}x{size[1]}; R3GAN needs at least 8 pixels a side")
    if width < 1 or max_width < width:
        raise ValueError(f"width is {width} and max_width {max_width}; expected 1 <= width <= max_width")
    return [min(width * 2**level, max_width) for level in range(doublings(size) + 1)][::-1]


Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


@torch.no_grad()
def normal(layer: Layer, gain: float = 1.0) -> Layer:
    """Return `layer` with weights N(0, gain / sqrt(fan in)), which keep the variance if gain is 1, and biases of 0."""
    layer.weight.normal_().mul_(gain * layer.weight[0].numel() ** -0.5)
    if layer.bias is not None:
        layer.bias.zero_()
    return layer


class Block(nn.Module):
    """Features `(N, width, H, W)` plus a branch of them: the identity until its first update.

    Args:
        width: channels of the features.
        group_width: channels of each group of the 3x3 convolution; their number is what the paper calls cardinality.
        expansion: channels inside the branch, in multiples of `width`.
        depth: residual branches of the whole network, which share Fix-up's bound on what an update changes.
    """

    def __init__(self, width: int, group_width: int, expansion: int, depth: int) -> None:
        super().__init__()
        inner = width * expansion
        if group_width < 1 or inner < 1 or inner % group_width:
            raise ValueError(f"group_width is {group_width}; expected a divisor of width x expansion = {inner}")
        # He et al. 2015 for a leaky ReLU, times depth^(-1 / (2m - 2)) for the m = 3 convolutions of a branch.
        gain = (2 / (1 + SLOPE**2)) ** 0.5 * depth**-0.25
        self.branch = nn.Sequential(
            normal(nn.Conv2d(width, inner, 1), gain),
            nn.LeakyReLU(SLOPE, inplace=True),
            normal(nn.Conv2d(inner, inner, 3, padding=1, groups=inner // group_width), gain),
            nn.LeakyReLU(SLOPE, inplace=True),
            normal(nn.Conv2d(inner, width, 1, bias=False), 0),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the shape of the input."""
        changed: Tensor = features + self.branch(features)
        return changed


class Up(nn.Module):
    """Features `(N, inputs, H, W)` to `(N, outputs, 2 H, 2 W)`; channels are mixed where there are fewer pixels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mix = nn.Identity() if inputs == outputs else normal(nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, features: Tensor) -> Tensor:
        """Return features of twice the sides."""
        return upsample(self.mix(features), "zeros")


class Down(nn.Module):
    """Features `(N, inputs, H, W)` to `(N, outputs, H // 2, W // 2)`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mix = nn.Identity() if inputs == outputs else normal(nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, features: Tensor) -> Tensor:
        """Return features of half the sides."""
        mixed: Tensor = self.mix(downsample(features, "zeros"))
        return mixed


class Generator(nn.Module):
    """Latents `(N, latent_dim)` to images `(N, channels, height, width)`, around [-1, 1] but not bounded to it.

    Args:
        latent_dim: length of a latent; 64 in the paper.
        size: image side, or (height, width), from 8 pixels.
        channels: 1, 3 or 4.
        width: channels of the finest stage; each coarser one has twice as many.
        max_width: the most channels of a stage.
        blocks: residual blocks of every stage.
        group_width: channels of each group of the 3x3 convolutions.
        expansion: channels inside a block, in multiples of its width.
        num_classes: labels to condition on, by an embedding beside the latent; 0 for none.
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
        layers += [normal(nn.Conv2d(width, image_channels(channels), 1, bias=False))]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images `(N, C, H, W)` for `z` `(N, latent_dim)` and, if conditional, `labels` `(N,)`.

        Raises:
            ValueError: if labels are missing, not expected, or no classes of the network.
        """
        embedded = embed(self.embedding, labels, z.shape[0])
        inputs = z if embedded is None else torch.cat([z, embedded], 1)
        images: Tensor = self.layers(self.project(inputs)[:, :, None, None] * self.basis)
        if images.shape[-2:] == self.size:
            return images
        cropped: Tensor = center_crop(images, list(self.size))
        return cropped


class Discriminator(nn.Module):
    """Images `(N, channels, height, width)` to logits `(N,)`, the generator in reverse.

    Args:
        size: image side, or (height, width), from 8 pixels.
        channels: 1, 3 or 4.
        width: channels of the finest stage; each coarser one has twice as many.
        max_width: the most channels of a stage.
        blocks: residual blocks of every stage.
        group_width: channels of each group of the 3x3 convolutions.
        expansion: channels inside a block, in multiples of its width.
        num_classes: labels to condition on: the logit is the inner product of the features with the label's embedding,
            as in Miyato and Koyama 2018 (arXiv 1802.05637); 0 for none.
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
        layers: list[nn.Module] = [normal(nn.Conv2d(image_channels(channels), width, 1, bias=False))]
        for inputs, outputs in pairwise(hidden):
            layers += [*stage(inputs, blocks, group_width, expansion, len(hidden)), Down(inputs, outputs)]
        layers += stage(hidden[-1], blocks, group_width, expansion, len(hidden))
        # The mirror of the generator's basis: each channel against its own picture.
        scale, deepest = 2 ** (len(hidden) - 1), hidden[-1]
        base = (height // scale, breadth // scale)
        layers += [normal(nn.Conv2d(deepest, deepest, base, groups=deepest, bias=False))]
        self.layers = nn.Sequential(*layers)
        self.embedding = embedding(num_classes, deepest, num_classes * deepest)
        self.project = normal(nn.Linear(deepest, 1 if self.embedding is None else deepest, bias=False))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits `(N,)`, higher for what looks real (as its label, for `labels` `(N,)`, if conditional).

        Raises:
            ValueError: if labels are missing, not expected, or no classes of the network.
        """
        embedded = embed(self.embedding, labels, len(images))
        features: Tensor = self.layers(images)
        features = self.project(features.view(len(images), -1))
        logits = features.squeeze(1) if embedded is None else (features * embedded).sum(1)
        return logits


def stage(width: int, blocks: int, group_width: int, expansion: int, stages: int) -> list[nn.Module]:
    """Return the residual blocks of one stage of a network of `stages`.

    Raises:
        ValueError: if there are none.
    """
    if blocks < 1:
        raise ValueError(f"blocks is {blocks}; expected at least 1 a stage")
    return [Block(width, group_width, expansion, blocks * stages) for _ in range(blocks)]


def embedding(num_classes: int, length: int, fan_in: int) -> nn.Embedding | None:
    """Return vectors N(0, 1 / `fan_in`), that variance, for `num_classes` labels; None for no labels.

    The authors' embedding is a linear layer of the one-hot label, initialised by its fan-in, which is the number of
    classes. The discriminator's is divided by the root of its length besides.

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
    """Return the vectors `(N, length)` of `labels` `(N,)`, or None from a network without labels.

    Raises:
        ValueError: if the labels are not `count` classes of the network, or not None where it has none.
    """
    check_labels(labels, count, 0 if vectors is None else vectors.num_embeddings)
    embedded: Tensor | None = None if vectors is None else vectors(labels)
    return embedded
