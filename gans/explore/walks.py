"""Walks in a latent space: between points, along axes, along directions. The functions return latents."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from gans.explore.generators import Generator, images
from gans.latent import lerp, slerp

PATHS = {"lerp": lerp, "slerp": slerp}


def through(points: Tensor, steps: int, path: str = "slerp", loop: bool = False) -> Tensor:
    """Return a walk `(T, D)` through `points` `(K, D)` with `steps` latents from each to the next, both included.

    A loop returns to the first point and ends one step before it, so that it can be repeated.

    Raises:
        ValueError: if there are fewer than two points or steps, or `path` is neither `lerp` nor `slerp`.
    """
    if len(points) < 2 or steps < 2:
        raise ValueError(f"there are {len(points)} points and {steps} steps; expected at least 2 of each")
    if path not in PATHS:
        raise ValueError(f"path is {path}; expected {' or '.join(PATHS)}")
    ends = torch.cat([points, points[:1]]) if loop else points
    legs = [PATHS[path](start, end, steps)[:-1] for start, end in pairwise(ends)]
    return torch.cat(legs if loop else [*legs, ends[-1:]])


def traversal(z: Tensor, axes: Sequence[int], values: Tensor) -> Tensor:
    """Return the latent `z` `(D,)` with one coordinate set to each of `values` `(S,)`, `(len(axes) S, D)`.

    The latents of an axis are consecutive.

    Raises:
        ValueError: if an axis is out of range.
    """
    for axis in axes:
        if not 0 <= axis < len(z):
            raise ValueError(f"axis is {axis}; expected one from 0 to {len(z) - 1}")
    walks = z.repeat(len(axes), len(values), 1)
    for walk, axis in zip(walks, axes, strict=True):
        walk[:, axis] = values.to(z)
    return walks.flatten(0, 1)


def along(z: Tensor, directions: Tensor, strengths: Tensor) -> Tensor:
    """Return the latent `z` `(D,)` plus S multiples (`strengths`) of each of R directions `(R, D)`, `(R S, D)`."""
    moves = strengths.to(z)[None, :, None] * directions.to(z)[:, None]
    return (z + moves).flatten(0, 1)


def with_codes(z: Tensor, codes: Sequence[float]) -> Tensor:
    """Return latents `(N, D)` whose last numbers are these, such as InfoGAN's continuous codes, the same in each."""
    if not codes:
        return z
    return torch.cat([z[:, : -len(codes)], torch.tensor(codes).to(z).expand(len(z), -1)], 1)


def strongest_axes(generator: Generator, z: Tensor, low: float, high: float, count: int) -> list[int]:
    """Return the `count` axes with the largest effect on the images of latents `z` `(N, D)`, in descending order.

    The effect is the mean absolute difference of a pixel between the values `low` and `high` of the coordinate.
    """
    ends = torch.tensor([low, high])
    changes = []
    for axis in range(z.shape[1]):
        moved = torch.stack([traversal(latent, [axis], ends) for latent in z], 1)  # (2, N, D)
        first, last = images(generator, moved.flatten(0, 1)).chunk(2)
        changes.append((last - first).abs().mean())
    return torch.stack(changes).argsort(descending=True, stable=True)[:count].tolist()
