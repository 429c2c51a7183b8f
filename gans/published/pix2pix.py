"""Weights of pix2pix, Isola et al. 2017 (arXiv 1611.07004), from the repository pytorch-CycleGAN-and-pix2pix.

A file holds one network: `latest_net_G.pth` a U-Net or a residual generator, `latest_net_D.pth` the critic of patches.
"""

from functools import partial
from typing import Any

from gans.models.pix2pix import Pix2Pix
from gans.networks.layers import Norm
from gans.published.files import File
from gans.published.maps import Found
from gans.published.translators import antialiased, critic, is_residual, is_unet, normed, residual, unet, weights_of
from gans.published.translators import convolutions as ordered


def holds(content: Any) -> bool:
    """Return whether a file holds a U-Net or a residual generator."""
    held = weights_of(content)
    return is_unet(held) or (is_residual(held) and not antialiased(held))


def holds_batch(content: Any) -> bool:
    """Return whether a file holds such a generator with BatchNorm."""
    held = weights_of(content)
    return holds(content) and normed(held, ordered(held)) == "batch"


def convert(main: File, discriminator: File | None, affine: Norm) -> Found:
    """Return the model of a generator's file and, if there is one, its critic's.

    Args:
        main: the generator's file.
        discriminator: the critic's file.
        affine: what BatchNorm becomes: `instance_affine`, or `batch` for the running statistics.

    Raises:
        ValueError: if they are not networks of that repository that this project has.
    """
    held, file = weights_of(main.content), str(main.path)
    arguments, network = (unet if is_unet(held) else residual)(held, affine, file)
    arguments["network"] = "unet" if is_unet(held) else "resnet"
    found = Found(Pix2Pix, arguments, {"generator": network})
    if discriminator is not None:
        both = weights_of(discriminator.content), arguments["norm"], arguments["source_channels"]
        arguments["discriminator_width"], found.networks["discriminator"] = critic(*both, str(discriminator.path))
    return found


imaged, batched = partial(convert, affine="instance_affine"), partial(convert, affine="batch")
