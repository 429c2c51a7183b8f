"""DCGAN's networks, told a sentence once each: they learn in minutes what `gans.networks.dfgan` takes hours for.

The generator is that of GAN-INT-CLS, Reed et al. 2016 (arXiv 1605.05396); the critic compares image and sentence by a
projection, Miyato and Koyama 2018 (arXiv 1802.05637).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from gans.networks import dcgan
from gans.networks.layers import Size, normal_init

HIDDEN = 256  # of an image that the critic compares with a sentence


class Generator(nn.Module):
    """Latents and sentences to images `(N, channels, height, width)` in [-1, 1].

    A sentence's vector stands beside the latent as it is, without the paper's learned layer between.

    Args:
        latent_dim: length of a latent.
        text_dim: length of a sentence's vector.
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        width: channels of the last hidden layer; every layer before it has twice as many, up to 8 times.
    """

    def __init__(self, latent_dim: int, text_dim: int, size: Size, channels: int, width: int) -> None:
        super().__init__()
        self.images = dcgan.Generator(latent_dim + text_dim, size, channels, width)

    def forward(self, z: Tensor, sentences: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1] for `z` `(N, latent_dim)` and sentences `(N, text_dim)`."""
        images: Tensor = self.images(torch.cat([z, sentences], 1))
        return images


class Discriminator(nn.Module):
    """Images `(N, channels, height, width)` and sentences `(N, text_dim)` to logits `(N,)`.

    Args:
        text_dim: length of a sentence's vector.
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        width: channels after the first halving; twice as many after each further one, up to 8 times.
        batch_norm: normalise every hidden layer but the first; not under a gradient penalty.
    """

    def __init__(self, text_dim: int, size: Size, channels: int, width: int, batch_norm: bool = True) -> None:
        super().__init__()
        self.features = dcgan.Discriminator(size, channels, width, batch_norm, outputs=HIDDEN)
        self.real = nn.Linear(HIDDEN, 1).apply(normal_init)
        self.text = nn.Linear(text_dim, HIDDEN, bias=False).apply(normal_init)

    def forward(self, images: Tensor, *sentences: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits `(N,)`, higher for what looks real and like the sentence says; of several sentences a tuple.

        The image is looked at once.
        """
        features = leaky_relu(self.features(images), 0.2)
        alone = self.real(features).squeeze(1)
        logits = tuple(alone + (self.text(sentence.to(features.dtype)) * features).sum(1) for sentence in sentences)
        return logits if len(logits) > 1 else logits[0]
