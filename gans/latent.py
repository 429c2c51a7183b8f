"""Priors on the latent space, and draws from them that are pure functions of a key.

A key is a hash of words such as (seed, clock, purpose). Row r of a draw is a function of the key and of r. So it is the
same at every time, on every process and device, and training resumes without the state of a random generator.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from gans import philox

Labels = int | Sequence[int] | Tensor  # one class for all samples, or one for each
Prior = Literal["normal", "uniform"]

# Factors for random bits, which are int32 from -2^31 to 2^31 - 1. TURN makes angles from -pi to pi of them. 2^-32 and
# MIDDLE make numbers between 0 and 1, at least 2^-33 from both, because the logarithm of 0 is infinite.
# Tensors without dimensions make float64 of integers, where a number of Python would make float32.
TURN = torch.tensor(math.pi / 2**31, dtype=torch.float64, device="cpu")
MIDDLE = torch.tensor(0.5 + 2.0**-33, dtype=torch.float64, device="cpu")


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
    first: int = 0,
) -> Tensor:
    """Return a tensor of `shape` `(N, ...)` from N(0, 1) or U(-1, 1).

    With a seed, row r is a pure function of the seed, of `first + r` and of the shape of a row, whatever N is. The cost
    grows with N alone. Devices and dtypes differ in rounding only:

    - Draws of fewer than 130,000 numbers, with rows rounded up to 8, are computed on the CPU. Larger ones for a GPU are
      computed there, from the same bits: about one normal number in 10^8 differs in its last digit.
    - Normal numbers are computed in float64 and rounded. They are below 6.8, because 32 random bits give the length.
    - Uniform numbers are multiples of 2^-23 and below 1; bfloat16 and float16 have 8 and 11 bits, rounded down.

    Args:
        shape: shape of the result; the first dimension counts rows.
        seed: seed of the draw; None draws from torch's global generator of the device.
        prior: `normal` or `uniform`.
        device: device of the result.
        dtype: floating-point type of the result.
        first: number of the first row, in a draw that is computed in parts.

    Raises:
        ValueError: if `prior` is unknown.
    """
    if prior not in ("normal", "uniform"):
        raise ValueError(f"prior is {prior!r}; expected normal or uniform")
    if seed is None:
        if prior == "normal":
            return torch.randn(shape, device=device, dtype=dtype)
        return torch.rand(shape, device=device, dtype=dtype) * 2 - 1
    rows, width, device = shape[0], math.prod(shape[1:]), torch.device(device)
    blocks = -(-width // philox.NUMBERS)  # a row begins with a block of its own
    bits = philox.bits(seed, first * blocks, rows * blocks, device).view(rows, blocks * philox.NUMBERS)
    drawn = (_normal if prior == "normal" else _uniform)(bits, width, dtype)
    return philox.placed(drawn, device).view(shape)


def _normal(bits: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """Return N(0, 1) `(N, width)`, given random int32 `(N, width)` or a column more (Box and Muller 1958).

    A pair of integers gives a pair of numbers, `half` columns apart: a point with a random length and angle.
    """
    half = -(-width // 2)
    lengths, angles = bits[:, : 2 * half : 2], bits[:, 1 : 2 * half : 2]
    length = torch.add(MIDDLE, lengths, alpha=2**-32).log_().mul_(-2).sqrt_()
    angle = torch.mul(angles, TURN)
    drawn = torch.empty(len(bits), width, dtype=dtype, device=bits.device)
    torch.mul(length, angle.cos(), out=drawn[:, :half])
    torch.mul(length[:, : width - half], angle[:, : width - half].sin(), out=drawn[:, half:])
    return drawn


def _uniform(bits: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """Return U(-1, 1) `(N, width)`, -1 included, given random int32 `(N, width)` or more columns."""
    # Bits of a number: those that the dtype has, or 24 as in float32. So x and (x + 1) / 2 are exact, and below 1.
    digits = min(24, 2 - math.frexp(torch.finfo(dtype).eps)[1])
    unit = torch.tensor(2.0 ** (1 - digits), dtype=dtype, device="cpu")
    return torch.mul(bits[:, :width] >> (32 - digits), unit)


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
