"""The frames of one video file: GIF through Pillow, everything else through PyAV."""

from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageSequence, UnidentifiedImageError
from torch import Tensor

from datamodules.decode import Target, UnreadableImageError, eight_bit, in_channels, resized

VIDEOS = ("mp4", "avi", "mov", "mkv", "webm", "gif")


def count_frames(path: Path) -> int:
    """Return the number of frames, from the headers alone; where they do not say it, the packets are counted.

    Raises:
        UnreadableImageError: The file is missing, damaged or no video.
        ValueError: PyAV is needed but not installed.
    """
    if is_gif(path):
        try:
            with Image.open(path) as file:
                return int(getattr(file, "n_frames", 1))
        except Exception as error:  # decoders raise almost anything for a damaged file
            raise UnreadableImageError(_reason(error)) from error
    av = pyav()
    try:
        with av.open(str(path)) as container:
            stream = video_stream(container)
            return int(stream.frames) or sum(packet.size > 0 for packet in container.demux(stream))
    except Exception as error:
        raise UnreadableImageError(_reason(error)) from error


def read_frames(path: Path, indices: range, target: Target) -> Tensor:
    """Return the frames `(C, T, H, W)` uint8 at ascending indices.

    All before the last index are decoded: seeking by time is not exact to the frame in every format.

    Raises:
        UnreadableImageError: The file is missing, damaged, no video, or shorter than its headers say.
        ValueError: PyAV is needed but not installed.
    """
    images = gif_images(path) if is_gif(path) else video_images(pyav(), path)
    try:
        wanted = islice(images, indices.start, indices.stop, indices.step)
        frames = [_pixels(image, target) for image in wanted]
    except Exception as error:
        raise UnreadableImageError(_reason(error)) from error
    if len(frames) < len(indices):
        raise UnreadableImageError(f"no frame {indices[len(frames)] + 1}")
    return torch.stack(frames, 1)


def gif_images(path: Path) -> Iterator[Image.Image]:
    """Yield the frames; one that was yielded changes with the next."""
    with Image.open(path) as file:
        yield from ImageSequence.Iterator(file)


def video_images(av: Any, path: Path) -> Iterator[Any]:
    """Yield PyAV's frames, which are converted only if they are wanted."""
    with av.open(str(path)) as container:
        yield from container.decode(video_stream(container))


def video_stream(container: Any) -> Any:
    """Return the first video of PyAV's container.

    Raises:
        UnreadableImageError: There is none.
    """
    if not container.streams.video:
        raise UnreadableImageError("no video in it")
    return container.streams.video[0]


def is_gif(path: Path) -> bool:
    """Return whether a file is named as a GIF."""
    return path.suffix.lower() == ".gif"


def pyav() -> Any:
    """Return the package `av`, which only videos need.

    Raises:
        ValueError: It is not installed.
    """
    try:
        return import_module("av")
    except ImportError as error:
        raise ValueError('videos other than GIF need PyAV: pip install "lightning-gans[video]"') from error


def _pixels(frame: Any, target: Target) -> Tensor:
    pixels = np.array(resized(in_channels(_upright(frame), target.channels), target))
    return torch.from_numpy(pixels).view(*target.size, -1).permute(2, 0, 1).contiguous()


def _upright(frame: Any) -> Image.Image:
    if isinstance(frame, Image.Image):
        return eight_bit(frame)
    # Telephones film as their sensors lie, and note by how much to turn that.
    upright: Image.Image = frame.to_image().rotate(frame.rotation, expand=True)
    return upright


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    text = getattr(error, "strerror", None) or str(error)  # the whole text of an OSError would repeat the path
    return (text.strip().splitlines() or [type(error).__name__])[0].rstrip(".")
