"""Checks of batches: images of the model's shape in [-1, 1], pairs of images, or images with captions."""

from typing import Any

import torch
from torch import Tensor


def checked_batch(batch: Any, shape: tuple[int, ...] | None) -> Tensor:
    """Return the images `(N, C, H, W)`, or clips `(N, C, T, H, W)`, of a batch, which must have the model's `shape`.

    Raises:
        ValueError: if the batch is not a tuple, or its first element has another shape or is not of floats.
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
    """Minimum and maximum pixel of a run's first images, kept on the device until they are checked."""

    def __init__(self) -> None:
        self.seen: list[Tensor] | None = []

    def see(self, images: Tensor) -> None:
        """Record the range of images `(N, ...)`, unless the range has been checked already."""
        if self.seen is not None:
            self.seen += images.detach().float().aminmax()

    def judged(self) -> str | None:
        """Return a message if the range is clearly not [-1, 1], else None. Later calls return None."""
        seen, self.seen = self.seen, None
        if not seen:
            return None
        values = torch.stack(seen).tolist()
        least, most = min(values), max(values)
        says = f"the images of this run are in [{least:.3g}, {most:.3g}]; expected [-1, 1]"
        if 0 <= least < most <= 1:
            return f"{says}: normalize them with mean 0.5 and standard deviation 0.5"
        if least >= 0 and most > 2:
            return f"{says}: divide them by 127.5 and subtract 1"
        return says if least < -1.1 or most > 1.1 else None
