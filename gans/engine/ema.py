"""Exponential moving average of a network's weights, with a half-life in images.

A half-life in images is independent of the batch size. The ramp-up shortens it at the start of training. Without it,
with a decay of 0.999, the initial weights would still make up 30 % of the average after 1,200 steps. Source: Karras et
al. 2019 and 2020 (arXiv 1912.04958, 2006.06676).
"""

import torch
from torch import Tensor, nn


def decay(images: int, images_seen: int, halflife: float, rampup: float = 0.05) -> float:
    """Return the weight of the old average in an update, from 0 to below 1.

    Args:
        images: images between two updates.
        images_seen: images seen since the start of training.
        halflife: number of images after which the weight of a contribution has halved; 0 copies the model.
        rampup: maximum of the half-life as a share of the images seen; 0 disables the ramp-up.
    """
    if rampup > 0:
        halflife = min(halflife, images_seen * rampup)
    return 0.5 ** (images / halflife) if halflife > 0 else 0.0


@torch.no_grad()
def update(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Set every parameter of `average` to `decay * average + (1 - decay) * model`, and copy the buffers.

    Buffers are not averaged, because an average of integer counters or of a spectral norm's vectors is wrong.
    """
    parameters: list[Tensor] = list(average.parameters())
    if parameters:
        torch._foreach_lerp_(parameters, list[Tensor](model.parameters()), 1 - decay)
    buffers = list(average.buffers())
    if buffers:
        torch._foreach_copy_(buffers, list(model.buffers()))
