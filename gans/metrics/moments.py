"""Mean and covariance of features in float64, streamed or at once, and the Frechet distance between two Gaussians.

Sources: Dowson and Landau 1982 for the distance, Heusel et al. 2017 (arXiv 1706.08500) for its use on images.
"""

from functools import cached_property

import torch
from torch import Tensor

ROWS = 4096  # converted to float64 at a time


def as_features(features: Tensor, name: str = "features", least: int = 1) -> Tensor:
    """Return `features` `(N, D)` in float64, detached.

    Args:
        features: the features.
        name: name of the features in error messages.
        least: minimum number of rows.

    Raises:
        ValueError: if they have another number of dimensions, fewer than `least` rows, NaN or infinity.
    """
    if features.ndim != 2 or features.shape[1] == 0:
        raise ValueError(f"{name} have shape {tuple(features.shape)}; expected (N, D)")
    if len(features) < least:
        raise ValueError(f"{name} have {len(features)} rows; expected at least {least}")
    if features.device.type == "mps":  # does not support float64
        features = features.cpu()
    features = features.detach().double()
    broken = ~features.sum(1).isfinite()  # sums, because a check of every value needs a copy of them
    if broken.any():
        raise ValueError(f"{name} contain NaN or infinity at row {int(broken.nonzero()[0])}")
    return features


def as_pair(real: Tensor, fake: Tensor, least: int = 2) -> tuple[Tensor, Tensor]:
    """Return both sets of features in float64 on the device of the real ones.

    Raises:
        ValueError: if one is not `(N, D)` with at least `least` finite rows, or if they differ in D.
    """
    real = as_features(real, "real features", least)
    fake = as_features(fake, "fake features", least).to(real.device)
    same_width(real.shape[1], fake.shape[1])
    return real, fake


def same_width(real: int, fake: int) -> None:
    """Check that both sides have the same number of columns.

    Raises:
        ValueError: if they differ.
    """
    if real != fake:
        raise ValueError(f"real features have {real} columns and fake features {fake}; expected the same")


class Moments:
    """Running mean and covariance of batches of features. All samples have the same weight.

    Batches are merged by their centred moments (Chan et al. 1979), so a large mean causes no loss of precision.

    Args:
        dim: D, the number of features.
        device: device of the moments, to which batches are moved.
    """

    def __init__(self, dim: int, device: torch.device | str = "cpu") -> None:
        self.n = 0
        self.mean = torch.zeros(dim, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(dim, dim, dtype=torch.float64, device=device)

    def update(self, features: Tensor) -> None:
        """Add `features` `(N, D)`; N may be 0.

        Raises:
            ValueError: if they are not `(N, D)` or not finite.
        """
        for part in torch.split(features, ROWS):
            rows = as_features(part, least=0).to(self.mean.device)
            if len(rows):
                mean = rows.mean(0)
                centred = rows - mean
                self._add(len(rows), mean, centred.T @ centred)

    def merge(self, other: "Moments") -> None:
        """Add the samples of `other`, which does not change."""
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
        """The unbiased covariance `(D, D)`, with the divisor N - 1.

        Raises:
            ValueError: if there are fewer than 2 samples.
        """
        if self.n < 2:
            raise ValueError(f"samples seen are {self.n}; a covariance needs at least 2")
        return self.scatter / (self.n - 1)


class Gaussian:
    """A normal distribution with the moments of a set of features, in float64.

    Args:
        n: number of samples from which it was estimated.
        mean: `(D,)`.
        covariance: `(D, D)`, symmetric, unbiased.
        root: symmetric square root of the covariance, if known; else it is computed when it is first read.

    Raises:
        ValueError: if there are fewer than 2 samples, or the moments contain NaN or infinity.
    """

    def __init__(self, n: int, mean: Tensor, covariance: Tensor, root: Tensor | None = None) -> None:
        if n < 2:
            raise ValueError(f"samples are {n}; a Gaussian needs at least 2")
        if not (mean.isfinite().all() and covariance.isfinite().all()):
            raise ValueError("moments of the features contain NaN or infinity")
        self.n, self.mean, self.covariance = n, mean.double(), covariance.double()
        if root is not None:
            self.__dict__["root"] = root.double()

    @classmethod
    def of(cls, features: Tensor) -> "Gaussian":
        """Return the Gaussian fitted to `features` `(N, D)`, on their device."""
        if features.ndim != 2:
            raise ValueError(f"features have shape {tuple(features.shape)}; expected (N, D)")
        device = features.device if features.device.type != "mps" else "cpu"
        moments = Moments(features.shape[1], device)
        moments.update(features)
        return cls.from_moments(moments)

    @classmethod
    def from_moments(cls, moments: Moments) -> "Gaussian":
        """Return the Gaussian with these moments."""
        return cls(moments.n, moments.mean, moments.covariance)

    @cached_property
    def root(self) -> Tensor:
        """The symmetric positive square root of the covariance, `(D, D)`. It takes seconds for D = 2048."""
        values, vectors = torch.linalg.eigh(self.covariance)
        root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
        return root


def frechet(real: Gaussian, fake: Gaussian) -> Tensor:
    """Return the squared Frechet (2-Wasserstein) distance `|m - n|^2 + tr(S + T - 2 (S T)^(1/2))`, a scalar.

    The eigenvalues of `S T` are computed as those of the symmetric matrix `R T R` with `R R = S`. They are real and
    accurate for singular matrices too. Only the root of `real` is needed.

    Raises:
        ValueError: if the dimensions differ.
    """
    same_width(len(real.mean), len(fake.mean))
    middle = real.root @ fake.covariance.to(real.root) @ real.root
    return _assemble(real, fake, _root_trace((middle + middle.T) / 2))


def frechet_to(real: Gaussian, features: Tensor) -> Tensor:
    """Return the Frechet distance of `features` `(N, D)` to `real`. It is fast and exact for N <= D too.

    With centred features Y, `S Y'Y` has the eigenvalues of the N x N matrix `Y S Y'`.
    """
    fake = as_features(features, "fake features", 2).to(real.mean)
    same_width(len(real.mean), fake.shape[1])
    if len(fake) > fake.shape[1]:
        return frechet(real, Gaussian.of(fake))
    scaled = centred(fake)
    trace_root = _root_trace(scaled @ real.covariance @ scaled.T)
    return _distance(real.mean - fake.mean(0), real.covariance.trace() + scaled.square().sum(), trace_root)


def frechet_of_few(real: Tensor, fake: Tensor) -> Tensor:
    """Return the exact Frechet distance of two float64 sets with N <= D, by the nuclear norm of `X Y'`."""
    first, second = centred(real), centred(fake)
    traces = first.square().sum() + second.square().sum()
    return _distance(real.mean(0) - fake.mean(0), traces, torch.linalg.svdvals(first @ second.T).sum())


def centred(features: Tensor) -> Tensor:
    """Return scaled and centred features X `(N, D)` such that `X' X` is the unbiased covariance of `features`."""
    scale: float = (len(features) - 1) ** -0.5
    return (features - features.mean(0)) * scale


def _root_trace(matrix: Tensor) -> Tensor:
    values: Tensor = torch.linalg.eigvalsh(matrix)
    return values.clamp(min=0).sqrt().sum()


def _assemble(real: Gaussian, fake: Gaussian, trace_root: Tensor) -> Tensor:
    mean, covariance = fake.mean.to(real.mean), fake.covariance.to(real.mean)
    return _distance(real.mean - mean, real.covariance.trace() + covariance.trace(), trace_root)


def _distance(shift: Tensor, traces: Tensor, trace_root: Tensor) -> Tensor:
    # A squared distance is not negative; values below 0 are rounding errors.
    return (shift.square().sum() + traces - 2 * trace_root).clamp(min=0)
