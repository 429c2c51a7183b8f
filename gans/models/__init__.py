"""The models by their short names, each imported when it is first asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gans.models.acgan import ACGAN
    from gans.models.autoencoder import Autoencoder
    from gans.models.biggan import BigGAN
    from gans.models.conditionalgan import ConditionalGAN
    from gans.models.contragan import ContraGAN
    from gans.models.cut import CUT
    from gans.models.cyclegan import CycleGAN
    from gans.models.dcgan import DCGAN
    from gans.models.fastgan import FastGAN
    from gans.models.gan import GAN
    from gans.models.gat import GAT
    from gans.models.gridautoencoder import GridAutoencoder
    from gans.models.imagetextencoder import ImageTextEncoder
    from gans.models.infogan import InfoGAN
    from gans.models.inpainting import Inpainting
    from gans.models.manifolddcgan import ManifoldDCGAN
    from gans.models.manifoldgan import ManifoldGAN
    from gans.models.manifoldgridgan import ManifoldGridGAN
    from gans.models.nextframe import NextFrame
    from gans.models.pix2pix import Pix2Pix
    from gans.models.projectiongan import ProjectionGAN
    from gans.models.r3gan import R3GAN
    from gans.models.reacgan import ReACGAN
    from gans.models.sagan import SAGAN
    from gans.models.sequencegan import SequenceGAN
    from gans.models.sngan import SNGAN
    from gans.models.spade import SPADE
    from gans.models.srgan import SRGAN
    from gans.models.stylegan2 import StyleGAN2
    from gans.models.styletransfer import StyleTransfer
    from gans.models.texttoimage import TextToImage
    from gans.models.vae import VAE
    from gans.models.vaegan import VAEGAN
    from gans.models.wgan import WGAN
    from gans.models.wgangp import WGANGP

__all__ = [
    "ACGAN",
    "CUT",
    "DCGAN",
    "GAN",
    "GAT",
    "R3GAN",
    "SAGAN",
    "SNGAN",
    "SPADE",
    "SRGAN",
    "VAE",
    "VAEGAN",
    "WGAN",
    "WGANGP",
    "Autoencoder",
    "BigGAN",
    "ConditionalGAN",
    "ContraGAN",
    "CycleGAN",
    "FastGAN",
    "GridAutoencoder",
    "ImageTextEncoder",
    "InfoGAN",
    "Inpainting",
    "ManifoldDCGAN",
    "ManifoldGAN",
    "ManifoldGridGAN",
    "NextFrame",
    "Pix2Pix",
    "ProjectionGAN",
    "ReACGAN",
    "SequenceGAN",
    "StyleGAN2",
    "StyleTransfer",
    "TextToImage",
]


def __getattr__(name: str) -> Any:
    # Not imports above: the models build on each other, and a package that imports its own files is a cycle with them.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{name.lower()}"), name)
