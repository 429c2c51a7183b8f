"""Inversion: the latent whose picture is like a given one, by descent as in StyleGAN2 (Karras et al. 2020, 1912.04958).

Adam with a rate that is ramped up and, by a cosine, down; noise on the latents that fades away; an error of pixels and,
where there are eyes for it, of features. The start is the nearest of many random pictures, or what an encoder says.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gans.explore.generators import Generator, images
from gans.explore.perceptual import Eyes
from gans.latent import draw, key

UP, DOWN, NOISY = 0.05, 0.25, 0.75  # shares of the steps: rate rising, rate falling, noise


@dataclass(frozen=True)
class Inversion:
    """Latents of pictures.

    Args:
        codes: `(N, D)`.
        images: what the generator makes of them, `(N, C, H, W)`.
        errors: mean squared error of the pixels of each picture before every step, with the step's noise, and after
            the last, `(steps + 1, N)`.
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
    features: Eyes | None = None,
    feature_weight: float = 0.1,
    limit: float | None = None,
    seed: int = 0,
    watch: Callable[[int], None] | None = None,
) -> Inversion:
    """Return latents whose pictures are like `targets` `(N, C, H, W)`, found from `start` `(N, D)`.

    The loss is a sum over pictures and the noise is the same for each, so that what is found for a picture does not
    depend on those beside it.

    Args:
        generator: from latents to images, in evaluation mode and with a gradient.
        targets: the pictures, in [-1, 1].
        start: latents to begin with.
        steps: of Adam; 0 looks at the start.
        lr: the highest learning rate.
        noise: on the latents at the start, in standard deviations of a latent's numbers, taken for 1.
        features: from images to features, which shall be alike too; None looks at pixels alone.
        feature_weight: of the squared error of the features as a share of their squares.
        limit: of the latents' numbers, for a uniform prior; None for none.
        seed: of the noise.
        watch: called with every step.
    """
    codes = start.detach().clone().requires_grad_(True)
    optimizer = torch.optim.Adam([codes], lr=lr, betas=(0.9, 0.999))
    with torch.no_grad():
        seen = features(targets) if features else None
    errors = []
    for step in range(steps):
        share = step / steps
        optimizer.param_groups[0]["lr"] = lr * rate(share)
        shaken = noise * max(0.0, 1 - share / NOISY) ** 2
        with torch.enable_grad():
            moved = codes + shaken * draw((1, codes.shape[1]), key("inversion", seed, step)).to(codes)
            made = generator(moved)
            loss = squares(made, targets).sum()
            if features is not None and seen is not None:
                apart = (features(made) - seen).square().sum(1) / seen.square().sum(1).clamp(min=1e-12)
                loss = loss + feature_weight * apart.sum()
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
    """Return the learning rate, a share of the highest one, when this share of the steps is behind."""
    falling = min(1.0, (1 - share) / DOWN)
    return (0.5 - 0.5 * math.cos(falling * math.pi)) * min(1.0, share / UP + 1e-2)


@torch.no_grad()
def nearest_start(generator: Generator, targets: Tensor, z: Tensor) -> Tensor:
    """Return the latents `(N, D)`, of `z` `(M, D)`, whose pictures are nearest to those of `targets`, one for each."""
    apart = torch.cdist(targets.flatten(1), images(generator, z).flatten(1))
    return z[apart.argmin(1)]


def squares(made: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error of each picture, `(N,)`."""
    return (made - targets).square().flatten(1).mean(1)


def decibels(errors: Tensor) -> Tensor:
    """Return peak signal-to-noise ratios of squared errors of images in [-1, 1]: 4 is the square of the range."""
    return 10 * (4 / errors.clamp(min=1e-12)).log10()
