"""Wasserstein GAN, Arjovsky, Chintala and Bottou 2017 (arXiv 1701.07875)."""

from typing import Any

import torch
from torch import Tensor, nn

from gans.checks import positive
from gans.models.gan import GAN
from gans.networks import dcgan
from gans.networks.layers import Size
from gans.penalties import clip_weights


class WGAN(GAN):
    """DCGAN's networks under an estimate of the earth mover's distance; the critic's weights are clipped.

    The authors' code gives the critic 100 updates for each of the generator in its first 25 and in every 500th;
    algorithm 1 of the paper, and this class, do not.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector.
        width: channels next to the image; every layer further in has twice as many, up to 8 times.
        lr: learning rate of RMSprop, of both players: momentum upsets a critic that is clipped.
        clip: largest absolute value of the critic's weights.
        critic_steps: critic updates for each update of the generator.
        batch_norm: BatchNorm in the critic too.
        options: as in `GAN`, but for Adam's `betas`.
    """

    fixed = ("objective",)
    unread = ("critic", "lazy", "betas")

    def __init__(
        self,
        size: Size = 64,
        channels: int = 3,
        latent_dim: int = 100,
        width: int = 64,
        lr: float = 5e-5,
        clip: float = 0.01,
        critic_steps: int = 5,
        batch_norm: bool = False,
        **options: Any,
    ) -> None:
        positive(clip=clip)
        super().__init__(
            size,
            channels,
            latent_dim,
            width,
            objective="wasserstein",
            lr=lr,
            critic_steps=critic_steps,
            batch_norm=batch_norm,
            **options,
        )
        self.clip = clip

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents to images."""
        return dcgan.Generator(self.latent_dim, size, channels, width)

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from images to the critic's values."""
        return dcgan.Discriminator(size, channels, width, self.hparams["batch_norm"])

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return RMSprop for the generator and for the critic."""
        lr, discriminator_lr = self.hparams["lr"], self.hparams["discriminator_lr"]
        return [
            torch.optim.RMSprop(self.generator.parameters(), lr),
            torch.optim.RMSprop(self.discriminator.parameters(), discriminator_lr or lr),
        ]

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Algorithm 1: the critic moves and is clipped; after `critic_steps` batches the generator follows."""
        optimizer_g, optimizer_d = self.player_optimizers()
        with self.toggled_optimizer(optimizer_d):
            for real in self.pieces(batch[0]):
                fake = self.generator(self.latent(len(real))).detach()
                real_logits, fake_logits = self.critic(real), self.critic(fake)
                loss = self.loss.discriminator(real_logits, fake_logits)
                self.record_critic(loss, real_logits, fake_logits)
                self.descend(loss + self.penalty(real, fake, real_logits, fake_logits), optimizer_d)
        clip_weights(self.discriminator.parameters(), self.clip)
        if self.generator_turn():
            with self.toggled_optimizer(optimizer_g):
                for real in self.pieces(batch[0]):
                    loss = self.loss.generator(None, self.critic(self.generator(*self.generator_rows(len(real)))))
                    self.record("loss/generator", loss)
                    self.descend(loss, optimizer_g)
