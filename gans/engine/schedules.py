"""Numbers that change with training, as pure functions of images seen or of the share of the run: no state to resume.

A learning rate, Adam's beta2, a penalty's weight, an augmentation's probability, the half-life of averaged weights:
each is one call with its own `start` and `end`. R3GAN (Huang et al. 2024, arXiv 2501.05441) moves all five on one
cosine over its first 20 M images (200 M of ImageNet), counted for one player, and holds them then:

    lr 2e-4 -> 5e-5,  beta2 .9 -> .99 (beta1 0),
    gamma of R1 and R2, a tenth at the end: CIFAR-10 .05, FFHQ-64 2, FFHQ-256 150, ImageNet-32 .5, ImageNet-64 1,
    augmentation 0 -> .55, .3, .3, .5, .4 of the images for the same data,
    half-life of averaged weights 0 -> 5 M images, FFHQ 0.5 M, ImageNet 50 M.
"""

from math import cos, inf, isfinite, pi
from typing import NamedTuple


class Span(NamedTuple):
    """How long a schedule takes.

    Attributes:
        amount: images seen, or a share of the run.
        of_run: whether it is a share.
    """

    amount: float
    of_run: bool = False


def span(name: str, value: float | str) -> Span:
    """Return the length of a schedule: `value` is a number of images, `run` for the whole run, or such as `50%` of it.

    Raises:
        ValueError: if it is something else, or negative.
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
    """Return the share of the way from `begin` to `begin + total` images that `images` has gone, within [0, 1].

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
    """Return `start` until `begin` images, `end` from `begin + total` on, and half a cosine wave between.

    Level at both ends, steepest in the middle. Source: Loshchilov and Hutter 2017 (arXiv 1608.03983), without restarts.

    Raises:
        ValueError: if `images` or `begin` is negative or `total` not positive.
    """
    return mix(start, end, (1 - cos(pi * progress(images, begin, total))) / 2)


def linear(images: float, start: float, end: float, total: float, begin: float = 0) -> float:
    """Return `start` until `begin` images, `end` from `begin + total` on, and a straight line between.

    From 0 it is a warm-up; to 0, from the middle of a run, the decay of SNGAN's and CycleGAN's learning rates.

    Raises:
        ValueError: if `images` or `begin` is negative or `total` not positive.
    """
    return mix(start, end, progress(images, begin, total))


def mix(start: float, end: float, share: float) -> float:
    """Return `start` and `end` in the ratio of `1 - share` to `share`, both exact at the ends."""
    return (1 - share) * start + share * end
