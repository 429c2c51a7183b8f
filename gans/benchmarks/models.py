"""The models that the benchmarks run, with the widths of recipes for a CPU, and random batches for them."""

import argparse
from math import prod
from typing import Any

import torch
from torch import Tensor

from gans.checks import at_least
from gans.engine.interface import makes_images, pretended
from gans.models import (
    ACGAN,
    CUT,
    DCGAN,
    GAN,
    GAT,
    R3GAN,
    SAGAN,
    SNGAN,
    SPADE,
    SRGAN,
    VAE,
    VAEGAN,
    WGAN,
    WGANGP,
    Autoencoder,
    BigGAN,
    ConditionalGAN,
    ContraGAN,
    CycleGAN,
    FastGAN,
    GridAutoencoder,
    ImageTextEncoder,
    InfoGAN,
    Inpainting,
    ManifoldDCGAN,
    ManifoldGAN,
    ManifoldGridGAN,
    NextFrame,
    Pix2Pix,
    ProjectionGAN,
    ReACGAN,
    SequenceGAN,
    StyleGAN2,
    StyleTransfer,
    TextToImage,
)
from gans.networks.layers import image_channels, image_size
from gans.runs.memory import check_fits

Options = argparse.Namespace

TEXT = {"network": "dcgan", "penalty_weight": 0.0, "text_steps": 0, "vocabulary": ["one", "word"]}
STAGES = {"autoencoder_steps": 1, "latent_steps": 1}  # the third stage, that of all players, begins with the third step

# Class, arguments, and steps of a round on a CPU. The widths are those of recipes for a CPU.
MODELS: dict[str, tuple[type[Any], dict[str, Any], int]] = {
    "dcgan": (DCGAN, {"width": 64, "lr": 1e-3, "discriminator_lr": 2e-4}, 10),
    "gan": (GAN, {}, 50),
    "wgan": (WGAN, {"width": 32, "critic_steps": 1}, 10),
    "wgangp": (WGANGP, {"width": 32, "architecture": "resnet", "critic_steps": 1}, 2),
    "sngan": (SNGAN, {"width": 32, "critic_steps": 1}, 4),
    "sagan": (SAGAN, {"width": 32}, 4),
    "biggan": (BigGAN, {"width": 8, "num_classes": 10}, 4),
    "projectiongan": (ProjectionGAN, {"width": 32, "critic_steps": 1}, 4),
    "acgan": (ACGAN, {"width": 32, "critic_steps": 1}, 4),
    "conditionalgan": (ConditionalGAN, {"width": 32}, 10),
    "contragan": (ContraGAN, {"width": 32, "critic_steps": 1}, 4),
    "reacgan": (ReACGAN, {"width": 32, "critic_steps": 1}, 4),
    "infogan": (InfoGAN, {"width": 32}, 10),
    "r3gan": (R3GAN, {"preset": "small"}, 1),
    "gat": (GAT, {"preset": "tiny", "num_classes": 10}, 1),
    "stylegan2": (StyleGAN2, {"preset": "small"}, 1),
    "fastgan": (FastGAN, {"width": 16, "latent_dim": 128}, 2),
    "sequencegan": (SequenceGAN, {"width": 16, "frames": 8}, 1),
    "autoencoder": (Autoencoder, {}, 10),
    "gridautoencoder": (GridAutoencoder, {"width": 32, "adversarial_weight": 0.5}, 4),
    "vae": (VAE, {}, 50),
    "vaegan": (VAEGAN, {"width": 32}, 10),
    "manifolddcgan": (ManifoldDCGAN, {}, 10),
    "manifoldgridgan": (ManifoldGridGAN, {"width": 16}, 4),
    "manifoldgan": (ManifoldGAN, {**STAGES, "image_steps": 10_000}, 10),
    "texttoimage": (TextToImage, {"width": 32, **TEXT}, 10),
    "imagetextencoder": (ImageTextEncoder, {"vocabulary": ["one", "word"]}, 10),
    "pix2pix": (Pix2Pix, {"width": 16, "discriminator_width": 16}, 4),
    "nextframe": (NextFrame, {"width": 16, "frames": 8, "network": "resnet", "blocks": 2, "rollout": 2}, 2),
    "cyclegan": (CycleGAN, {"width": 16, "blocks": 2}, 1),
    "cut": (CUT, {"width": 16, "blocks": 2}, 2),
    "srgan": (SRGAN, {"width": 24, "blocks": 6}, 4),
    "inpainting": (Inpainting, {"width": 16, "discriminator_width": 32, "refine": False}, 2),
    "spade": (SPADE, {"width": 8, "hidden": 32, "discriminator_width": 16}, 2),
    "styletransfer": (StyleTransfer, {"width": 16, "discriminator_width": 16, "depth": 2}, 2),
}
# Networks of papers, for a GPU.
PAPERS: dict[str, tuple[type[Any], dict[str, Any], int]] = {
    "dcgan-64": (DCGAN, {"size": 64, "width": 64}, 1),
    "sngan-cifar10": (SNGAN, {"width": 256, "discriminator_width": 128, "critic_steps": 1}, 1),
    "r3gan-cifar10": (R3GAN, {"preset": "cifar10"}, 1),
}
ALL = {**MODELS, **PAPERS}


def build(name: str, size: int, channels: int, **changes: Any) -> Any:
    """Return one of `ALL` models, with arguments changed, on the device."""
    kind, arguments, _ = ALL[name]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return kind(**{"size": size, "channels": channels, **arguments, **changes}).to(device)


def batch_of(model: Any, batch_size: int) -> tuple[Tensor, ...]:
    """Return a batch of random images for the model, on its device."""
    torch.manual_seed(0)
    if makes_images(model):
        return pretended(model, batch_size)
    images = torch.rand(batch_size, *model.image_shape, device=model.device) * 2 - 1  # and sentences of one word
    tokens = torch.ones(batch_size, 1, dtype=torch.long, device=model.device)
    return images, tokens, tokens[:, 0]


def round_steps(name: str, given: int) -> int:
    """Return the steps of a timed round of one of `ALL` models: those that are given, or enough if that is 0."""
    return given or (50 if torch.cuda.is_available() else ALL[name][2])


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `build` and `batch_of`."""
    known = f"default: {', '.join(MODELS)}; there are also {', '.join(PAPERS)}"
    parser.add_argument("--models", nargs="+", default=[*MODELS], choices=[*ALL], metavar="MODEL", help=known)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"])


def check(options: Options) -> None:
    """Check the values of these flags.

    Raises:
        ValueError: if one is out of range, or a batch does not fit into memory.
    """
    at_least(1, size=options.size, batch_size=options.batch_size)
    shape = (image_channels(options.channels), *image_size(options.size))
    check_fits(4 * options.batch_size * prod(shape), f"a batch of {options.batch_size} images of shape {shape}")
