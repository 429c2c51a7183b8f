"""Encoder and decoder of an autoencoder, as perceptrons or DCGAN's networks, and a critic that returns its features."""

from math import prod
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from gans.networks import dcgan
from gans.networks.layers import Size, image_channels, image_size
from gans.networks.mlp import perceptron

Network = Literal["mlp", "conv"]


def check_network(network: str) -> None:
    """Check the name of an architecture.

    Raises:
        ValueError: if it is neither `mlp` nor `conv`.
    """
    if network not in ("mlp", "conv"):
        raise ValueError(f"network is {network}; expected mlp or conv")


class Encoder(nn.Module):
    """Images `(N, channels, height, width)` to codes `(N, outputs)`.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        width: channels after the first downsampling, doubled at each further one, up to 8 times. A perceptron has one
            hidden layer of 4 x `width` units.
        outputs: outputs per image: a code, or its mean and log-variance.
        network: `mlp`, or `conv`, which is DCGAN's discriminator.
        batch_norm: use BatchNorm in every hidden convolution but the first.
    """

    def __init__(
        self, size: Size, channels: int, width: int, outputs: int, network: Network = "mlp", batch_norm: bool = True
    ) -> None:
        super().__init__()
        check_network(network)
        self.outputs = outputs
        self.layers: nn.Module
        if network == "conv":
            self.layers = dcgan.Discriminator(size, channels, width, batch_norm, outputs)
        else:
            pixels = image_channels(channels) * prod(image_size(size))
            self.layers = nn.Sequential(nn.Flatten(), *perceptron([pixels, 4 * width, outputs]))

    def forward(self, images: Tensor) -> Tensor:
        """Return `(N, outputs)` for `images` `(N, C, H, W)`."""
        numbers: Tensor = self.layers(images).view(-1, self.outputs)
        return numbers


class Decoder(nn.Module):
    """Latents `(N, latent_dim)` to images `(N, channels, height, width)` in [-1, 1].

    Args:
        latent_dim: length of a latent.
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        width: channels of the last hidden layer, doubled in every layer before it, up to 8 times. A perceptron has one
            hidden layer of 4 x `width` units.
        network: `mlp`, or `conv`, which is DCGAN's generator.
    """

    def __init__(self, latent_dim: int, size: Size, channels: int, width: int, network: Network = "mlp") -> None:
        super().__init__()
        check_network(network)
        self.shape = (image_channels(channels), *image_size(size))
        self.layers: nn.Module
        if network == "conv":
            generator = dcgan.Generator(latent_dim, size, channels, width)
            generator.layers = generator.layers[:-1]  # without the final tanh
            self.layers = generator
        else:
            self.layers = perceptron([latent_dim, 4 * width, prod(self.shape)])

    def logits(self, z: Tensor) -> Tensor:
        """Return the output before tanh, `(N, C, H, W)`. Doubled, it is the logit of a pixel being 1 instead of -1.

        The image of `forward` is the mean of that distribution, because `(tanh(a) + 1) / 2 = sigmoid(2 a)`.
        """
        images: Tensor = self.layers(z).view(-1, *self.shape)
        return images

    def forward(self, z: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1] for `z` `(N, latent_dim)`."""
        return torch.tanh(self.logits(z))


class Featured(NamedTuple):
    """Output of a discriminator: logits `(N,)`, higher for realistic images, and its last hidden layer `(N, F)`."""

    logits: Tensor
    features: Tensor


class FeatureDiscriminator(nn.Module):
    """DCGAN's discriminator that also returns its last hidden layer: images to logits `(N,)` and features `(N, F)`.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        width: channels after the first downsampling, doubled at each further one, up to 8 times.
        batch_norm: use BatchNorm in every hidden layer but the first.
    """

    def __init__(self, size: Size, channels: int, width: int, batch_norm: bool = True) -> None:
        super().__init__()
        layers = dcgan.Discriminator(size, channels, width, batch_norm).layers
        self.hidden, self.last = layers[:-1], layers[-1]

    def forward(self, images: Tensor) -> Featured:
        """Return logits `(N,)`, higher for realistic images, and features `(N, F)`."""
        features = self.hidden(images)
        # `view` raises for images of another size; `flatten` would accept them.
        return Featured(self.last(features).view(len(images)), features.flatten(1))
