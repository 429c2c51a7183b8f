"""Anti-aliased downsampling and upsampling by 2 with binomial filters.

[1, 3, 3, 1] is the filter of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958) and of R3GAN, after Zhang 2019 (arXiv
1904.11486). The filters are sums of shifted slices, not convolutions with a fixed kernel. So there is no kernel to
move between devices or to cast, and derivatives of every order are deterministic on GPUs too.

`padding` is named like `torch.nn.Conv2d.padding_mode`:

- `replicate`: repeats the border pixel. Constant images stay constant, and upsampling equals bilinear interpolation.
- `reflect`: mirrors the image at the centre of the border pixel.
- `zeros`: pads with zeros, as in the code of StyleGAN2 and R3GAN, so images darken towards the edge.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

Padding = Literal["zeros", "replicate", "reflect"]


def downsample(images: Tensor, padding: Padding = "replicate") -> Tensor:
    """Return images `(N, C, H // 2, W // 2)` for `(N, C, H, W)`, filtered by [1, 3, 3, 1] / 8 on both axes.

    Raises:
        ValueError: if a side is shorter than 2 pixels, or for an unknown padding.
    """
    if min(images.shape[-2:]) < 2:
        raise ValueError(
            f"images are {images.shape[-2]}x{images.shape[-1]}; expected at least 2 pixels a side to halve"
        )
    return halve(halve(images, -2, padding), -1, padding)


def upsample(images: Tensor, padding: Padding = "replicate") -> Tensor:
    """Return images `(N, C, 2 H, 2 W)` for `(N, C, H, W)`, each pixel a mean of the two nearest with weights 3 and 1.

    Raises:
        ValueError: for an unknown padding, or `reflect` of a side of 1 pixel.
    """
    return double(double(images, -2, padding), -1, padding)


def decimate(images: Tensor, padding: Padding = "reflect") -> Tensor:
    """Return every second pixel of `(N, C, H, W)`, from the first, after a blur by [1, 2, 1] / 4 on both axes.

    The shape is `(N, C, ceil(H / 2), ceil(W / 2))`. It replaces the stride of a convolution (Zhang 2019, arXiv
    1904.11486).

    Raises:
        ValueError: for an unknown padding, or `reflect` of a side of 1 pixel.
    """
    return every_second(every_second(images, -2, padding), -1, padding)


def beyond(images: Tensor, dim: int, padding: Padding) -> tuple[Tensor, Tensor]:
    """Return the padding before the first and after the last pixel of `images` along `dim`, each 1 pixel thick.

    Raises:
        ValueError: for an unknown padding, or `reflect` of a side of 1 pixel.
    """
    if padding not in get_args(Padding):
        raise ValueError(f"padding is {padding!r}; expected one of {', '.join(get_args(Padding))}")
    last = images.shape[dim] - 1
    if padding == "zeros":
        nothing = torch.zeros_like(images.narrow(dim, 0, 1))
        return nothing, nothing
    inside = int(padding == "reflect")
    if inside > last:
        raise ValueError("padding is 'reflect'; expected at least 2 pixels a side")
    return images.narrow(dim, inside, 1), images.narrow(dim, last - inside, 1)


def halve(images: Tensor, dim: int, padding: Padding) -> Tensor:
    """Return `images` with the side `dim` (-1 or -2) halved, rounded down.

    Output i is centred between inputs 2i and 2i + 1.
    """
    pixels = images.shape[dim] // 2
    left, right = beyond(images, dim, padding)
    first, second = (images.movedim(dim, -1)[..., start::2].movedim(-1, dim) for start in (0, 1))
    before = torch.cat([left, second.narrow(dim, 0, pixels - 1)], dim)
    # For an odd side the last pixel is the last neighbour, and the padding is not used.
    after = torch.cat([first.narrow(dim, 1, first.shape[dim] - 1), right], dim)
    inner, outer = first.narrow(dim, 0, pixels) + second, before + after.narrow(dim, 0, pixels)
    return torch.lerp(inner, outer, 0.25) / 2


def double(images: Tensor, dim: int, padding: Padding) -> Tensor:
    """Return `images` with the side `dim` (-1 or -2) doubled.

    Outputs 2i and 2i + 1 are centred a quarter pixel before and after input i.
    """
    last = images.shape[dim] - 1
    left, right = beyond(images, dim, padding)
    before = torch.cat([left, images.narrow(dim, 0, last)], dim)
    after = torch.cat([images.narrow(dim, 1, last), right], dim)
    # `dim` is negative, so the new axis of length 2 is inserted after it.
    pairs = torch.stack([torch.lerp(images, before, 0.25), torch.lerp(images, after, 0.25)], dim)
    return pairs.flatten(dim - 1, dim)


def every_second(images: Tensor, dim: int, padding: Padding) -> Tensor:
    """Return `images` with the side `dim` (-1 or -2) halved, rounded up: output i is centred on input 2i."""
    first, last = beyond(images, dim, padding)
    even, odd = (images.movedim(dim, -1)[..., start::2].movedim(-1, dim) for start in (0, 1))
    before, after = (torch.cat(both, dim).narrow(dim, 0, even.shape[dim]) for both in ([first, odd], [odd, last]))
    return torch.lerp(even, (before + after) / 2, 0.5)


class Halving(nn.Module):
    """Maps `(N, C, h, w)` to `(N, C, ceil(h / 2), ceil(w / 2))` by `decimate`."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the halved maps."""
        return decimate(maps)


class Doubling(nn.Module):
    """Maps `(N, C, h, w)` to `(N, C, 2 h, 2 w)` by `upsample`."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the doubled maps."""
        return upsample(maps)
