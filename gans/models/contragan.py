"""Contrastive GAN, Kang and Park 2020 (ContraGAN, arXiv 2006.12681)."""

from typing import Any, Literal

from torch import nn

from gans.checks import at_least
from gans.losses import Objective
from gans.models.gan import LatentGAN
from gans.networks import biggan, resnet
from gans.networks.attention import resolution
from gans.networks.layers import Size
from gans.terms import ConditionalContrastive, Player, Term


class ContraGAN(LatentGAN):
    """A class-conditional generator; the discriminator compares each image with its class and with the whole batch.

    The discriminator embeds images and classes in one space. Embeddings of a class are drawn together, those of other
    classes apart, by the term `ConditionalContrastive`: of real images in the discriminator's loss, of fake ones in the
    generator's. The paper's networks are BigGAN's.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector.
        width: channels of the generator next to the image, and everywhere up to 32 pixels; for `biggan` the unit of the
            channels.
        discriminator_width: channels of the discriminator's first block, or their unit; None is `width`.
        network: architecture of both networks, `resnet` (SAGAN's) or `biggan`.
        attention: sides of the feature maps that attention follows; None chooses 32, or 16 up to 32 pixels.
        num_classes: number of classes; at least as many as the data have.
        embedding_dim: length of the embeddings.
        class_weight: weight of the term, in the losses of both players.
        temperature: of the cosines between embeddings.
        objective: what the players minimise.
        lr: learning rate of Adam, of both players.
        betas: Adam's decay rates, of both players.
        critic_steps: discriminator updates for each update of the generator.
        options: as in `LatentGAN`.
    """

    def __init__(
        self,
        size: Size = 32,
        channels: int = 3,
        latent_dim: int = 80,
        width: int = 256,
        discriminator_width: int | None = None,
        network: Literal["resnet", "biggan"] = "resnet",
        attention: tuple[int, ...] | None = None,
        num_classes: int = 10,
        embedding_dim: int = 512,
        class_weight: float = 1.0,
        temperature: float = 1.0,
        objective: Objective = "hinge",
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        critic_steps: int = 5,
        **options: Any,
    ) -> None:
        if network not in ("resnet", "biggan"):
            raise ValueError(f"network is {network}; expected resnet or biggan")
        at_least(2, num_classes=num_classes)
        at_least(0, class_weight=class_weight)
        super().__init__(
            size, channels, latent_dim, width, objective, lr=lr, betas=betas, critic_steps=critic_steps, **options
        )
        self.num_classes = num_classes

    def own_terms(self) -> list[Term]:
        """Return the contrastive loss of real images, for the discriminator, and of fake ones, for the generator."""
        given = self.hparams["class_weight"], self.hparams["temperature"]
        players: tuple[Player, ...] = ("discriminator", "generator")
        return [ConditionalContrastive(*given, player) for player in players]

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents and classes to images."""
        growth, options = resnet.growth(size), self.shared_options(size)
        if self.hparams["network"] == "biggan":
            return biggan.Generator(self.latent_dim, size, channels, width, **options)
        return resnet.Generator(self.latent_dim, size, channels, width, growth, spectral_norm=True, **options)

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from images and classes to logits and embeddings."""
        head = {"head": "embedding", "embedding_dim": self.hparams["embedding_dim"]}
        width, options = self.hparams["discriminator_width"] or width, {**self.shared_options(size), **head}
        if self.hparams["network"] == "biggan":
            return biggan.Discriminator(size, channels, width, **options)
        return resnet.Discriminator(size, channels, width, **options, **resnet.shape(size))

    def shared_options(self, size: Size) -> dict[str, Any]:
        """Return the arguments that both networks have."""
        given = self.hparams["attention"]
        attention = (resolution(size),) if given is None else tuple(given)
        return {"num_classes": self.hparams["num_classes"], "attention": attention}
