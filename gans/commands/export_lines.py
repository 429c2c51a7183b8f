"""The lines of Python that `gans export` prints: they load an exported file, and make or translate images with it."""

import json
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from gans.engine.interface import classes

Format = Literal["safetensors", "torchscript", "torch-export", "onnx"]


def drawing_lines(form: Format, model: Any, count: int, path: Path, noise: bool = False) -> list[str]:
    """Return three lines that make `count` images of random latents with an exported file.

    Args:
        form: format of the file.
        model: that was exported.
        count: number of images.
        path: of the file.
        noise: whether the file takes the noise of the layers.
    """
    shape = (count, *model.image_shape) if model.image_shape else (count,)
    file, told, size = json.dumps(str(path)), f"# {shape} in [-1, 1]", f"{count}, {model.latent_dim}"
    kinds = classes(model) if model.conditions(1, None) else 0
    numbers = model.generator_ema.noise_dim if noise else 0
    dtype = str(next(model.generator_ema.parameters()).dtype).removeprefix("torch.")
    if form == "safetensors":
        return [*weights_lines(model, file), f"images = model.sample({count}, seed=0)  {told}"]
    if form == "onnx":
        z = f"np.random.uniform(-1, 1, ({size}))" if model.prior == "uniform" else f"np.random.randn({size})"
        labels = f', "labels": np.arange({count}) % {kinds}' if kinds else ""
        noises = f', "noise": np.random.randn({count}, {numbers}).astype("{dtype}")' if noise else ""
        return [
            "import numpy as np, onnxruntime",
            f"session = onnxruntime.InferenceSession({file})",
            f'[images] = session.run(None, {{"z": {z}.astype("{dtype}"){noises}{labels}}})  {told}',
        ]
    options = "" if dtype == "float32" else f", dtype=torch.{dtype}"
    z = f"2 * torch.rand({size}{options}) - 1" if model.prior == "uniform" else f"torch.randn({size}{options})"
    labels = f", torch.arange({count}) % {kinds}" if kinds else ""
    noises = f", torch.randn({count}, {numbers}{options})" if noise else ""
    return ["import torch", f"generator = {loader(form, file)}", f"images = generator({z}{noises}{labels})  {told}"]


def translation_lines(
    form: Format, model: Any, inputs: tuple[Tensor, ...], names: tuple[str, ...], back: bool, path: Path
) -> list[str]:
    """Return three lines that translate random images with an exported file.

    Args:
        form: format of the file.
        model: that was exported.
        inputs: an example of each input, for its shape and dtype.
        names: of the inputs after the image.
        back: the reverse direction.
        path: of the file.
    """
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


def continuation_lines(form: Format, model: Any, count: int, path: Path) -> list[str]:
    """Return three lines that continue `count` clips of random pixels with an exported file.

    Args:
        form: format of the file.
        model: that was exported.
        count: number of clips.
        path: of the file.
    """
    channels, frames, height, width = model.image_shape
    file, told = json.dumps(str(path)), f"# {(count, *model.image_shape)} in [-1, 1], first the given frames"
    first, noise = (count, channels, model.given, height, width), (count, frames * model.hparams["motion_dim"])
    dtype = str(next(model.generator_ema.parameters()).dtype).removeprefix("torch.")
    options = "" if dtype == "float32" else f", dtype=torch.{dtype}"
    pixels = f"2 * torch.rand({', '.join(map(str, first))}{options}) - 1"
    if form == "onnx":
        given = f'"first": np.random.uniform(-1, 1, {first}).astype("{dtype}")'
        return [
            "import numpy as np, onnxruntime",
            f"session = onnxruntime.InferenceSession({file})",
            f'[clips] = session.run(None, {{{given}, "noise": np.random.randn{noise}.astype("{dtype}")}})  {told}',
        ]
    if form == "safetensors":
        package, *load = weights_lines(model, file)
        return [
            f"import torch; {package}",
            *load,
            f"clips = model.extend({pixels}, {frames - model.given}, seed=0)  {told}",
        ]
    sizes = ", ".join(map(str, noise))
    return [
        "import torch",
        f"generator = {loader(form, file)}",
        f"clips = generator({pixels}, torch.randn({sizes}{options}))  {told}",
    ]


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
    """Return the expression that loads a function in one of PyTorch's formats."""
    return f"torch.jit.load({file})" if form == "torchscript" else f"torch.export.load({file}).module()"
