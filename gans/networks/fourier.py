"""LaMa's generator for inpainting, Suvorov et al. 2022 (arXiv 2109.07161), of fast Fourier convolutions.

Maps have local channels, which 3x3 convolutions compute, and global channels. A 1x1 convolution of the Fourier
transform of the global channels has the whole image as its receptive field, in every block. So a large hole is seen
together with what surrounds it, and periodic structure, such as rows of windows, is continued.

The convolutions are those of Chi et al. 2020, "Fast Fourier Convolution", NeurIPS. With the authors' weights the
generator computes the authors' outputs. Their `input_nc` is `channels + 1`, `ngf` is `width`, `enable_lfu` is false.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.fft import ifft, irfft, rfft2

from gans.checks import at_least
from gans.networks.layers import Norm, norm_layer, padded, widened
from gans.networks.pullpush import changed, pull_push, start_near_fill

HALVINGS = 3
SMALLEST = 16  # pixels a side: reflection padding needs 2 pixels at an eighth of the resolution
GLOBAL = 0.75  # share of global channels in the blocks
DEEPEST = 1024  # most channels of a layer


class FourierUnit(nn.Module):
    """1x1 convolution, norm and ReLU of the Fourier transform of maps `(N, channels, h, w)`, transformed back.

    Real and imaginary parts are channels of the convolution. The transforms are computed in float32 in every precision,
    because half precision has none of these sizes.
    """

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, 2 * channels, 1, bias=norm == "none")
        self.norm = norm_layer(norm, 2 * channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape, in at least float32."""
        frequencies = torch.view_as_real(rfft2(widened(maps), norm="ortho"))  # (N, channels, h, w / 2 + 1, 2)
        parts = self.norm(self.conv(frequencies.movedim(-1, 2).flatten(1, 2))).relu()
        changed = torch.view_as_complex(widened(parts).unflatten(1, (-1, 2)).movedim(2, -1).contiguous())
        # In two steps: of two axes at once, a GPU's result for spectra of no real image is not the CPU's.
        made: Tensor = irfft(ifft(changed, dim=-2, norm="ortho"), maps.shape[-1], norm="ortho")
        return made


class Spectral(nn.Module):
    """A Fourier unit on half as many channels, with a skip connection, for maps `(N, channels, h, w)`."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        half = channels // 2
        self.narrow = nn.Sequential(*layer(nn.Conv2d(channels, half, 1, bias=norm == "none"), norm))
        self.unit = FourierUnit(half, norm)
        self.widen = nn.Conv2d(half, channels, 1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape."""
        narrow = self.narrow(maps)
        made: Tensor = self.widen(narrow + self.unit(narrow))
        return made


class FastFourier(nn.Module):
    """Fast Fourier convolution of maps with `channels`, of which the first are local and the others global.

    New local channels are 3x3 convolutions of all channels. New global ones are the sum of a 3x3 convolution of the
    local channels and of `Spectral` of the global ones. A norm and a ReLU follow.
    """

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.wide = int(channels * GLOBAL)
        self.local = channels - self.wide
        self.from_local = convolution(self.local, channels, 3, norm)
        self.from_global = convolution(self.wide, self.local, 3, norm)
        self.spectral = Spectral(self.wide, norm)
        self.norm = norm_layer(norm, channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps `(N, channels, h, w)` of the same shape."""
        local, wide = torch.split(maps, [self.local, self.wide], 1)
        given = torch.cat([self.from_global(wide), self.spectral(wide)], 1)
        made: Tensor = self.norm(self.from_local(local) + given).relu()
        return made


class Block(nn.Module):
    """Residual block of two fast Fourier convolutions for maps `(N, channels, h, w)`."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.layers = nn.Sequential(FastFourier(channels, norm), FastFourier(channels, norm))

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape."""
        changed: Tensor = maps + self.layers(maps)
        return changed


class Generator(nn.Module):
    """Images `(N, channels, H, W)` with holes, of any H and W, to completed images in [-1, 1].

    Args:
        channels: number of image channels.
        width: channels at full resolution; the blocks have eight times as many. LaMa uses 64.
        blocks: number of residual blocks. LaMa uses 9, its large version 18.
        norm: normalisation of all layers but the last. LaMa uses `batch`.
        base: fill holes smoothly first, see `pullpush`. The input has the fill in the holes, and the output, before its
            tanh, is added to that of the fill, so a fresh network nearly returns the fill. LaMa does without.
    """

    # Sides are padded to multiples of `multiple`. `step` is the number of image pixels per pixel of the inner maps.
    multiple = step = 2**HALVINGS

    def __init__(
        self, channels: int, width: int = 64, blocks: int = 9, norm: Norm = "batch", base: bool = False
    ) -> None:
        super().__init__()
        at_least(1, width=width, blocks=blocks)
        self.base = base
        pairs = list(pairwise(min(DEEPEST, width * 2**level) for level in range(HALVINGS + 1)))
        self.descend = nn.Sequential(*layer(convolution(channels + 1, width, 7, norm), norm))
        for before, after in pairs:
            self.descend.extend(layer(convolution(before, after, 3, norm, stride=2), norm))
        self.blocks = nn.Sequential(*(Block(pairs[-1][1], norm) for _ in range(blocks)))
        self.rise = nn.Sequential()
        for after, before in reversed(pairs):
            self.rise.extend(layer(nn.ConvTranspose2d(before, after, 3, 2, 1, 1), norm))
        self.last = nn.Conv2d(width, channels, 7, padding=3, padding_mode="reflect")
        if base:
            start_near_fill(self.last)

    def guesses(self, images: Tensor, masks: Tensor) -> list[Tensor]:
        """Return the output, `(N, channels, H, W)` in [-1, 1], for all pixels, as a list of one stage."""
        height, width = images.shape[-2:]
        hole, known = (padded(part, self.multiple, SMALLEST) for part in (masks.to(images), images))
        given = pull_push(known, hole) if self.base else torch.where(hole > 0.5, 0.0, known)
        made = self.last(self.rise(self.inner(self.descend(torch.cat([given, hole], 1)))))
        made = (changed(made, given, hole) if self.base else made.tanh()).contiguous()
        return [made[..., :height, :width]]

    def inner(self, maps: Tensor) -> Tensor:
        """Return the output of the blocks for maps `(N, 8 width, h, w)`, in the same shape.

        A method of its own, because `gans.pictures.tiles` evaluates layers with a large receptive field separately.
        """
        made: Tensor = self.blocks(maps)
        return made

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return completed images, given images and masks `(N, 1, H, W)` that are 1 in holes."""
        return self.guesses(images, masks)[-1]


def convolution(before: int, after: int, kernel: int, norm: Norm, stride: int = 1) -> nn.Conv2d:
    """Return a convolution with reflection padding, which has a bias only if no norm follows it."""
    return nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=norm == "none", padding_mode="reflect")


def layer(convolution: nn.Conv2d | nn.ConvTranspose2d, norm: Norm) -> tuple[nn.Module, ...]:
    """Return a convolution, the norm of its output and a ReLU."""
    return convolution, norm_layer(norm, convolution.out_channels), nn.ReLU(inplace=True)
