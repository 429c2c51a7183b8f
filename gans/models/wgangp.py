"""Wasserstein GAN with gradient penalty, Gulrajani et al. 2017 (arXiv 1704.00028)."""

from typing import Any, Literal

from torch import Tensor, nn

from gans.checks import at_least
from gans.models.gan import LatentGAN
from gans.networks import dcgan, resnet
from gans.networks.layers import Size
from gans.terms import OneCentered, Term


class WGANGP(LatentGAN):
    """A critic without BatchNorm; a penalty on its gradient between real and fake images keeps it near Lipschitz 1.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector.
        width: channels next to the image; residual networks of 32 pixels take the paper's 128 everywhere.
        architecture: architecture of both networks, `dcgan` or the paper's `resnet`.
        penalty_weight: weight of the gradient penalty, the term `OneCentered`.
        lr: learning rate of Adam, of both players.
        betas: Adam's decay rates, of both players.
        critic_steps: critic updates for each update of the generator.
        discriminator_width: `width` of the critic; None is `width`.
        blocks: residual blocks of `resnet`; `mimicry` are those of `gans import mimicry-wgangp`.
        options: as in `LatentGAN`.
    """

    def __init__(
        self,
        size: Size = 32,
        channels: int = 3,
        latent_dim: int = 128,
        width: int = 64,
        architecture: Literal["dcgan", "resnet"] = "dcgan",
        penalty_weight: float = 10.0,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.5, 0.9),
        critic_steps: int = 5,
        discriminator_width: int | None = None,
        blocks: resnet.Blocks = "authors",
        **options: Any,
    ) -> None:
        if architecture not in ("dcgan", "resnet"):
            raise ValueError(f"architecture is {architecture}; expected dcgan or resnet")
        if architecture == "dcgan" and blocks != "authors":
            raise ValueError(f"blocks is {blocks}; expected authors with the architecture dcgan, which has none")
        at_least(0, penalty_weight=penalty_weight)
        super().__init__(
            size,
            channels,
            latent_dim,
            width,
            objective="wasserstein",
            lr=lr,
            betas=betas,
            critic_steps=critic_steps,
            **options,
        )

    def own_terms(self) -> list[Term]:
        """Return the gradient penalty."""
        return [OneCentered(self.hparams["penalty_weight"])]

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents to images."""
        if self.hparams["architecture"] == "resnet":
            growth, blocks = resnet.growth(size), self.hparams["blocks"]
            return resnet.Generator(self.latent_dim, size, channels, width, growth, blocks=blocks)
        return dcgan.Generator(self.latent_dim, size, channels, width)

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from images to the critic's values."""
        width = self.hparams["discriminator_width"] or width
        if self.hparams["architecture"] == "resnet":
            options: dict[str, Any] = {"pool": "mean", "spectral_norm": False, "blocks": self.hparams["blocks"]}
            return resnet.Discriminator(size, channels, width, **options, **resnet.shape(size))
        return dcgan.Discriminator(size, channels, width, batch_norm=False)

    def record_discriminator(self, loss: Tensor, real_logits: Tensor, fake_logits: Tensor) -> None:
        """Note how the critic does; its values have no boundary between real and fake."""
        self.record_critic(loss, real_logits, fake_logits)
