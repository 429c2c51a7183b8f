"""Perceptual path length, Karras et al. 2019 (arXiv 1812.04948): how much pictures change on a short way of latents.

By torchmetrics, with eyes of our own: what its LPIPS looks at has to be downloaded.
"""

from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torchmetrics.functional.image import perceptual_path_length

from gans.explore.generators import AT_ONCE
from gans.explore.perceptual import Eyes


class _Sampled(nn.Module):
    """A generator as torchmetrics wants one: with `sample`, and images from 0 to 255."""

    def __init__(self, generator: Callable[..., Tensor], draws: Callable[[int], Tensor], num_classes: int) -> None:
        super().__init__()
        self.generator, self.draws, self.num_classes = generator, draws, num_classes

    def sample(self, count: int) -> Tensor:
        """Return latents `(count, D)`."""
        return self.draws(count)

    def forward(self, z: Tensor, *labels: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` from 0 to 255."""
        return (self.generator(z, *labels) + 1) * 127.5


class _Distance(nn.Module):
    """Squared distance of what eyes see in two batches of images in [-1, 1]."""

    def __init__(self, features: Eyes) -> None:
        super().__init__()
        self.features = features

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return `(N,)`."""
        return (self.features(first) - self.features(second)).square().sum(1)


def path_length(
    generator: Callable[..., Tensor],
    draws: Callable[[int], Tensor],
    features: Eyes,
    *,
    samples: int = 2000,
    epsilon: float = 1e-3,
    path: Literal["lerp", "slerp"] = "slerp",
    discard: float = 0.01,
    num_classes: int = 0,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the mean of `|f(G(z(e))) - f(G(z(0)))|^2 / e^2` over ways between latents, and its standard deviation.

    At the beginning of the way, where a latent is one of the prior; on the great circle between two Gaussian ones, any
    place is like the beginning.

    Args:
        generator: from latents, and with `num_classes` labels, to images in [-1, 1].
        draws: latents `(n, D)` of the prior for a number n of them, others at each call.
        features: from images to features `(n, F)`.
        samples: ways.
        epsilon: share of the way that is gone. In single precision much less would be rounding.
        path: `slerp` for a normal prior, `lerp` for others.
        discard: share of the ways that is left out at either end, the shortest and the longest.
        num_classes: labels are drawn if there are any.
        seed: of the labels.
    """
    sampled = _Sampled(generator, draws, num_classes)
    device = draws(1).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        mean, deviation, _ = perceptual_path_length(
            cast(Any, sampled),
            samples,
            conditional=num_classes > 0,
            batch_size=AT_ONCE,
            interpolation_method="lerp" if path == "lerp" else "slerp_any",
            epsilon=epsilon,
            resize=None,
            lower_discard=discard or None,
            upper_discard=1 - discard if discard else None,
            sim_net=_Distance(features),
            device=device,
        )
    return float(mean), float(deviation)
