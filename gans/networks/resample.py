"""Halving and doubling the sides of images without aliasing, by the binomial filter [1, 3, 3, 1] on each axis.

The filter of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958) and of R3GAN, after Zhang 2019 (arXiv 1904.11486). Pixels
beyond the border repeat the border's, so constants stay constants up to the edge; doubling is then the same as bilinear
interpolation. Sums of shifted slices rather than a strided convolution with a fixed kernel: there is no kernel to move
between devices or to round to a dtype, and derivatives of every order are such sums again, deterministic on GPUs too.
"""

import torch
from torch import Tensor


def downsample(images: Tensor) -> Tensor:
    """Return `(N, C, H // 2, W // 2)` of `(N, C, H, W)`: blurred by [1, 3, 3, 1] / 8 on both axes, every second pixel.

    Raises:
        ValueError: if a side is shorter than 2 pixels.
    """
    if min(images.shape[-2:]) < 2:
        raise ValueError(
            f"images are {images.shape[-2]}x{images.shape[-1]}; expected at least 2 pixels a side to halve"
        )
    return halve(halve(images, -2), -1)


def upsample(images: Tensor) -> Tensor:
    """Return `(N, C, 2 H, 2 W)` of `(N, C, H, W)`: each new pixel is 3 parts its nearest old one, 1 part the next."""
    return double(double(images, -2), -1)


def halve(images: Tensor, dim: int) -> Tensor:
    """Return `images` with the side `dim` (-1 or -2) halved, rounded down.

    Output i is centred between inputs 2i and 2i + 1.
    """
    pixels = images.shape[dim] // 2
    first, second = (images.movedim(dim, -1)[..., start::2].movedim(-1, dim) for start in (0, 1))
    before = torch.cat([first.narrow(dim, 0, 1), second.narrow(dim, 0, pixels - 1)], dim)
    after = torch.cat([first.narrow(dim, 1, first.shape[dim] - 1), second.narrow(dim, pixels - 1, 1)], dim)
    inner, outer = first.narrow(dim, 0, pixels) + second, before + after.narrow(dim, 0, pixels)
    return torch.lerp(inner, outer, 0.25) / 2


def double(images: Tensor, dim: int) -> Tensor:
    """Return `images` with the side `dim` (-1 or -2) doubled.

    Outputs 2i and 2i + 1 lie a quarter pixel on either side of input i.
    """
    last = images.shape[dim] - 1
    before = torch.cat([images.narrow(dim, 0, 1), images.narrow(dim, 0, last)], dim)
    after = torch.cat([images.narrow(dim, 1, last), images.narrow(dim, last, 1)], dim)
    # The new axis of two stands behind `dim`, which is counted from the end.
    pairs = torch.stack([torch.lerp(images, before, 0.25), torch.lerp(images, after, 0.25)], dim)
    return pairs.flatten(dim - 1, dim)
