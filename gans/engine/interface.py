"""The interface of models that callbacks, metrics and commands use.

A generative model has `sample(n)`. It may take `seed`, and then draws the same latents on every device. An
image-to-image model has

    inputs(batch) -> tuple of tensors, the inputs of `translate`,
    translate(*inputs) -> images `(N, C, H, W)` in [-1, 1],
    targets(batch) -> images: the expected outputs, or unpaired examples of the target domain,
    example(n) -> a batch of n random images in the shapes of training.

A model whose BatchNorm needs other statistics for truncated latents has `standing(truncation)`, a context manager in
which it makes their images. `sample` uses it.

A style model maps latents to a space W of its own, and makes images of a w for each of its layers. It has

    to_w(z, *labels) -> w `(N, w_dim)`,
    from_w(w, noise=None) -> images of w `(N, w_dim)`, or `(N, num_ws, w_dim)` with one for each layer,
    num_ws, w_dim and mean_w `(w_dim,)`, the mean of w,
    noise_sizes, (height, width) of each layer's noise, and stored_noise `(noise_dim,)`, if `from_w` takes noise
    `(N, noise_dim)` in its place.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn


class BrokenSamplesError(ValueError):
    """A model's samples are not finite."""


@contextmanager
def undisturbed(module: nn.Module, seed: int) -> Iterator[None]:
    """Context manager for inference that leaves no trace: eval mode, no gradients, seeded random generators.

    Modes and generator states are restored at the end.
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
    """Return `count` images of `module.sample`, `(count, C, H, W)`, clipped to [-1, 1], on the module's device.

    They are a function of seed and weights. The state of the module does not change.

    Raises:
        ValueError: if the module has no `sample`.
    """
    return unclipped(module, count, seed, **options).clamp(-1, 1)


def unclipped(module: nn.Module, count: int, seed: int, **options: Any) -> Tensor:
    """Return images like `samples`, but not clipped to [-1, 1]."""
    if not callable(getattr(module, "sample", None)):
        raise ValueError(f"{type(module).__name__} has no sample(n); expected a model that generates images")
    sample: Any = module.sample
    with undisturbed(module, seed):
        drawn: Tensor = sample(count, **options, **seeded(sample, seed))
    return drawn.float()


def seeded(method: Callable[..., Tensor], seed: int) -> dict[str, int]:
    """Return the seed as the argument `seed` of `sample` or `translate`, or nothing if the method takes none."""
    return {"seed": seed} if "seed" in inspect.signature(method).parameters else {}


def makes_images(module: nn.Module) -> bool:
    """Return whether a module generates or translates images. An encoder does neither."""
    return callable(getattr(module, "sample", None)) or translates(module)


def translates(module: nn.Module) -> bool:
    """Return whether a module is an image-to-image model."""
    return callable(getattr(module, "translate", None))


def truncated(module: Any, truncation: float | None) -> AbstractContextManager[None]:
    """Return the context manager in which a model makes images of latents that are truncated, by its `standing`."""
    standing: Callable[[float | None], AbstractContextManager[None]] | None = getattr(module, "standing", None)
    return nullcontext() if standing is None else standing(truncation)


def styled(module: Any) -> bool:
    """Return whether a module is a style model."""
    return callable(getattr(module, "to_w", None)) and callable(getattr(module, "from_w", None))


def translated(module: Any, batch: Any, seed: int = 0) -> Tensor:
    """Return an image-to-image model's output for a batch, `(N, C, H, W)`, clipped to [-1, 1].

    The state of the module does not change.
    """
    with undisturbed(module, seed):
        images: Tensor = module.translate(*module.inputs(batch), **seeded(module.translate, seed))
    return images.clamp(-1, 1).float()


def made(module: nn.Module, batch: Any, count: int, seed: int) -> Tensor:
    """Return at most `count` generated images to compare with a batch: its translations, or else samples."""
    return translated(module, batch, seed)[:count] if translates(module) else samples(module, count, seed)


def real_images(module: nn.Module, batch: Any) -> Tensor:
    """Return the real images of a batch, which a module learns to generate: its targets, or the first element."""
    if callable(targets := getattr(module, "targets", None)):
        batch = targets(batch)
    real: Tensor = batch[0] if isinstance(batch, tuple | list) else batch
    return real


def pretended(module: Any, count: int) -> tuple[Tensor, ...]:
    """Return a batch of random images and labels in the shapes on which a module is trained."""
    if translates(module):
        example: tuple[Tensor, ...] = module.example(count)
        return example
    images = torch.rand(count, *module.image_shape, device=module.device) * 2 - 1
    return images, torch.arange(count, device=module.device) % max(1, conditions(module))


def conditions(module: nn.Module) -> int:
    """Return the number of classes of a class-conditional model, or 0."""
    return int(getattr(module, "num_classes", 0) or 0)


def classes(module: Any) -> int:
    """Return the number of classes of samples, or of learned categories (InfoGAN), or 0."""
    return conditions(module) or int(getattr(module, "num_categories", 0) or 0)


def class_names(module: Any) -> list[str]:
    """Return the names of these classes in the order of their labels. A class without a name has its number."""
    count = classes(module)
    known = list(getattr(module, "class_names", None) or ())[:count]
    return known + [str(label) for label in range(len(known), count)]


def has_names(module: Any) -> bool:
    """Return whether a module's classes have names other than their numbers."""
    return any(name != str(label) for label, name in enumerate(class_names(module)))
