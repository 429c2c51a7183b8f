"""A picture as `gans predict` reads and writes it: the channels of a model, alpha, and formats of files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from datamodules.decode import look, read_whole
from gans.networks.superresolution import enlarged
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
    """Return a picture `(C, H, W)` in [-1, 1] with the channels of a model, and its alpha `(1, H, W)` apart, or None.

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
    return to_float(read_whole(path, channels)), None


def from_alpha(picture: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Return the colours of an RGBA picture as an image `(channels, H, W)`, and its alpha `(1, H, W)`, in [-1, 1].

    Fully transparent pixels get the colours of visible ones nearby, so that hidden colours do not bleed into visible
    edges.

    Args:
        picture: `(4, H, W)`, uint8.
        channels: 1 or 3.
    """
    whole = to_float(picture)[None]
    colours = bled(whole[:, :3], picture[None, 3:] > 0)
    return images.in_channels(colours, channels)[0], whole[0, 3:]


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


def write(path: Path, made: Tensor, alpha: Tensor | None, keep: bool) -> None:
    """Write a picture in the format of its extension.

    It gets the alpha of the picture that it was made of, unless it has its own. It is composed over white if alpha is
    not kept, or files of this kind have none.

    Args:
        path: of the file.
        made: `(C, H, W)` in [-1, 1] with 1, 3 or 4 channels.
        alpha: `(1, h, w)` in [-1, 1] of the picture that it was made of, or None. It is enlarged by bicubic
            interpolation.
        keep: keep alpha.

    Raises:
        ValueError: if the format cannot hold a picture of this size.
        UnwrittenError: if the file cannot be written.
    """
    kind = path.suffix.lower()
    if alpha is not None and len(made) < 4:
        wide = enlarged(alpha[None], made.shape[-1] // alpha.shape[-1])[0].clamp(-1, 1)
        colours = made.expand(3, -1, -1) if kind == ".webp" else made  # WebP has no grey with alpha
        made = torch.cat([colours, wide])
    if len(made) in (2, 4) and not (keep and kind in ALPHA):
        share = (made[-1:] + 1) / 2
        made = made[:-1] * share + 1 - share
    try:
        images.save(to_uint8(made), path, **SAVED[kind])
    except atomic.UnwrittenError:
        raise
    except (OSError, ValueError) as error:  # Pillow's: nothing has been written yet
        raise ValueError(f"{made.shape[-1]}x{made.shape[-2]} pixels cannot be written as {kind}: {error}") from error
