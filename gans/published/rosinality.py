"""Checkpoints of rosinality/stylegan2-pytorch, a reimplementation of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958).

A file of its training holds the state dicts `g`, `d` and `g_ema`; one that was converted from TensorFlow may have
`g_ema` alone, and has the mean of w, `latent_avg`. Activations are not clamped there.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from gans.models.stylegan2 import StyleGAN2
from gans.published.files import File, tensors
from gans.published.maps import Found, Made, Names, Network, check_filters, dimension, plain
from gans.published.stylegan2_ada import concatenated
from gans.published.styles import arguments

FILTER = r".*\.kernel"
DOUBLING = r".*\.(blur|upsample)\.kernel"  # filters of zeros between pixels
HALVING = r".*\.\d+\.kernel"
GROUP = 4  # of the minibatch standard deviation
LATENTS = 4096  # for the mean of w, if a file has none
RATE = 0.01  # factor of the mapping network's learning rate


def holds(content: Any) -> bool:
    """Return whether a file holds a generator of that repository."""
    return isinstance(content, dict) and "conv1.conv.modulation.weight" in tensors(content.get("g_ema"))


def convert(main: File) -> Found:
    """Return the model of a file.

    Args:
        main: the file, which has all networks.

    Raises:
        ValueError: if its networks are not those of a preset of ours.
    """
    file, held = str(main.path), tensors(main.content["g_ema"])
    count = 1 + sum(re.fullmatch(r"to_rgbs\.\d+\.bias", name) is not None for name in held)
    convolutions = ["conv1", *(f"convs.{2 * level + 1}" for level in range(count - 1))]
    channels = [dimension(held, f"{name}.activate.bias", 0, file) for name in convolutions]
    layers = sum(re.fullmatch(r"style\.\d+\.weight", name) is not None for name in held)
    length = dimension(held, "style.1.weight", 1, file)
    given = {"w_dim": length, "mapping_layers": layers, "architecture": "resnet"}
    taken = {"channels": dimension(held, "to_rgb1.bias", 1, file), "latent_dim": length, "minibatch_std": GROUP}
    found = Found(StyleGAN2, {**arguments(channels, file, **given), **taken, "clamp": 0.0})
    mean = main.content.get("latent_avg")
    for ours, theirs in (("generator", "g"), ("generator_ema", "g_ema"), ("discriminator", "d")):
        held = tensors(main.content.get(theirs))
        if not held:
            continue
        check_filters(held, DOUBLING, file, total=4.0)
        check_filters(held, HALVING, file)
        if theirs == "d":
            names = discriminator_names(count)
        else:
            held["latent_avg"] = mean.flatten() if isinstance(mean, Tensor) else mean_of(held, layers)
            names = generator(count, layers)
        found.networks[ours] = Network(held, names, f"{file}, {theirs}", FILTER)
    return found


def mean_of(held: Mapping[str, Tensor], layers: int) -> Tensor:
    """Return the mean of w `(w_dim,)` over latents of a fixed seed, which stands in place of a moving mean."""
    z = torch.randn(LATENTS, held["style.1.weight"].shape[1], generator=torch.Generator().manual_seed(0))
    w = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
    for number in range(1, layers + 1):
        weight, bias = (held[f"style.{number}.{part}"] * RATE for part in ("weight", "bias"))
        w = leaky_relu(w @ weight.T / weight.shape[1] ** 0.5 + bias, 0.2) * 2**0.5
    return w.mean(0)


def first(tensor: Tensor) -> Tensor:
    """Return a tensor `(1, ...)` without its first axis."""
    return tensor[0]


def flat(tensor: Tensor) -> Tensor:
    """Return the numbers of a bias `(1, C, 1, 1)`."""
    return tensor.flatten()


def scalar(tensor: Tensor) -> Tensor:
    """Return the number of a tensor `(1,)`."""
    return tensor.squeeze()


def generator(count: int, layers: int) -> Names:
    """Return the map of a generator with so many levels and layers of its mapping network."""
    found: dict[str, str | Made] = {"mean_w": "latent_avg", "synthesis.constant": Made(("input.input",), first)}
    for number in range(layers):
        found |= plain(f"mapping.layers.{number}", f"style.{number + 1}")
    noises = tuple(f"noises.noise_{number}" for number in range(2 * count - 1))
    found["synthesis.noise"] = Made(noises, concatenated)
    for level in range(count):
        ours, above = f"synthesis.blocks.{level}", 2 * level
        names = {"conv0": f"convs.{above - 2}", "conv1": f"convs.{above - 1}"} if level else {"conv1": "conv1"}
        for name, theirs in names.items():
            found |= modulated(f"{ours}.{name}", f"{theirs}.conv")
            found[f"{ours}.{name}.bias"] = f"{theirs}.activate.bias"
            found[f"{ours}.{name}.strength"] = Made((f"{theirs}.noise.weight",), scalar)
        image = f"to_rgbs.{level - 1}" if level else "to_rgb1"
        found |= modulated(f"{ours}.to_rgb", f"{image}.conv")
        found[f"{ours}.to_rgb.bias"] = Made((f"{image}.bias",), flat)
    return found


def modulated(ours: str, theirs: str) -> Names:
    """Return the map of a modulated convolution."""
    return {
        f"{ours}.weight": Made((f"{theirs}.weight",), first),
        **plain(f"{ours}.affine", f"{theirs}.modulation"),
    }


def discriminator_names(count: int) -> Names:
    """Return the map of a discriminator with so many levels."""

    def layer(ours: str, theirs: str, place: int = 0) -> dict[str, str | Made]:
        return {f"{ours}.weight": f"{theirs}.{place}.weight", f"{ours}.bias": f"{theirs}.{place + 1}.bias"}

    found = {**layer("blocks.0.from_rgb", "convs.0"), **layer("conv", "final_conv")}
    found |= plain("linear", "final_linear.0") | plain("logits", "final_linear.1")
    for level in range(count - 1):
        ours, theirs = f"blocks.{level}", f"convs.{level + 1}"
        found |= layer(f"{ours}.conv0", f"{theirs}.conv1") | layer(f"{ours}.conv1", f"{theirs}.conv2", 1)
        found[f"{ours}.skip.weight"] = f"{theirs}.skip.1.weight"
    return found
