"""A mixture of Gaussians as a generator of vectors, fitted by stepwise expectation maximisation.

The mixture follows the vectors of training batches, as the running moments of BatchNorm do, by the stepwise algorithm
of Cappé and Moulines 2009 (arXiv 0712.4273). So it is fitted at every moment of a run. Its statistics are linear in the
vectors of a batch: their means over processes are those of the whole batch.
"""

import math

import torch
from torch import Tensor, nn

PATIENCE, POWER = 2, 0.8  # of the weights of batches, (number + PATIENCE)^-POWER
UNIFORM = 0.003  # share of a batch that belongs to all Gaussians alike, so that none is lost
FINAL = 20  # steps of `fit` on all vectors at once


class Mixture(nn.Module):
    """Latents `(N, dim)` to vectors `(N, dim)` of a mixture of Gaussians, each with a full covariance.

    The first number of a latent chooses the Gaussian: its quantile lies in one of the intervals from 0 to 1 that are as
    long as the Gaussians are frequent. Its place in the interval is the quantile of the first number that is coloured.
    So N(0, 1) gives exactly the mixture, and every vector has a latent for each Gaussian, see `inverse`.

    Args:
        dim: length of a vector.
        components: number of Gaussians.
        memory: number of batches after which the weight of a batch has decayed to 1/e.
        least: added to the diagonals of covariances, for vectors of variance 1.

    Raises:
        ValueError: if `components` is not positive.
    """

    weights: Tensor
    first: Tensor
    second: Tensor
    batches: Tensor

    def __init__(self, dim: int, components: int, memory: int = 100, least: float = 1e-3) -> None:
        super().__init__()
        if components < 1:
            raise ValueError(f"components is {components}; expected at least 1")
        self.memory, self.least = memory, least
        weights = torch.full((components,), 1 / components)
        # They start as half as wide as N(0, 1), about different means, which tell them apart; a single one is N(0, 1).
        spread = 0.5 if components > 1 else 0.0
        means = spread * torch.randn(components, dim, generator=torch.Generator().manual_seed(0))
        around = (1 - 1.5 * spread) * torch.eye(dim)
        self.register_buffer("weights", weights)
        self.register_buffer("first", weights[:, None] * means)
        self.register_buffer("second", weights[:, None, None] * (around + outer(means)))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    @property
    def shares(self) -> Tensor:
        """The shares `(components,)` of the Gaussians, above 0, of the sum 1."""
        weights = self.weights.clamp(min=1e-6)
        return weights / weights.sum()

    @property
    def means(self) -> Tensor:
        """The means `(components, dim)`."""
        return self.first / self.weights.clamp(min=1e-6)[:, None]

    @property
    def factors(self) -> Tensor:
        """The Cholesky factors `(components, dim, dim)` of the regularised covariances, lower triangular."""
        covariances = self.second / self.weights.clamp(min=1e-6)[:, None, None] - outer(self.means)
        least = self.least * torch.eye(self.first.shape[1]).to(covariances)
        factors: Tensor = torch.linalg.cholesky_ex(covariances + least)[0]
        return factors

    @torch.no_grad()
    def update(self, vectors: Tensor) -> None:
        """Update the mixture with a batch `(N, dim)`."""
        self.batches += 1
        weight = (self.batches + PATIENCE).to(self.first) ** -POWER
        self._move(vectors.to(self.first), weight.clamp(min=1 / self.memory), UNIFORM)

    @torch.no_grad()
    def fit(self, vectors: Tensor, batch: int = 128, steps: int = 1200) -> None:
        """Fit the mixture to vectors `(N, dim)` of about mean 0 and variance 1: steps on batches, then on all."""
        order = torch.Generator().manual_seed(0)
        for _ in range(steps if len(self.weights) > 1 else 0):
            self.update(vectors[torch.randint(len(vectors), (batch,), generator=order).to(vectors.device)])
        for _ in range(FINAL):
            self._move(vectors.to(self.first), 1.0)

    def logits(self, vectors: Tensor) -> Tensor:
        """Return the logarithms `(N, components)` of each Gaussian's share times its density at vectors `(N, dim)`."""
        factors = self.factors
        white = torch.linalg.solve_triangular(factors, (vectors - self.means[:, None]).mT, upper=False)
        volume = factors.diagonal(dim1=1, dim2=2).log().sum(1) + vectors.shape[1] / 2 * math.log(2 * math.pi)
        found: Tensor = ((self.shares.log() - volume)[:, None] - white.square().sum(1) / 2).mT
        return found

    def forward(self, z: Tensor) -> Tensor:
        """Return vectors `(N, dim)` of the mixture for latents `z` `(N, dim)` from N(0, 1)."""
        with torch.autocast(z.device.type, enabled=False):
            z = z.to(self.first)
            place, shares = torch.special.ndtr(z[:, 0].double()), self.shares.double()
            ends = shares.cumsum(0)
            which = (place[:, None] > ends[:-1]).sum(1)
            within = (place - (ends - shares)[which]) / shares[which]
            white = torch.cat([quantile(within)[:, None].to(z), z[:, 1:]], 1)
            vectors: Tensor = self.means[which] + (self.factors[which] @ white[:, :, None]).squeeze(2)
        return vectors

    def inverse(self, vectors: Tensor) -> Tensor:
        """Return latents `(N, dim)` of vectors `(N, dim)`, of the Gaussian that is the most probable for each."""
        vectors = vectors.to(self.first)
        which = self.logits(vectors).argmax(1)
        centred = (vectors - self.means[which])[:, :, None]
        white = torch.linalg.solve_triangular(self.factors[which], centred, upper=False).squeeze(2)
        shares = self.shares.double()
        place = (shares.cumsum(0) - shares)[which] + shares[which] * torch.special.ndtr(white[:, 0].double())
        return torch.cat([quantile(place)[:, None].to(white), white[:, 1:]], 1)

    def _move(self, vectors: Tensor, weight: Tensor | float, uniform: float = 0.0) -> None:
        """Move the statistics towards those of vectors `(N, dim)`, assigned to the Gaussians as they are now."""
        count = len(self.weights)
        with torch.autocast(vectors.device.type, enabled=False):
            assigned = torch.lerp(self.logits(vectors).softmax(1), torch.full_like(self.shares, 1 / count), uniform)
            assigned = assigned.mT / len(vectors)
            seen = (assigned.sum(1), assigned @ vectors, (assigned[:, :, None] * vectors).mT @ vectors)
            for old, new in zip((self.weights, self.first, self.second), seen, strict=True):
                old.copy_(old * (1 - weight) + weight * new)


def outer(vectors: Tensor) -> Tensor:
    """Return the outer products `(K, dim, dim)` of vectors `(K, dim)` with themselves."""
    return vectors[:, :, None] * vectors[:, None]


def quantile(share: Tensor) -> Tensor:
    """Return the numbers below which N(0, 1) has shares `(N,)` of float64, at most 6 from 0.

    Three steps of Newton refine the approximation of Winitzki 2008. ONNX has no operation for the quantile.
    """
    share = share.clamp(1e-9, 1 - 1e-9)
    length = torch.log(4 * share * (1 - share))
    half = 2 / (math.pi * 0.147) + length / 2
    root = (half.square() - length / 0.147).sqrt()
    found = torch.sign(share - 0.5) * (2 * (root - half).clamp(min=0)).sqrt()
    for _ in range(3):
        slope = torch.exp(-found.square() / 2) / math.sqrt(2 * math.pi)
        found = found - (torch.special.ndtr(found) - share) / slope
    return found
