"""What the pictures that `gans predict` makes are written as: names that do not collide, formats, alpha."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from gans.networks.superresolution import enlarged
from gans.pictures import images
from gans.pictures.images import to_float, to_uint8
from gans.runs import atomic

Format = Literal["same", "png", "jpg"]
Alpha = Literal["keep", "drop"]

JPEG: dict[str, Any] = {"quality": 95, "subsampling": 0}
SAVED: dict[str, dict[str, Any]] = {  # options of the kinds that are written; pictures of other kinds become PNG
    ".png": {},
    ".bmp": {},
    ".tif": {},
    ".tiff": {},
    ".webp": {"quality": 95},
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), JPEG),
}
ALPHA = (".png", ".tif", ".tiff", ".webp")  # kinds that have it
NAMED = {"png": (".png",), "jpg": (".jpg", ".jpeg", ".jpe", ".jfif")}  # extensions of a format, the usual one first


def targets(names: Iterable[str], form: Format, alpha: bool) -> dict[str, str]:
    """Return the name of the picture that becomes of each picture, by its own name, both with "/" for folders.

    With `same` a name stays as it is; `.png` is added where pictures of its kind are not written, or have no alpha that
    the model's pictures have. With another format the extension is replaced; where two names would become one, the new
    extension is added to the old one.

    Raises:
        ValueError: if two names become one all the same.
    """
    found = {name: target(name, form, alpha) for name in names}
    count = Counter(found.values())
    for name, made in found.items():
        if count[made] > 1 and made != name:
            found[name] = f"{name}{PurePosixPath(made).suffix}"
    owner: dict[str, str] = {}
    for name, made in found.items():
        if made in owner:
            raise ValueError(f"{owner[made]} and {name} would both be written to {made}; expected names of their own")
        owner[made] = name
    return found


def target(name: str, form: Format, alpha: bool) -> str:
    """Return the name of the picture that becomes of a picture, as if it were alone."""
    path = PurePosixPath(name)
    kind = path.suffix.lower()
    if form == "same":
        return name if kind in SAVED and (kind in ALPHA or not alpha) else f"{name}.png"
    return name if kind in NAMED[form] else str(path.with_suffix(NAMED[form][0]))


def write(path: Path, made: Tensor, alpha: Tensor | None, keep: bool) -> None:
    """Write a picture as its extension says.

    Its alpha is that of the picture that it was made of, unless it has its own. Where none shall be kept, or files of
    this kind have none, the picture is written over white.

    Args:
        path: of the file.
        made: `(C, H, W)` in [-1, 1] with 1, 3 or 4 channels.
        alpha: `(1, h, w)` in [-1, 1] of the picture that it was made of, enlarged by bicubic interpolation, or None.
        keep: keep alpha.

    Raises:
        ValueError: if a picture of this size cannot be written as such a file.
        UnwrittenError: if the file cannot be written.
    """
    kind = path.suffix.lower()
    if alpha is not None and len(made) < 4:
        wide = enlarged(alpha[None], made.shape[-1] // alpha.shape[-1])[0].clamp(-1, 1)
        colours = made.expand(3, -1, -1) if kind == ".webp" else made  # it has no grey with alpha
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


def from_alpha(picture: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Return the colours of a picture with alpha as an image `(channels, H, W)`, and its alpha `(1, H, W)`, in [-1, 1].

    A pixel that is fully transparent has the colour of visible ones near it, so that whatever a file has in such places
    does not reach the rims of what is seen.

    Args:
        picture: `(4, H, W)`, uint8.
        channels: 1 or 3.
    """
    whole = to_float(picture)[None]
    colours = bled(whole[:, :3], picture[None, 3:] > 0)
    return images.in_channels(colours, channels)[0], whole[0, 3:]


def bled(colours: Tensor, known: Tensor) -> Tensor:
    """Return images `(N, C, H, W)` with the means of known places around, near ones if there are, where none is known.

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
