"""Contextual attention, Yu et al. 2018 (arXiv 1801.07892): a hole is filled with patches of the known part of maps.

Each 3x3 patch of the maps at half their resolution is compared with all known ones, by the product with the known
patch at length 1. The softmax of these scores weighs 4x4 patches of the maps, which overlap by half and are averaged.
Scores are fused first: a score gains those of the neighbours of both patches, so that neighbours copy from neighbours.
"""

import torch
from torch import Tensor
from torch.nn.functional import fold, pad, unfold

from gans.networks.layers import widened

STEP = 2  # positions of the maps per position of the attention, a side
COMPARED = 3  # side of the patches that are compared
COPIED = 2 * STEP  # side of the patches that are copied
SHARPNESS = 10.0  # factor of the scores in the softmax
SHORTEST = 1e-4  # length by which a shorter patch is divided


def attended(maps: Tensor, masks: Tensor) -> Tensor:
    """Return maps `(N, C, h, w)` in which every patch is a weighted mean of known patches of `maps`.

    The result has the dtype of `maps` and is computed in at least float32: scores of half precision have an error of
    the order of their differences. Memory grows with `(h w / 4)^2`.

    Args:
        maps: features, with even sides.
        masks: `(N, 1, h, w)`, 1 in holes. If nothing is known, the result is 0.
    """
    height, width = maps.shape[-2:]
    with torch.autocast(maps.device.type, enabled=False):
        wide = widened(maps)
        patches = unfold(subsampled(wide, STEP), COMPARED, padding=COMPARED // 2)  # (N, 9 C, L)
        lengths = patches.square().sum(1, keepdim=True).sqrt()
        scores = patches.mT @ (patches / lengths.clamp(min=SHORTEST))  # (N, L, L): of a patch with each known one
        scores = fused(scores, height // STEP, width // STEP)
        holes = unfold(subsampled(masks.to(wide), STEP), COMPARED, padding=COMPARED // 2).sum(1, keepdim=True)
        known = (holes == 0).to(wide)  # (N, 1, L): patches without a hole
        weights = (SHARPNESS * scores * known).softmax(-1) * known
        copied = unfold(wide, COPIED, padding=COPIED // 4, stride=STEP)
        made = fold(copied @ weights.mT, (height, width), COPIED, padding=COPIED // 4, stride=STEP)
        return (made / (COPIED // STEP) ** 2).to(maps.dtype)


def subsampled(maps: Tensor, step: int) -> Tensor:
    """Return maps `(N, C, h / step, w / step)` of maps `(N, C, h, w)`, whose first and last row and column are kept.

    It is TensorFlow's nearest-neighbour resizing with `align_corners`, which the authors use: row i is row
    `i (h - 1) / (h / step - 1)`, rounded. In the second half of the rows it is one further than in plain subsampling.
    """
    rows, columns = (_positions(side, side // step, maps.device) for side in maps.shape[-2:])
    return maps.index_select(-2, rows).index_select(-1, columns)


def _positions(side: int, count: int, device: torch.device) -> Tensor:
    """Return `count` positions `(count,)` from 0 to `side - 1`, evenly spaced and rounded, halves up."""
    places = torch.arange(count, device=device)
    last = places.amax(0).clamp(min=1)  # a tensor, because sizes are symbols in a program that is exported
    return (2 * (side - 1) * places + last) // (2 * last)


def fused(scores: Tensor, height: int, width: int) -> Tensor:
    """Return scores `(N, L, L)` of pairs of positions, to which those of neighbouring pairs are added.

    They are the pairs of the next and the previous positions, first in rows, then in columns. Positions are those of a
    grid of `height` by `width`, row by row, in which the last of a row is followed by the first of the next, as in the
    authors' code.
    """
    by_column = turned(diagonal(scores), height, width)
    return turned(diagonal(by_column), width, height)


def turned(scores: Tensor, height: int, width: int) -> Tensor:
    """Return scores `(N, L, L)` of positions of a grid `height` by `width`, row by row, now column by column."""
    grid = scores.reshape(-1, height, width, height, width).transpose(1, 2).transpose(3, 4)
    return grid.reshape(scores.shape)


def diagonal(scores: Tensor) -> Tensor:
    """Return scores `(N, L, L)` plus their two neighbours along the diagonal; there are zeros outside."""
    wide = pad(scores, (1, 1, 1, 1))
    return wide[:, :-2, :-2] + scores + wide[:, 2:, 2:]
