"""GANSpace, Harkonen et al. 2020 (arXiv 2004.02546): principal components of a hidden layer as latent directions.

The components are directions of activations. They are converted to directions of latents by a least-squares fit of the
latents to the components' coordinates. In W of a style model, they are directions of w itself.
"""

import torch
from torch import Tensor, nn

from gans.explore.layers import first_activations
from gans.explore.sefa import upright


def pca(network: nn.Module, z: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return `count` unit directions `(count, D)`, and the share of variance of each component `(count,)`.

    Args:
        network: from latents to images.
        z: random latents `(N, D)`. The paper uses a million; ten thousand are enough.
        count: number of directions, at most D and less than N.

    Raises:
        ValueError: if `count` is out of range.
    """
    check_count(count, z)
    hidden = first_activations(network, z).float()
    hidden -= hidden.mean(0)
    return fitted(hidden, z, count)


def pca_of_styles(points: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the first `count` principal components of points of W, as `pca`.

    They are directions of the points themselves, and of every layer or of some (section 3.2 of the paper).

    Args:
        points: of W, `(N, w_dim)`.
        count: number of directions, at most w_dim and less than N.

    Raises:
        ValueError: if `count` is out of range.
    """
    check_count(count, points)
    return fitted((points - points.mean(0)).float(), points, count)


def check_count(count: int, z: Tensor) -> None:
    """Check a number of directions of points `(N, D)`.

    Raises:
        ValueError: if it is out of range.
    """
    if not 1 <= count <= min(z.shape[1], len(z) - 1):
        raise ValueError(f"count is {count}; expected 1 to {min(z.shape[1], len(z) - 1)}")


def fitted(hidden: Tensor, z: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return directions of `z` `(N, D)` along which the principal components of centred rows `hidden` `(N, F)` grow.

    The second result is the components' shares of the variance, `(count,)`.
    """
    coordinates, shares = components(hidden, count)
    # The coordinates are orthogonal, so each direction can be fitted separately.
    found = coordinates.T @ (z - z.mean(0)).float() / coordinates.square().sum(0)[:, None].clamp(min=1e-12)
    found = upright(found / found.norm(dim=1, keepdim=True).clamp(min=1e-12))
    return found.to(z), shares


def components(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the first `count` principal coordinates `(N, count)` of centred rows `(N, F)`, and shares of the variance.

    It uses a randomised decomposition with a fixed seed. A full one takes minutes for a convolutional layer.
    """
    with torch.random.fork_rng([rows.device] if rows.device.type == "cuda" else []):
        torch.manual_seed(0)
        rank = min(*rows.shape, count + 16)  # the last components of a randomised decomposition are less accurate
        left, values, _ = torch.svd_lowrank(rows, rank, niter=4)
    shares = values.square() / rows.square().sum().clamp(min=1e-12)
    return (left * values)[:, :count], shares[:count]
