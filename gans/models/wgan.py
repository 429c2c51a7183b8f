"""Wasserstein GAN, Arjovsky, Chintala and Bottou 2017 (arXiv 1701.07875)."""

from typing import Any

import torch
from torch import Tensor, nn

from gans.checks import positive
from gans.models.gan import LatentGAN
from gans.networks import dcgan
from gans.networks.layers import Size
from gans.terms import Clip, Term


class WGAN(LatentGAN):
    """DCGAN's networks under an estimate of the earth mover's distance; the critic's weights are clipped.

    The authors' code makes 100 critic updates before each of the first 25 generator updates, and before every 500th.
    This class follows algorithm 1 of the paper, which does not.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector.
        width: channels next to the image; every layer further in has twice as many, up to 8 times.
        lr: learning rate of RMSprop, of both players; with momentum a clipped critic is unstable.
        clip: largest absolute value of the critic's weights.
        critic_steps: critic updates for each update of the generator.
        batch_norm: BatchNorm in the critic too.
        options: as in `LatentGAN`.
    """

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
            betas=(0.0, 0.99),  # RMSprop has no momentum, and torch's default for the squares
            critic_steps=critic_steps,
            **options,
        )

    def own_terms(self) -> list[Term]:
        """Return weight clipping."""
        return [Clip(self.hparams["clip"])]

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents to images."""
        return dcgan.Generator(self.latent_dim, size, channels, width)

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from images to the critic's values."""
        return dcgan.Discriminator(size, channels, width, self.hparams["batch_norm"])

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return RMSprop for the generator and for the critic, corrected for terms with a step of their own."""
        shares = self.terms.share("generator"), self.terms.share("discriminator")
        players = (self.generator, self.lr, shares[0]), (self.discriminator, self.discriminator_lr, shares[1])
        return [
            torch.optim.RMSprop(network.parameters(), share * lr, alpha=self.betas[1] ** share, eps=self.eps)
            for network, lr, share in players
        ]

    def record_discriminator(self, loss: Tensor, real_logits: Tensor, fake_logits: Tensor) -> None:
        """Note how the critic does; its values have no boundary between real and fake."""
        self.record_critic(loss, real_logits, fake_logits)
