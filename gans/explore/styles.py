"""Layers of style models: their names, style mixing and truncation, Karras et al. 2019 (arXiv 1812.04948).

Points of W+ are `(N, num_ws, w_dim)`, here with the mean w at 0, see `gans.explore.spaces`.
"""

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gans.explore.generators import Generator, images

# Where groups of layers begin and end, as shares of their number. In figure 3 of the paper, 4 of 18 layers are coarse
# (4x4 and 8x8 pixels), 4 are middle and 10 fine.
GROUPS = {"coarse": (0, 2 / 9), "middle": (2 / 9, 4 / 9), "fine": (4 / 9, 1)}

PSI = (1.0, 0.7, 0.5, 0.0, -0.5, -1.0)  # of figure 8


def layers_named(text: str, count: int) -> list[int]:
    """Return the layers that a text means: `coarse`, `middle`, `fine`, `all`, or numbers such as `0-3` or `2,5-7`.

    Raises:
        ValueError: if it means none of `count` layers.
    """
    if text == "all":
        return list(range(count))
    if text in GROUPS:
        first, end = (round(share * count) for share in GROUPS[text])
        return list(range(min(first, count - 1), max(end, first + 1)))[:count]
    found: list[int] = []
    for part in text.split(","):
        ends = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (0, -1)
        found += range(first, min(last, count) + 1) or [count]
    if max(found) >= count:
        told = f"coarse, middle, fine, all, or numbers from 0 to {count - 1} such as 0-1"
        raise ValueError(f"layers is {text}; expected {told}")
    return sorted(set(found))


def compact(layers: Sequence[int]) -> str:
    """Return layers in ascending order as a text, such as `0-3,5`."""
    parts: list[list[int]] = []
    for layer in layers:
        if parts and layer == parts[-1][1] + 1:
            parts[-1][1] = layer
        else:
            parts.append([layer, layer])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in parts)


def mixed(rows: Tensor, columns: Tensor, layers: Sequence[int]) -> Tensor:
    """Return points that take some layers from `columns` and the others from `rows`.

    Args:
        rows: points `(R, num_ws, w_dim)`.
        columns: points `(C, num_ws, w_dim)`.
        layers: those of `columns`.

    Returns:
        `(R C, num_ws, w_dim)`, the points of a row are consecutive.
    """
    points = rows.repeat_interleave(len(columns), 0)
    chosen = torch.as_tensor(list(layers), dtype=torch.long, device=rows.device)
    points[:, chosen] = columns.repeat(len(rows), 1, 1)[:, chosen]
    return points


def truncated(points: Tensor, values: Sequence[float], cutoff: int | None = None) -> Tensor:
    """Return points truncated towards the mean by each value of psi, `(N V, num_ws, w_dim)`.

    Args:
        points: `(N, num_ws, w_dim)`.
        values: of psi: 1 keeps a point, 0 is the mean, and -1 its opposite.
        cutoff: number of layers that are truncated, the first ones; None is all.
    """
    factors = points.new_ones(len(values), points.shape[1], 1)
    factors[:, :cutoff] = torch.tensor(values).to(points)[:, None, None]
    return (points[:, None] * factors).flatten(0, 1)


def truncation_sheet(
    generator: Callable[..., Tensor],
    points: Tensor,
    values: Sequence[float],
    cutoff: int | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """Return images `(N V, C, H, W)` of `truncated` points: figure 8 of the paper, a row for each point.

    Args:
        generator: from points, and noise inputs if they are given, to images.
        points: `(N, num_ws, w_dim)`.
        values: of psi, V.
        cutoff: number of layers that are truncated, the first ones; None is all.
        noise: inputs `(N, noise_dim)` that belong to the points; None takes the stored noise.
    """
    given = () if noise is None else (noise.repeat_interleave(len(values), 0),)
    return images(generator, truncated(points, values, cutoff), *given)


def mixing_sheet(generator: Generator, rows: Tensor, columns: Tensor, choices: Sequence[Sequence[int]]) -> Tensor:
    """Return the images of a sheet of style mixing, figure 3 of the paper, with C + 1 columns.

    The first row has the images of `columns` after a white one. For every choice of layers follow R rows: the image of
    a point of `rows`, and its mixtures with each of `columns`, of which the chosen layers are taken.

    Args:
        generator: from points to images.
        rows: points `(R, num_ws, w_dim)`.
        columns: points `(C, num_ws, w_dim)`.
        choices: of layers.
    """
    left, top = images(generator, rows), images(generator, columns)
    parts = [torch.ones_like(top[:1]), top]
    for layers in choices:
        made = images(generator, mixed(rows, columns, layers))
        made = made.view(len(rows), len(columns), *made.shape[1:])
        parts.append(torch.cat([left[:, None], made], 1).flatten(0, 1))
    return torch.cat(parts)


def towards(w: Tensor, mean: Tensor, psi: float | None) -> Tensor:
    """Return the model's own w `(..., w_dim)` truncated to `mean + psi (w - mean)`; unchanged for None."""
    return w if psi is None else mean + psi * (w - mean)
