"""SeFa, Shen and Zhou 2020 (arXiv 2007.06600): directions in closed form, from the weights of layers.

Of a plain generator they are those of the first layer. Of a style model they are those of the affine layers that read
w, stacked.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gans.explore.layers import first_matrix, style_matrices


def sefa(network: nn.Module, z: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return `count` unit directions `(count, D)` with the largest response of the first layer, and these `(count,)`.

    For a first layer `A z + b`, the directions n are the eigenvectors of `A^T A` with the largest eigenvalues. The
    responses are `|A n|`, descending. The element of largest magnitude of each direction is positive.

    Args:
        network: from latents to images.
        z: a latent `(1, D)`, of which only shape, dtype and device are used.
        count: number of directions, at most D.

    Raises:
        ValueError: if the first layer is not linear in the latent, or `count` is out of range.
    """
    check_count(count, z.shape[1])
    return strongest(first_matrix(network, z[:1]), count)


def sefa_of_styles(model: Any, layers: Sequence[int], count: int) -> tuple[Tensor, Tensor]:
    """Return `count` unit directions `(count, w_dim)` in W with the largest response of layers, and these `(count,)`.

    The matrix A is that of the layers' affine maps of w, stacked, with rows of length 1 as in the authors' code.

    Args:
        model: a style model, see `gans.engine.interface`.
        layers: which of its `num_ws` layers.
        count: number of directions, at most w_dim.

    Raises:
        ValueError: if one of the layers has no affine map of w, or `count` is out of range.
    """
    check_count(count, model.w_dim)
    matrices = style_matrices(model)
    stacked = torch.cat([matrices[layer] for layer in layers])
    return strongest(stacked / stacked.norm(dim=1, keepdim=True).clamp(min=1e-12), count)


def check_count(count: int, length: int) -> None:
    """Check a number of directions.

    Raises:
        ValueError: if it is more than the length of a latent, or less than 1.
    """
    if not 1 <= count <= length:
        raise ValueError(f"count is {count}; expected 1 to {length}, the length of a latent")


def strongest(matrix: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the `count` unit vectors n `(count, D)` with the largest `|A n|` for a matrix A `(F, D)`, and these."""
    wide = matrix.double()
    values, vectors = torch.linalg.eigh(wide.T @ wide)
    found = upright(vectors.T.flip(0)[:count])
    return found.to(matrix), values.flip(0)[:count].clamp(min=0).sqrt().to(matrix)


def upright(directions: Tensor) -> Tensor:
    """Return directions `(R, D)` with signs such that the element of largest magnitude is positive."""
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    return directions * largest.sign()
