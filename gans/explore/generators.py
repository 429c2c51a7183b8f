"""What is explored: anything callable from latents `(N, D)` to images `(N, C, H, W)` in [-1, 1]."""

from collections.abc import Callable

import torch
from torch import Tensor

Generator = Callable[[Tensor], Tensor]

AT_ONCE = 250  # images, to bound memory


@torch.no_grad()
def images(generator: Generator, z: Tensor) -> Tensor:
    """Return the images `(N, C, H, W)` of latents `(N, D)`, however many, without a gradient."""
    return torch.cat([generator(piece) for piece in torch.split(z, AT_ONCE)])
