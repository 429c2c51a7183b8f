"""Anti-aliased downsampling and upsampling by 2 with binomial filters.

[1, 3, 3, 1] is the filter of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958) and of R3GAN, after Zhang 2019 (arXiv
1904.11486).

`padding` is named like `torch.nn.Conv2d.padding_mode`:

- `replicate`: repeats the border pixel. Constant images stay constant, and upsampling equals bilinear interpolation.
- `reflect`: mirrors the image at the centre of the border pixel.
- `zeros`: pads with zeros, as in the code of StyleGAN2 and R3GAN, so images darken towards the edge.

With `zeros`, `downsample` and `upsample` are one depthwise convolution, as `Filter` is, and so are their derivatives.
On a GPU they are as exact and as deterministic as the convolutions of the network. In float32 and without
channels_last, PyTorch computes them with kernels of its own, without TF32 and in a fixed order. Else cuDNN may choose
TF32, and an algorithm that is not deterministic, unless `torch.backends.cudnn.deterministic` is set.

All others are sums of shifted slices, which are exact for constant images and deterministic on every device.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from gans.networks.grouped import Options, convolve, transposed

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
    if padding == "zeros":
        with torch.autocast(images.device.type, enabled=False):
            return convolve(images, kernel(images, 0.25), None, filtering(images))
    return halve(halve(images, -2, padding), -1, padding)


def upsample(images: Tensor, padding: Padding = "replicate") -> Tensor:
    """Return images `(N, C, 2 H, 2 W)` for `(N, C, H, W)`, each pixel a mean of the two nearest with weights 3 and 1.

    Raises:
        ValueError: for an unknown padding, or `reflect` of a side of 1 pixel.
    """
    if padding == "zeros":
        height, width = images.shape[-2:]
        with torch.autocast(images.device.type, enabled=False):
            return transposed(images, kernel(images, 0.5), filtering(images), (2 * height, 2 * width))
    return double(double(images, -2, padding), -1, padding)


def decimate(images: Tensor, padding: Padding = "reflect") -> Tensor:
    """Return every second pixel of `(N, C, H, W)`, from the first, after a blur by [1, 2, 1] / 4 on both axes.

    The shape is `(N, C, ceil(H / 2), ceil(W / 2))`. It replaces the stride of a convolution (Zhang 2019, arXiv
    1904.11486).

    Raises:
        ValueError: for an unknown padding, or `reflect` of a side of 1 pixel.
    """
    return decimated(decimated(images, -2, padding), -1, padding)


def filtering(images: Tensor, stride: int = 2, border: int = 1) -> Options:
    """Return the options of the convolution of each channel of `images` by itself. By default it halves them."""
    return Options(stride=(stride, stride), padding=(border, border), groups=images.shape[1])


def kernel(images: Tensor, scale: float) -> Tensor:
    """Return the weights `(C, 1, 4, 4)` of a filter: `scale` times [0.5, 1.5, 1.5, 0.5] on both axes.

    They are computed on the device of the images, because a copy from the host would wait for it.
    """
    place = torch.linspace(-1.5 * scale, 1.5 * scale, 4, dtype=images.dtype, device=images.device)
    taps = 2 * scale - place.abs()
    return torch.outer(taps, taps).expand(images.shape[1], 1, 4, 4)


def bordered(images: Tensor, dim: int, padding: Padding) -> Tensor:
    """Return `images` with a border of 1 pixel at both ends of `dim`.

    Raises:
        ValueError: for an unknown padding, or `reflect` of a side of 1 pixel.
    """
    if padding not in get_args(Padding):
        raise ValueError(f"padding is {padding!r}; expected one of {', '.join(get_args(Padding))}")
    last = images.shape[dim] - 1
    if padding == "zeros":
        nothing = torch.zeros_like(images.narrow(dim, 0, 1))
        return torch.cat([nothing, images, nothing], dim)
    inside = int(padding == "reflect")
    if inside > last:
        raise ValueError("padding is 'reflect'; expected at least 2 pixels a side")
    return torch.cat([images.narrow(dim, inside, 1), images, images.narrow(dim, last - inside, 1)], dim)


def every_second(images: Tensor, dim: int, start: int, count: int) -> Tensor:
    """Return `count` pixels of `images` along `dim`: every second one from `start`."""
    return images.movedim(dim, -1)[..., start : start + 2 * count - 1 : 2].movedim(-1, dim)


def halve(images: Tensor, dim: int, padding: Padding) -> Tensor:
    """Return `images` with the side `dim` (-1 or -2) halved, rounded down.

    Output i is centred between inputs 2i and 2i + 1.
    """
    padded, count = bordered(images, dim, padding), images.shape[dim] // 2
    before, first, second, after = (every_second(padded, dim, start, count) for start in range(4))
    return torch.lerp(first + second, before + after, 0.25) / 2


def double(images: Tensor, dim: int, padding: Padding) -> Tensor:
    """Return `images` with the side `dim` (-1 or -2) doubled.

    Outputs 2i and 2i + 1 are centred a quarter pixel before and after input i.
    """
    padded, count = bordered(images, dim, padding), images.shape[dim]
    pairs = [torch.lerp(images, padded.narrow(dim, start, count), 0.25) for start in (0, 2)]
    # `dim` is negative, so the new axis of length 2 is inserted after it.
    return torch.stack(pairs, dim).flatten(dim - 1, dim)


def decimated(images: Tensor, dim: int, padding: Padding) -> Tensor:
    """Return `images` with the side `dim` (-1 or -2) halved, rounded up: output i is centred on input 2i."""
    padded, count = bordered(images, dim, padding), (images.shape[dim] + 1) // 2
    before, even, after = (every_second(padded, dim, start, count) for start in range(3))
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


class Filter(nn.Module):
    """The filter [1, 3, 3, 1] / 8 on both axes of `(N, C, H, W)`, with zeros beyond the border.

    `Filter(stride=2)` is `downsample`, and `Filter(stride=2, gain=4, up=True)` is `upsample`. The kernel is a buffer,
    which is computed once.

    Args:
        stride: distance of the pixels that are computed; with `up`, of those that are given.
        border: pixels of zeros that are added at each side.
        gain: factor of the result.
        up: the transpose, from `(N, C, H, W)` to `(N, C, stride H, stride W)`.
    """

    taps: Tensor
    constants = ("taps",)  # buffers that no step changes

    def __init__(self, stride: int = 1, border: int = 1, gain: float = 1.0, up: bool = False) -> None:
        super().__init__()
        self.stride, self.border, self.up = stride, border, up
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("taps", gain * torch.outer(taps, taps), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the filtered images, in the precision of `images`."""
        weights = self.taps.to(images.dtype).expand(images.shape[1], 1, 4, 4)
        options = filtering(images, self.stride, self.border)
        with torch.autocast(images.device.type, enabled=False):
            if not self.up:
                return convolve(images, weights, None, options)
            height, width = images.shape[-2:]
            return transposed(images, weights, options, (self.stride * height, self.stride * width))
