"""One image file, of whatever kind, as a uint8 tensor of the channels and size asked for."""

import os
import warnings
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

Fit: TypeAlias = Literal["crop", "pad", "stretch"]
Half: TypeAlias = Literal["left", "right"]

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # a tag of EXIF, and its values that swap width and height
GREY_MODES = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")


class Target(NamedTuple):
    """What every image becomes: channels, (height, width), how it fits, and a centre crop (height, width) before.

    With `half`, the image is that half of the picture in the file.
    """

    channels: int
    size: tuple[int, int]
    fit: Fit = "crop"
    crop: tuple[int, int] | None = None
    half: Half | None = None


class UnreadableImageError(OSError):
    """An image file that cannot be decoded; the message is the reason, without the path."""


def read_image(path: str | Path, target: Target) -> Tensor:
    """Return the image `(C, H, W)` uint8: first frame, EXIF orientation applied, antialiased bicubic.

    Raises:
        UnreadableImageError: The file is missing, truncated, too large or no image.
    """
    height, width = target.size
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL's hints about odd but readable files
            with Image.open(path) as file:
                if target.crop is None:
                    # JPEG can be decoded at 1/2, 1/4 or 1/8; twice the final size leaves the resampling its detail.
                    side = 2 * max(height, width)
                    file.draft(None, (2 * side if target.half else side, side))
                image = halved(upright(file), target.half)
                pixels = np.array(resized(in_channels(eight_bit(image), target.channels), target))
    except Exception as error:  # decoders raise almost anything for a damaged file
        raise UnreadableImageError(reason(path, error)) from error
    return torch.from_numpy(pixels).view(height, width, -1).permute(2, 0, 1).contiguous()


def dimensions(path: str | Path) -> tuple[int, int]:
    """Return width and height of an image that is turned as its EXIF orientation says, from its header alone.

    Raises:
        UnreadableImageError: The file is missing or its header is no image's.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as file:
                looked = file.format != "PNG" or "exif" in file.info  # else Pillow decodes a PNG to search behind it
                turned = looked and file.getexif().get(ORIENTATION, 1) in SIDEWAYS
                return (file.height, file.width) if turned else (file.width, file.height)
    except Exception as error:
        raise UnreadableImageError(reason(path, error)) from error


def look(path: str | Path) -> tuple[bool, bool]:
    """Return whether an image has colour and whether it has alpha, from its header alone.

    Raises:
        UnreadableImageError: The file is missing or its header is no image's.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as file:
                return file.mode not in GREY_MODES, file.mode in ALPHA_MODES or "transparency" in file.info
    except Exception as error:
        raise UnreadableImageError(reason(path, error)) from error


def upright(image: Image.Image) -> Image.Image:
    """Return the image turned as its EXIF orientation says."""
    try:
        return ImageOps.exif_transpose(image)
    except (SyntaxError, ValueError, KeyError, TypeError, EOFError):  # damaged EXIF data of a good image
        return image


def halved(image: Image.Image, half: Half | None) -> Image.Image:
    """Return the left or the right half of an image, or all of it."""
    if half is None:
        return image
    middle = image.width // 2
    return image.crop((0, 0, middle, image.height) if half == "left" else (middle, 0, 2 * middle, image.height))


def eight_bit(image: Image.Image) -> Image.Image:
    """Return the image as `L`, `RGB` or `RGBA` with 8 bits a channel; 16 bits are scaled, never clipped.

    Floating-point images count as 0..1 if no value exceeds 1, else as 0..255.
    """
    if image.mode.startswith("I"):
        return _from_array(np.asarray(image).astype(np.float64) / 257)
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image))
        return _from_array(values * 255 if values.max() <= 1 else values)
    if image.mode in ALPHA_MODES or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in GREY_MODES else "RGB")


def in_channels(image: Image.Image, channels: int) -> Image.Image:
    """Return the image with 1, 3 or 4 channels: alpha is composited over white, colour weighted to grey."""
    if channels != 4 and image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(MODES[channels])


def resized(image: Image.Image, target: Target) -> Image.Image:
    """Return the image in the target's size; padding is black, or transparent with alpha."""
    height, width = target.size
    if target.crop:
        image = image.crop(centre(image.size, (target.crop[1], target.crop[0])))
    if target.fit == "pad":
        scale = min(width / image.width, height / image.height)
        across, down = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        canvas = Image.new(image.mode, (width, height))
        part = image.resize((across, down), Image.Resampling.BICUBIC)
        canvas.paste(part, ((width - across) // 2, (height - down) // 2))
        return canvas
    scale = min(image.width / width, image.height / height)
    window = image.size if target.fit == "stretch" else (round(width * scale), round(height * scale))
    return image.resize((width, height), Image.Resampling.BICUBIC, centre(image.size, window))


def centre(inside: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the window (left, upper, right, lower) of (width, height), or what there is of it, in the middle."""
    width, height = max(1, min(size[0], inside[0])), max(1, min(size[1], inside[1]))
    left, upper = (inside[0] - width) // 2, (inside[1] - height) // 2
    return left, upper, left + width, upper + height


def _from_array(values: "np.typing.NDArray[np.floating]") -> Image.Image:
    return Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8))


def reason(path: str | Path, error: Exception) -> str:
    """Return in a few words why a file could not be decoded."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if os.path.isfile(path) and not os.path.getsize(path):
        return "empty file"
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels"
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
