"""Residual translator of Johnson et al. 2016 (arXiv 1603.08155), as CycleGAN has it (Zhu et al. 2017, 1703.10593).

A 7x7 convolution, two halvings, nine residual blocks, two doublings, a 7x7 convolution; reflection padding. It keeps
what is where, and any size goes through.
"""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from gans.checks import at_least
from gans.layers import Norm, Size, image_size, norm_layer, normal_init, padded

HALVINGS = 2
SMALLEST = 8  # pixels of a side: reflection needs two of them where they are a quarter as many


class Residual(nn.Module):
    """Maps `(N, width, h, w)` plus what two convolutions make of them."""

    def __init__(self, width: int, norm: Norm) -> None:
        super().__init__()
        first, second = (nn.Conv2d(width, width, 3, bias=norm == "none") for _ in range(2))
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1), first, norm_layer(norm, width), nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1), second, norm_layer(norm, width),
        )  # fmt: skip

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same shape."""
        changed: Tensor = maps + self.layers(maps)
        return changed


class Generator(nn.Module):
    """Images `(N, source_channels, H, W)` to images `(N, channels, H, W)` in [-1, 1], of any H and W from 8.

    Args:
        size: image side, or (height, width), of training; it is only looked at for being large enough.
        source_channels: of the images given.
        channels: of the images made.
        width: channels next to the images; four times as many in the residual blocks.
        blocks: residual blocks; nine for 256 pixels, six for 128 in the paper.
        norm: of all layers but the last.
    """

    multiple = step = 2**HALVINGS  # of the sides, and pixels between places of the inner maps, see `gans.tiles`

    def __init__(
        self,
        size: Size,
        source_channels: int,
        channels: int,
        width: int = 64,
        blocks: int = 9,
        norm: Norm = "instance",
    ) -> None:
        super().__init__()
        at_least(1, width=width, blocks=blocks)
        height, breadth = image_size(size)
        if min(height, breadth) < SMALLEST:
            raise ValueError(
                f"size is {height}x{breadth}; a residual translator needs at least {SMALLEST} pixels a side"
            )
        plain, inner = norm == "none", width * 2**HALVINGS

        def finished(*layers: nn.Module, after: int) -> nn.Sequential:
            return nn.Sequential(*layers, norm_layer(norm, after), nn.ReLU(inplace=True))

        stages = [finished(nn.ReflectionPad2d(3), nn.Conv2d(source_channels, width, 7, bias=plain), after=width)]
        for level in range(HALVINGS):
            after = width * 2 ** (level + 1)
            stages.append(finished(nn.Conv2d(after // 2, after, 3, 2, 1, bias=plain), after=after))
        middle = [Residual(inner, norm) for _ in range(blocks)]
        ends: list[nn.Module] = []
        for level in reversed(range(HALVINGS)):
            after = width * 2**level
            ends.append(finished(nn.ConvTranspose2d(2 * after, after, 3, 2, 1, 1, bias=plain), after=after))
        ends.append(nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7), nn.Tanh()))
        self.stages = nn.ModuleList([*stages, *middle, *ends]).apply(normal_init)
        levels = [width * 2**level for level in range(HALVINGS + 1)]
        # Channels behind each stage, as `features` counts them.
        self.widths = [source_channels, *levels, *[inner] * blocks, *levels[-2::-1], channels]

    def forward(self, images: Tensor) -> Tensor:
        """Return images `(N, channels, H, W)` in [-1, 1] for images `(N, source_channels, H, W)`."""
        height, width = images.shape[-2:]
        maps = padded(images, 2**HALVINGS, SMALLEST)
        for stage in self.stages[: HALVINGS + 1]:
            maps = stage(maps)
        maps = self.inner(maps)
        for stage in self.stages[-HALVINGS - 1 :]:
            maps = stage(maps)
        return maps[..., :height, :width]

    def inner(self, maps: Tensor) -> Tensor:
        """Return what the residual blocks make of maps `(N, 4 width, h, w)`."""
        for block in self.stages[HALVINGS + 1 : -HALVINGS - 1]:
            maps = block(maps)
        return maps

    def features(self, images: Tensor, stages: Collection[int]) -> list[Tensor]:
        """Return the maps behind some of the stages, in their order: 0 the image, 1 the first convolution, and so on.

        2 and 3 are the halvings, 4 the first residual block. Nothing behind the last of them is computed.
        """
        maps, found = padded(images, 2**HALVINGS, SMALLEST), []
        for number in range(max(stages) + 1):
            maps = self.stages[number - 1](maps) if number else maps
            if number in stages:
                found.append(torch.clone(maps) if number == 0 else maps)
        return found


class TwoWay(nn.Module):
    """A network for each of two ways; called, it is the one `there`.

    Args:
        there: the first way.
        back: the second.
    """

    def __init__(self, there: nn.Module, back: nn.Module) -> None:
        super().__init__()
        self.there, self.back = there, back
        self.multiple = int(getattr(there, "multiple", 1))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return what the network `there` does."""
        made: Tensor = self.there(*inputs)
        return made
