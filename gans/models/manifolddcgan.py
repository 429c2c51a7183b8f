"""DCGAN on an autoencoder's grid of codes, after Achlioptas et al. 2018 (arXiv 1707.02392).

They play in the latent space of an autoencoder, here with the networks of Radford et al. 2015 (arXiv 1511.06434) on
the grids of Rombach et al. 2022 (arXiv 2112.10752).
"""

from typing import Any

from torch import nn

from gans.checks import at_least
from gans.models.codedgan import CodedGAN
from gans.networks import dcgan
from gans.networks.layers import Size


class ManifoldDCGAN(CodedGAN):
    """DCGAN's networks on grids of codes: a generator without tanh, and a discriminator with one more convolution.

    The decoder draws the details, so the generator has one layer less than for images of the same size, and a step is
    cheaper. Real and generated codes are harder to tell apart than images, because they have no details. So the
    discriminator begins with a 3x3 convolution at the full resolution, and has the generator's learning rate.

    Args:
        size: side of the images, or (height, width).
        channels: of the images: 1, 3 or 4.
        latent_dim: length of a latent vector.
        width: channels of the generator's last hidden layer, doubled in each layer before it, up to 8 times.
        discriminator_width: channels of the discriminator after the first downsampling, doubled at each further one;
            None is `width`. The convolution before has half as many.
        autoencoder: see `CodedGAN`.
        batch_norm: BatchNorm in the discriminator too, as in the paper; without it the logits of one code do not depend
            on another.
        lr: learning rate of Adam, of both players.
        options: as in `LatentGAN`.
    """

    def __init__(
        self,
        size: Size = 32,
        channels: int = 3,
        latent_dim: int = 128,
        width: int = 64,
        discriminator_width: int | None = None,
        autoencoder: str | dict[str, Any] | None = None,
        batch_norm: bool = True,
        lr: float = 5e-4,
        **options: Any,
    ) -> None:
        at_least(2, discriminator_width=width if discriminator_width is None else discriminator_width)
        super().__init__(size, channels, latent_dim, width, autoencoder=autoencoder, lr=lr, **options)

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents to codes."""
        return dcgan.Generator(self.latent_dim, size, channels, width, bounded=self.coder is None)

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from codes to logits."""
        given = self.hparams
        wide = width if given["discriminator_width"] is None else given["discriminator_width"]
        return dcgan.Discriminator(size, channels, wide, given["batch_norm"], entry=wide // 2)
