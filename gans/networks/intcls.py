"""Networks of GAN-INT-CLS, Reed et al. 2016 (arXiv 1605.05396): DCGAN's, told the sentence once each.

They learn in minutes what `gans.networks.dfgan` takes hours for, and no more after that.
"""

import torch
from torch import Tensor, nn

from gans.layers import Size, normal_init
from gans.networks import dcgan, dfgan

TEXT = 128  # numbers that a sentence's vector is made into


class Generator(nn.Module):
    """Latents and sentences to images `(N, channels, height, width)` in [-1, 1].

    Args:
        latent_dim: length of a latent.
        text_dim: length of a sentence's vector.
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        width: channels of the last hidden layer; every layer before it has twice as many, up to 8 times.
    """

    def __init__(self, latent_dim: int, text_dim: int, size: Size, channels: int, width: int) -> None:
        super().__init__()
        self.text = nn.Sequential(nn.Linear(text_dim, TEXT), nn.LeakyReLU(0.2))
        self.images = dcgan.Generator(latent_dim + TEXT, size, channels, width)

    def forward(self, z: Tensor, sentences: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1] for `z` `(N, latent_dim)` and sentences `(N, text_dim)`."""
        images: Tensor = self.images(torch.cat([z, self.text(sentences)], 1))
        return images


class Discriminator(dfgan.Discriminator):
    """DCGAN's, and the sentence at every pixel of its last maps: images and sentences to logits `(N,)`.

    Args:
        text_dim: length of a sentence's vector.
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        width: channels after the first halving; twice as many after each further one, up to 8 times.
        batch_norm: normalise every hidden layer but the first; not under a gradient penalty.
    """

    def __init__(self, text_dim: int, size: Size, channels: int, width: int, batch_norm: bool = True) -> None:
        whole = dcgan.Discriminator(size, channels, width, batch_norm)
        super().__init__(text_dim, size, channels, width, whole.layers[:-1])
        self.joint.apply(normal_init)
