"""Self-attention GAN, Zhang et al. 2019 (arXiv 1805.08318)."""

from typing import Any

from torch import nn

from gans.checks import at_least
from gans.losses import Objective
from gans.models.gan import LatentGAN
from gans.networks import resnet
from gans.networks.attention import resolution
from gans.networks.layers import Size


class SAGAN(LatentGAN):
    """SNGAN's networks with self-attention, spectral norms in the generator too, and two learning rates (TTUR).

    The paper trains class-conditional networks on ImageNet, at 128 pixels and with batches of 256. With `num_classes`
    classes enter by conditional BatchNorm and by a projection, as in `ProjectionGAN`.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector.
        width: channels of the generator next to the image, and everywhere up to 32 pixels.
        discriminator_width: channels of the discriminator's first block; None is `width`.
        attention: sides of the feature maps that attention follows; None chooses 32, or 16 up to 32 pixels.
        num_classes: number of classes, at least as many as the data have; 0 is unconditional.
        objective: what the players minimise.
        lr: learning rate of Adam, of the generator.
        discriminator_lr: learning rate of the discriminator.
        betas: Adam's decay rates, of both players.
        discriminator_attention: `attention` of the discriminator; None is `attention`.
        blocks: residual blocks of the networks; `mimicry` are those of `gans import mimicry`, see `networks.resnet`.
        options: as in `LatentGAN`.
    """

    def __init__(
        self,
        size: Size = 64,
        channels: int = 3,
        latent_dim: int = 128,
        width: int = 64,
        discriminator_width: int | None = None,
        attention: tuple[int, ...] | None = None,
        num_classes: int = 0,
        objective: Objective = "hinge",
        lr: float = 1e-4,
        discriminator_lr: float | None = 4e-4,
        betas: tuple[float, float] = (0.0, 0.9),
        discriminator_attention: tuple[int, ...] | None = None,
        blocks: resnet.Blocks = "authors",
        **options: Any,
    ) -> None:
        at_least(0, num_classes=num_classes)
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
        self.num_classes = num_classes

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents, and classes, to images."""
        options: dict[str, Any] = {name: self.hparams[name] for name in ("num_classes", "blocks")}
        options["attention"] = self.attention(size)
        return resnet.Generator(
            self.latent_dim, size, channels, width, resnet.growth(size), spectral_norm=True, **options
        )

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from images, and classes, to logits."""
        options: dict[str, Any] = {name: self.hparams[name] for name in ("num_classes", "blocks")}
        given = self.hparams["discriminator_attention"]
        options["attention"] = self.attention(size) if given is None else tuple(given)
        width = self.hparams["discriminator_width"] or width
        return resnet.Discriminator(size, channels, width, **options, **resnet.shape(size))

    def attention(self, size: Size) -> tuple[int, ...]:
        """Return the sides of the feature maps that attention follows."""
        given = self.hparams["attention"]
        return (resolution(size),) if given is None else tuple(given)
