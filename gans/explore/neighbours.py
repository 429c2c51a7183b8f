"""Nearest neighbours of images in a large set, to check whether a generator has memorised its training images."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from gans.metrics.neighbours import blocks, snap


class Nearest(NamedTuple):
    """The k nearest references of each of M queries, nearest first."""

    distances: Tensor  # (M, k) float64, Euclidean
    rows: Tensor  # (M, k) indices of the references


@torch.no_grad()
def nearest(queries: Tensor, references: Iterable[Tensor], k: int) -> Nearest:
    """Return the `k` nearest references of each query.

    Distances are float64, so a copy of a query has the distance 0. Blocks are not kept in memory.

    Args:
        queries: features `(M, D)`.
        references: blocks of features `(n, D)`.
        k: number of neighbours.

    Raises:
        ValueError: if there are fewer than k references.
    """
    queries = queries.double()
    origin = queries.mean(0)
    squares = queries.new_full((len(queries), k), torch.inf)
    rows = torch.zeros(len(queries), k, dtype=torch.long, device=queries.device)
    count = 0
    for block in references:
        which = torch.arange(count, count + len(block), device=rows.device)
        count += len(block)
        for start, found in blocks(queries - origin, block.to(queries) - origin):
            part = slice(start, start + len(found))
            several = torch.cat([squares[part], snap(found, queries[part] - origin)], 1)
            squares[part], best = several.topk(k, largest=False)
            rows[part] = torch.cat([rows[part], which.expand(len(found), -1)], 1).gather(1, best)
    if count < k:
        raise ValueError(f"there are {count} references; expected at least {k}")
    return Nearest(squares.sqrt(), rows)
