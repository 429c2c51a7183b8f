"""PSNR and SSIM of restored pictures as papers report them: on luma or all channels, without borders, in float64.

The scores of `gans.metrics.pairs` are of whole images in all channels, so they do not compare with published ones.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d

Scores = dict[str, Tensor]  # of each image, (N,)

# Weights of red, green and blue in [0, 255] and the offset of ITU-R BT.601, as in MATLAB's rgb2ycbcr: Y is 16 to 235.
RGB, OFFSET = (65.481 / 255, 128.553 / 255, 24.966 / 255), 16.0

WINDOW = 11  # side of SSIM's windows


class Protocol(NamedTuple):
    """How the pictures of one kind of paper are compared.

    Args:
        luma: compare Y of RGB images; else all channels.
        cropped: leave out as many pixels at each border as the scale.
        about: the same in words.
    """

    luma: bool
    cropped: bool
    about: str


PROTOCOLS = {
    "sr": Protocol(True, True, "luma (BT.601) of colour pictures, without SCALE pixels at each border"),
    "denoise": Protocol(False, False, "all channels, whole pictures"),
}


def scores(made: Tensor, target: Tensor, protocol: Protocol, scale: int = 1) -> Scores:
    """Return PSNR in decibels and SSIM, `(N,)` each, of images `(N, C, H, W)`.

    Args:
        made: uint8 images with 1 or 3 channels.
        target: what they should be.
        protocol: one of `PROTOCOLS`.
        scale: factor by which the images were enlarged. With 1 no border is left out.

    Raises:
        ValueError: if less than 11x11 pixels, the window of SSIM, would be left.
    """
    border = scale if protocol.cropped and scale > 1 else 0
    values = []
    for images in (made, target):
        wide = luma(images) if protocol.luma and images.shape[1] == 3 else images.double()
        height, width = wide.shape[-2:]
        values.append(wide[..., border : height - border, border : width - border])
    if min(values[0].shape[-2:]) < WINDOW:
        height, width = target.shape[-2:]
        raise ValueError(
            f"a picture has {width}x{height} pixels; expected at least {WINDOW} a side without the borders"
        )
    return {"psnr": psnr(*values), "ssim": ssim(*values)}


def luma(images: Tensor) -> Tensor:
    """Return Y `(N, 1, H, W)`, 16 to 235 in float64, of RGB images `(N, 3, H, W)` on the scale 0..255."""
    weights = torch.tensor(RGB, dtype=torch.float64, device=images.device).view(3, 1, 1)
    return (images.double() * weights).sum(1, keepdim=True) + OFFSET


def psnr(made: Tensor, target: Tensor) -> Tensor:
    """Return PSNR in decibels `(N,)` of images `(N, C, H, W)` on the scale 0..255. Equal images have 100 dB."""
    errors = (made - target).square().flatten(1).mean(1)
    return (10 * torch.log10(255**2 / errors)).clamp(max=100.0)


def ssim(made: Tensor, target: Tensor) -> Tensor:
    """Return SSIM `(N,)` of images `(N, C, H, W)` on the scale 0..255, the mean of all channels.

    The window is a Gaussian of 11x11 pixels and standard deviation 1.5, only where it lies inside the image.
    torchmetrics pads images; on bicubic x4 of BSD100 that is .002 more. Source: Wang et al. 2004, "Image quality
    assessment: from error visibility to structural similarity".
    """
    first, second = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean, goal = windowed(made), windowed(target)
    variances = windowed(made.square()) - mean.square() + windowed(target.square()) - goal.square()
    covariance = windowed(made * target) - mean * goal
    share = (2 * mean * goal + first) / (mean.square() + goal.square() + first)
    found: Tensor = share * (2 * covariance + second) / (variances + second)
    return found.flatten(1).mean(1)


def windowed(images: Tensor) -> Tensor:
    """Return the means of images `(N, C, H, W)` in SSIM's windows, `(N, C, H - 10, W - 10)`."""
    places = torch.arange(WINDOW, dtype=images.dtype, device=images.device) - WINDOW // 2
    weights = torch.exp(-places.square() / (2 * 1.5**2))
    weights = (weights / weights.sum()).expand(images.shape[1], 1, 1, WINDOW)
    rows: Tensor = conv2d(images, weights, groups=images.shape[1])
    return conv2d(rows, weights.transpose(2, 3), groups=images.shape[1])
