"""Functions for image sequences: the amount of motion, and temporal damage that a distance should detect."""

import torch
from torch import Tensor

from gans.networks.recurrent import surrounded, velocity

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


def repeated(first: Tensor, frames: int) -> Tensor:
    """Return the last frame of clips `(N, C, T, H, W)` so many times, `(N, C, frames, H, W)`."""
    return first[:, :, -1:].expand(-1, -1, frames, -1, -1).contiguous()


def extrapolated(first: Tensor, frames: int) -> Tensor:
    """Return the last frame of clips `(N, C, T, H, W)` moved on as before, `(N, C, frames, H, W)`.

    The frame moves as a whole, at the constant velocity from the first to the last frame, by whole pixels. What comes
    in from outside is that of `recurrent.surrounded`: the background, or the nearest pixel.
    """
    speed = velocity(first)
    steps = torch.arange(1, frames + 1, device=first.device)
    moves = (speed[:, None] * steps[:, None]).round().long()  # (N, frames, 2)
    height, width = first.shape[-2:]
    rows = (torch.arange(height, device=first.device) - moves[..., :1]).clamp(-1, height) + 1
    columns = (torch.arange(width, device=first.device) - moves[..., 1:]).clamp(-1, width) + 1
    clips = torch.arange(len(first), device=first.device)[:, None, None, None]
    moved = surrounded(first).movedim(1, -1)[clips, rows[..., :, None], columns[..., None, :]]
    return moved.movedim(-1, 1)


def centres(clips: Tensor) -> Tensor:
    """Return the centres of brightness (y, x) of the frames of clips `(N, C, T, H, W)` in [-1, 1], `(N, T, 2)`.

    They are in pixels. For one object before a black background they differ from its position by a constant.
    """
    light = (clips.double() + 1).mean(1).clamp(min=0)
    total = light.sum((2, 3)).clamp(min=1e-9)
    sides = (torch.arange(side, device=clips.device, dtype=light.dtype) for side in light.shape[-2:])
    along = ((light.sum(3) * next(sides)).sum(2), (light.sum(2) * next(sides)).sum(2))
    return torch.stack([part / total for part in along], -1)


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
