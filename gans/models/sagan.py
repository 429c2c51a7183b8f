"""Self-attention GAN, Zhang et al. 2019 (arXiv 1805.08318)."""

from typing import Any, Literal

from torch import nn

from gans.layers import Size
from gans.models.gan import GAN
from gans.networks import resnet
from gans.networks.attention import resolution


class SAGAN(GAN):
    """SNGAN's networks with self-attention, spectral norms in the generator too, and two learning rates (TTUR).

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector.
        width: channels of the generator next to the image, and everywhere up to 32 pixels.
        discriminator_width: channels of the discriminator's first block; None is `width`.
        attention: sides of the feature maps that attention follows; None chooses 32, or 16 up to 32 pixels.
        objective: what the players minimise.
        lr: learning rate of Adam, of the generator.
        discriminator_lr: learning rate of the discriminator.
        betas: Adam's decay rates, of both players.
        options: as in `GAN`.
    """

    unread = ("critic", "batch_norm")

    def __init__(
        self,
        size: Size = 64,
        channels: int = 3,
        latent_dim: int = 128,
        width: int = 64,
        discriminator_width: int | None = None,
        attention: tuple[int, ...] | None = None,
        objective: Literal["nonsaturating", "hinge"] = "hinge",
        lr: float = 1e-4,
        discriminator_lr: float | None = 4e-4,
        betas: tuple[float, float] = (0.0, 0.9),
        **options: Any,
    ) -> None:
        super().__init__(
            size,
            channels,
            latent_dim,
            width,
            objective,
            lr=lr,
            discriminator_lr=discriminator_lr,
            betas=betas,
            **options,
        )

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents to images."""
        growth, attention = resnet.growth(size), self.attention(size)
        return resnet.Generator(self.latent_dim, size, channels, width, growth, spectral_norm=True, attention=attention)

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from images to logits."""
        width, options = self.hparams["discriminator_width"] or width, resnet.shape(size)
        return resnet.Discriminator(size, channels, width, attention=self.attention(size), **options)

    def attention(self, size: Size) -> tuple[int, ...]:
        """Return the sides of the feature maps that attention follows."""
        given = self.hparams["attention"]
        return (resolution(size),) if given is None else tuple(given)
