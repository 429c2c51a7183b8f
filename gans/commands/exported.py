"""What `gans export` writes of a model: a function with named inputs, its reference, and the lines that use it."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gans.commands.export_lines import Format, continuation_lines, drawing_lines, translation_lines
from gans.commands.extras import EXTRAS
from gans.metrics.sampling import latents

Run = Callable[..., Tensor]
Bake = Callable[[nn.Module], nn.Module]

COUNT = 16  # pictures that are compared
BATCHES = [1, 4, 11]  # in batches of several sizes


class Subject(NamedTuple):
    """What is exported.

    Args:
        reference: the function of the checkpoint's model.
        network: returns the module to write; its argument bakes parametrisations into a network.
        loaded: returns the same function of a model that was loaded from a file of weights.
        names: of the inputs.
        example: inputs to capture the module with.
        batches: inputs of several sizes, whose images are compared.
        axes: of the inputs with variable length.
        tolerance: largest difference of images in [-1, 1] that counts as rounding.
        told: what is compared, in words.
        lines: returns the lines of Python that load a file and use it.
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


class Noisy(nn.Module):
    """The function of a generator that also takes the noise of its layers, `(N, noise_dim)`."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images `(N, C, H, W)`."""
        images: Tensor = self.generator(z, labels, noise)
        return images


class Decoded(nn.Module):
    """A generator of codes and the decoder of their autoencoder, as one function."""

    def __init__(self, generator: nn.Module, coder: Any) -> None:
        super().__init__()
        self.generator, self.coder = generator, coder

    def forward(self, z: Tensor, *labels: Tensor) -> Tensor:
        """Return images `(N, C, H, W)`."""
        images: Tensor = self.coder.decode(self.generator(z, *labels))
        return images


def drawing(model: Any, noise: bool = False) -> Subject:
    """Return what is exported of a model from latents to images: its averaged generator.

    Args:
        model: the model.
        noise: whether the noise of its layers is an input. Else it is constants of the file.
    """
    inputs = (latents(model, range(COUNT), 0), *model.conditions(COUNT, None))
    names = ("z", "labels")[: len(inputs)]
    if noise:
        (z, *labels), draw = inputs, torch.Generator().manual_seed(0)
        inputs = (z, torch.randn(COUNT, model.generator_ema.noise_dim, generator=draw).to(z.dtype), *labels)
        names = ("z", "noise", *names[1:])
    coder = getattr(model, "coder", None)

    def network(bake: Bake) -> nn.Module:
        generator = bake(model.generator_ema)
        if coder is not None:
            return Decoded(generator, bake(coder))
        return Noisy(generator) if noise else generator

    return Subject(
        reference=Noisy(model.generator_ema) if noise else model,
        network=network,
        loaded=lambda alone: alone,
        names=names,
        example=inputs,
        batches=list(zip(*(torch.split(value, BATCHES) for value in inputs), strict=True)),
        axes=(0,),
        tolerance=1e-4,  # an 80th of a level of 255; deep networks in float32 differ by a fifth of it
        told=f"{COUNT} of its pictures differ from the checkpoint's",
        lines=lambda form, path: drawing_lines(form, model, COUNT, path, noise),
    )


# -- from given frames -------------------------------------------------------------------------------------------------


class Continuation(nn.Module):
    """The function of a model that continues clips, without its training networks.

    Args:
        model: has `continuation(first, noise)`.
        generator: used in place of its averaged generator.
    """

    def __init__(self, model: Any, generator: nn.Module) -> None:
        super().__init__()
        model = copy.deepcopy(model).eval().requires_grad_(False)
        model.generator_ema = self.generator = generator
        self.function: tuple[Run] = (model.continuation,)  # in a tuple, as below

    def forward(self, first: Tensor, noise: Tensor) -> Tensor:
        """Return clips `(N, C, T, H, W)` in [-1, 1] that begin with the given frames.

        Args:
            first: given frames `(N, C, given, H, W)` in [-1, 1].
            noise: motion noise of all frames, `(N, T motion_dim)`, from N(0, 1).
        """
        return torch.cat([first, self.function[0](first, noise)], 2)


def continuation(model: Any) -> Subject:
    """Return what is exported of a model that continues clips: its continuation of given frames, by noise.

    The clips have the length of training.
    """
    channels, frames, height, width = model.image_shape
    kind = next(model.generator_ema.parameters()).dtype
    pictures = textures(COUNT, channels, model.given, height, width).to(kind)
    noise = torch.randn(COUNT, frames * model.hparams["motion_dim"], generator=torch.Generator().manual_seed(0))
    inputs = pictures, noise.to(kind)
    return Subject(
        reference=Continuation(model, model.generator_ema),
        network=lambda bake: Continuation(model, bake(model.generator_ema)),
        loaded=lambda alone: Continuation(alone, alone.generator_ema),
        names=("first", "noise"),
        example=inputs,
        batches=list(zip(*(torch.split(value, BATCHES) for value in inputs), strict=True)),
        axes=(0,),
        tolerance=1e-3,  # an eighth of a level of 255
        told=f"{COUNT} continuations of {frames - model.given} frames differ from the checkpoint's",
        lines=lambda form, path: continuation_lines(form, model, COUNT, path),
    )


def textures(count: int, channels: int, frames: int, height: int, width: int) -> Tensor:
    """Return clips `(count, channels, frames, height, width)` of smooth random textures that move, in [-1, 1]."""
    draw = torch.Generator().manual_seed(count)
    coarse = torch.rand(count, channels, 4, 4, generator=draw) * 2 - 1
    fine = nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False).clamp(-1, 1)
    return torch.stack([fine.roll((i, -i), (2, 3)) for i in range(frames)], 2)


# -- from images -------------------------------------------------------------------------------------------------------


class Translation(nn.Module):
    """The function of a translator without its training networks: of images `(N, C, H, W)` in [-1, 1], and extras.

    Args:
        model: a translator.
        generator: used in place of its averaged generator.
        back: the reverse direction.
    """

    def __init__(self, model: Any, generator: nn.Module, back: bool) -> None:
        super().__init__()
        model = copy.deepcopy(model).eval().requires_grad_(False)
        model.generator_ema = self.generator = generator
        self.borrowed = nn.ModuleList(model.borrowed()) if hasattr(model, "borrowed") else nn.ModuleList()
        # In a tuple, so that networks for training do not become submodules.
        self.function: tuple[Run] = (generator.back if back else model,)  # type: ignore[assignment]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1]."""
        return self.function[0](*inputs)


def translation(model: Any, back: bool = False) -> Subject:
    """Return what is exported of a translator: `translate` or `back`, for images of any size."""
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
    sizes = [(1, height, width), (3, height + 5, width + 3)]  # the function has to pad these to multiples
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
