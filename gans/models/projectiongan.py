"""Projection discriminator, Miyato and Koyama 2018 (cGAN-PD, arXiv 1802.05637)."""

from typing import Any

from torch import nn

from gans.checks import at_least
from gans.losses import Objective
from gans.models.gan import LatentGAN
from gans.networks import resnet
from gans.networks.layers import Size


class ProjectionGAN(LatentGAN):
    """Class-conditional SNGAN: conditional BatchNorm in the generator, a projection in the discriminator.

    The projection is the inner product of an embedding of the class with the features.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector.
        width: channels of the generator next to the image, and everywhere up to 32 pixels; 256 in the paper.
        discriminator_width: channels of the discriminator's first block; None is `width`.
        num_classes: number of classes; at least as many as the data have.
        objective: what the players minimise.
        lr: learning rate of Adam, of both players.
        betas: Adam's decay rates, of both players.
        critic_steps: discriminator updates for each update of the generator.
        blocks: residual blocks of the networks; `mimicry` are those of `gans import mimicry`, see `networks.resnet`.
        options: as in `LatentGAN`.
    """

    def __init__(
        self,
        size: Size = 32,
        channels: int = 3,
        latent_dim: int = 128,
        width: int = 256,
        discriminator_width: int | None = None,
        num_classes: int = 10,
        objective: Objective = "hinge",
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.0, 0.9),
        critic_steps: int = 5,
        blocks: resnet.Blocks = "authors",
        **options: Any,
    ) -> None:
        at_least(1, num_classes=num_classes)
        super().__init__(
            size, channels, latent_dim, width, objective, lr=lr, betas=betas, critic_steps=critic_steps, **options
        )
        self.num_classes = num_classes

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents and classes to images."""
        options: dict[str, Any] = {name: self.hparams[name] for name in ("num_classes", "blocks")}
        return resnet.Generator(self.latent_dim, size, channels, width, resnet.growth(size), **options)

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from images and classes to logits."""
        width = self.hparams["discriminator_width"] or width
        options: dict[str, Any] = {name: self.hparams[name] for name in ("num_classes", "blocks")}
        return resnet.Discriminator(size, channels, width, **options, **resnet.shape(size))
