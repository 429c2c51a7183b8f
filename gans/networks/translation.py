"""Residual translator of Johnson et al. 2016 (arXiv 1603.08155), as CycleGAN has it (Zhu et al. 2017, 1703.10593).

A 7x7 convolution, two halvings, nine residual blocks, two doublings, a 7x7 convolution; reflection padding. It keeps
what is where, and any size goes through. CUT (Park et al. 2020, arXiv 2007.15651) halves and doubles with a blur.
"""

from collections.abc import Collection, Iterator

from torch import Tensor, nn

from gans.checks import at_least
from gans.networks.layers import Init, Norm, Size, image_size, norm_layer, normal_init, padded
from gans.networks.resample import Doubling, Halving

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
        antialias: halve by a blur behind a convolution, and double by interpolation in front of one, instead of by
            strided and transposed convolutions.
        init: how the weights begin.
    """

    multiple = step = (
        2**HALVINGS
    )  # of the sides, and pixels between places of the inner maps, see `gans.pictures.tiles`

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
            # Not in place where nothing normalises: `features` gives the maps that would be overwritten.
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
        self.stages = nn.ModuleList([*stages, *middle, *ends]).apply(init)
        levels = [width * 2**level for level in range(HALVINGS + 1)]
        # Channels of each stage's maps, as `features` counts them.
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
        """Return the maps of some of the stages, in their order, as CUT compares them.

        0 is the image with the reflected border that the first convolution sees, 1 that convolution, 2 and 3 are those
        of the halvings, 4 is the first residual block. Maps of a convolution are those in front of norm, rectifier and
        blur. Nothing behind the last of the stages is computed.
        """
        last = max(stages)
        return [maps for number, maps in zip(range(last + 1), self.maps(images), strict=False) if number in stages]

    def maps(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the maps of each stage, as `features` counts them; what has not been asked for is not computed."""
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
