"""GANSpace, Harkonen et al. 2020 (arXiv 2004.02546): principal components of a hidden layer, as directions of latents.

The components of activations are no directions of a latent; least squares finds those of which the coordinates are the
best linear guess.
"""

import torch
from torch import Tensor, nn

from gans.explore.layers import first_activations
from gans.explore.sefa import upright


def pca(network: nn.Module, z: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return `count` unit directions `(count, D)` and the share of the variance that each component has, `(count,)`.

    Args:
        network: from latents to images.
        z: latents `(N, D)` to look at; the paper takes a million, ten thousand do.
        count: of the directions; at most D.

    Raises:
        ValueError: if there are not so many, or too few latents.
    """
    if not 1 <= count <= min(z.shape[1], len(z) - 1):
        raise ValueError(f"count is {count}; expected 1 to {min(z.shape[1], len(z) - 1)}")
    hidden = first_activations(network, z).float()
    hidden -= hidden.mean(0)
    coordinates, shares = components(hidden, count)
    # The coordinates are orthogonal: least squares goes one by one.
    found = coordinates.T @ (z - z.mean(0)).float() / coordinates.square().sum(0)[:, None].clamp(min=1e-12)
    found = upright(found / found.norm(dim=1, keepdim=True).clamp(min=1e-12))
    return found.to(z), shares


def components(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the first `count` principal coordinates `(N, count)` of centred rows `(N, F)`, and shares of the variance.

    By a randomised decomposition with a seed of its own; the whole one would take minutes for a convolutional layer.
    """
    with torch.random.fork_rng([rows.device] if rows.device.type == "cuda" else []):
        torch.manual_seed(0)
        wide = min(*rows.shape, count + 16)  # the last components of a randomised decomposition are worse
        left, values, _ = torch.svd_lowrank(rows, wide, niter=4)
    shares = values.square() / rows.square().sum().clamp(min=1e-12)
    return (left * values)[:, :count], shares[:count]
