"""Exponential moving average of a network's weights, with its horizon stated in images.

A half-life in images means the same for every batch size; the ramp keeps the average young while the network is: a
fixed decay of .999 after 1,200 steps gives a picture of the initial noise. Source: Karras et al. 2019 and 2020 (arXiv
1912.04958, 2006.06676).
"""

import torch
from torch import Tensor, nn


def decay(images: int, images_seen: int, halflife: float, rampup: float = 0.05) -> float:
    """Return the weight of the old average in an update that covers `images` images.

    Args:
        images: images between two updates.
        images_seen: images seen since the start of training.
        halflife: images after which a contribution has halved; 0 keeps no memory.
        rampup: the half-life is at most this share of the images seen; 0 switches the ramp off.
    """
    if rampup > 0:
        halflife = min(halflife, images_seen * rampup)
    return 0.5 ** (images / halflife) if halflife > 0 else 0.0


@torch.no_grad()
def update(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move every parameter of `average` to `decay * average + (1 - decay) * model`; copy the buffers.

    Buffers are copied because averaging them is wrong where it is not useless: integer counters, and the
    power-iteration vectors of a spectral norm.
    """
    parameters: list[Tensor] = list(average.parameters())
    if parameters:
        torch._foreach_lerp_(parameters, list[Tensor](model.parameters()), 1 - decay)
    buffers = list(average.buffers())
    if buffers:
        torch._foreach_copy_(buffers, list(model.buffers()))
