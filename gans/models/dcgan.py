"""Deep convolutional GAN, Radford et al. 2015 (arXiv 1511.06434)."""

from typing import Any, Literal

from torch import nn

from gans.models.gan import GAN
from gans.networks import dcgan
from gans.networks.layers import Size


class DCGAN(GAN):
    """Transposed convolutions against strided ones, both with BatchNorm, for images of any size.

    Layers, BatchNorm, initialisation and the settings of Adam are the paper's. `width` 64 and normal latents are those
    of PyTorch's example. The paper's networks are twice as wide (`width` 128: 1,024 maps of 4x4), and its latents are
    U(-1, 1) (`prior` uniform). In some recipes the generator's learning rate is five times the discriminator's, which
    decides the quality of a short run.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector.
        width: channels next to the image; every layer further in has twice as many, up to 8 times.
        critic: architecture of the discriminator.
        batch_norm: BatchNorm in the critic too, as in the paper; without it the logits of one image do not depend on
            another.
        options: as in `GAN`.
    """

    def __init__(
        self,
        size: Size = 64,
        channels: int = 3,
        latent_dim: int = 100,
        width: int = 64,
        critic: Literal["mlp", "conv"] = "conv",
        batch_norm: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(size, channels, latent_dim, width, critic=critic, batch_norm=batch_norm, **options)

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents to images."""
        return dcgan.Generator(self.latent_dim, size, channels, width)
