"""Multilayer perceptrons on flattened images, as in the first GAN (Goodfellow et al. 2014, arXiv 1406.2661).

There is no BatchNorm, so any number of processes gives the same weights.
"""

from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from gans.networks.layers import Size, image_channels, image_size


def perceptron(widths: list[int]) -> nn.Sequential:
    """Return linear layers of `widths` with LeakyReLU(0.2) between them.

    Raises:
        ValueError: if a width is not positive.
    """
    if min(widths) < 1:
        raise ValueError(f"layers of widths {widths}; expected at least 1 each")
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2, inplace=True)]
    return nn.Sequential(*layers[:-1])


class Generator(nn.Module):
    """Latents `(N, latent_dim)` to images `(N, channels, height, width)` in [-1, 1].

    Args:
        latent_dim: length of a latent.
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        width: units of the first hidden layer; the next two have twice and four times as many.
    """

    def __init__(self, latent_dim: int, size: Size, channels: int, width: int) -> None:
        super().__init__()
        self.shape = (image_channels(channels), *image_size(size))
        self.layers = perceptron([latent_dim, width, 2 * width, 4 * width, prod(self.shape)])

    def forward(self, z: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1] for `z` `(N, latent_dim)`."""
        return torch.tanh(self.layers(z)).view(-1, *self.shape)


class Discriminator(nn.Module):
    """Images `(N, channels, height, width)` to logits `(N,)`.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        width: units of the second hidden layer; the first has twice as many.
    """

    def __init__(self, size: Size, channels: int, width: int) -> None:
        super().__init__()
        self.layers = perceptron([image_channels(channels) * prod(image_size(size)), 2 * width, width, 1])

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(N,)`, higher for realistic images."""
        logits: Tensor = self.layers(images.flatten(1)).squeeze(1)
        return logits
