"""SeFa, Shen and Zhou 2020 (arXiv 2007.06600): directions in closed form, from the weights of the first layer."""

import torch
from torch import Tensor, nn

from gans.explore.layers import first_matrix


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
    if not 1 <= count <= z.shape[1]:
        raise ValueError(f"count is {count}; expected 1 to {z.shape[1]}, the length of a latent")
    matrix = first_matrix(network, z[:1]).double()
    values, vectors = torch.linalg.eigh(matrix.T @ matrix)
    found = upright(vectors.T.flip(0)[:count])
    return found.to(z), values.flip(0)[:count].clamp(min=0).sqrt().to(z)


def upright(directions: Tensor) -> Tensor:
    """Return directions `(R, D)` with signs such that the element of largest magnitude is positive."""
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    return directions * largest.sign()
