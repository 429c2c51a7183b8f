"""Scores from nearest neighbours: precision, recall, density, coverage, authenticity, 1-NN accuracy.

Precision and recall: Kynkaanniemi et al. 2019 (arXiv 1904.06991). Density and coverage: Naeem et al. 2020
(arXiv 2002.09797). Authenticity: Alaa et al. 2022 (arXiv 2102.08921). 1-NN two-sample accuracy: Lopez-Paz and Oquab
2017 (arXiv 1610.06545), Xu et al. 2018 (arXiv 1806.07755).

All are computed from three matrices of squared distances (real to real, fake to fake, fake to real). Each matrix is
computed once, in blocks of rows. Distances are float64. In float32, points with a mean of 100 and a deviation of 1 have
a distance of up to 0.7 from themselves.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gans.metrics.moments import as_features, as_pair

BLOCK = 2**20  # distances per block, 8 MB, which fit into the CPU's cache
ROUNDING = 1e-13  # squared distances below this share of a squared length are rounding errors


def centre(features: Tensor) -> Tensor:
    """Return the row `(1, D)` of float64 `features` that is nearest to their mean.

    Features are centred at this row instead of the mean, because the differences are exact for float32 features. So
    equal distances stay equal.
    """
    return features[(lengths(features) - 2 * (features @ features.mean(0))).argmin()].unsqueeze(0)


def lengths(points: Tensor) -> Tensor:
    """Return the squared norms `(N,)` of `points` `(N, D)` without copying them."""
    return torch.einsum("nd,nd->n", points, points)


def blocks(rows: Tensor, columns: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield blocks (index of the first row, squared distances of these `rows` to all `columns`) of float64 features.

    Rounding may make distances between equal points slightly negative. Every block overwrites the previous one.
    """
    of_rows, of_columns = lengths(rows), lengths(columns)
    step = max(1, BLOCK // len(columns))
    memory = rows.new_empty(min(step, len(rows)), len(columns))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        squared = torch.addmm(of_columns, rows[part], columns.T, alpha=-2, out=memory[: len(rows[part])])
        yield start, squared.add_(of_rows[part, None])


def snap(squared: Tensor, points: Tensor) -> Tensor:
    """Return squared distances from `points`, with 0 for those that are rounding errors."""
    tolerance = ROUNDING * lengths(points)
    return squared.masked_fill(squared <= (tolerance if squared.ndim == 1 else tolerance[:, None]), 0)


def nearest(features: Tensor, k: int) -> Tensor:
    """Return the squared distances `(N, k)` of each row of `features` to its k nearest other rows, ascending.

    For a fixed set they can be reused as `real_neighbours` of `neighbour_scores`.

    Raises:
        ValueError: if there are k rows or fewer, or if they are not finite.
    """
    features = as_features(features, least=_positive(k) + 1)
    return _nearest(features - centre(features), k)


def _nearest(points: Tensor, k: int, of: Tensor | None = None) -> Tensor:
    """Return the squared distances to the k nearest other points, of all `points` or those with the indices `of`."""
    of = torch.arange(len(points), device=points.device) if of is None else of
    rows = points if len(of) == len(points) else points[of]
    found = []
    for start, squared in blocks(rows, points):
        squared.scatter_(1, of[start : start + len(squared), None], torch.inf)  # a point is not its own neighbour
        found.append(squared.topk(k, largest=False).values)
    return snap(torch.cat(found), rows)


def radius(neighbours: Tensor, k: int) -> Tensor:
    """Return the squared distance to the k-th neighbour, or -inf if it is 0, because nothing is inside such a ball."""
    squared = neighbours[:, k - 1]
    return squared.masked_fill(squared == 0, -torch.inf)


class CrossDistances(NamedTuple):
    """Results from the matrix of distances of M fake to N real samples."""

    precise: Tensor  # (M,) whether the fake sample is in the manifold of real samples
    recalled: Tensor  # (N,) whether the real sample is in the manifold of fake samples
    balls: Tensor  # () number of pairs of a fake sample in the ball around a real one
    to_fake: Tensor  # (N,) squared distance of each real sample to the nearest fake one
    to_real: Tensor  # (M,) squared distance of each fake sample to the nearest real one
    which: Tensor  # (M,) index of that real sample


def cross_distances(
    real: Tensor, fake: Tensor, real_manifold: Tensor, real_balls: Tensor, fake_manifold: Tensor
) -> CrossDistances:
    """Compute the distances of `fake` `(M, D)` to `real` `(N, D)` once, and compare them with squared radii of both."""
    recalled = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    to_fake = torch.full((len(real),), torch.inf, dtype=torch.float64, device=real.device)
    balls = torch.zeros((), dtype=torch.int64, device=real.device)
    precise, to_real, which = [], [], []
    for start, squared in blocks(fake, real):
        precise.append((squared < real_manifold).any(1))
        recalled |= (squared < fake_manifold[start : start + len(squared), None]).any(0)
        balls += (squared < real_balls).count_nonzero()
        to_fake = torch.minimum(to_fake, squared.amin(0))
        closest = squared.min(1)
        to_real.append(closest.values)
        which.append(closest.indices)
    return CrossDistances(
        precise=torch.cat(precise),
        recalled=recalled,
        balls=balls,
        to_fake=snap(to_fake, real),
        to_real=snap(torch.cat(to_real), fake),
        which=torch.cat(which),
    )


def neighbour_scores(
    real: Tensor, fake: Tensor, k_manifold: int = 3, k_density: int = 5, *, real_neighbours: Tensor | None = None
) -> dict[str, float]:
    """Return precision, recall, density, coverage, authenticity and one_nn_accuracy by name.

    Precision and recall use open balls up to the `k_manifold`-th neighbour, density and coverage up to the
    `k_density`-th. Authenticity is in percent. 1-NN accuracy uses the first min(N, M) samples of each kind.

    Args:
        real: real features `(N, D)`.
        fake: fake features `(M, D)`.
        k_manifold: number of neighbours for precision and recall.
        k_density: number of neighbours for density and coverage.
        real_neighbours: `nearest(real, k)` with k not less than both, if known already.

    Raises:
        ValueError: if there are fewer than k + 1 samples, or if the features differ in D or are not finite.
    """
    k = max(_positive(k_manifold), _positive(k_density))
    real, fake = as_pair(real, fake, 2)
    _enough(real, "real", k)
    _enough(fake, "fake", k_manifold)
    origin = centre(real)
    real = real - origin
    fake = fake - origin
    around_real = _nearest(real, k) if real_neighbours is None else _known(real_neighbours, real, k)
    around_fake = _nearest(fake, k_manifold)
    manifolds = radius(around_real, k_manifold), radius(around_fake, k_manifold)
    cross = cross_distances(real, fake, manifolds[0], radius(around_real, k_density), manifolds[1])
    if len(real) == len(fake):
        accuracy = _one_nn(around_real, around_fake, cross)
    else:
        equal = min(len(real), len(fake))
        accuracy = neighbour_scores(real[:equal], fake[:equal], 1, 1)["one_nn_accuracy"]
    return {
        "precision": _share(cross.precise),
        "recall": _share(cross.recalled),
        "density": float(cross.balls) / (k_density * len(fake)),
        "coverage": _share(cross.to_fake < radius(around_real, k_density)),
        "authenticity": 100 * _share(cross.to_real > around_real[cross.which, 0]),
        "one_nn_accuracy": accuracy,
    }


def authentic(real: Tensor, fake: Tensor) -> Tensor:
    """Return for each fake sample whether it is authentic, `(M,)` bool.

    A sample is authentic if its nearest real sample is nearer to another real one than to it. Only real samples that
    are nearest to a fake one are compared with all others, so at most M x N distances are computed.

    Raises:
        ValueError: for features of other shapes, not finite, or fewer than 2.
    """
    real, fake = as_pair(real, fake)
    origin = centre(real)
    real = real - origin
    fake = fake - origin
    closest = [squared.min(1) for _, squared in blocks(fake, real)]
    which = torch.cat([found.indices for found in closest])
    near = torch.zeros(len(real), dtype=torch.bool, device=real.device).index_fill(0, which, True).nonzero()[:, 0]
    apart = real.new_empty(len(real)).index_copy(0, near, _nearest(real, 1, near)[:, 0])
    return snap(torch.cat([found.values for found in closest]), fake) > apart[which]


def _one_nn(around_real: Tensor, around_fake: Tensor, cross: CrossDistances) -> float:
    """Return the share of samples whose nearest other sample is of the same kind. Ties count as the other kind."""
    return _share(torch.cat([around_real[:, 0] < cross.to_fake, around_fake[:, 0] < cross.to_real]))


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())


def _positive(k: int) -> int:
    if k < 1:
        raise ValueError(f"k is {k}; expected at least 1")
    return k


def _enough(features: Tensor, kind: str, k: int) -> None:
    if len(features) <= k:
        raise ValueError(f"{kind} samples are {len(features)}; {k} nearest neighbours need at least {k + 1}")


def _known(neighbours: Tensor, real: Tensor, k: int) -> Tensor:
    if neighbours.ndim != 2 or len(neighbours) != len(real) or neighbours.shape[1] < k:
        shape = tuple(neighbours.shape)
        raise ValueError(f"real_neighbours have shape {shape}; expected ({len(real)}, {k}) or more columns")
    return neighbours.to(real)
