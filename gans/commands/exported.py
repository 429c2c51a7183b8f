"""What `gans export` writes of a model: a function with named inputs, its reference, and the lines that use it."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from gans.commands.extras import EXTRAS
from gans.engine.interface import classes
from gans.metrics.sampling import latents

Format = Literal["safetensors", "torchscript", "torch-export", "onnx"]
Run = Callable[..., Tensor]
Bake = Callable[[nn.Module], nn.Module]

COUNT = 16  # pictures that are compared
BATCHES = [1, 4, 11]  # in batches of several sizes


class Subject(NamedTuple):
    """What is exported.

    Args:
        reference: the function as the checkpoint has it.
        network: returns the module that is written, given what bakes a network.
        loaded: returns the function of the model that a file of weights holds.
        names: of the inputs.
        example: inputs that the module is captured with.
        batches: inputs that are compared, in several sizes.
        axes: of the inputs whose length is not fixed.
        tolerance: largest difference of images in [-1, 1] that is put down to rounding.
        told: what is compared, in words.
        lines: returns the three lines that load a file and use it.
    """

    reference: Run
    network: Callable[[Bake], nn.Module]
    loaded: Callable[[Any], Run]
    names: tuple[str, ...]
    example: tuple[Tensor, ...]
    batches: list[tuple[Tensor, ...]]
    axes: tuple[int, ...]
    tolerance: float
    told: str
    lines: Callable[[Format, Path], list[str]]


# -- from latents ------------------------------------------------------------------------------------------------------


def drawing(model: Any) -> Subject:
    """Return what is exported of a model that makes images of latents: its averaged generator."""
    inputs = (latents(model, range(COUNT), 0), *model.conditions(COUNT, None))
    return Subject(
        reference=model,
        network=lambda bake: bake(model.generator_ema),
        loaded=lambda alone: alone,
        names=("z", "labels")[: len(inputs)],
        example=inputs,
        batches=list(zip(*(torch.split(value, BATCHES) for value in inputs), strict=True)),
        axes=(0,),
        tolerance=1e-5,
        told=f"{COUNT} of its pictures differ from the checkpoint's",
        lines=lambda form, path: drawing_lines(form, model, path),
    )


def drawing_lines(form: Format, model: Any, path: Path) -> list[str]:
    """Return the three lines that make pictures of the file."""
    shape = (COUNT, *model.image_shape) if model.image_shape else (COUNT,)
    file, told, size = json.dumps(str(path)), f"# {shape} in [-1, 1]", f"{COUNT}, {model.latent_dim}"
    kinds = classes(model) if model.conditions(1, None) else 0
    dtype = str(next(model.generator_ema.parameters()).dtype).removeprefix("torch.")
    if form == "safetensors":
        return [*weights_lines(model, file), f"images = model.sample({COUNT}, seed=0)  {told}"]
    if form == "onnx":
        z = f"np.random.uniform(-1, 1, ({size}))" if model.prior == "uniform" else f"np.random.randn({size})"
        labels = f', "labels": np.arange({COUNT}) % {kinds}' if kinds else ""
        return [
            "import numpy as np, onnxruntime",
            f"session = onnxruntime.InferenceSession({file})",
            f'[images] = session.run(None, {{"z": {z}.astype("{dtype}"){labels}}})  {told}',
        ]
    options = "" if dtype == "float32" else f", dtype=torch.{dtype}"
    z = f"2 * torch.rand({size}{options}) - 1" if model.prior == "uniform" else f"torch.randn({size}{options})"
    labels = f", torch.arange({COUNT}) % {kinds}" if kinds else ""
    return ["import torch", f"generator = {loader(form, file)}", f"images = generator({z}{labels})  {told}"]


def weights_lines(model: Any, file: str) -> list[str]:
    """Return the lines that load a file of weights."""
    kind = type(model)
    ours = kind.__module__.startswith("gans.models.")
    return [
        'from gans.hub import from_pretrained  # these are weights: pip install "lightning-gans"',
        *([] if ours else [f"from {kind.__module__} import {kind.__name__}  # which needs its class"]),
        f"model = from_pretrained({file}{'' if ours else f', model={kind.__name__}'})",
    ]


def loader(form: Format, file: str) -> str:
    """Return the expression that loads a function of PyTorch's."""
    return f"torch.jit.load({file})" if form == "torchscript" else f"torch.export.load({file}).module()"


# -- from images -------------------------------------------------------------------------------------------------------


class Translation(nn.Module):
    """The function of a translator, without the rest of the model: images `(N, C, H, W)` in [-1, 1], and its extras.

    Args:
        model: a translator.
        generator: what stands for its averaged generator.
        back: go the other way.
    """

    def __init__(self, model: Any, generator: nn.Module, back: bool) -> None:
        super().__init__()
        model = copy.deepcopy(model).eval().requires_grad_(False)
        model.generator_ema = self.generator = generator
        self.borrowed = nn.ModuleList(model.borrowed()) if hasattr(model, "borrowed") else nn.ModuleList()
        # In a tuple: it holds networks that only training needs.
        self.function: tuple[Run] = (generator.back if back else model,)  # type: ignore[assignment]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1]."""
        return self.function[0](*inputs)


def translation(model: Any, back: bool = False) -> Subject:
    """Return what is exported of a translator: `translate`, or `back`, of images of any size."""
    channels = model.image_shape[0] if back else model.source_channels
    names = () if back else tuple(getattr(model, "extras", ()))
    height, width = (max(8, side) for side in (model.input_shape or model.image_shape)[-2:])

    def given(count: int, height: int, width: int) -> tuple[Tensor, ...]:
        draw = torch.Generator().manual_seed(count)
        found = [torch.rand(count, channels, height, width, generator=draw) * 2 - 1]
        for name in names:
            extra = EXTRAS[name]
            sides = (height, width) if extra.aligned else (height + 8, width + 20)
            values = torch.rand(count, extra.channels or channels, *sides, generator=draw)
            found.append((values > 0.5).float() if extra.aligned else values * 2 - 1)
        return tuple(found)

    kind = next(model.generator_ema.parameters()).dtype
    sizes = [(1, height, width), (3, height + 5, width + 3)]  # no multiples, which the function has to pad to
    batches, example = (
        [tuple(part.to(kind) for part in given(*size)) for size in sizes],
        given(2, height + 9, width + 7),
    )
    return Subject(
        reference=model.back if back else model.translate,
        network=lambda bake: Translation(model, bake(model.generator_ema), back),
        loaded=lambda alone: alone.back if back else alone.translate,
        names=("source", *names),
        example=tuple(part.to(kind) for part in example),
        batches=batches,
        axes=(0, 2, 3),
        tolerance=1e-3,  # an eighth of a level of 255
        told=f"pictures of {width}x{height} and {width + 3}x{height + 5} pixels differ from those of `gans predict`",
        lines=lambda form, path: translation_lines(form, model, batches[0], names, back, path),
    )


def translation_lines(
    form: Format, model: Any, inputs: tuple[Tensor, ...], names: tuple[str, ...], back: bool, path: Path
) -> list[str]:
    """Return the three lines that translate a batch of random images."""
    file, dtype = json.dumps(str(path)), str(inputs[0].dtype).removeprefix("torch.")
    told = f"# any (N, {inputs[0].shape[1]}, H, W) in [-1, 1]" + (", 1 in holes" if "mask" in names else "")
    numpy = form == "onnx"

    def random(part: Tensor, name: str) -> str:
        shape = ", ".join(map(str, part.shape))
        if numpy:
            drawn = f"np.random.uniform(-1, 1, ({shape}))"
            return f'({drawn} > 0).astype("{dtype}")' if name == "mask" else f'{drawn}.astype("{dtype}")'
        options = "" if dtype == "float32" else f", dtype=torch.{dtype}"
        drawn = f"torch.rand({shape}{options})"
        return f"{drawn}.round()" if name == "mask" else f"2 * {drawn} - 1"

    given = {name: random(part, name) for name, part in zip(("source", *names), inputs, strict=True)}
    arguments = ", ".join(given.values())
    if form == "onnx":
        fed = ", ".join(f'"{name}": {value}' for name, value in given.items())
        return [
            "import numpy as np, onnxruntime",
            f"session = onnxruntime.InferenceSession({file})",
            f"[images] = session.run(None, {{{fed}}})  {told}",
        ]
    if form == "safetensors":
        package, *load = weights_lines(model, file)
        return [
            f"import torch; {package}",
            *load,
            f"images = model.{'back' if back else 'translate'}({arguments})  {told}",
        ]
    return ["import torch", f"generator = {loader(form, file)}", f"images = generator({arguments})  {told}"]
