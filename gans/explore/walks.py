"""Walks in a space: between points, along axes, along directions. The functions return points."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from gans.explore.generators import Generator, images
from gans.latent import lerp, slerp

PATHS = {"lerp": lerp, "slerp": slerp}


def through(points: Tensor, steps: int, path: str = "slerp", loop: bool = False) -> Tensor:
    """Return a walk `(T, ...)` through `points` `(K, ...)` with `steps` latents from each to the next, both included.

    A loop returns to the first point and ends one step before it, so that it can be repeated.

    Raises:
        ValueError: if there are fewer than two points or steps, or `path` is neither `lerp` nor `slerp`.
    """
    if len(points) < 2 or steps < 2:
        raise ValueError(f"there are {len(points)} points and {steps} steps; expected at least 2 of each")
    if path not in PATHS:
        raise ValueError(f"path is {path}; expected {' or '.join(PATHS)}")
    flat = points.flatten(1)
    ends = torch.cat([flat, flat[:1]]) if loop else flat
    legs = [PATHS[path](start, end, steps)[:-1] for start, end in pairwise(ends)]
    walk = torch.cat(legs if loop else [*legs, ends[-1:]])
    return walk.view(len(walk), *points.shape[1:])


def traversal(point: Tensor, axes: Sequence[int], values: Tensor, layers: Sequence[int] | None = None) -> Tensor:
    """Return a point with one coordinate set to each of `values` `(S,)`, `(len(axes) S, ...)`.

    The points of an axis are consecutive.

    Args:
        point: `(D,)`, or `(L, D)` with a vector for each layer.
        axes: coordinates.
        values: of the coordinate.
        layers: those whose coordinate is set; None is all.

    Raises:
        ValueError: if an axis is out of range.
    """
    length = point.shape[-1]
    for axis in axes:
        if not 0 <= axis < length:
            raise ValueError(f"axis is {axis}; expected one from 0 to {length - 1}")
    walks = point.repeat(len(axes), len(values), *[1] * point.ndim)
    rows = slice(None) if layers is None else torch.as_tensor(list(layers), device=point.device)
    for walk, axis in zip(walks, axes, strict=True):
        if point.ndim == 1:
            walk[:, axis] = values.to(point)
        else:
            walk[:, rows, axis] = values.to(point)[:, None]
    return walks.flatten(0, 1)


def along(point: Tensor, directions: Tensor, strengths: Tensor) -> Tensor:
    """Return a point `(...)` plus S multiples (`strengths`) of each of R directions `(R, ...)`, `(R S, ...)`."""
    moves = strengths.to(point).view(1, -1, *[1] * point.ndim) * directions.to(point)[:, None]
    return (point + moves).flatten(0, 1)


def with_codes(z: Tensor, codes: Sequence[float]) -> Tensor:
    """Return latents `(N, D)` whose last numbers are these, such as InfoGAN's continuous codes, the same in each."""
    if not codes:
        return z
    return torch.cat([z[:, : -len(codes)], torch.tensor(codes).to(z).expand(len(z), -1)], 1)


def strongest_axes(generator: Generator, points: Tensor, low: float, high: float, count: int) -> list[int]:
    """Return the `count` axes with the largest effect on the images of `points` `(N, ...)`, in descending order.

    The effect is the mean absolute difference of a pixel between the values `low` and `high` of the coordinate.
    """
    ends = torch.tensor([low, high])
    changes = []
    for axis in range(points.shape[-1]):
        moved = torch.stack([traversal(point, [axis], ends) for point in points], 1)  # (2, N, ...)
        first, last = images(generator, moved.flatten(0, 1)).chunk(2)
        changes.append((last - first).abs().mean())
    return torch.stack(changes).argsort(descending=True, stable=True)[:count].tolist()
