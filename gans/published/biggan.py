"""Weights of ajbrock/BigGAN-PyTorch, the PyTorch code of BigGAN's first author (Brock et al. 2018, arXiv 1809.11096).

Each network has a file of its own, a state dict: `G.pth`, `G_ema.pth` and `D.pth`. `state_dict.pth`, which has the
options of the run, is not read: they follow from the weights. Files of `BigGANdeep.py` are recognised by their blocks.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gans.models.biggan import BigGAN
from gans.networks import biggan
from gans.published.files import File, tensors
from gans.published.maps import Found, Made, Names, Network, dimension

BOTTOM = 4  # side of the generator's first map
IGNORED = r".*\.(sv0|accumulation_counter)"  # the last singular value; a counter of the authors' BatchNorm
# Patterns of the authors' names of modules, each with ours.
GENERATOR = (
    (r"^shared", "embedding"),
    (r"^output_layer\.0(\.bn)?", "norm"),
    (r"^output_layer\.2", "image"),
    (r"^blocks\.(\d+)\.0\b", r"blocks.\1"),
    (r"^blocks\.(\d+)\.1\b", r"attentions.\1"),
    (r"\.bn(\d)(\.bn)?\b", r".norm\1"),
)
DISCRIMINATOR = (
    (r"^input_conv", "stem"),
    (r"^linear", "head.linear"),
    (r"^embed", "head.embedding"),
    (r"^blocks\.(\d+)\.0\b", r"blocks.\1"),
    (r"^blocks\.(\d+)\.1\b", r"attentions.\1"),
)
BOTH = ((r"\.conv_sc\b", ".shortcut"), (r"^(attentions\.\d+)\.o\b", r"\1.output"))


def holds(content: Any) -> bool:
    """Return whether a file holds a generator or discriminator of that code."""
    held = tensors(content)
    return "linear.u0" in held and "blocks.0.0.conv1.u0" in held


def convert(main: File, discriminator: File | None, average: File | None) -> Found:
    """Return the model of the files.

    Args:
        main: a generator's file, `G.pth` or `G_ema.pth`.
        discriminator: `D.pth`, if there is one.
        average: `G_ema.pth`, if `main` is `G.pth`.

    Raises:
        ValueError: if they are not networks of that code that this project has.
    """
    held, file = tensors(main.content), str(main.path)
    if "output_layer.2.weight" not in held:
        raise ValueError(
            f"{file} has no output_layer.2.weight: FILE is G.pth or G_ema.pth, --discriminator names D.pth"
        )
    if "blocks.0.0.bn1.bn.running_mean" in held:
        # Outside of training the authors' code adds the gains of this BatchNorm, where training multiplies by them.
        raise ValueError(
            f"{file} was trained with --cross_replica, whose images in the authors' code cannot be reproduced"
        )
    taken = arguments(held, file)
    found = Found(BigGAN, taken, {"generator": Network(held, names(held, GENERATOR), file, IGNORED)})
    if average is not None:
        held, file = tensors(average.content), str(average.path)
        found.networks["generator_ema"] = Network(held, names(held, GENERATOR), file, IGNORED)
    if discriminator is not None:
        held, file = tensors(discriminator.content), str(discriminator.path)
        factors, _ = biggan.discriminator_channels((taken["size"], taken["size"]), 1)
        first = "input_conv.bias" if taken["network"] == "deep" else "blocks.0.0.conv1.bias"
        taken["discriminator_width"] = dimension(held, first, 0, file) // factors[0]
        found.networks["discriminator"] = Network(held, names(held, critic_names(held)), file, IGNORED)
    return found


def arguments(held: Mapping[str, Tensor], file: str) -> dict[str, Any]:
    """Return the arguments of our model for a generator.

    Raises:
        ValueError: if a tensor is missing that they follow from.
    """
    deep = "blocks.0.0.conv4.weight" in held
    count, stage = numbered(held), biggan.STAGE if deep else 1
    levels = count // stage
    size = BOTTOM * 2**levels
    last = dimension(held, "output_layer.2.weight", 1, file)
    inputs = dimension(held, "linear.weight", 1, file)
    taken: dict[str, Any] = {
        "size": size,
        "channels": dimension(held, "output_layer.2.weight", 0, file),
        "latent_dim": inputs,
        "width": last // biggan.generator_channels((size, size), 1)[-1],
        "network": "deep" if deep else "biggan",
        "attention": tuple(
            BOTTOM * 2 ** (number // stage + 1) for number in range(count) if f"blocks.{number}.1.gamma" in held
        ),
    }
    if "shared.weight" not in held:
        classes = dimension(held, "blocks.0.0.bn1.gain.weight", 0, file)
        return taken | {"num_classes": classes, "shared_dim": 0, "split_latents": False}
    classes, shared = held["shared.weight"].shape
    part = dimension(held, "blocks.0.0.bn1.gain.weight", 1, file) - shared
    latents = inputs - shared if deep else part * (levels + 1) if part else inputs
    return taken | {"latent_dim": latents, "num_classes": classes, "shared_dim": shared, "split_latents": part > 0}


def numbered(held: Mapping[str, Tensor]) -> int:
    """Return how many blocks, or stages of blocks, a network has."""
    return len({found[1] for name in held if (found := re.match(r"blocks\.(\d+)\.", name))})


def critic_names(held: Mapping[str, Tensor]) -> tuple[tuple[str, str], ...]:
    """Return the patterns of a discriminator; that of BigGAN-deep has two blocks, then attention, in each stage."""
    if "input_conv.weight" not in held:
        return DISCRIMINATOR
    stages = range(numbered(held))
    blocks = [(rf"^blocks\.{i}\.{j}\b", f"blocks.{2 * i + j}") for i in stages for j in (0, 1)]
    return (*DISCRIMINATOR[:3], *blocks, *((rf"^blocks\.{i}\.2\b", f"attentions.{2 * i + 1}") for i in stages))


def names(held: Mapping[str, Tensor], patterns: tuple[tuple[str, str], ...]) -> Names:
    """Return the map of a network, made of the names that the file has."""
    found: dict[str, str | Made] = {}
    for name in held:
        theirs, _, last = name.rpartition(".")
        ours = theirs
        for pattern, to in (*patterns, *BOTH):
            ours = re.sub(pattern, to, ours)
        if last in ("stored_mean", "stored_var", "running_mean", "running_var"):
            norm = ours if ours == "norm" else f"{ours}.norm"
            found[f"{norm}.running_{last.partition('_')[2]}"] = name
            found.setdefault(f"{norm}.num_batches_tracked", Made((name,), no_batches))
        elif last == "num_batches_tracked":
            found[f"{ours if ours == 'norm' else f'{ours}.norm'}.{last}"] = name
        elif last == "weight" and f"{theirs}.u0" in held:
            vectors, weight = (f"{theirs}.u0", name), f"{ours}.parametrizations.weight"
            found[f"{weight}.original"] = name
            found[f"{weight}.0._u"], found[f"{weight}.0._v"] = Made(vectors, left), Made(vectors, right)
        elif not re.fullmatch(IGNORED, name) and last != "u0":
            last = "weight" if (ours, last) == ("norm", "gain") else last
            found[f"{ours}.{last}" if ours else last] = name
    return found


def no_batches(statistics: Tensor) -> Tensor:
    """Return 0, the number of batches of a BatchNorm that does not count them."""
    return torch.zeros((), dtype=torch.long)


def right(u: Tensor, weight: Tensor) -> Tensor:
    """Return the right singular vector after a power iteration, as each forward pass of the authors' runs one."""
    return normalize(weight.flatten(1).T @ u[0], dim=0)


def left(u: Tensor, weight: Tensor) -> Tensor:
    """Return the left singular vector after the same power iteration."""
    return normalize(weight.flatten(1) @ right(u, weight), dim=0)
