"""Conversion of image tensors between uint8 and [-1, 1], image grids, image files and GIFs."""

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from gans.runs import atomic


def to_float(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return uint8 images `(..., H, W)` as floats in [-1, 1]: 0 maps to -1, 255 to 1."""
    return images.to(dtype) / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Return images in [-1, 1], clipped, as uint8. It is the exact inverse of `to_float`."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def in_channels(images: Tensor, channels: int) -> Tensor:
    """Return images `(N, C, H, W)` in [-1, 1] converted to 1 or 3 channels.

    Alpha is composed over white. Grey has the weights of ITU-R 601. The conversion is differentiable.
    """
    if images.shape[1] == 4:
        alpha = (images[:, 3:] + 1) / 2
        images = images[:, :3] * alpha + 1 - alpha
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    weights = torch.tensor([0.299, 0.587, 0.114]).to(images)
    return (images * weights[:, None, None]).sum(1, keepdim=True)


def grid(images: Tensor, columns: int | None = None) -> Tensor:
    """Return a grid `(C, H, W)`, uint8, of images `(N, C, h, w)` in [-1, 1]. By default it is square."""
    columns = columns or max(1, round(len(images) ** 0.5))
    picture: Tensor = make_grid(to_uint8(images.detach().cpu()), nrow=columns, padding=2, pad_value=255)
    # `make_grid` converts grey images to three channels.
    return picture


def save_grid(images: Tensor, path: str | Path, columns: int | None = None) -> Path:
    """Write a grid of images `(N, C, H, W)` in [-1, 1] to a file, create its folder, and return the path."""
    return save(grid(images, columns), path)


def save(picture: Tensor, path: str | Path, **options: Any) -> Path:
    """Write an image atomically in the format of the suffix of `path`, create its folder, and return the path.

    Args:
        picture: `(C, H, W)`, uint8.
        path: path of the file.
        options: Pillow's options for this format, such as `quality`.

    Raises:
        UnwrittenError: if the file cannot be written.
    """
    path, memory = Path(path), io.BytesIO()
    kind = path.suffix[1:].upper()
    kind = {"JPG": "JPEG", "JPE": "JPEG", "JFIF": "JPEG", "TIF": "TIFF"}.get(kind, kind)
    to_pil_image(picture).save(memory, kind, **options)
    return atomic.write(path, memory.getvalue(), durable=False)


def film(clips: Tensor) -> Tensor:
    """Return a grid `(C, H, W)`, uint8, of clips `(N, C, T, h, w)` in [-1, 1], with the frames of a clip in a row."""
    return grid(clips.transpose(1, 2).flatten(0, 1), columns=clips.shape[2])


def gif(clips: Tensor, frames_per_second: float = 8) -> bytes:
    """Return a looping GIF that plays clips `(N, C, T, h, w)` in [-1, 1] in a grid."""
    frames = [to_pil_image(grid(clips[:, :, i])) for i in range(clips.shape[2])]
    file = io.BytesIO()
    options = {"save_all": True, "append_images": frames[1:], "duration": 1000 / frames_per_second, "loop": 0}
    frames[0].save(file, "GIF", **options)
    return file.getvalue()
