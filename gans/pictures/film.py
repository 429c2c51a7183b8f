"""Sequences of frames as files: a strip of images, a GIF or an MP4."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from gans.pictures import images, video
from gans.runs import atomic

SUFFIXES = (".png", ".gif", ".mp4")
LEAST = 128  # minimum length of the shorter side of a GIF or MP4 in pixels, because players blur small ones


def save_film(frames: Tensor, path: str | Path, columns: int | None = None, frames_per_second: float = 12) -> Path:
    """Write frames `(T, C, H, W)` in [-1, 1] to a PNG, GIF or MP4, as the suffix of `path` says, and return the path.

    A PNG is a grid with rows of `columns` frames. A GIF or MP4 plays the frames, enlarged if they are small. Missing
    folders are created.

    Raises:
        ValueError: if the suffix is not supported, or if PyAV, which an MP4 needs, is not installed.
    """
    path = Path(path)
    check_suffix(path)
    if path.suffix == ".png":
        return images.save_grid(frames, path, columns or len(frames))
    moving = enlarged(frames)
    if path.suffix == ".gif":
        atomic.write(path, images.gif(moving.transpose(0, 1).unsqueeze(0), frames_per_second))
    else:
        write_mp4(moving, path, frames_per_second)
    return path


def check_suffix(path: Path) -> None:
    """Check that frames can be written to a file of that name.

    Raises:
        ValueError: if the suffix is not supported, or if PyAV, which an MP4 needs, is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"out is {path}; expected a name that ends with {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    if path.suffix == ".mp4":
        video.pyav()


def enlarged(frames: Tensor) -> Tensor:
    """Return frames `(T, C, H, W)`, enlarged by repeating pixels to at least 128 pixels on the shorter side."""
    times = max(1, -(-LEAST // min(frames.shape[-2:])))
    return interpolate(frames.float(), scale_factor=times, mode="nearest") if times > 1 else frames


def rgb(frames: Tensor) -> Iterator[Tensor]:
    """Yield frames `(T, C, H, W)` in [-1, 1] as uint8 `(H, W, 3)`."""
    for frame in frames.cpu():
        yield images.to_uint8(images.in_channels(frame.unsqueeze(0), 3)[0]).permute(1, 2, 0).contiguous()


def write_mp4(frames: Tensor, path: Path, frames_per_second: float) -> None:
    """Write frames `(T, C, H, W)` in [-1, 1] as an MP4 (H.264)."""
    rate = Fraction(round(frames_per_second))
    with video.opened(path, rate) as file:
        for number, pixels in enumerate(rgb(frames)):
            file.write(Image.fromarray(pixels.numpy()), number / rate)
