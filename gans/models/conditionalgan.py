"""Conditional GAN, Mirza and Osindero 2014 (arXiv 1411.1784)."""

from typing import Any

from torch import nn

from gans.checks import at_least
from gans.models.gan import LatentGAN
from gans.networks import concatenated
from gans.networks.layers import Size


class ConditionalGAN(LatentGAN):
    """Class-conditional DCGAN: an embedding of the class is concatenated to the latent, and to the features.

    Batches are `(images, labels)`. `sample(n, labels=...)` generates images of the given classes.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector.
        width: channels next to the image; every layer further in has twice as many, up to 8 times.
        num_classes: number of classes; at least as many as the data have.
        batch_norm: BatchNorm in the discriminator too; not under a gradient penalty.
        options: as in `LatentGAN`.
    """

    def __init__(
        self,
        size: Size = 32,
        channels: int = 1,
        latent_dim: int = 100,
        width: int = 64,
        num_classes: int = 10,
        batch_norm: bool = True,
        **options: Any,
    ) -> None:
        at_least(1, num_classes=num_classes)
        super().__init__(size, channels, latent_dim, width, **options)
        self.num_classes = num_classes

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents and classes to images."""
        return concatenated.Generator(self.latent_dim, size, channels, width, self.hparams["num_classes"])

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from images and classes to logits."""
        return concatenated.Discriminator(
            size, channels, width, self.hparams["num_classes"], self.hparams["batch_norm"]
        )
