"""Triptychs of translations: source, translation and target beside each other."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

COLUMNS = 3  # triptychs in a row of a grid


def triptychs(source: Tensor, made: Tensor, target: Tensor) -> tuple[Tensor, int]:
    """Return images `(3 N, C, H, W)` on the CPU, three for each row, and the columns of a grid of them.

    Sources and targets get the size of the translations without interpolation, and all get as many channels as the one
    with most.

    Args:
        source: images `(N, C1, H1, W1)` in [-1, 1].
        made: their translations `(N, C2, H, W)`.
        target: images `(N, C3, H3, W3)`.
    """
    parts = [part.detach().float().cpu() for part in (source, made, target)]
    channels, size = max(part.shape[1] for part in parts), parts[1].shape[-2:]
    alike = []
    for part in parts:
        part = part if part.shape[-2:] == size else interpolate(part, size, mode="nearest-exact")
        if part.shape[1] < channels:
            part = part.expand(-1, 3, -1, -1) if part.shape[1] == 1 else part
            part = torch.cat([part, part.new_ones(len(part), channels - part.shape[1], *size)], 1)  # alpha
        alike.append(part)
    return torch.stack(alike, 1).flatten(0, 1), 3 * COLUMNS
