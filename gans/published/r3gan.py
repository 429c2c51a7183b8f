"""Pickles of R3GAN, Huang et al. 2024 (arXiv 2501.05441), from the authors' repository brownvc/R3GAN.

A pickle holds the modules `G`, `D` and `G_ema`, with what the training needs besides. The authors compute most stages
in bfloat16; here the weights have float32, as in the file.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from gans.models.r3gan import PRESETS, R3GAN
from gans.networks import r3gan
from gans.published.files import File, tensors
from gans.published.maps import Found, Made, Names, Network, check_filters, dimension, plain
from gans.published.pickles import Stub

KERNEL = r"MainLayers\.\d+\.Layers\.\d+\.Resampler\.Kernel"
MODEL = "Model."  # where a module of the pickle has its network


def holds(content: Any) -> bool:
    """Return whether a pickle holds R3GAN's generator."""
    return isinstance(content, dict) and "Model.MainLayers.0.Layers.0.Basis" in tensors(content.get("G_ema"))


def convert(main: File) -> Found:
    """Return the model of a pickle.

    Args:
        main: the pickle, which has all networks.

    Raises:
        ValueError: if its networks are not those of a preset of ours.
    """
    file, average_held = str(main.path), network(main.content["G_ema"])
    stages, blocks = layout(average_held)
    hidden = [dimension(average_held, f"MainLayers.{stage}.Layers.1.NonLinearity1.Bias", 0, file) for stage in stages]
    width = dimension(average_held, "AggregationLayer.Layer.weight", 1, file)
    widths = [average_held[f"MainLayers.{stage}.Layers.1.LinearLayer1.Layer.weight"].shape[1] for stage in stages]
    grouped = average_held["MainLayers.0.Layers.1.LinearLayer2.Layer.weight"]
    plan = {"blocks": blocks, "group_width": grouped.shape[1], "expansion": hidden[0] // widths[0]}
    size = 4 * 2 ** (len(widths) - 1)
    embedded = average_held.get("EmbeddingLayer.weight")
    inputs = dimension(average_held, "MainLayers.0.Layers.0.LinearLayer.weight", 1, file)
    arguments = {
        "size": size,
        "channels": dimension(average_held, "AggregationLayer.Layer.weight", 0, file),
        "latent_dim": inputs if embedded is None else inputs - embedded.shape[0],
        "preset": preset(size, widths, plan, file),
        "width": width,
        "num_classes": 0 if embedded is None else embedded.shape[1],
    }
    found = Found(R3GAN, arguments)
    for ours, theirs in (("generator", "G"), ("generator_ema", "G_ema"), ("discriminator", "D")):
        held = network(main.content.get(theirs))
        if not held:
            continue
        check_filters(held, KERNEL, file)
        made = discriminator_names(held, blocks) if theirs == "D" else generator(held, blocks)
        found.networks[ours] = Network(held, made, f"{file}, {theirs}", KERNEL)
    return found


def network(module: Any) -> dict[str, Tensor]:
    """Return the tensors of a module's network by name; nothing if there is none."""
    held = tensors(module) if isinstance(module, Stub) else {}
    return {name.removeprefix(MODEL): value for name, value in held.items()}


def layout(held: Mapping[str, Tensor]) -> tuple[list[int], int]:
    """Return the numbers of the stages, and how many residual blocks the first one has."""
    stages = {int(found[1]) for name in held if (found := re.match(r"MainLayers\.(\d+)\.", name))}
    pattern = r"MainLayers\.0\.Layers\.(\d+)\.NonLinearity1\.Bias"
    return sorted(stages), len({found[1] for name in held if (found := re.fullmatch(pattern, name))})


def preset(size: int, widths: list[int], plan: Mapping[str, int], file: str) -> str:
    """Return the preset with these channels of stages, lowest resolution first, and these blocks.

    Raises:
        ValueError: if none has.
    """
    # Presets differ in their width, which is an argument of its own, and may be alike otherwise.
    for name, known in sorted(PRESETS.items(), key=lambda item: item[1]["width"] != widths[-1]):
        sides = (size, size)
        own = r3gan.widths(sides, widths[-1], max(widths[-1], known["max_width"])) if size >= 8 else []
        if own == widths and plan == {key: known[key] for key in plan}:  # type: ignore[literal-required]
            return name
    told = ", ".join(f"{key} {value}" for key, value in plan.items())
    raise ValueError(f"{file} has stages of {widths} channels with {told}; expected those of {', '.join(PRESETS)}")


def block(ours: str, theirs: str) -> Names:
    """Return the map of a residual block; theirs adds the biases in the activation after a convolution."""
    found: dict[str, str | Made] = {}
    for index, number in ((0, 1), (2, 2), (4, 3)):
        found[f"{ours}.branch.{index}.weight"] = f"{theirs}.LinearLayer{number}.Layer.weight"
        if number < 3:
            found[f"{ours}.branch.{index}.bias"] = f"{theirs}.NonLinearity{number}.Bias"
    return found


def generator(held: Mapping[str, Tensor], blocks: int) -> Names:
    """Return the map of a generator."""
    found = {
        "basis": "MainLayers.0.Layers.0.Basis",
        **plain("project", "MainLayers.0.Layers.0.LinearLayer", bias=False),
    }
    found |= transposed_embedding(held)
    place = 0
    for stage in layout(held)[0]:
        if stage:
            found[f"layers.{place}.mix.weight"] = f"MainLayers.{stage}.Layers.0.LinearLayer.Layer.weight"
            place += 1
        for number in range(1, blocks + 1):
            found |= block(f"layers.{place}", f"MainLayers.{stage}.Layers.{number}")
            place += 1
    return found | {f"layers.{place}.weight": "AggregationLayer.Layer.weight"}


def discriminator_names(held: Mapping[str, Tensor], blocks: int) -> Names:
    """Return the map of a discriminator."""
    stages, place = layout(held)[0], 1
    found: dict[str, str | Made] = {"layers.0.weight": "ExtractionLayer.Layer.weight", **transposed_embedding(held)}
    for stage in stages:
        for number in range(blocks):
            found |= block(f"layers.{place}", f"MainLayers.{stage}.Layers.{number}")
            place += 1
        theirs = f"MainLayers.{stage}.Layers.{blocks}"
        if stage == stages[-1]:
            found[f"layers.{place}.weight"] = f"{theirs}.Basis.weight"
            found["project.weight"] = f"{theirs}.LinearLayer.weight"
        else:
            found[f"layers.{place}.mix.weight"] = f"{theirs}.LinearLayer.Layer.weight"
        place += 1
    return found


def transposed_embedding(held: Mapping[str, Tensor]) -> dict[str, str | Made]:
    """Return the map of the class embedding, a linear layer of one-hot labels there; nothing without classes."""
    if "EmbeddingLayer.weight" not in held:
        return {}
    return {"embedding.weight": Made(("EmbeddingLayer.weight",), lambda weight: weight.T)}
