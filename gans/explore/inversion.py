"""Inversion: finding the point of a space whose image is a given one, by gradient descent.

As in StyleGAN2 (Karras et al. 2020, arXiv 1912.04958, appendix D), the learning rate has a warm-up and a cosine decay,
the points have decaying noise, and the noise inputs of a style model can be optimised too. The loss is the squared
error of pixels and, optionally, of features. The start is the mean w of a style model, the nearest of many random
samples, or the output of an encoder.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from gans.explore.generators import Generator, images
from gans.explore.perceptual import FeatureFunction
from gans.latent import draw, key

UP, DOWN, NOISY = 0.05, 0.25, 0.75  # shares of the steps with warm-up, with decay, and with noise
NOISE_WEIGHT = 1e5  # of the correlations of noise maps
SMALLEST = 8  # side in pixels of the smallest noise maps that are compared

Sizes = Sequence[tuple[int, int]]  # (height, width) of noise maps


@dataclass(frozen=True)
class Inversion:
    """The result of an inversion.

    Args:
        codes: points `(N, ...)`.
        images: generated images of these points, `(N, C, H, W)`.
        errors: mean squared error of each image before every step, with noise, and after the last, `(steps + 1, N)`.
        noise: noise inputs `(N, noise_dim)` that belong to the points; None if the stored ones do.
    """

    codes: Tensor
    images: Tensor
    errors: Tensor
    noise: Tensor | None = None


def invert(
    generator: Callable[..., Tensor],
    targets: Tensor,
    start: Tensor,
    *,
    steps: int = 300,
    lr: float = 0.1,
    noise: float = 0.05,
    features: FeatureFunction | None = None,
    feature_weight: float = 0.1,
    pixel_weight: float = 1.0,
    limit: float | None = None,
    noise_sizes: Sizes = (),
    noise_weight: float = NOISE_WEIGHT,
    seed: int = 0,
    watch: Callable[[int], None] | None = None,
) -> Inversion:
    """Return points whose images approximate `targets`.

    The loss is a sum over images, and the noise is the same for all. So the result for an image does not depend on the
    other images of the batch.

    Args:
        generator: differentiable function from points to images, in eval mode. With `noise_sizes` it also takes the
            noise inputs `(N, noise_dim)`.
        targets: images `(N, C, H, W)` in [-1, 1].
        start: initial points `(N, ...)`.
        steps: steps of Adam; 0 evaluates the start.
        lr: maximum learning rate.
        noise: initial standard deviation of the noise on the points, for points of standard deviation 1. It is the same
            for all layers of points `(N, L, D)`.
        features: function from images to features for the feature loss; None uses pixels only.
        feature_weight: weight of the squared error of features, relative to their squared norm.
        pixel_weight: weight of the mean squared error of pixels.
        limit: maximum absolute value of points, for a uniform prior; None for no limit.
        noise_sizes: (height, width) of the noise inputs that are optimised; none for the stored ones. They start as
            N(0, 1), and every map keeps the mean 0 and the variance 1.
        noise_weight: weight of `correlation` of the noise inputs, which keeps the image out of them.
        seed: seed of the noise.
        watch: callback that is called with the number of every step.
    """
    codes = start.detach().clone().requires_grad_(True)
    inputs = [codes]
    if noise_sizes:
        length = sum(height * width for height, width in noise_sizes)
        drawn = draw((1, length), key("noise inputs", seed)).to(codes).expand(len(codes), -1)
        inputs.append(normal(drawn, noise_sizes).requires_grad_(True))
    optimizer = torch.optim.Adam(inputs, lr=lr, betas=(0.9, 0.999))
    with torch.no_grad():
        wanted = features(targets) if features else None
    errors = []
    for step in range(steps):
        share = step / steps
        optimizer.param_groups[0]["lr"] = lr * rate(share)
        amplitude = noise * max(0.0, 1 - share / NOISY) ** 2
        with torch.enable_grad():
            shift = draw((1, codes.shape[-1]), key("inversion", seed, step)).to(codes)
            made = generator(codes + amplitude * shift, *inputs[1:])
            loss = pixel_weight * squares(made, targets).sum()
            if features is not None and wanted is not None:
                error = (features(made) - wanted).square().sum(1) / wanted.square().sum(1).clamp(min=1e-12)
                loss = loss + feature_weight * error.sum()
            for maps in inputs[1:]:
                loss = loss + noise_weight * correlation(maps, noise_sizes).sum()
            for part, slope in zip(inputs, torch.autograd.grad(loss, inputs), strict=True):
                part.grad = slope
        optimizer.step()
        if limit is not None:
            codes.data.clamp_(-limit, limit)
        for maps in inputs[1:]:
            maps.data = normal(maps.data, noise_sizes)
        errors.append(squares(made.detach(), targets))
        if watch is not None:
            watch(step)
    found = [part.detach() for part in inputs]
    made = images(generator, *found)
    errors.append(squares(made, targets))
    return Inversion(found[0], made, torch.stack(errors), found[1] if noise_sizes else None)


def split(noise: Tensor, sizes: Sizes) -> list[Tensor]:
    """Return the maps `(N, 1, height, width)` of noise inputs `(N, noise_dim)`."""
    parts = torch.split(noise, [height * width for height, width in sizes], 1)
    return [part.view(-1, 1, *size) for part, size in zip(parts, sizes, strict=True)]


def normal(noise: Tensor, sizes: Sizes) -> Tensor:
    """Return noise inputs `(N, noise_dim)` whose maps have the mean 0 and the variance 1."""
    parts = []
    for maps in split(noise, sizes):
        rows = maps.flatten(1)
        rows = rows - rows.mean(1, keepdim=True)
        parts.append(rows / rows.square().mean(1, keepdim=True).sqrt().clamp(min=1e-8))
    return torch.cat(parts, 1)


def correlation(noise: Tensor, sizes: Sizes) -> Tensor:
    """Return the sum of the squared correlations of neighbours in noise inputs `(N, noise_dim)`, `(N,)`.

    Neighbours are pixels with a distance of 1 in x or in y, around the edges too, in every map and in its halves down
    to a side of 8 pixels. The pixels of a half are sums of four, divided by 2, with the same variance. The result is
    near 0 for white noise, and 2 or more for smooth maps. Source: Karras et al. 2020 (arXiv 1912.04958), appendix D.
    """
    total = noise.new_zeros(len(noise))
    for maps in split(noise, sizes):
        while True:
            for axis in (2, 3):
                total = total + (maps * maps.roll(1, axis)).mean((1, 2, 3)).square()
            if min(maps.shape[2:]) < 2 * SMALLEST:
                break
            maps = 2 * avg_pool2d(maps, 2)
    return total


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
