"""Smooth fills of holes by a pyramid of images, after Gortler et al. 1996, "The lumigraph", SIGGRAPH (pull and push).

Levels are halved: a pixel is the mean of the known ones of four, and counts as known to the extent that it has one.
Back up, what is not known at a level is interpolated from the level below.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from gans.networks.layers import padded

LEVELS = 8  # a pixel of the last level is 256 of the image; the middle of holes beyond twice that becomes 0
START = 0.1  # of the usual weights
BRIGHTEST = 0.98  # absolute value of a fill, because the tanh reaches 1 at infinity


def pull_push(images: Tensor, masks: Tensor) -> Tensor:
    """Return images `(N, C, H, W)`, of any H and W, whose holes are filled smoothly; known pixels are unchanged.

    Args:
        images: with anything in the holes.
        masks: `(N, 1, H, W)`, 1 in holes.
    """
    levels = [(torch.where(masks > 0.5, 0.0, images), (masks < 0.5).to(images))]
    for _ in range(LEVELS):
        values, shares = (4 * avg_pool2d(padded(part, 2), 2) for part in levels[-1])
        enough = shares.clamp(min=1)
        levels.append((values / enough, shares / enough))
    values, shares = levels.pop()
    made = values / shares.clamp(min=torch.finfo(shares.dtype).tiny)
    for values, shares in reversed(levels):
        height, width = values.shape[-2:]
        wide = interpolate(made, scale_factor=2, mode="bilinear")[..., :height, :width]
        made = values + (1 - shares) * wide
    return made


def changed(change: Tensor, fill: Tensor, masks: Tensor) -> Tensor:
    """Return images `(N, C, H, W)` in (-1, 1): in holes, the tanh of a network's output plus that of the fill.

    Known pixels get no part of the output. A loss of them would keep the output at 0, because there the fill is exact.

    Args:
        change: the output `(N, C, H, W)`, not bounded.
        fill: filled images of the same shape.
        masks: `(N, 1, H, W)`, 1 in holes.
    """
    return (change * masks + fill.clamp(-BRIGHTEST, BRIGHTEST).atanh()).tanh()


def start_near_fill(last: nn.Conv2d) -> None:
    """Shrink a network's last convolution, so that it starts near the fill that its output is added to.

    It does not start at the fill: there a critic's gradient says little, and the other layers have none.
    """
    with torch.no_grad():
        for weight in last.parameters():
            weight.mul_(START)
