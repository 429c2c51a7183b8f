"""Pickles of StyleGAN2-ADA, Karras et al. 2020 (arXiv 2006.06676), and of the StyleGAN2 of StyleGAN3's repository.

A pickle holds the modules `G`, `D` and `G_ema`, with the source code of their classes, which is not run, and what the
training needs besides. The authors compute the highest resolutions in float16 on a GPU. On a CPU both are in float32.
"""

import re
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from gans.models.stylegan2 import StyleGAN2
from gans.published.files import File, tensors
from gans.published.maps import Found, Made, Names, Network, check_filters, dimension, plain
from gans.published.pickles import Stub
from gans.published.styles import arguments

FILTER = r"(.*\.)?resample_filter"


def holds(content: Any) -> bool:
    """Return whether a pickle holds a generator of StyleGAN2."""
    held = tensors(content.get("G_ema")) if isinstance(content, dict) else {}
    return "synthesis.b4.const" in held and "mapping.fc0.weight" in held


def convert(main: File) -> Found:
    """Return the model of a pickle.

    Args:
        main: the pickle, which has all networks.

    Raises:
        ValueError: if its networks are not those of a preset of ours.
    """
    file, module, critic = str(main.path), main.content["G_ema"], main.content.get("D")
    held = tensors(module)
    sides = levels(held)
    channels = [dimension(held, f"synthesis.b{side}.conv1.bias", 0, file) for side in sides]
    embedded = held.get("mapping.embed.weight")
    w_dim = dimension(held, "mapping.w_avg", 0, file)
    given = {"w_dim": w_dim, "mapping_layers": layers(held)}
    inputs = dimension(held, "mapping.fc0.weight", 1, file)
    taken: dict[str, Any] = {
        "channels": dimension(held, f"synthesis.b{sides[-1]}.torgb.bias", 0, file),
        "latent_dim": inputs if embedded is None else inputs - embedded.shape[0],
        "num_classes": 0 if embedded is None else embedded.shape[1],
        "clamp": float(value(module, "synthesis.b4.conv1", "conv_clamp", None) or 0),  # 0 is no limit
    }
    check_synthesis(module, sides, file)
    if isinstance(critic, Stub):
        taken["minibatch_std"] = check_critic(critic, taken["clamp"], file)
        given["architecture"] = value(critic, f"b{sides[-1]}", "architecture", "resnet")
        if embedded is not None:
            given["class_layers"] = layers(tensors(critic))
    found = Found(StyleGAN2, {**arguments(channels, file, **given), **taken})
    for ours, theirs in (("generator", "G"), ("generator_ema", "G_ema"), ("discriminator", "D")):
        held = tensors(main.content.get(theirs))
        if not held:
            continue
        check_filters(held, FILTER, file)
        names = discriminator_names(held, sides) if theirs == "D" else generator(held, sides)
        found.networks[ours] = Network(held, names, f"{file}, {theirs}", FILTER)
    return found


def levels(held: Mapping[str, Tensor]) -> list[int]:
    """Return the sides of the levels of a generator, the lowest first."""
    return sorted({int(found[1]) for name in held if (found := re.match(r"synthesis\.b(\d+)\.", name))})


def layers(held: Mapping[str, Tensor]) -> int:
    """Return the number of layers of a mapping network."""
    return sum(re.fullmatch(r"mapping\.fc\d+\.weight", name) is not None for name in held)


def value(module: Stub, path: str, name: str, default: Any) -> Any:
    """Return an attribute of a module below another one, or a default if it has none."""
    found = module.at(path)
    return default if found is None else found.__dict__.get("state", {}).get(name, default)


def check_synthesis(module: Stub, sides: list[int], file: str) -> None:
    """Check that a generator has the architecture and activations of ours.

    Raises:
        ValueError: if it has not.
    """
    for side in sides:
        kind = value(module, f"synthesis.b{side}", "architecture", "skip")
        if kind != "skip":
            raise ValueError(f"{file}: synthesis.b{side} has the architecture {kind}; expected skip")
        activation = value(module, f"synthesis.b{side}.conv1", "activation", "lrelu")
        if activation != "lrelu":
            raise ValueError(f"{file}: synthesis.b{side}.conv1 has the activation {activation}; expected lrelu")


def check_critic(critic: Stub, clamp: float, file: str) -> int:
    """Return the group size of the minibatch standard deviation of a discriminator, 0 without one.

    Raises:
        ValueError: if it has more channels of it than 1, or clamps other than the generator's.
    """
    own = float(value(critic, "b4.conv", "conv_clamp", clamp) or 0)
    if own != clamp:
        raise ValueError(
            f"{file}: conv_clamp of the discriminator is {own}, of the generator {clamp}; expected equal ones"
        )
    if critic.at("b4.mbstd") is None:
        return 0
    features = value(critic, "b4.mbstd", "num_channels", 1)
    if features != 1:
        raise ValueError(f"{file}: b4.mbstd has {features} channels; expected 1")
    return cast(int, value(critic, "b4.mbstd", "group_size", 4))


def mapping(held: Mapping[str, Tensor]) -> Names:
    """Return the map of a mapping network; the class embedding is a linear layer of one-hot labels there."""
    found: dict[str, str | Made] = {}
    for number in range(layers(held)):
        found |= plain(f"mapping.layers.{number}", f"mapping.fc{number}")
    if "mapping.embed.weight" in held:
        found["mapping.embedding.weight"] = Made(("mapping.embed.weight",), lambda weight: weight.T)
        found["mapping.embedding.bias"] = "mapping.embed.bias"
    return found


def generator(held: Mapping[str, Tensor], sides: list[int]) -> Names:
    """Return the map of a generator."""
    found = {**mapping(held), "mean_w": "mapping.w_avg", "synthesis.constant": "synthesis.b4.const"}
    noises = []
    for level, side in enumerate(sides):
        ours, theirs = f"synthesis.blocks.{level}", f"synthesis.b{side}"
        for name in ("conv0", "conv1") if level else ("conv1",):
            found |= plain(f"{ours}.{name}", f"{theirs}.{name}")
            found |= plain(f"{ours}.{name}.affine", f"{theirs}.{name}.affine")
            found[f"{ours}.{name}.strength"] = f"{theirs}.{name}.noise_strength"
            noises.append(f"{theirs}.{name}.noise_const")
        found |= plain(f"{ours}.to_rgb", f"{theirs}.torgb") | plain(f"{ours}.to_rgb.affine", f"{theirs}.torgb.affine")
    return found | {"synthesis.noise": Made(tuple(noises), concatenated)}


def concatenated(*noises: Tensor) -> Tensor:
    """Return the noise of all layers in one vector."""
    return torch.cat([noise.flatten() for noise in noises])


def discriminator_names(held: Mapping[str, Tensor], sides: list[int]) -> Names:
    """Return the map of a discriminator."""
    found = {**mapping(held), **plain("conv", "b4.conv"), **plain("linear", "b4.fc"), **plain("logits", "b4.out")}
    for level, side in enumerate(sides[:0:-1]):
        for ours, theirs in (("from_rgb", "fromrgb"), ("conv0", "conv0"), ("conv1", "conv1")):
            if f"b{side}.{theirs}.weight" in held:
                found |= plain(f"blocks.{level}.{ours}", f"b{side}.{theirs}")
        if f"b{side}.skip.weight" in held:
            found |= plain(f"blocks.{level}.skip", f"b{side}.skip", bias=False)
    return found | (plain("from_rgb", "b4.fromrgb") if "b4.fromrgb.weight" in held else {})
