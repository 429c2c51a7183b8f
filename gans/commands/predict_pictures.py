"""A picture as `gans predict` reads and writes it: the channels of a model, alpha, and formats of files.

Results are 8-bit pictures of Pillow, which are filled strip by strip: floats of a large picture would need gigabytes.
"""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from datamodules.decode import bicubic, look, read_whole
from gans.pictures import images
from gans.pictures.images import to_float, to_uint8
from gans.runs import atomic

Alpha = Literal["keep", "drop"]

JPEG: dict[str, Any] = {"quality": 95, "subsampling": 0}
# Options of the kinds of files that are written. Pictures of other kinds become PNG.
SAVED: dict[str, dict[str, Any]] = {
    ".png": {},
    ".bmp": {},
    ".tif": {},
    ".tiff": {},
    ".webp": {"quality": 95},
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), JPEG),
}
ALPHA = (".png", ".tif", ".tiff", ".webp")  # kinds of files that have alpha


@contextmanager
def pixels_allowed(most: int | None) -> Iterator[None]:
    """Let Pillow read pictures with up to so many pixels inside the block; None keeps Pillow's limit."""
    before = Image.MAX_IMAGE_PIXELS
    if most is not None:
        Image.MAX_IMAGE_PIXELS = -(-most // 2)  # Pillow warns above that, and refuses above twice as many
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def read(path: Path, channels: int, keep: bool) -> tuple[Tensor, Tensor | None]:
    """Return a picture `(C, H, W)` with the channels of a model, and its alpha `(1, H, W)` apart, or None; uint8.

    Args:
        path: of the picture.
        channels: 1, 3 or 4, of the model. With 4 alpha is one of them.
        keep: return alpha; else the picture is composed over white.

    Raises:
        UnreadableImageError: if it cannot be decoded.
    """
    if keep and channels != 4 and look(path)[1]:
        picture = read_whole(path)
        if len(picture) == 4:
            return from_alpha(picture, channels)
    return read_whole(path, channels), None


def from_alpha(picture: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Return the colours of an RGBA picture as an image `(channels, H, W)`, and its alpha `(1, H, W)`, uint8.

    Fully transparent pixels get the colours of visible ones nearby, so that hidden colours do not bleed into visible
    edges.

    Args:
        picture: `(4, H, W)`, uint8.
        channels: 1 or 3.
    """
    colours = bled(to_float(picture[None, :3]), picture[None, 3:] > 0)
    return to_uint8(images.in_channels(colours, channels)[0]), picture[3:]


def bled(colours: Tensor, known: Tensor) -> Tensor:
    """Return images `(N, C, H, W)` whose unknown pixels have the mean of the nearest known pixels around them.

    Args:
        colours: `(N, C, H, W)`.
        known: bool `(N, 1, H, W)`.
    """
    height, width = colours.shape[-2:]
    if bool(known.all()) or max(height, width) == 1:
        return colours
    count = avg_pool2d(known.to(colours), 2, ceil_mode=True)
    means = avg_pool2d(colours * known, 2, ceil_mode=True) / count.clamp(min=1e-6)
    around = interpolate(bled(means, count > 0), scale_factor=2.0, mode="nearest")[..., :height, :width]
    return torch.where(known, colours, around)


def painted(strips: Iterable[Tensor], size: tuple[int, int], alpha: Tensor | None, opaque: bool) -> Image.Image:
    """Return a picture of Pillow that is filled with strips of rows, from top to bottom.

    It has the alpha of the picture that it was made of, unless the strips have their own.

    Args:
        strips: `(1, C, h, W)` in [-1, 1] with 1, 3 or 4 channels.
        size: (height, width) of the picture that they are made of, whose multiples are those of the result.
        alpha: `(1, height, width)` uint8 of that picture, or None. It is enlarged by bicubic interpolation.
        opaque: compose over white.
    """
    canvas: Image.Image | None = None
    wide: Tensor | None = None
    top = 0
    for strip in strips:
        rows = to_uint8(strip[0])
        scale = rows.shape[-1] // size[1]
        if alpha is not None and len(rows) < 4:
            wide = bicubic(alpha, (scale * size[0], scale * size[1])) if wide is None else wide
            rows = torch.cat([rows, wide[:, top : top + rows.shape[-2]]])
        if opaque and len(rows) in (2, 4):
            share = rows[-1:].float() / 255
            rows = (rows[:-1] * share + 255 * (1 - share)).round().to(torch.uint8)
        part = Image.fromarray(rows.permute(1, 2, 0).squeeze(-1).contiguous().numpy())
        if canvas is None:
            canvas = Image.new(part.mode, (scale * size[1], scale * size[0]))
        canvas.paste(part, (0, top))
        top += part.height
    assert canvas is not None
    return canvas


def has_alpha(path: Path) -> bool:
    """Return whether files of this kind have alpha."""
    return path.suffix.lower() in ALPHA


def write(path: Path, made: Image.Image) -> None:
    """Write a picture in the format of the extension of `path`.

    Raises:
        ValueError: if the format cannot hold a picture of this size.
        UnwrittenError: if the file cannot be written.
    """
    kind = path.suffix.lower()
    if kind == ".webp" and made.mode == "LA":  # WebP has no grey with alpha
        made = made.convert("RGBA")
    memory = io.BytesIO()
    try:
        made.save(memory, Image.registered_extensions()[kind], **SAVED[kind])
    except (OSError, ValueError) as error:  # Pillow's: nothing has been written yet
        raise ValueError(f"{made.width}x{made.height} pixels cannot be written as {kind}: {error}") from error
    with atomic.opened(path, durable=False) as file:
        file.write(memory.getbuffer())
