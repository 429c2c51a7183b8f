"""SeFa, Shen and Zhou 2020 (arXiv 2007.06600): directions in closed form, from the weights that read the latent."""

import torch
from torch import Tensor, nn

from gans.explore.layers import first_matrix


def sefa(network: nn.Module, z: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the `count` unit directions `(count, D)` that the first layer answers most, and how much, `(count,)`.

    They are the eigenvectors of `A^T A` with the largest eigenvalues, for the layer's `A z + b`; how much is `|A n|`,
    falling. Their signs are such that the largest number is positive.

    Args:
        network: from latents like `z` `(1, D)` to images.
        z: gives D, dtype and device; its values are not read.
        count: of the directions; at most D.

    Raises:
        ValueError: if the first layer is not linear in the latent, or there are not so many.
    """
    if not 1 <= count <= z.shape[1]:
        raise ValueError(f"count is {count}; expected 1 to {z.shape[1]}, the length of a latent")
    matrix = first_matrix(network, z[:1]).double()
    values, vectors = torch.linalg.eigh(matrix.T @ matrix)
    found = upright(vectors.T.flip(0)[:count])
    return found.to(z), values.flip(0)[:count].clamp(min=0).sqrt().to(z)


def upright(directions: Tensor) -> Tensor:
    """Return directions `(R, D)` with signs such that the largest number of each is positive."""
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    return directions * largest.sign()
