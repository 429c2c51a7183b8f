"""Spectrally normalised GAN, Miyato et al. 2018 (arXiv 1802.05957)."""

from typing import Any

import torch
from torch import nn

from gans.losses import Objective
from gans.models.gan import LatentGAN
from gans.networks import resnet
from gans.networks.layers import Size


class SNGAN(LatentGAN):
    """Residual networks under the hinge loss; the spectral norm of its weights keeps the discriminator Lipschitz.

    The paper's settings for CIFAR-10 are these defaults with `discriminator_width` 128 and `generator_batch` 2. Images
    of up to 48, 64 and 128 pixels get the paper's networks for these sizes, with `width` 64.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector.
        width: channels of the generator next to the image, and everywhere up to 32 pixels.
        discriminator_width: channels of the discriminator's first block; None is `width`.
        objective: what the players minimise.
        lr: learning rate of Adam, of both players.
        betas: Adam's decay rates, of both players.
        critic_steps: discriminator updates for each update of the generator.
        minibatch_std: group size of a minibatch standard deviation in the discriminator, a divisor of the batch; 0 for
            none.
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
        objective: Objective = "hinge",
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.0, 0.9),
        critic_steps: int = 5,
        minibatch_std: int = 0,
        blocks: resnet.Blocks = "authors",
        **options: Any,
    ) -> None:
        super().__init__(
            size, channels, latent_dim, width, objective, lr=lr, betas=betas, critic_steps=critic_steps, **options
        )

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents to images."""
        growth, blocks = resnet.growth(size), self.hparams["blocks"]
        return resnet.Generator(self.latent_dim, size, channels, width, growth, blocks=blocks)

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from images to logits."""
        width = self.hparams["discriminator_width"] or width
        options: dict[str, Any] = {name: self.hparams[name] for name in ("minibatch_std", "blocks")}
        return resnet.Discriminator(size, channels, width, **options, **resnet.shape(size))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Refuse a first batch that the groups of a minibatch standard deviation do not divide, piece by piece.

        Raises:
            ValueError: if there is one.
        """
        first = not self._foreseen  # of this run: the last batch of an epoch may be smaller
        super().on_train_batch_start(batch, batch_idx)
        rows, group = len(batch[0]), self.hparams["minibatch_std"] if first else 0
        if group and any(len(piece) % group for piece in torch.arange(rows).tensor_split(min(self.accumulate, rows))):
            pieces = f" in {self.accumulate} pieces" if self.accumulate > 1 else ""
            raise ValueError(f"minibatch_std is {group}; expected a divisor of the batch, {rows} images{pieces}")
