"""Decoding of image files, of all formats that Pillow reads, to uint8 tensors of given channels and size.

All code of this project reads images with this module: the first frame, with EXIF orientation, 8 bits per channel.

Images are cropped first and then resized by antialiased bicubic interpolation. PyTorch's kernel for uint8 computes it
several times faster than Pillow's, with results that differ by at most one level of 255. The kernel uses integers, so
the results are the same on every CPU. Images with alpha are resized by Pillow, which weights colours by alpha.

A JPEG image is decoded at 1/2, 1/4 or 1/8 of its size if at least three times the final size remains. For photographs
the difference from decoding in full is 0.2 to 0.5 levels on average, and at most 11.

Values are converted to 8 bits by one rule. 8-bit values stay unchanged, and 16-bit values are divided by 257. For
32-bit integers and floats the range is guessed for each image. It is the smallest of 0..1, 0..255, 0..65535 and
0..maximum that contains all values. With negative values it is -1..1 or else minimum..maximum. This range is scaled to
0..255. NaN and -infinity count as the lower end, infinity as the upper end.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import interpolate

from datamodules.archive import opened, within
from datamodules.palette import Palette

try:
    from torchvision.io import decode_jpeg
except ImportError:  # torchvision without image decoders
    decode_jpeg = None

Fit: TypeAlias = Literal["crop", "pad", "stretch"]
Half: TypeAlias = Literal["left", "right"]

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
REDUCED = 3  # least size of a reduced JPEG image, as a multiple of the final size
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # EXIF tag, and its values that swap width and height
WIDTH, HEIGHT = 256, 257  # tags of TIFF
GREY_MODES = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
SIXTEEN_BIT = ("PNG", "PPM")  # formats with 16 bits that some versions of Pillow open with mode I
RANGES = (1, 255, 65535)  # usual maxima of 32-bit values
# Formats that are not images, or that Pillow does not decode itself (EPS would be run by Ghostscript).
NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"}
FIRST = ("JPEG", "PNG")  # common formats that are recognised by their first bytes
COMMON = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff")  # listed first in messages


def _formats() -> tuple[str, ...]:
    Image.init()
    # Pillow tries the formats in this order, and opens a file for each that has no signature.
    return (*FIRST, *(name for name in Image.ID if name not in NO_PICTURES and name not in FIRST))


def _extensions() -> tuple[str, ...]:
    known = Image.registered_extensions()
    found = {extension[1:].lower() for extension, name in known.items() if name in FORMATS}
    return tuple([name for name in COMMON if name in found] + sorted(found - set(COMMON)))


FORMATS = _formats()  # formats that the installed Pillow decodes
EXTENSIONS = _extensions()  # their file extensions, in lower case without the dot


class Target(NamedTuple):
    """The form to which images are converted.

    Attributes:
        channels: 1, 3 or 4.
        size: (height, width).
        fit: How other aspect ratios are fitted; `native` keeps the size of the image, of which `size` is a window.
        crop: (height, width) of a centre crop before resizing, or None.
        half: Half of the image that is used, or None for the whole image.
        palette: Colours of a label map, which is resized by nearest neighbours; None for other images.
    """

    channels: int
    size: tuple[int, int]
    fit: Fit | Literal["native"] = "crop"
    crop: tuple[int, int] | None = None
    half: Half | None = None
    palette: Palette | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the converted image."""
        return self.channels, *self.size


class UnreadableImageError(OSError):
    """An image file cannot be decoded. The message is the reason, without the path."""


def read_image(path: str | Path, target: Target, data: bytes | None = None) -> Tensor:
    """Return the first frame of an image `(C, H, W)` uint8, with EXIF orientation, resized by antialiased bicubic.

    Args:
        path: Path of the file.
        target: Form to which the image is converted.
        data: Bytes of the file, if they have been read.

    Raises:
        UnreadableImageError: The file is missing, truncated, too large or not an image.
    """
    with picture(path, data) as file:
        return converted(file, target)


def converted(file: Image.Image, target: Target) -> Tensor:
    """Return the first frame of an open image `(C, H, W)` uint8, see `read_image`."""
    full = file.size
    if target.crop is None and target.palette is None and target.fit != "native":
        side = REDUCED * max(target.size)
        file.draft(None, (2 * side if target.half else side, side))  # it does nothing for other formats
    pixels = by_torchvision(file) if file.size == full and target.channels == 3 else None
    if pixels is None:
        pixels = tensor(in_channels(whole(file), target.channels))
    return resized(halved(pixels, target.half), target)


def read_whole(path: str | Path, channels: int | None = None) -> Tensor:
    """Return the image `(C, H, W)` uint8 in its original size, with the given channels or with those of the file.

    Raises:
        UnreadableImageError: The file is missing, truncated, too large or not an image.
    """
    with picture(path) as file:
        image = whole(file)
        return tensor(image if channels is None else in_channels(image, channels)).contiguous()


@contextmanager
def picture(path: str | Path, data: bytes | None = None) -> Iterator[Any]:
    """Open an image file, in a folder or a zip archive, without warnings, and convert all errors to one type.

    Raises:
        UnreadableImageError: The file is missing, truncated, too large or not an image.
    """
    with warnings.catch_warnings():
        # Pillow warns about unusual but readable files, and torchvision that its decoders will be removed.
        warnings.simplefilter("ignore")
        with _picture(path, data) as file:
            yield file


@contextmanager
def _picture(path: str | Path, data: bytes | None = None) -> Iterator[Any]:
    try:
        source = path if data is None and not within(path) else opened(path) if data is None else BytesIO(data)
        with Image.open(source, formats=FORMATS) as file:
            yield file
    except Exception as error:  # decoders raise many kinds of exceptions for damaged files
        raise UnreadableImageError(reason(path, error)) from error


class Header(NamedTuple):
    """What the header of an image says.

    Attributes:
        format: Pillow's name of the format, or "" for an image that was in memory.
        mode: Pillow's name of the mode, such as RGB.
        width: Width in pixels, after the EXIF orientation.
        height: Height in pixels, after the EXIF orientation.
        alpha: Whether the image has an alpha channel or a transparent colour.
    """

    format: str
    mode: str
    width: int
    height: int
    alpha: bool

    @property
    def colour(self) -> bool:
        """Whether the image has colour."""
        return self.mode not in GREY_MODES


def header(file: Any) -> Header:
    """Return the header of an open image. Its pixels are not decoded."""
    width, height = file.size
    if sideways(file):
        width, height = height, width
    alpha = file.mode in ALPHA_MODES or "transparency" in file.info
    return Header(file.format or "", file.mode, width, height, alpha)


def sideways(file: Any) -> bool:
    """Return whether the EXIF orientation of an open image swaps width and height."""
    if file.format == "PNG" and "exif" not in file.info:
        return False  # Pillow would decode the whole image to search for EXIF
    try:
        turned = file.getexif().get(ORIENTATION, 1) in SIDEWAYS
    except (SyntaxError, ValueError, KeyError, TypeError, EOFError):  # damaged EXIF data in a good image
        return False
    if turned and file.format == "TIFF":  # newer versions of Pillow swap the size of TIFF themselves
        return bool(file.size == (file.tag_v2[WIDTH], file.tag_v2[HEIGHT]))
    return turned


def dimensions(path: str | Path) -> tuple[int, int]:
    """Return (width, height) of an image after its EXIF orientation. Only the header is read.

    Raises:
        UnreadableImageError: The file is missing or not an image.
    """
    with picture(path) as file:
        found = header(file)
        return found.width, found.height


def look(path: str | Path) -> tuple[bool, bool]:
    """Return whether an image has colour and whether it has alpha. Only the header is read.

    Raises:
        UnreadableImageError: The file is missing or not an image.
    """
    [found] = look_all([path])
    if isinstance(found, UnreadableImageError):
        raise found
    return found.colour, found.alpha


def look_all(paths: Sequence[str | Path]) -> list[Header | UnreadableImageError]:
    """Return the headers of many files, or the errors. Eight threads hide the latency of network disks."""

    def one(path: str | Path) -> Header | UnreadableImageError:
        try:
            with _picture(path) as file:
                return header(file)
        except UnreadableImageError as error:
            return error

    with warnings.catch_warnings():  # outside of the threads, which share the filters
        warnings.simplefilter("ignore")
        if len(paths) == 1:
            return [one(paths[0])]
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(one, paths))


def whole(file: Image.Image) -> Image.Image:
    """Return the first frame of an open file with EXIF orientation and 8 bits per channel."""
    return eight_bit(upright(file), sixteen=file.format in SIXTEEN_BIT)


def upright(image: Image.Image) -> Image.Image:
    """Return the image rotated by its EXIF orientation. An image that is upright is returned as it is."""
    try:
        image.load()  # PNG may store EXIF after the pixels, and Pillow rotates TIFF when it loads the pixels
        if image.getexif().get(ORIENTATION, 1) == 1:
            return image
        return ImageOps.exif_transpose(image)
    except (SyntaxError, ValueError, KeyError, TypeError, EOFError):  # damaged EXIF data in a good image
        return image


def by_torchvision(file: Any) -> Tensor | None:
    """Return an open JPEG image in RGB as uint8 `(3, H, W)`, decoded by torchvision, or None if Pillow has to do it.

    Torchvision's decoder gives the pixels that Pillow's gives and saves copies, but cannot reduce the size. Torchvision
    0.29 announces its removal.
    """
    if decode_jpeg is None or file.format != "JPEG" or file.mode != "RGB":
        return None
    try:
        if file.getexif().get(ORIENTATION, 1) != 1:
            return None
        file.fp.seek(0)
        found: Tensor = decode_jpeg(torch.frombuffer(bytearray(file.fp.read()), dtype=torch.uint8))
        return found
    except Exception:  # for damaged files Pillow decides, and gives the reason
        return None


def halved(pixels: Tensor, half: Half | None) -> Tensor:
    """Return the left or right half of an image `(C, H, W)`, or the whole image for None."""
    middle = pixels.shape[-1] // 2
    return {None: pixels, "left": pixels[..., :middle], "right": pixels[..., middle : 2 * middle]}[half]


def eight_bit(image: Image.Image, sixteen: bool = False) -> Image.Image:
    """Return the image as `L`, `RGB` or `RGBA` with 8 bits per channel, see the module's docstring.

    Args:
        image: An image of any mode.
        sixteen: Whether integers of mode `I` have 16 bits.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and sixteen):
        return _from_array(np.asarray(image).astype(np.float64) / 257)
    if image.mode in ("I", "F"):
        return _from_array(scaled(np.asarray(image)))
    if image.mode in ALPHA_MODES or "transparency" in image.info:
        return image.convert("RGBA")
    return in_mode(image, "L" if image.mode in GREY_MODES else "RGB")


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Return the image in another mode. Pillow would copy an image that has this mode."""
    return image if image.mode == mode else image.convert(mode)


def scaled(values: "np.typing.NDArray[Any]") -> "np.typing.NDArray[np.floating]":
    """Return 32-bit integers or floats scaled to 0..255, see the module's docstring."""
    values = values.astype(np.float64)
    finite = values[np.isfinite(values)]
    least, most = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if least < 0:
        low, high = (-1.0, 1.0) if least >= -1 and most <= 1 else (least, most)
    else:
        low, high = 0.0, next((float(end) for end in RANGES if most <= end), most)
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    return (values - low) * (255 / max(high - low, 1e-300))


def in_channels(image: Image.Image, channels: int) -> Image.Image:
    """Return the image with 1, 3 or 4 channels. Alpha is composed over white, and colour is converted to grey."""
    if channels != 4 and image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return in_mode(image, MODES[channels])


def resized(pixels: Tensor, target: Target) -> Tensor:
    """Return an image `(C, H, W)` uint8 in the target's size, or its own. Padding is black or transparent."""
    height, width = target.size
    if target.crop:
        pixels = centred(pixels, target.crop)
    if target.fit == "native":  # a label map too: its windows get the colours of classes
        return pixels.contiguous()
    tall, wide = pixels.shape[1:]
    if target.fit == "pad":
        scale = min(width / wide, height / tall)
        across, down = max(1, round(wide * scale)), max(1, round(tall * scale))
        canvas = torch.zeros(len(pixels), height, width, dtype=torch.uint8)
        top, left = (height - down) // 2, (width - across) // 2
        canvas[:, top : top + down, left : left + across] = interpolated(pixels, (down, across), target.palette)
        return canvas
    if target.fit == "crop":
        scale = min(wide / width, tall / height)
        pixels = centred(pixels, (round(height * scale), round(width * scale)))
    return interpolated(pixels, target.size, target.palette)


def interpolated(pixels: Tensor, size: tuple[int, int], palette: Palette | None) -> Tensor:
    """Return an image, or the label map of a palette, `(C, H, W)` uint8 in the size (height, width)."""
    return bicubic(pixels, size) if palette is None else palette.resized(pixels, size)


def bicubic(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Return an image `(C, H, W)` uint8 in the size (height, width), by antialiased bicubic interpolation."""
    if pixels.shape[1:] == size:
        return pixels.contiguous()
    if len(pixels) == 4:
        image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        return tensor(image.resize(size[::-1], Image.Resampling.BICUBIC)).contiguous()
    return interpolate(pixels[None], size, mode="bicubic", antialias=True)[0].contiguous()


def tensor(image: Image.Image) -> Tensor:
    """Return the pixels of an image as uint8 `(C, H, W)`, with the channels last in memory."""
    return torch.from_numpy(np.array(image)).view(image.height, image.width, -1).permute(2, 0, 1)


def centred(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the centred window of `size` (height, width) of an image `(C, H, W)`, at most as large as the image."""
    down, across = (max(1, min(side, most)) for side, most in zip(size, pixels.shape[1:], strict=True))
    top, left = (pixels.shape[1] - down) // 2, (pixels.shape[2] - across) // 2
    return pixels[:, top : top + down, left : left + across]


def _from_array(values: "np.typing.NDArray[np.floating]") -> Image.Image:
    return Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8))


def reason(path: str | Path, error: Exception) -> str:
    """Return the reason why a file could not be decoded, in a few words."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if os.path.isfile(path) and not os.path.getsize(path):
        return "empty file"
    if isinstance(error, UnreadableImageError):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, Pillow's limit: make it smaller or cut it"
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
