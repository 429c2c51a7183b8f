"""Complaints about input, in one sentence that names it."""

from typing import Any

from torch import Tensor


def at_least(least: float, **values: float) -> None:
    """Check numbers by their names.

    Raises:
        ValueError: if one is under `least`.
    """
    for name, value in values.items():
        if not value >= least:
            raise ValueError(f"{name} is {value}; expected at least {least}")


def checked_batch(batch: Any, shape: tuple[int, ...] | None) -> Tensor:
    """Return the images `(N, C, H, W)`, or clips `(N, C, T, H, W)`, of a batch that a model for `shape` can train on.

    Raises:
        ValueError: if it is no tuple with such images, as floats, in front.
    """
    if not isinstance(batch, tuple | list):
        raise ValueError(f"a batch is a {type(batch).__name__}; expected a tuple whose first element holds the images")
    real: Tensor = batch[0]
    if shape is not None and tuple(real.shape[1:]) != shape:
        clips = len(shape) == 4
        what, sides = ("clips", "channels, frames, height, width") if clips else ("images", "channels, height, width")
        raise ValueError(
            f"the data gives {what} of shape {tuple(real.shape[1:])} ({sides}), but the model was built for {shape}: "
            f"set the same size{', channels and frames' if clips else ' and channels'} for both"
        )
    if not real.is_floating_point():
        raise ValueError(f"the data gives images of {real.dtype}; expected floats in [-1, 1]")
    return real
