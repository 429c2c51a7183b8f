"""What it costs not to give an image back: negative log-likelihoods, and the KL divergence of codes.

All in nats. Likelihoods are summed over the dimensions D of an image and averaged over the batch: means over dimensions
would weigh the KL divergence D times as much, in silence. The target comes last.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

# Variance of what rounding to 8 bits, steps of 2/255 in [-1, 1], does to a pixel. Under it a likelihood says nothing of
# images any more, and at 0, which a batch of empty images gives, it is infinite.
LEAST_VARIANCE = (2 / 255) ** 2 / 12


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return `KL(N(m, v) || N(0, 1)) = (m^2 + v - 1 - log v) / 2` for each dimension, `(N, D)` like both arguments.

    Source: Kingma and Welling 2013 (arXiv 1312.6114), appendix B.
    """
    # expm1: v - 1 of a v next to 1, where codes that say nothing are.
    return (mean.square() + torch.expm1(log_variance) - log_variance) / 2


def bernoulli(logits: Tensor, target: Tensor) -> Tensor:
    """Return `-sum_d [t log p + (1 - t) log(1 - p)]` with `p = sigmoid(logits)`, a scalar, of `(N, ...)` both.

    `target` is 0 or 1; anything between is no event of this distribution.
    """
    return binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(target)


def gaussian(mean: Tensor, target: Tensor, sigma: float | Tensor = 1.0) -> Tensor:
    """Return `sum_d (t - m)^2 / (2 sigma^2) + D/2 log(2 pi sigma^2)`, a scalar, of `(N, ...)` both.

    It is negative where the density exceeds 1.
    """
    variance = torch.as_tensor(sigma, dtype=mean.dtype, device=mean.device).square()
    squares = (target - mean).square().flatten(1).sum(1).mean()
    return squares / (2 * variance) + target[0].numel() / 2 * torch.log(2 * math.pi * variance)


def optimal_variance(mean: Tensor, target: Tensor) -> Tensor:
    """Return the `sigma^2` that minimises `gaussian`: the mean squared error of the batch, a scalar without gradient.

    At least `LEAST_VARIANCE`. Source: Rybkin, Daniilidis and Levine 2020 (arXiv 2006.13202).
    """
    return (target - mean).detach().square().mean().clamp(min=LEAST_VARIANCE)


def optimal_gaussian(mean: Tensor, target: Tensor) -> Tensor:
    """Return `min over sigma of gaussian = D/2 [log(2 pi MSE) + 1]`, a scalar, of `(N, ...)` both.

    The gradient is that of `D/2 log MSE` though sigma is taken as given: at its minimum a function does not feel the
    argument that minimises it. So a share of a batch takes `gaussian` with the sigma of the whole batch.
    """
    return gaussian(mean, target, optimal_variance(mean, target).sqrt())
