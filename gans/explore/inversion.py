"""Inversion: finding the latent of a given image by gradient descent.

As in StyleGAN2 (Karras et al. 2020, arXiv 1912.04958), the learning rate has a warm-up and a cosine decay, and the
latents have decaying noise. The loss is the squared error of pixels and, optionally, of features. The start is the
nearest of many random samples, or the output of an encoder.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gans.explore.generators import Generator, images
from gans.explore.perceptual import FeatureFunction
from gans.latent import draw, key

UP, DOWN, NOISY = 0.05, 0.25, 0.75  # shares of the steps with warm-up, with decay, and with noise


@dataclass(frozen=True)
class Inversion:
    """The result of an inversion.

    Args:
        codes: latents `(N, D)`.
        images: generated images of these latents, `(N, C, H, W)`.
        errors: mean squared error of each image before every step, with noise, and after the last, `(steps + 1, N)`.
    """

    codes: Tensor
    images: Tensor
    errors: Tensor


def invert(
    generator: Generator,
    targets: Tensor,
    start: Tensor,
    *,
    steps: int = 300,
    lr: float = 0.1,
    noise: float = 0.05,
    features: FeatureFunction | None = None,
    feature_weight: float = 0.1,
    limit: float | None = None,
    seed: int = 0,
    watch: Callable[[int], None] | None = None,
) -> Inversion:
    """Return latents whose images approximate `targets`.

    The loss is a sum over images, and the noise is the same for all. So the result for an image does not depend on the
    other images of the batch.

    Args:
        generator: differentiable function from latents to images, in eval mode.
        targets: images `(N, C, H, W)` in [-1, 1].
        start: initial latents `(N, D)`.
        steps: steps of Adam; 0 evaluates the start.
        lr: maximum learning rate.
        noise: initial standard deviation of the noise on the latents, for latents of standard deviation 1.
        features: function from images to features for the feature loss; None uses pixels only.
        feature_weight: weight of the squared error of features, relative to their squared norm.
        limit: maximum absolute value of latents, for a uniform prior; None for no limit.
        seed: seed of the noise.
        watch: callback that is called with the number of every step.
    """
    codes = start.detach().clone().requires_grad_(True)
    optimizer = torch.optim.Adam([codes], lr=lr, betas=(0.9, 0.999))
    with torch.no_grad():
        wanted = features(targets) if features else None
    errors = []
    for step in range(steps):
        share = step / steps
        optimizer.param_groups[0]["lr"] = lr * rate(share)
        amplitude = noise * max(0.0, 1 - share / NOISY) ** 2
        with torch.enable_grad():
            moved = codes + amplitude * draw((1, codes.shape[1]), key("inversion", seed, step)).to(codes)
            made = generator(moved)
            loss = squares(made, targets).sum()
            if features is not None and wanted is not None:
                error = (features(made) - wanted).square().sum(1) / wanted.square().sum(1).clamp(min=1e-12)
                loss = loss + feature_weight * error.sum()
            (codes.grad,) = torch.autograd.grad(loss, codes)
        optimizer.step()
        if limit is not None:
            codes.data.clamp_(-limit, limit)
        errors.append(squares(made.detach(), targets))
        if watch is not None:
            watch(step)
    found = images(generator, codes.detach())
    errors.append(squares(found, targets))
    return Inversion(codes.detach(), found, torch.stack(errors))


def rate(share: float) -> float:
    """Return the factor of the learning rate after this share of the steps."""
    falling = min(1.0, (1 - share) / DOWN)
    return (0.5 - 0.5 * math.cos(falling * math.pi)) * min(1.0, share / UP + 1e-2)


@torch.no_grad()
def nearest_start(generator: Generator, targets: Tensor, z: Tensor) -> Tensor:
    """Return for each target the latent among `z` `(M, D)` whose image is nearest in pixels, `(N, D)`."""
    distances = torch.cdist(targets.flatten(1), images(generator, z).flatten(1))
    return z[distances.argmin(1)]


def squares(made: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error of each image, `(N,)`."""
    return (made - targets).square().flatten(1).mean(1)


def decibels(errors: Tensor) -> Tensor:
    """Return the PSNR in dB for mean squared errors of images in [-1, 1]; 4 is the squared range."""
    return 10 * (4 / errors.clamp(min=1e-12)).log10()
