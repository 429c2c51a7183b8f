"""GAN with convolutional players on an autoencoder's grid of codes, after Achlioptas et al. 2018 (arXiv 1707.02392).

They play in the latent space of an autoencoder, here with the grids of Rombach et al. 2022 (arXiv 2112.10752).
"""

from math import gcd
from typing import Any

from torch import nn

from gans.checks import at_least
from gans.losses import Objective
from gans.models.codedgan import CodedGAN
from gans.networks import r3gan
from gans.networks.layers import Size


class ManifoldGridGAN(CodedGAN):
    """R3GAN's networks on grids of codes, with its relativistic loss and both gradient penalties.

    The networks have no normalisation, and their outputs are not bounded. So a step is the same on any number of
    processes, and whitened codes may have any range.

    Args:
        size: side of the images, or (height, width).
        channels: of the images: 1, 3 or 4.
        latent_dim: length of a latent vector.
        width: channels of the networks at the resolution of codes, doubled at each lower one, up to `max_width`.
        max_width: most channels; None is twice `width`.
        blocks: residual blocks of each resolution.
        group_width: channels of a group of the 3x3 convolutions. If it does not divide `width` x `expansion`, the
            greatest common divisor is taken.
        expansion: channels inside residual branches, in multiples of those outside.
        num_classes: number of classes; 0 is unconditional.
        autoencoder: see `CodedGAN`.
        objective: what the players minimise.
        lr: learning rate of Adam, of both players.
        betas: Adam's decay rates, of both players.
        r1: weight of the gradient penalty on real codes.
        r2: weight of the gradient penalty on generated codes.
        options: as in `LatentGAN`.
    """

    def __init__(
        self,
        size: Size = 32,
        channels: int = 3,
        latent_dim: int = 64,
        width: int = 64,
        max_width: int | None = None,
        blocks: int = 1,
        group_width: int = 16,
        expansion: int = 2,
        num_classes: int = 0,
        autoencoder: str | dict[str, Any] | None = None,
        objective: Objective = "relativistic",
        lr: float = 5e-4,
        betas: tuple[float, float] = (0.0, 0.99),
        r1: float = 0.5,
        r2: float = 0.5,
        **options: Any,
    ) -> None:
        at_least(1, blocks=blocks)
        at_least(0, num_classes=num_classes)
        super().__init__(
            size,
            channels,
            latent_dim,
            width,
            autoencoder=autoencoder,
            objective=objective,
            lr=lr,
            betas=betas,
            r1=r1,
            r2=r2,
            **options,
        )
        self.num_classes = num_classes

    def plan(self, width: int) -> r3gan.Plan:
        """Return the numbers of the architecture."""
        given = self.hparams
        widest = 2 * width if given["max_width"] is None else given["max_width"]
        group = gcd(given["group_width"], width * given["expansion"])
        return r3gan.Plan(
            width=width, max_width=widest, blocks=given["blocks"], group_width=group, expansion=given["expansion"]
        )

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents, and classes, to codes."""
        classes = self.hparams["num_classes"]
        return r3gan.Generator(self.latent_dim, size, channels, num_classes=classes, **self.plan(width))

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from codes, and classes, to logits."""
        return r3gan.Discriminator(size, channels, num_classes=self.hparams["num_classes"], **self.plan(width))
