"""The interface of generators for `gans.explore`: any callable from points `(N, ...)` to images `(N, C, H, W)`."""

from collections.abc import Callable

import torch
from torch import Tensor

from gans.metrics.interface import Extractor
from gans.pictures.images import to_uint8

Generator = Callable[[Tensor], Tensor]

AT_ONCE = 250  # images per batch, to limit memory


@torch.no_grad()
def images(generator: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Return the images `(N, C, H, W)` of points `(N, ...)`, computed in batches without gradients.

    Args:
        generator: from points, and perhaps noise inputs, to images.
        inputs: points, and perhaps noise inputs `(N, noise_dim)`.
    """
    pieces = zip(*(torch.split(part, AT_ONCE) for part in inputs), strict=True)
    return torch.cat([generator(*piece) for piece in pieces])


def classified(generator: Generator, z: Tensor, classifier: Extractor) -> Tensor:
    """Return the classes `(N,)` that a classifier assigns to the images of points `(N, ...)`."""
    look = classifier.to(z.device)
    parts = torch.split(z, AT_ONCE)
    return torch.cat([look(to_uint8(images(generator, part)))[1].argmax(1) for part in parts])


def still(made: Tensor) -> Tensor:
    """Return images unchanged, and for clips `(N, C, T, H, W)` their middle frames `(N, C, H, W)`."""
    return made[:, :, made.shape[2] // 2] if made.ndim == 5 else made
