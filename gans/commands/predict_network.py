"""A translator as `gans predict` applies it to pictures: in tiles, several at once, in a chosen precision and size."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from gans.commands.predict_pictures import painted
from gans.pictures.colour import recoloured
from gans.pictures.images import to_float
from gans.pictures.tiles import strips

Precision = Literal["32", "bf16", "16"]

TYPES = {"bf16": torch.bfloat16, "16": torch.float16}
COLOURS = 2**20  # pixels of a picture whose colours a style gets


class Applied:
    """The function of a translator for pictures of any size.

    Args:
        model: the translator.
        make: its method: `translate`, or another of the same arguments.
        tile: side in pixels of the tiles of the larger of picture and result, which the work depends on.
        overlap: of these tiles.
        batch: number of tiles, or of pictures that are not cut, that are computed at once.
        precision: of convolutions and matrix products: `32`, `bf16` or `16`.
        outscale: size of the results relative to the pictures; None is the model's scale.
        preserve_colour: give inputs that are not cut, which are styles, the colours of the picture.
    """

    def __init__(
        self,
        model: Any,
        make: Callable[..., Tensor],
        tile: int,
        overlap: int,
        batch: int = 1,
        precision: Precision = "32",
        outscale: float | None = None,
        preserve_colour: bool = False,
    ) -> None:
        self.model, self.make, self.batch, self.precision = model, make, batch, precision
        self.outscale, self.preserve_colour = outscale, preserve_colour
        self.scale = int(getattr(model, "scale", 1))
        self.overlap = overlap // self.scale
        self.tile = max(self.overlap + 1, tile // self.scale)
        ema = getattr(model, "generator_ema", None)
        self.multiple = int(getattr(model, "multiple", getattr(ema, "multiple", 1)))
        if hasattr(model, "pixels"):  # what is computed at once is chosen here
            model.pixels = max(model.pixels, batch * (self.scale * self.tile) ** 2)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) of the result of a picture."""
        factor = self.scale if self.outscale is None else self.outscale
        return max(1, round(factor * height)), max(1, round(factor * width))

    def images(
        self,
        pictures: Tensor,
        aligned: Sequence[Tensor] = (),
        whole: Sequence[Tensor] = (),
        alpha: Tensor | None = None,
        opaque: bool = False,
    ) -> Iterator[Image.Image]:
        """Yield the results of pictures.

        Args:
            pictures: `(N, C, H, W)`, uint8, of the channels that the model takes.
            aligned: inputs `(1, c, H, W)` that are cut into the same tiles.
            whole: inputs `(1, c, h, w)` that are not cut.
            alpha: `(1, H, W)`, uint8, of the pictures, or None.
            opaque: compose the results over white.

        Raises:
            ValueError: if a result of this `outscale` is too large for the memory.
        """
        height, width = pictures.shape[-2:]
        for rows in self.rows(pictures, aligned, whole):
            made = painted(rows, (height, width), alpha, opaque)
            if self.outscale is not None and (size := self.size(height, width)) != (made.height, made.width):
                try:
                    made = made.resize(size[::-1], Image.Resampling.LANCZOS)
                except (MemoryError, OverflowError) as error:
                    told = f"{size[1]}x{size[0]} pixels, more than memory holds"
                    raise ValueError(f"outscale is {self.outscale}, which makes {told}; expected less") from error
            yield made

    def rows(self, pictures: Tensor, aligned: Sequence[Tensor], whole: Sequence[Tensor]) -> Iterator[Iterator[Tensor]]:
        """Yield for each picture the strips of its result, `(1, C, h, W)` in [-1, 1] on the CPU, from top to bottom."""
        device = self.model.device
        if len(pictures) > 1 and max(pictures.shape[-2:]) <= self.tile and not self.preserve_colour:
            function = self.function(whole)
            for some in torch.split(pictures, self.batch):
                made = function(some.to(device), *(part.to(device) for part in aligned)).float().cpu()
                yield from (iter([row]) for row in torch.split(made, 1))
            return
        for picture in torch.split(pictures, 1):
            others = [in_colours(part, picture) for part in whole] if self.preserve_colour else whole
            function, given = self.function(others), (picture, *aligned)
            yield strips(function, given, self.tile, self.overlap, device, self.model, self.multiple, self.batch)

    def function(self, whole: Sequence[Tensor]) -> Callable[..., Tensor]:
        """Return the function of uint8 images `(n, C, h, w)` and aligned inputs, with the others bound."""
        others = [part.to(self.model.device) for part in whole]

        def make(pixels: Tensor, *parts: Tensor) -> Tensor:
            given = [part.expand(len(pixels), -1, -1, -1) for part in (*parts, *others)]
            with torch.no_grad(), self.autocast():
                return self.make(to_float(pixels), *given)

        return make

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context manager in which the model computes in the precision."""
        if self.precision == "32":
            return nullcontext()
        return torch.autocast(self.model.device.type, TYPES[self.precision])


def in_colours(style: Tensor, picture: Tensor) -> Tensor:
    """Return a style `(1, C, h, w)` in [-1, 1] with the colours of a picture `(1, C, H, W)`, uint8. Alpha stays."""
    every = max(1, round((picture.shape[-2] * picture.shape[-1] / COLOURS) ** 0.5))
    like = to_float(picture[:, :3, ::every, ::every])
    return torch.cat([recoloured(style[:, :3], like), style[:, 3:]], 1)
