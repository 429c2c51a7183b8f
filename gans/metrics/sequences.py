"""Functions for image sequences: the amount of motion, and temporal damage that a distance should detect."""

import torch
from torch import Tensor

STILLS = 4  # frames of a clip that are evaluated as images
ORDERS = ("as it is", "shuffled", "frozen")


def motion(clips: Tensor) -> Tensor:
    """Return the mean absolute difference between successive frames of each clip `(N, C, T, H, W)`, float64 `(N,)`.

    It is in the units of the pixels, which may be uint8. Compare it with the value for real clips.

    Raises:
        ValueError: for other shapes, or fewer than two frames.
    """
    wide = checked(clips) if clips.is_floating_point() else checked(clips).short()  # differences of uint8 overflow
    change = wide.diff(dim=2).abs().flatten(1)
    return change.sum(1).double() / change.shape[1]


def shuffled(clips: Tensor, seed: int | torch.Generator = 0) -> Tensor:
    """Return clips `(N, C, T, H, W)` with the frames of each clip in a random order.

    Raises:
        ValueError: for other shapes, or fewer than two frames.
    """
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    count, _, frames = checked(clips).shape[:3]
    order = torch.rand(count, frames, generator=generator).argsort(1).to(clips.device)
    return clips.take_along_dim(order[:, None, :, None, None], 2)


def frozen(clips: Tensor) -> Tensor:
    """Return clips `(N, C, T, H, W)` that repeat their first frame.

    Raises:
        ValueError: for other shapes, or fewer than two frames.
    """
    return checked(clips)[:, :, :1].expand_as(clips).contiguous()


def stills(clips: Tensor, count: int = STILLS) -> Tensor:
    """Return `count` evenly spaced frames of each clip `(N, C, T, H, W)`, first and last included.

    The shape is `(N * count, C, H, W)`.

    Raises:
        ValueError: for other shapes, or fewer than two frames.
    """
    which = torch.linspace(0, checked(clips).shape[2] - 1, count).round().long()
    return clips[:, :, which.to(clips.device)].transpose(1, 2).flatten(0, 1)


def disordered(clips: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return half of the clips unchanged, a quarter shuffled and a quarter frozen, and the indices `(N,)` in `ORDERS`.

    This classification task needs no labels and cannot be solved with single frames, see Misra et al. 2016 (arXiv
    1603.08561).
    """
    whole, shuffle, freeze = clips.tensor_split((len(clips) // 2, 3 * len(clips) // 4))
    orders = torch.tensor([0, 1, 2]).repeat_interleave(torch.tensor([len(whole), len(shuffle), len(freeze)]))
    return torch.cat([whole, shuffled(shuffle, generator), frozen(freeze)]), orders


def checked(clips: Tensor) -> Tensor:
    """Return the clips if they have the shape `(N, C, T, H, W)` and at least two frames.

    Raises:
        ValueError: if they have not.
    """
    if clips.dim() != 5 or clips.shape[2] < 2:
        raise ValueError(f"clips are of shape {tuple(clips.shape)}; expected (N, C, T, H, W) with 2 frames or more")
    return clips
