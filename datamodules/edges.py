"""Edges of images after Canny 1986, "A computational approach to edge detection"."""

from math import ceil

import torch
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d, pad
from torchvision.transforms.v2.functional import gaussian_blur

WEAK, STRONG = 0.05, 0.12  # slope of the grey level, in the whole range a pixel, at which an edge goes on and begins
SIDES = ((0, 1), (1, 1), (1, 0), (1, -1))  # neighbours (down, right) in directions of 0, 45, 90 and 135 degrees


def edges(grey: Tensor, sigma: float) -> Tensor:
    """Return a drawing `(1, H, W)` of black lines on white: the edges of a grey image `(1, H, W)` in 0..1.

    The image is blurred. An edge is a line of pixels whose slope, by Sobel's filter, is the largest across the line. It
    begins where the slope is strong, and goes on as long as it is not weak.

    Args:
        grey: The image.
        sigma: Standard deviation of the blur in pixels. More gives fewer and longer lines.
    """
    radius = min(ceil(3 * sigma), min(grey.shape[1:]) - 1)
    smooth = gaussian_blur(grey[None], [2 * radius + 1] * 2, [max(sigma, 0.05)] * 2)
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    right, down = conv2d(pad(smooth, (1, 1, 1, 1), "replicate"), torch.stack([sobel, sobel.T])[:, None])[0]
    slope = (right.square() + down.square()).sqrt()
    sector = (torch.atan2(down, right) / (torch.pi / 4)).round().long() % 4
    around = pad(slope, (1, 1, 1, 1))
    height, width = slope.shape
    highest = torch.zeros_like(slope, dtype=torch.bool)
    for number, (below, beside) in enumerate(SIDES):
        ahead, behind = (
            around[1 + way * below : 1 + way * below + height, 1 + way * beside : 1 + way * beside + width]
            for way in (1, -1)
        )
        # One side is strict, so that a flat top gives one line.
        highest |= (sector == number) & (slope > ahead) & (slope >= behind)
    line = highest & (slope >= WEAK)
    return 1 - connected(line, line & (slope >= STRONG)).float()[None]


def connected(line: Tensor, start: Tensor) -> Tensor:
    """Return the pixels of `line` that are connected to one of `start`, also across corners; all bool `(H, W)`."""
    reached, count = start, -1
    while int(reached.sum()) > count:
        count = int(reached.sum())
        reached = line & (max_pool2d(reached[None].float(), 3, 1, 1)[0] > 0)
    return reached
