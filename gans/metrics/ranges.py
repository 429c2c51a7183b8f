"""Ranges of pixel values: a check whether images fit a range, and the conversion of floats to uint8."""

from math import isfinite

import torch
from torch import Tensor

from gans.pictures.images import to_uint8

Range = tuple[float, float]
BYTES: Range = (0.0, 255.0)
SIGNED: Range = (-1.0, 1.0)
OUTLIERS = 0.01  # share of values that may be far outside, for networks without a final `tanh`


def check_range(images: Tensor, value_range: Range, by: str) -> str | None:
    """Return a warning if the pixels of images probably have another range, else None.

    Networks overshoot, and such values are clipped. More than 1 % of values outside by over half the width of the range
    is an error. Images that are all dark, or have no value in the lower half of [-1, 1], cause only the warning.

    Args:
        images: images of any shape, not empty.
        value_range: minimum and maximum.
        by: name of the argument that sets the range, such as `normalize=True`, for the message.

    Raises:
        ValueError: if the images cannot have this range, or contain NaN or infinity.
    """
    low, high = value_range
    least, most = (float(value) for value in images.detach().aminmax())
    there = f"images are in [{least:.3g}, {most:.3g}]"
    expected = f"{by} expects [{low:g}, {high:g}]"
    margin = (high - low) / 2
    if not (low - margin <= least and most <= high + margin):
        finite = isfinite(least) and isfinite(most)
        beyond = (images.detach() < low - margin) | (images.detach() > high + margin)
        if not finite or float(beyond.float().mean()) > OUTLIERS:
            raise ValueError(f"{there}; {expected}")
    if low < 0 <= least < (high - low) / 20:  # images in [0, 1] usually have black pixels
        return f"{there}, without a negative value; {expected}"
    if most <= 1 < high:
        return f"{there}, all black; {expected}"
    return None


def quantised(images: Tensor, value_range: Range) -> Tensor:
    """Return float images with this range as uint8, rounded and clipped."""
    low, high = value_range
    if value_range == SIGNED:
        return to_uint8(images)
    return ((images.float() - low) * (255 / (high - low))).round().clamp(0, 255).to(torch.uint8)
