"""Batches of any loader as tuples with images in [-1, 1], and checks of them: shapes, ranges, pairs and captions."""

from math import inf
from typing import Any

import torch
from torch import Tensor

from gans.checks import article

Range = tuple[float, float]
SIGNED: Range = (-1.0, 1.0)


def unified(batch: Any, input_range: Range, dtype: torch.dtype) -> Any:
    """Return a batch as a tuple whose images are floats in [-1, 1]; a batch of another kind unchanged.

    A tensor is the images. A dictionary has the images as `image` and, if there are any, the classes as `label`. In a
    tuple, every tensor of at least four dimensions is taken for images, `(N, C, H, W)`, or clips. Masks are bool.

    Args:
        batch: of a loader.
        input_range: least and greatest value of float images. Images of uint8 are 0 to 255.
        dtype: of the images that were uint8.
    """
    if isinstance(batch, Tensor):
        batch = (batch,)
    elif isinstance(batch, dict) and "image" in batch:
        batch = tuple(batch[name] for name in ("image", "label") if name in batch)
    if not isinstance(batch, tuple | list):
        return batch
    return tuple(signed(part, input_range, dtype) if is_images(part) else part for part in batch)


def is_images(part: Any) -> bool:
    """Return whether a part of a batch is taken for images: at least four dimensions, floats or uint8."""
    pixels = isinstance(part, Tensor) and (part.is_floating_point() or part.dtype == torch.uint8)
    return pixels and part.ndim >= 4


def signed(images: Tensor, input_range: Range, dtype: torch.dtype) -> Tensor:
    """Return images of uint8, or floats in `input_range`, as floats in [-1, 1]."""
    if images.dtype == torch.uint8:
        return images.to(torch.promote_types(dtype, torch.float32)).div_(127.5).sub_(1).to(dtype)
    low, high = input_range
    return images if input_range == SIGNED else (images - low) * (2 / (high - low)) - 1


def checked_range(input_range: Any) -> Range:
    """Return the range of images that a model is given.

    Raises:
        ValueError: if it is not two numbers, the least and the greatest.
    """
    numbers = isinstance(input_range, tuple | list) and all(isinstance(end, int | float) for end in input_range)
    if not numbers or len(input_range) != 2 or not -inf < input_range[0] < input_range[1] < inf:
        raise ValueError(f"input_range is {input_range}; expected (least, greatest), such as (0, 1)")
    return float(input_range[0]), float(input_range[1])


def checked_batch(batch: Any, shape: tuple[int, ...] | None) -> Tensor:
    """Return the images `(N, C, H, W)`, or clips `(N, C, T, H, W)`, of a batch, which must have the model's `shape`.

    Raises:
        ValueError: if the batch is not a tuple, or its first element has another shape or is not of floats.
    """
    if not isinstance(batch, tuple | list):
        keys = f" with the keys {', '.join(map(str, batch))}" if isinstance(batch, dict) else ""
        expected = "images, a tuple whose first element holds them, or a dict with image and label"
        raise ValueError(f"a batch is {article(type(batch))}{keys}; expected {expected}")
    real: Tensor = batch[0]
    if shape is not None and tuple(real.shape[1:]) != shape:
        clips = len(shape) == 4
        what, sides = ("clips", "channels, frames, height, width") if clips else ("images", "channels, height, width")
        raise ValueError(
            f"the data gives {what} of shape {tuple(real.shape[1:])} ({sides}), but the model was built for {shape}: "
            f"set the same size{', channels and frames' if clips else ' and channels'} for both"
        )
    if not real.is_floating_point():
        raise ValueError(f"the data gives images of {real.dtype}; expected floats in [-1, 1] or uint8")
    return real


def last_frames(clips: Tensor, count: int, shape: tuple[int, ...] | None) -> Tensor:
    """Return the last `count` frames `(N, C, count, H, W)` of clips that a model of clips of `shape` is to continue.

    Raises:
        ValueError: if the clips are not `(N, C, T, H, W)` of the model's C, H and W, or have fewer frames.
    """
    assert shape is not None
    channels, _, height, width = shape
    there = tuple(clips.shape)
    if clips.ndim != 5 or (there[1], *there[3:]) != (channels, height, width) or there[2] < count:
        expected = f"(N, {channels}, T, {height}, {width}) with {count} frames or more"
        raise ValueError(f"clips are of shape {there}; expected {expected}")
    return clips[:, :, -count:]


def pair(batch: Any) -> tuple[Tensor, Tensor]:
    """Return the first two tensors of a batch, both images.

    Raises:
        ValueError: if the batch does not start with two images.
    """
    images = isinstance(batch, tuple | list) and len(batch) > 1
    if not images or not all(isinstance(part, Tensor) and part.ndim == 4 for part in batch[:2]):
        raise ValueError("a batch is not a pair of images; expected (source, target), as PairedFolderDataModule gives")
    return batch[0], batch[1]


def captioned(batch: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return the images `(N, C, H, W)`, tokens `(N, T)` and lengths `(N,)` of a batch.

    Raises:
        ValueError: if the batch has no captions.
    """
    parts = batch[1:3] if isinstance(batch, tuple | list) else ()
    whole = len(parts) == 2 and all(isinstance(part, Tensor) and not part.is_floating_point() for part in parts)
    if not whole or parts[0].ndim != 2 or parts[1].ndim != 1:
        raise ValueError("a batch has no captions; expected (image, tokens, lengths), as CaptionedDataModule gives")
    return batch[0], parts[0], parts[1]


class Extremes:
    """Minimum and maximum pixel of a run's first images, kept on the device until they are checked.

    Args:
        input_range: that the images of the run had before they were made [-1, 1], for the message.
    """

    def __init__(self, input_range: Range = SIGNED) -> None:
        self.input_range = input_range
        self.seen: list[Tensor] | None = []

    def see(self, images: Tensor) -> None:
        """Record the range of images `(N, ...)`, unless the range has been checked already."""
        if self.seen is not None:
            self.seen += images.detach().float().aminmax()

    def judged(self) -> str | None:
        """Return a message if the range is clearly another than `input_range`, else None. Later calls return None."""
        seen, self.seen = self.seen, None
        if not seen:
            return None
        values = torch.stack(seen).tolist()
        low, high = self.input_range
        unread = self.input_range != SIGNED and min(values) >= 0 and not 1 < max(values) <= 2
        if unread and min(values) < max(values):
            given = f"the images of this run are in [{min(values):.3g}, {max(values):.3g}]; expected [-1, 1]"
            return f"{given}: the datamodule's on_after_batch_transfer is used, and input_range is not read"
        least, most = ((value + 1) / 2 * (high - low) + low for value in (min(values), max(values)))
        says = f"the images of this run are in [{least:.3g}, {most:.3g}]; expected [{low:.3g}, {high:.3g}]"
        if 0 <= least < most <= 1 and self.input_range == SIGNED:
            return f"{says}: normalize them with mean 0.5 and standard deviation 0.5, or give input_range=(0, 1)"
        if least >= 0 and most > 2 and self.input_range == SIGNED:
            return f"{says}: divide them by 127.5 and subtract 1, or give input_range=(0, 255)"
        beyond = 0.05 * (high - low)
        # Images in [0, 1] for [0, 255].
        dark = self.input_range != SIGNED and least >= low and most <= low + 0.01 * (high - low)
        wrong = dark or least < low - beyond or most > high + beyond
        return f"{says}{'' if self.input_range == SIGNED else ', the input_range of the model'}" if wrong else None
