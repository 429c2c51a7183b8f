"""Priors on the latent space, and draws from them that are pure functions of a key.

A key is a hash of words such as (seed, clock, purpose). The same key gives the same numbers on every process and at
every time, so training resumes without the state of a random generator.
"""

import hashlib
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Labels = int | Sequence[int] | Tensor  # one class for all samples, or one for each
Prior = Literal["normal", "uniform"]


def key(*words: int | str) -> int:
    """Return a 63-bit seed, a pure function of `words` that is equal on every machine and Python version."""
    digest = hashlib.blake2b(repr(words).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def draw(
    shape: tuple[int, ...],
    seed: int | None = None,
    prior: Prior = "normal",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return a tensor of `shape` from N(0, 1) or U(-1, 1).

    `seed=None` draws from torch's global generator. With a seed, the draw is a pure function of the arguments and of
    the device type, because CPU and CUDA have different generators.

    Raises:
        ValueError: if `prior` is unknown.
    """
    generator = None if seed is None else torch.Generator(device).manual_seed(seed)
    if prior == "normal":
        return torch.randn(shape, generator=generator, device=device, dtype=dtype)
    if prior == "uniform":
        return torch.rand(shape, generator=generator, device=device, dtype=dtype) * 2 - 1
    raise ValueError(f"prior is {prior!r}; expected normal or uniform")


def truncate(z: Tensor, limit: float) -> Tensor:
    """Return normal latents `z`, mapped by their quantiles to the normal distribution truncated at ±`limit`.

    This is the truncation trick of Brock et al. 2018 (arXiv 1809.11096) without rejection sampling. The map is
    monotone in `z`, so one seed gives related images for every limit. A large limit returns `z`.

    Raises:
        ValueError: if `limit` is not positive.
    """
    if not limit > 0:
        raise ValueError(f"truncation is {limit}; expected a number above 0, in standard deviations")
    # Computed on the lower half and mirrored: quantiles near 1 would be rounded to 1.
    length = z.double().abs()
    tail = torch.special.ndtr(torch.tensor(-limit, dtype=torch.float64))
    quantile = torch.special.ndtr(-length) * (1 - 2 * tail) + tail
    squeezed = torch.minimum(-torch.special.ndtri(quantile), length).clamp(0, limit)
    return torch.copysign(squeezed, z).to(z.dtype)


def lerp(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Return `steps` points on the straight line from `start` to `end` (both `(D,)`), ends included, `(steps, D)`."""
    weights = torch.linspace(0, 1, steps, device=start.device, dtype=start.dtype).unsqueeze(1)
    return torch.lerp(start.expand(steps, -1), end.expand(steps, -1), weights)


def slerp(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Return `steps` points on the great circle from `start` to `end` (both `(D,)`), ends included, `(steps, D)`.

    Normal latents are close to a sphere, and linear interpolation leaves it (White 2016, arXiv 1609.04468). The norm
    is interpolated linearly. If the ends are nearly parallel or one is 0, the interpolation is linear.
    """
    first, last = start / start.norm(), end / end.norm()
    # The arc cosine of the inner product would lose half of the digits near 0 and pi.
    angle = 2 * torch.atan2((first - last).norm(), (first + last).norm())
    if not angle.sin() > 1e-6:  # also true for NaN, the angle to the zero vector
        return lerp(start, end, steps)
    weights = torch.linspace(0, 1, steps, device=start.device, dtype=start.dtype).unsqueeze(1)
    lengths = torch.lerp(start.norm(), end.norm(), weights)
    direction = ((1 - weights) * angle).sin() * first + (weights * angle).sin() * last
    path: Tensor = lengths * direction / angle.sin()
    return path
