"""Mean and covariance of features in float64, streamed or whole, and the Frechet distance between two Gaussians.

Source of the distance: Dowson and Landau 1982; of its use on images: Heusel et al. 2017 (arXiv 1706.08500).
"""

from functools import cached_property

import torch
from torch import Tensor

ROWS = 4096  # converted to float64 at a time


def as_features(features: Tensor, name: str = "features", least: int = 1) -> Tensor:
    """Return `features` `(N, D)` in float64, detached.

    Raises:
        ValueError: if they have another number of dimensions, fewer than `least` rows, or NaN or infinity.
    """
    if features.ndim != 2 or features.shape[1] == 0:
        raise ValueError(f"{name} have shape {tuple(features.shape)}; expected (N, D)")
    if len(features) < least:
        raise ValueError(f"{name} have {len(features)} rows; expected at least {least}")
    if features.device.type == "mps":  # has no float64
        features = features.cpu()
    features = features.detach().double()
    broken = ~features.sum(1).isfinite()  # unlike a look at every value, needs no copy of them
    if broken.any():
        raise ValueError(f"{name} hold NaN or infinity at row {int(broken.nonzero()[0])}")
    return features


def as_pair(real: Tensor, fake: Tensor, least: int = 2) -> tuple[Tensor, Tensor]:
    """Return both sets of features in float64 on the device of the real ones.

    Raises:
        ValueError: if one is no `(N, D)` of at least `least` finite rows, or if they differ in D.
    """
    real = as_features(real, "features of the reals", least)
    fake = as_features(fake, "features of the fakes", least).to(real.device)
    same_width(real.shape[1], fake.shape[1])
    return real, fake


def same_width(real: int, fake: int) -> None:
    """Raise a ValueError unless both sides have the same number of features."""
    if real != fake:
        raise ValueError(f"features of the reals have {real} columns and those of the fakes {fake}; expected the same")


class Moments:
    """Running mean and covariance of batches of features, all of them counted once, in any order.

    Batches are merged by their centred moments (Chan et al. 1979), so a large mean costs no digits.

    Args:
        dim: D, the number of features.
        device: where the moments are kept; batches are moved there.
    """

    def __init__(self, dim: int, device: torch.device | str = "cpu") -> None:
        self.n = 0
        self.mean = torch.zeros(dim, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(dim, dim, dtype=torch.float64, device=device)

    def update(self, features: Tensor) -> None:
        """Add `features` `(N, D)`, N of any size.

        Raises:
            ValueError: if they are not `(N, D)` and finite.
        """
        for part in torch.split(features, ROWS):
            rows = as_features(part, least=0).to(self.mean.device)
            if len(rows):
                mean = rows.mean(0)
                centred = rows - mean
                self._add(len(rows), mean, centred.T @ centred)

    def merge(self, other: "Moments") -> None:
        """Add what `other` has seen; it is left as it is."""
        if other.n:
            self._add(other.n, other.mean.to(self.mean.device), other.scatter.to(self.mean.device))

    def _add(self, n: int, mean: Tensor, scatter: Tensor) -> None:
        same_width(len(self.mean), len(mean))
        total = self.n + n
        shift = mean - self.mean
        self.mean = self.mean + shift * (n / total)
        self.scatter = self.scatter + scatter + torch.outer(shift, shift) * (self.n * n / total)
        self.n = total

    @property
    def covariance(self) -> Tensor:
        """The unbiased covariance `(D, D)`, that is, divided by N - 1.

        Raises:
            ValueError: if fewer than 2 samples were seen.
        """
        if self.n < 2:
            raise ValueError(f"samples seen are {self.n}; a covariance needs at least 2")
        return self.scatter / (self.n - 1)


class Gaussian:
    """The normal distribution with the moments of a set of features, all in float64.

    Args:
        n: samples that it was estimated from.
        mean: `(D,)`.
        covariance: `(D, D)`, symmetric, unbiased.
        root: the symmetric square root of the covariance if it is known already; else it is computed once, when it is
            first read.

    Raises:
        ValueError: if there were fewer than 2 samples, or the moments hold NaN or infinity.
    """

    def __init__(self, n: int, mean: Tensor, covariance: Tensor, root: Tensor | None = None) -> None:
        if n < 2:
            raise ValueError(f"samples are {n}; a Gaussian needs at least 2")
        if not (mean.isfinite().all() and covariance.isfinite().all()):
            raise ValueError("moments of the features hold NaN or infinity")
        self.n, self.mean, self.covariance = n, mean.double(), covariance.double()
        if root is not None:
            self.__dict__["root"] = root.double()

    @classmethod
    def of(cls, features: Tensor) -> "Gaussian":
        """Return the Gaussian of `features` `(N, D)`, on their device."""
        if features.ndim != 2:
            raise ValueError(f"features have shape {tuple(features.shape)}; expected (N, D)")
        device = features.device if features.device.type != "mps" else "cpu"
        moments = Moments(features.shape[1], device)
        moments.update(features)
        return cls.from_moments(moments)

    @classmethod
    def from_moments(cls, moments: Moments) -> "Gaussian":
        """Return the Gaussian of all features that `moments` has seen."""
        return cls(moments.n, moments.mean, moments.covariance)

    @cached_property
    def root(self) -> Tensor:
        """The symmetric positive square root of the covariance, `(D, D)`; seconds for D = 2048, so worth keeping."""
        values, vectors = torch.linalg.eigh(self.covariance)
        root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
        return root


def frechet(real: Gaussian, fake: Gaussian) -> Tensor:
    """Return the squared Frechet (2-Wasserstein) distance `|m - n|^2 + tr(S + T - 2 (S T)^(1/2))`, a scalar.

    The eigenvalues of `S T` are those of the symmetric `R T R` with `R R = S`, which stay real, and keep their digits,
    where the product is singular. Only the root of `real` is used.

    Raises:
        ValueError: if the dimensions differ.
    """
    same_width(len(real.mean), len(fake.mean))
    middle = real.root @ fake.covariance.to(real.root) @ real.root
    return _assemble(real, fake, _root_trace((middle + middle.T) / 2))


def frechet_to(real: Gaussian, features: Tensor) -> Tensor:
    """Return the Frechet distance of `features` `(N, D)` to `real`, fast and exact for few samples too (N <= D).

    With centred features Y, `S Y'Y` has the eigenvalues of the N x N matrix `Y S Y'`.
    """
    fake = as_features(features, "features of the fakes", 2).to(real.mean)
    same_width(len(real.mean), fake.shape[1])
    if len(fake) > fake.shape[1]:
        return frechet(real, Gaussian.of(fake))
    scaled = centred(fake)
    trace_root = _root_trace(scaled @ real.covariance @ scaled.T)
    return _distance(real.mean - fake.mean(0), real.covariance.trace() + scaled.square().sum(), trace_root)


def frechet_of_few(real: Tensor, fake: Tensor) -> Tensor:
    """Return the Frechet distance of two float64 sets, both of N <= D, by the nuclear norm of `X Y'`: exact."""
    first, second = centred(real), centred(fake)
    traces = first.square().sum() + second.square().sum()
    return _distance(real.mean(0) - fake.mean(0), traces, torch.linalg.svdvals(first @ second.T).sum())


def centred(features: Tensor) -> Tensor:
    """Return X `(N, D)` such that `X' X` is the unbiased covariance of `features`."""
    scale: float = (len(features) - 1) ** -0.5
    return (features - features.mean(0)) * scale


def _root_trace(matrix: Tensor) -> Tensor:
    values: Tensor = torch.linalg.eigvalsh(matrix)
    return values.clamp(min=0).sqrt().sum()


def _assemble(real: Gaussian, fake: Gaussian, trace_root: Tensor) -> Tensor:
    mean, covariance = fake.mean.to(real.mean), fake.covariance.to(real.mean)
    return _distance(real.mean - mean, real.covariance.trace() + covariance.trace(), trace_root)


def _distance(shift: Tensor, traces: Tensor, trace_root: Tensor) -> Tensor:
    # A squared distance is never negative; what is below 0 is rounding.
    return (shift.square().sum() + traces - 2 * trace_root).clamp(min=0)
