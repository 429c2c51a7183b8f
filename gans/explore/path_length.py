"""Perceptual path length, Karras et al. 2019 (arXiv 1812.04948): the change of images for a small step of the latent.

It uses torchmetrics with a feature extractor of this project, because the weights of its LPIPS must be downloaded.
"""

from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torchmetrics.functional.image import perceptual_path_length

from gans.explore.generators import AT_ONCE
from gans.explore.perceptual import FeatureFunction


class _Sampled(nn.Module):
    """Adapter of a generator to torchmetrics' interface, with `sample` and images from 0 to 255."""

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
    """Squared distance between the features of two batches of images in [-1, 1]."""

    def __init__(self, features: FeatureFunction) -> None:
        super().__init__()
        self.features = features

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the distances `(N,)`."""
        return (self.features(first) - self.features(second)).square().sum(1)


def path_length(
    generator: Callable[..., Tensor],
    draws: Callable[[int], Tensor],
    features: FeatureFunction,
    *,
    samples: int = 2000,
    epsilon: float = 1e-3,
    path: Literal["lerp", "slerp"] = "slerp",
    discard: float = 0.01,
    num_classes: int = 0,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the mean and standard deviation of `|f(G(z(e))) - f(G(z(0)))|^2 / e^2` over paths between latents.

    The step is at the start of the path, where the latent has the distribution of the prior. On the great circle
    between two Gaussian latents, all positions have it.

    Args:
        generator: from latents, and labels if there are classes, to images in [-1, 1].
        draws: function from n to random latents `(n, D)` of the prior.
        features: from images to features `(n, F)`.
        samples: number of paths.
        epsilon: step as a share of the path. Rounding errors dominate for much smaller steps.
        path: `slerp` for a normal prior, `lerp` for others.
        discard: share of the paths that is discarded at each end, the shortest and the longest.
        num_classes: number of classes from which labels are drawn; 0 means unconditional.
        seed: seed of the labels.
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
