"""Checkpoints of Mimicry, Lee and Town 2020 (arXiv 2005.02494): SNGAN, cGAN-PD, SAGAN and WGAN-GP.

A file holds one network, `netG` or `netD`, as `model_state_dict`. The residual blocks differ from the papers', see
`blocks` in `gans.networks.resnet`. The networks of Mimicry's WGAN-GP and DCGAN have the same layers, so their files
cannot be told apart, but the discriminators pool by the mean and by the sum.
"""

import re
from collections.abc import Mapping
from functools import partial
from math import isqrt
from typing import Any

from lightning import LightningModule
from torch import Tensor
from torch.nn.functional import normalize

from gans.models.projectiongan import ProjectionGAN
from gans.models.sagan import SAGAN
from gans.models.sngan import SNGAN
from gans.models.wgangp import WGANGP
from gans.published.files import File, tensors
from gans.published.maps import Found, Made, Names, Network, dimension, plain, spectral, under

NORM = ("running_mean", "running_var", "num_batches_tracked")
# Sides of the maps that attention follows, of generator and discriminator, by the image side.
ATTENTION = {32: (16, 8), 128: (32, 32)}


def weights_of(content: Any) -> dict[str, Tensor]:
    """Return the tensors of a file of Mimicry, or of the state dict alone."""
    held = content.get("model_state_dict", content) if isinstance(content, dict) else content
    return tensors(held)


def holds(content: Any) -> bool:
    """Return whether a file holds a network of Mimicry."""
    held = weights_of(content)
    return any(f"{name}.weight{end}" in held for name in ("block2.c1", "block1.c1") for end in ("", "_orig"))


def convert(main: File, discriminator: File | None, wasserstein: bool) -> Found:
    """Return the model of a generator's file and, if there is one, its discriminator's.

    Args:
        main: the generator's file.
        discriminator: the discriminator's file.
        wasserstein: take them for WGAN-GP's.

    Raises:
        ValueError: if they are not networks of Mimicry that this project has.
    """
    held, file = weights_of(main.content), str(main.path)
    if "l1.bias" not in held:
        raise ValueError(f"{file} has no l1.bias: FILE is the generator's, --discriminator names the other")
    levels = blocks(held)
    hidden = dimension(held, "block2.c_sc.weight_orig" if normed(held) else "block2.c_sc.weight", 1, file)
    area = dimension(held, "l1.bias", 0, file) / hidden
    base = isqrt(int(area))
    if base * base != area:
        raise ValueError(f"{file}: l1.bias has {held['l1.bias'].shape[0]} numbers; expected {hidden} x a square")
    size = base * 2**levels
    last, end = f"c{levels + 2}", "weight_orig" if normed(held) else "weight"
    arguments = {
        "size": size,
        "channels": dimension(held, f"{last}.{end}", 0, file),
        "latent_dim": dimension(held, f"l1.{end}", 1, file),
        "width": dimension(held, f"{last}.{end}", 1, file),
        "blocks": "mimicry",
    }
    classes = held["block2.b1.embed.weight"].shape[0] if "block2.b1.embed.weight" in held else 0
    model: type[LightningModule] = SNGAN
    if classes:
        model = SAGAN if normed(held) else ProjectionGAN
        arguments["num_classes"] = classes
    elif wasserstein:
        model = WGANGP
        arguments["architecture"] = "resnet"
    if model is SAGAN:
        if size not in ATTENTION:
            raise ValueError(f"{file} makes images of {size} pixels; Mimicry's SAGAN has 32 or 128")
        own, critics = ATTENTION[size]
        arguments |= {"attention": (own,), "discriminator_attention": (critics,)}
    if wasserstein and model is not WGANGP:
        raise ValueError(f"{file} is class-conditional; expected the kind mimicry")
    places = size, arguments.get("attention")
    found = Found(model, arguments, {"generator": Network(held, generator(held, levels, *places), file)})
    if discriminator is None:
        return found
    held, file = weights_of(discriminator.content), str(discriminator.path)
    if "block1.c1.bias" not in held:
        raise ValueError(f"{file} has no block1.c1.bias: --discriminator names a file of netD")
    if normed(held, "block1.c1") == wasserstein:
        why = "has spectral norms: the kind is mimicry"
        if not wasserstein:
            why = "has no spectral norms, so it is WGAN-GP's, of the kind mimicry-wgangp, or DCGAN's, which is not here"
        raise ValueError(f"{file} {why}")
    arguments["discriminator_width"] = dimension(held, "block1.c1.bias", 0, file)
    places = size, arguments.get("discriminator_attention")
    found.networks["discriminator"] = Network(held, discriminator_names(held, *places), file)
    return found


def normed(held: Mapping[str, Tensor], layer: str = "l1") -> bool:
    """Return whether a layer has spectral normalisation."""
    return f"{layer}.weight_orig" in held


def blocks(held: Mapping[str, Tensor]) -> int:
    """Return the number of residual blocks."""
    return len({found[0] for name in held if (found := re.match(r"block\d+\.", name))})


def layer(held: Mapping[str, Tensor], ours: str, theirs: str, bias: bool = True) -> Names:
    """Return the map of a layer with PyTorch's spectral normalisation, with Mimicry's own, or without."""
    if f"{theirs}.weight_orig" in held:
        return spectral(ours, theirs, bias)
    if f"{theirs}.sn_u" not in held:
        return plain(ours, theirs, bias)
    parts, vectors = f"{ours}.parametrizations.weight", (f"{theirs}.sn_u", f"{theirs}.weight", f"{theirs}.sn_sigma")
    return {
        f"{parts}.original": f"{theirs}.weight",
        f"{parts}.0._u": Made(vectors, lambda *held: iterated(*held)[0]),
        f"{parts}.0._v": Made(vectors, lambda *held: iterated(*held)[1]),
        **(under(ours, theirs, ("bias",)) if bias else {}),
    }


def iterated(u: Tensor, weight: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Return both singular vectors after a power iteration, as Mimicry's own norm runs one in each forward pass too.

    Its `sigma` is that of the last iteration in training, which no forward pass reads.
    """
    matrix = weight.flatten(1)
    v = normalize(u @ matrix, dim=1)
    return normalize(v @ matrix.T, dim=1)[0], v[0]


def attention(level: int) -> Names:
    """Return the map of the self-attention that follows a block."""
    found: dict[str, str | Made] = {f"attentions.{level}.gamma": "attn_block.gamma"}
    for ours, theirs in (("theta", "theta"), ("phi", "phi"), ("g", "g"), ("output", "o")):
        found |= spectral(f"attentions.{level}.{ours}", f"attn_block.{theirs}", bias=False)
    return found


def norm(held: Mapping[str, Tensor], ours: str, theirs: str) -> Names:
    """Return the map of a BatchNorm, class-conditional if there are classes: gains stand before biases in a row."""
    if f"{theirs}.embed.weight" not in held:
        return under(ours, theirs, ("weight", "bias", *NORM))
    table = (f"{theirs}.embed.weight",)
    return {
        **under(f"{ours}.norm", f"{theirs}.bn", NORM),
        f"{ours}.gain.weight": Made(table, lambda rows: rows.chunk(2, 1)[0]),
        f"{ours}.bias.weight": Made(table, lambda rows: rows.chunk(2, 1)[1]),
    }


def generator(held: Mapping[str, Tensor], levels: int, size: int, attends: tuple[int, ...] | None) -> Names:
    """Return the map of a generator with so many blocks."""
    found = {**layer(held, "linear", "l1"), **under("norm", f"b{levels + 2}", ("weight", "bias", *NORM))}
    found |= layer(held, "image", f"c{levels + 2}")
    for level in range(levels):
        ours, theirs = f"blocks.{level}", f"block{level + 2}"
        for norms, name in (("norm1", "b1"), ("norm2", "b2")):
            found |= norm(held, f"{ours}.{norms}", f"{theirs}.{name}")
        for convolution, name in (("conv1", "c1"), ("conv2", "c2"), ("shortcut", "c_sc")):
            found |= layer(held, f"{ours}.{convolution}", f"{theirs}.{name}")
        if attends and size >> (levels - level - 1) in attends:
            found |= attention(level)
    return found


def discriminator_names(held: Mapping[str, Tensor], size: int, attends: tuple[int, ...] | None) -> Names:
    """Return the map of a discriminator."""
    last = next((name.partition(".")[0] for name in held if re.match(r"l\d+\.", name)), "l5")
    found = dict(layer(held, "head.linear", last))
    if any(name.startswith("l_y.") for name in held):
        found |= layer(held, "head.embedding", "l_y", bias=False)
    for level in range(blocks(held)):
        ours, theirs = f"blocks.{level}", f"block{level + 1}"
        for convolution, name in (("conv1", "c1"), ("conv2", "c2"), ("shortcut", "c_sc")):
            if f"{theirs}.{name}.bias" in held:
                found |= layer(held, f"{ours}.{convolution}", f"{theirs}.{name}")
        if attends and level == 1:
            found |= attention(level)
    return found


sngan, wgangp = partial(convert, wasserstein=False), partial(convert, wasserstein=True)
