"""DCGAN conditioned on a sentence embedding at its input. It trains much faster than `gans.networks.dfgan`.

The generator is that of GAN-INT-CLS, Reed et al. 2016 (arXiv 1605.05396). The critic compares image and sentence with
a projection, Miyato and Koyama 2018 (arXiv 1802.05637).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from gans.networks import dcgan
from gans.networks.layers import Size, normal_init

HIDDEN = 256  # length of the image features that the critic compares with a sentence


class Generator(nn.Module):
    """Latents and sentence embeddings to images `(N, channels, height, width)` in [-1, 1].

    The embedding is concatenated with the latent directly, without the paper's learned layer.

    Args:
        latent_dim: length of a latent.
        text_dim: length of a sentence embedding.
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        width: channels of the last hidden layer, doubled in each layer before it, up to 8 times.
    """

    def __init__(self, latent_dim: int, text_dim: int, size: Size, channels: int, width: int) -> None:
        super().__init__()
        self.images = dcgan.Generator(latent_dim + text_dim, size, channels, width)

    def forward(self, z: Tensor, sentences: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1] for `z` `(N, latent_dim)` and sentences `(N, text_dim)`."""
        images: Tensor = self.images(torch.cat([z, sentences], 1))
        return images


class Discriminator(nn.Module):
    """Images `(N, channels, height, width)` and sentence embeddings `(N, text_dim)` to logits `(N,)`.

    Args:
        text_dim: length of a sentence embedding.
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        width: channels after the first downsampling, doubled at each further one, up to 8 times.
        batch_norm: use BatchNorm in every hidden layer but the first; set to False with a gradient penalty.
    """

    def __init__(self, text_dim: int, size: Size, channels: int, width: int, batch_norm: bool = True) -> None:
        super().__init__()
        self.features = dcgan.Discriminator(size, channels, width, batch_norm, outputs=HIDDEN)
        self.real = nn.Linear(HIDDEN, 1).apply(normal_init)
        self.text = nn.Linear(text_dim, HIDDEN, bias=False).apply(normal_init)

    def forward(self, images: Tensor, *sentences: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits `(N,)`, higher for realistic images that match the sentence; a tuple for several sentences.

        The image features are computed once for all sentences.
        """
        features = leaky_relu(self.features(images), 0.2)
        alone = self.real(features).squeeze(1)
        logits = tuple(alone + (self.text(sentence.to(features.dtype)) * features).sum(1) for sentence in sentences)
        return logits if len(logits) > 1 else logits[0]
