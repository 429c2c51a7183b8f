"""Schedules of hyper-parameters as pure functions of the images seen, which need no state to resume.

A schedule changes a learning rate, Adam's beta2, the weight of a penalty, the probability of augmentation or the
half-life of averaged weights. R3GAN (Huang et al. 2024, arXiv 2501.05441) changes all five by one cosine over the first
20 M images (200 M for ImageNet), counted for one player. Then the values stay constant:

    lr             2e-4 -> 5e-5
    beta2          0.9 -> 0.99 (beta1 0)
    gamma (R1, R2) to a tenth, from: CIFAR-10 0.05, FFHQ-64 2, FFHQ-256 150, ImageNet-32 0.5, ImageNet-64 1
    augmentation   from 0 to: CIFAR-10 0.55, FFHQ-64 0.3, FFHQ-256 0.3, ImageNet-32 0.5, ImageNet-64 0.4
    half-life      from 0 to: CIFAR-10 5 M images, FFHQ 0.5 M, ImageNet 50 M
"""

from math import cos, inf, isfinite, pi
from typing import NamedTuple


class Span(NamedTuple):
    """The length of a schedule.

    Attributes:
        amount: number of images seen, or a share of the run.
        of_run: whether `amount` is a share of the run.
    """

    amount: float
    of_run: bool = False


def span(name: str, value: float | str) -> Span:
    """Return the length of a schedule.

    Args:
        name: name of the option in error messages.
        value: a number of images, `run` for the whole run, or a share of the run such as `50%`.

    Raises:
        ValueError: if the value is something else or out of range.
    """
    if value == "run":
        return Span(1.0, True)
    try:
        share = float(value[:-1]) / 100 if isinstance(value, str) and value.endswith("%") else None
        images = float(value) if share is None else 0.0
    except ValueError as error:
        expected = "a number of images, run, or a share of the run such as 50%"
        raise ValueError(f"{name} is {value}; expected {expected}") from error
    if share is None:
        if not 0 <= images < inf:
            finite = "" if isfinite(images) else "a finite number of "
            raise ValueError(f"{name} is {value}; expected {finite}at least 0")
        return Span(images)
    if not 0 <= share <= 1:
        raise ValueError(f"{name} is {value}; expected a share of the run from 0% to 100%")
    return Span(share, True)


def progress(images: float, begin: float, total: float) -> float:
    """Return `(images - begin) / total`, clipped to [0, 1].

    Raises:
        ValueError: if `images` or `begin` is negative or `total` not positive.
    """
    if not images >= 0:
        raise ValueError(f"images is {images}; expected the number seen, at least 0")
    if not begin >= 0:
        raise ValueError(f"begin is {begin}; expected a number of images, at least 0")
    if not total > 0:
        raise ValueError(f"total is {total}; expected a number of images above 0")
    return min(max((images - begin) / total, 0.0), 1.0)


def cosine(images: float, start: float, end: float, total: float, begin: float = 0) -> float:
    """Return `start` until `begin` images, `end` after `begin + total` images, and half a cosine wave in between.

    Source: Loshchilov and Hutter 2017 (arXiv 1608.03983), without restarts.

    Raises:
        ValueError: if `images` or `begin` is negative or `total` not positive.
    """
    return mix(start, end, (1 - cos(pi * progress(images, begin, total))) / 2)


def linear(images: float, start: float, end: float, total: float, begin: float = 0) -> float:
    """Return `start` until `begin` images, `end` after `begin + total` images, and a straight line in between.

    Starting from 0 it is a warm-up. SNGAN and CycleGAN decay their learning rates linearly to 0.

    Raises:
        ValueError: if `images` or `begin` is negative or `total` not positive.
    """
    return mix(start, end, progress(images, begin, total))


def mix(start: float, end: float, share: float) -> float:
    """Return `(1 - share) * start + share * end`, which is exact at both ends."""
    return (1 - share) * start + share * end
