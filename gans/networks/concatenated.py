"""Class-conditional networks by concatenation of a class vector: Mirza and Osindero 2014 (arXiv 1411.1784)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, one_hot

from gans.networks import dcgan
from gans.networks.conditional import Classified, check_labels
from gans.networks.layers import Size, normal_init

EMBEDDING = 50  # length of a class embedding
HIDDEN = 256


def embedding(num_classes: int) -> nn.Embedding:
    """Return class embeddings with a standard deviation of 0.2 at initialisation.

    With torch's default of 1 the generator soon ignores the latent.
    """
    vectors = nn.Embedding(num_classes, EMBEDDING)
    nn.init.normal_(vectors.weight, std=0.2)
    return vectors


class Generator(nn.Module):
    """Latents `(N, latent_dim)` and classes `(N,)` to images `(N, channels, height, width)` in [-1, 1].

    Args:
        latent_dim: length of a latent.
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        width: channels of the last hidden layer, doubled in each layer before it, up to 8 times.
        num_classes: number of classes.
    """

    def __init__(self, latent_dim: int, size: Size, channels: int, width: int, num_classes: int) -> None:
        super().__init__()
        self.embedding = embedding(num_classes)
        self.images = dcgan.Generator(latent_dim + EMBEDDING, size, channels, width)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1] for `z` `(N, latent_dim)` and `labels` `(N,)`."""
        check_labels(labels, z.shape[0], self.embedding.num_embeddings)
        images: Tensor = self.images(torch.cat([z, self.embedding(labels).to(z.dtype)], 1))
        return images


class UnitVectors(nn.Module):
    """Latents `(N, latent_dim)` and classes `(N,)` to images; the class is a one-hot vector after the latent.

    The vectors are not learned. Learned embeddings would train together with the weights that read them, much faster
    than the latent's weights. Then the generator collapses to one image per class.

    Args:
        images: a generator whose latents have the length `latent_dim + num_classes`.
        num_classes: number of classes.
    """

    def __init__(self, images: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.images, self.num_classes = images, num_classes

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1] for `z` `(N, latent_dim)` and `labels` `(N,)`."""
        check_labels(labels, z.shape[0], self.num_classes)
        images: Tensor = self.images(torch.cat([z, one_hot(labels, self.num_classes).to(z.dtype)], 1))
        return images


class Discriminator(nn.Module):
    """Images `(N, channels, height, width)` and classes `(N,)` to logits `(N,)`.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        width: channels after the first downsampling, doubled at each further one, up to 8 times.
        num_classes: number of classes.
        batch_norm: use BatchNorm in every hidden layer but the first.
    """

    def __init__(self, size: Size, channels: int, width: int, num_classes: int, batch_norm: bool = True) -> None:
        super().__init__()
        self.features = dcgan.Discriminator(size, channels, width, batch_norm, outputs=HIDDEN)
        self.embedding = embedding(num_classes)
        self.together = nn.Sequential(
            nn.Linear(HIDDEN + EMBEDDING, HIDDEN), nn.LeakyReLU(0.2), nn.Linear(HIDDEN, 1)
        ).apply(normal_init)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return logits `(N,)`, higher for realistic images of the class `labels` `(N,)`."""
        check_labels(labels, len(images), self.embedding.num_embeddings)
        features = leaky_relu(self.features(images), 0.2)
        logits: Tensor = self.together(torch.cat([features, self.embedding(labels).to(features.dtype)], 1))
        return logits.squeeze(1)


class AuxiliaryDiscriminator(nn.Module):
    """Images `(N, channels, height, width)` to logits `(N,)` and class logits `(N, num_classes)`, as in ACGAN.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        width: channels after the first downsampling, doubled at each further one, up to 8 times.
        num_classes: length of the second output.
        batch_norm: use BatchNorm in every hidden layer but the first.
    """

    def __init__(self, size: Size, channels: int, width: int, num_classes: int, batch_norm: bool = True) -> None:
        super().__init__()
        self.features = dcgan.Discriminator(size, channels, width, batch_norm, outputs=HIDDEN)
        self.real = nn.Linear(HIDDEN, 1).apply(normal_init)
        self.guess = nn.Sequential(nn.Linear(HIDDEN, 128), nn.LeakyReLU(0.2), nn.Linear(128, num_classes))

    def forward(self, images: Tensor) -> Classified:
        """Return logits `(N,)`, higher for realistic images, and guesses, class logits `(N, num_classes)`."""
        features = leaky_relu(self.features(images), 0.2)
        return Classified(self.real(features).squeeze(1), self.guess(features))
