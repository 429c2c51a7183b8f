"""Which numbers pixels are: whether images can be of the range that was told, and floats of a range as bytes."""

from math import isfinite

import torch
from torch import Tensor

from gans.pictures.images import to_uint8

Range = tuple[float, float]
BYTES: Range = (0.0, 255.0)
SIGNED: Range = (-1.0, 1.0)
OUTLIERS = 0.01  # share of the numbers that a network without a last `tanh` may have anywhere


def check_range(images: Tensor, told: Range, by: str) -> str | None:
    """Return what is odd about the pixels of images that shall be of a range, None if nothing is.

    Networks overshoot, which is clipped. Images are of another range if more than a few numbers lie beyond its ends by
    half its width. A batch may be all dark, or have no pixel in the lower half of [-1, 1], so that is only odd.

    Args:
        images: of any shape, not empty.
        told: least and greatest value.
        by: what told the range, as `normalize=True`.

    Raises:
        ValueError: if they cannot be of the range, or hold NaN or infinity.
    """
    low, high = told
    least, most = (float(value) for value in images.detach().aminmax())
    there = f"images are in [{least:.3g}, {most:.3g}]"
    expected = f"{by} expects [{low:g}, {high:g}]"
    margin = (high - low) / 2
    if not (low - margin <= least and most <= high + margin):
        finite = isfinite(least) and isfinite(most)
        beyond = (images.detach() < low - margin) | (images.detach() > high + margin)
        if not finite or float(beyond.float().mean()) > OUTLIERS:
            raise ValueError(f"{there}; {expected}")
    if low < 0 <= least < (high - low) / 20:  # images in [0, 1] have black pixels, bright ones in [-1, 1] need not
        return f"{there}, without a negative value; {expected}"
    if most <= 1 < high:
        return f"{there}, all black; {expected}"
    return None


def quantised(images: Tensor, told: Range) -> Tensor:
    """Return float images of a range as uint8, rounded and clipped."""
    low, high = told
    if told == SIGNED:
        return to_uint8(images)
    return ((images.float() - low) * (255 / (high - low))).round().clamp(0, 255).to(torch.uint8)
