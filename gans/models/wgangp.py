"""Wasserstein GAN with gradient penalty, Gulrajani et al. 2017 (arXiv 1704.00028)."""

from typing import Any, Literal

from torch import Tensor, nn

from gans.checks import at_least
from gans.models.gan import GAN
from gans.networks import dcgan, resnet
from gans.networks.layers import Size
from gans.penalties import one_centered


class WGANGP(GAN):
    """A critic held near Lipschitz 1 by a penalty on its gradient, between real and fake images; no BatchNorm in it.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector.
        width: channels next to the image; residual networks of 32 pixels take the paper's 128 everywhere.
        architecture: of both networks: `dcgan`, or the paper's `resnet`.
        penalty_weight: of the gradient penalty.
        lr: learning rate of Adam, of both players.
        betas: Adam's decay rates, of both players.
        critic_steps: critic updates for each update of the generator.
        options: as in `GAN`.
    """

    fixed = ("objective",)
    unread = ("critic", "batch_norm", "lazy")

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
        **options: Any,
    ) -> None:
        if architecture not in ("dcgan", "resnet"):
            raise ValueError(f"architecture is {architecture}; expected dcgan or resnet")
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

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents to images."""
        if self.hparams["architecture"] == "resnet":
            return resnet.Generator(self.latent_dim, size, channels, width, growth=resnet.growth(size))
        return dcgan.Generator(self.latent_dim, size, channels, width)

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from images to the critic's values."""
        if self.hparams["architecture"] == "resnet":
            return resnet.Discriminator(size, channels, width, pool="mean", spectral_norm=False, **resnet.shape(size))
        return dcgan.Discriminator(size, channels, width, batch_norm=False)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Algorithm 1: the critic moves; after `critic_steps` batches the generator follows."""
        optimizer_g, optimizer_d = self.player_optimizers()
        with self.toggled_optimizer(optimizer_d):
            for real in self.pieces(batch[0]):
                fake = self.generator(self.latent(len(real))).detach()
                real_logits, fake_logits = self.critic(real), self.critic(fake)
                loss = self.loss.discriminator(real_logits, fake_logits)
                penalty = one_centered(self.critic, real, fake, self.uniform(len(real)))
                self.record_critic(loss, real_logits, fake_logits)
                self.record("penalty/gradient", penalty)
                penalty = self.hparams["penalty_weight"] * penalty + self.penalty(real, fake, real_logits, fake_logits)
                self.descend(loss + penalty, optimizer_d)
        if self.generator_turn():
            with self.toggled_optimizer(optimizer_g):
                for real in self.pieces(batch[0]):
                    loss = self.loss.generator(None, self.critic(self.generator(*self.generator_rows(len(real)))))
                    self.record("loss/generator", loss)
                    self.descend(loss, optimizer_g)
