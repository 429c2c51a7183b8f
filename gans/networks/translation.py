"""Residual translator of Johnson et al. 2016 (arXiv 1603.08155) and CycleGAN (Zhu et al. 2017, arXiv 1703.10593).

It consists of a 7x7 convolution, two downsamplings, nine residual blocks, two upsamplings and a 7x7 convolution, with
reflection padding. Any image size is supported. CUT (Park et al. 2020, arXiv 2007.15651) uses anti-aliased resampling.
"""

from collections.abc import Collection, Iterator

from torch import Tensor, nn

from gans.checks import at_least
from gans.networks.layers import Init, Norm, Size, channels_last, image_size, norm_layer, normal_init, padded
from gans.networks.resample import Doubling, Halving

HALVINGS = 2
SMALLEST = 8  # pixels a side: reflection padding needs 2 pixels at a quarter of the resolution


class Residual(nn.Module):
    """Residual block of two 3x3 convolutions for maps `(N, width, h, w)`."""

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
        size: image side, or (height, width), in training; only checked for the minimum.
        source_channels: channels of the input images.
        channels: channels of the output images.
        width: channels at full resolution; the residual blocks have four times as many.
        blocks: number of residual blocks. The paper uses nine for 256 pixels and six for 128.
        norm: normalisation of all layers but the last.
        antialias: downsample with a blur and upsample by interpolation, instead of strided and transposed convolutions.
        init: initialisation of the weights.

    Raises:
        ValueError: if an argument is too small.
    """

    # Sides are padded to multiples of `multiple`. `step` is the number of image pixels per pixel of the inner maps.
    multiple = step = 2**HALVINGS

    def __init__(
        self,
        size: Size,
        source_channels: int,
        channels: int,
        width: int = 64,
        blocks: int = 9,
        norm: Norm = "instance",
        antialias: bool = False,
        init: Init = normal_init,
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
            # Without normalisation an in-place ReLU would overwrite the maps that `features` returns.
            return nn.Sequential(*layers, norm_layer(norm, after), nn.ReLU(inplace=not plain))

        stages = [finished(nn.ReflectionPad2d(3), nn.Conv2d(source_channels, width, 7, bias=plain), after=width)]
        for level in range(HALVINGS):
            after = width * 2 ** (level + 1)
            stage = finished(nn.Conv2d(after // 2, after, 3, 1 if antialias else 2, 1, bias=plain), after=after)
            stages.append(stage.append(Halving()) if antialias else stage)
        middle = [Residual(inner, norm) for _ in range(blocks)]
        ends: list[nn.Module] = []
        for level in reversed(range(HALVINGS)):
            after = width * 2**level
            if antialias:
                up = [Doubling(), nn.Conv2d(2 * after, after, 3, 1, 1, bias=plain)]
            else:
                up = [nn.ConvTranspose2d(2 * after, after, 3, 2, 1, 1, bias=plain)]
            ends.append(finished(*up, after=after))
        ends.append(nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7), nn.Tanh()))
        self.stages = channels_last(nn.ModuleList([*stages, *middle, *ends]).apply(init))
        levels = [width * 2**level for level in range(HALVINGS + 1)]
        # Channels of each stage's maps, in the numbering of `features`.
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
        return maps.contiguous()[..., :height, :width]

    def inner(self, maps: Tensor) -> Tensor:
        """Return the output of the residual blocks for maps `(N, 4 width, h, w)`, in the same shape."""
        for block in self.stages[HALVINGS + 1 : -HALVINGS - 1]:
            maps = block(maps)
        return maps

    def features(self, images: Tensor, stages: Collection[int]) -> list[Tensor]:
        """Return the maps of the given stages in network order, which CUT compares.

        Stage 0 is the padded image, 1 the first convolution, 2 and 3 the downsampling convolutions, 4 the first
        residual block. Convolutions are taken before normalisation, ReLU and blur. Layers after the last requested
        stage are not computed.
        """
        last = max(stages)
        return [maps for number, maps in zip(range(last + 1), self.maps(images), strict=False) if number in stages]

    def maps(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the maps of each stage, in the numbering of `features`, and compute them on demand."""
        maps = padded(images, 2**HALVINGS, SMALLEST)
        for stage in self.stages:
            if isinstance(stage, Residual):
                maps = stage(maps)
                yield maps
                continue
            assert isinstance(stage, nn.Sequential)
            for layer in stage:
                maps = layer(maps)
                border = isinstance(layer, nn.ReflectionPad2d) and stage is self.stages[0]
                if border or isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                    yield maps


class TwoWay(nn.Module):
    """Networks for both directions of a translation. Calling it calls `there`.

    Args:
        there: network from source to target.
        back: network from target to source.
    """

    def __init__(self, there: nn.Module, back: nn.Module) -> None:
        super().__init__()
        self.there, self.back = there, back
        self.multiple = int(getattr(there, "multiple", 1))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the output of the network `there`."""
        made: Tensor = self.there(*inputs)
        return made
