"""What callbacks, metrics and commands may ask of any model.

A module draws its images, by `sample(n)`, or it makes them of what it is given. One of the second kind has

    inputs(batch) -> tuple of tensors, what it is given of a batch,
    translate(*inputs) -> images `(N, C, H, W)` in [-1, 1],
    targets(batch) -> images, what it shall make of them, or of what kind,
    example(n) -> a batch of n random images, of the shapes that it is trained on.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class BrokenSamplesError(ValueError):
    """A model's samples are not finite."""


@contextmanager
def undisturbed(module: nn.Module, seed: int) -> Iterator[None]:
    """Look at a module without a trace: torch's generators are seeded meanwhile and put back, no gradient is kept.

    The module is in evaluation mode: BatchNorm neither learns from pictures nor mixes them.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    modes = {part: part.training for part in module.modules()}
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(seed)
        try:
            module.eval()
            yield
        finally:
            for part, mode in modes.items():
                part.training = mode


def samples(module: nn.Module, count: int, seed: int, **options: Any) -> Tensor:
    """Return `count` images of `module.sample`, `(count, C, H, W)` in [-1, 1] on the module's device.

    The same for a seed and weights, and nothing in the module is disturbed.

    Raises:
        ValueError: if the module has no `sample`.
    """
    return unclipped(module, count, seed, **options).clamp(-1, 1)


def unclipped(module: nn.Module, count: int, seed: int, **options: Any) -> Tensor:
    """Return what `samples` does before it is clipped to [-1, 1]."""
    if not callable(getattr(module, "sample", None)):
        raise ValueError(f"{type(module).__name__} has no sample(n); expected a model that makes images")
    with undisturbed(module, seed):
        drawn: Tensor = module.sample(count, **options)  # type: ignore[operator]
    return drawn.float()


def makes_images(module: nn.Module) -> bool:
    """Return whether a module makes images at all; an encoder makes none."""
    return callable(getattr(module, "sample", None)) or translates(module)


def translates(module: nn.Module) -> bool:
    """Return whether a module makes its images of images that it is given."""
    return callable(getattr(module, "translate", None))


def translated(module: Any, batch: Any, seed: int = 0) -> Tensor:
    """Return what a module that translates makes of a batch, `(N, C, H, W)` in [-1, 1]; nothing is disturbed."""
    with undisturbed(module, seed):
        made: Tensor = module.translate(*module.inputs(batch))
    return made.clamp(-1, 1).float()


def made(module: nn.Module, batch: Any, count: int, seed: int) -> Tensor:
    """Return images to set beside a batch: `count` samples, or of a module that translates what it makes of that."""
    return translated(module, batch, seed)[:count] if translates(module) else samples(module, count, seed)


def real_images(module: nn.Module, batch: Any) -> Tensor:
    """Return the images of a batch that a module's own shall be like: its targets, the batch, or its first element."""
    if translates(module):
        batch = module.targets(batch)  # type: ignore[operator]
    real: Tensor = batch[0] if isinstance(batch, tuple | list) else batch
    return real


def pretended(module: Any, count: int) -> tuple[Tensor, ...]:
    """Return a batch of random images, and labels if need be, of the shapes that a module is trained on."""
    if translates(module):
        example: tuple[Tensor, ...] = module.example(count)
        return example
    images = torch.rand(count, *module.image_shape, device=module.device) * 2 - 1
    return images, torch.arange(count, device=module.device) % max(1, conditions(module))


def conditions(module: nn.Module) -> int:
    """Return the number of classes that a conditional model takes labels of; 0 if it takes none."""
    return int(getattr(module, "num_classes", 0) or 0)


def classes(module: Any) -> int:
    """Return the number of classes, or of categories that it has found, that samples take in turn; 0 for none."""
    return conditions(module) or int(getattr(module, "num_categories", 0) or 0)


def class_names(module: Any) -> list[str]:
    """Return the names of these classes in the order of their labels; their numbers where no names are known."""
    count = classes(module)
    known = list(getattr(module, "class_names", None) or ())[:count]
    return known + [str(label) for label in range(len(known), count)]


def has_names(module: Any) -> bool:
    """Return whether its classes have names other than their numbers."""
    return any(name != str(label) for label, name in enumerate(class_names(module)))
