"""Decoding of video files: GIF with Pillow, other formats with PyAV."""

from collections.abc import Iterator
from fractions import Fraction
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image, ImageSequence, UnidentifiedImageError
from torch import Tensor

from datamodules.decode import Target, UnreadableImageError, eight_bit, in_channels, resized, tensor

GIF_DELAY = Fraction(1, 10)  # seconds that players show a frame of a GIF without a time
VIDEOS = ("mp4", "avi", "mov", "mkv", "webm", "gif")


def count_frames(path: Path) -> int:
    """Return the number of frames from the headers, or the number of packets if the headers do not contain it.

    Raises:
        UnreadableImageError: The file is missing, damaged or not a video.
        ValueError: PyAV is needed but not installed.
    """
    if is_gif(path):
        try:
            with Image.open(path) as file:
                return int(getattr(file, "n_frames", 1))
        except Exception as error:  # decoders raise many kinds of exceptions for damaged files
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

    All frames up to the last index are decoded, because seeking by time is not exact in all formats.

    Raises:
        UnreadableImageError: The file is missing, damaged, not a video, or shorter than its headers say.
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


class Header(NamedTuple):
    """What is known of a video before its frames are decoded.

    Attributes:
        frames: Number of frames, or None if the headers do not contain it.
        rate: Frames per second, on average.
        unit: Unit of the times of frames, in seconds.
        sound: Codecs of the sound tracks.
    """

    frames: int | None
    rate: Fraction
    unit: Fraction
    sound: tuple[str, ...]


def header(path: Path) -> Header:
    """Return what the headers of a video say.

    Raises:
        UnreadableImageError: The file is missing, damaged or not a video.
        ValueError: PyAV is needed but not installed.
    """
    if is_gif(path):
        count, times = count_frames(path), [time for time, _ in timed_frames(path)]
        rate = (count - 1) / (times[-1] - times[0]) if count > 1 and times[-1] > times[0] else 1 / GIF_DELAY
        return Header(count, rate, Fraction(1, 100), ())
    av = pyav()
    try:
        with av.open(str(path)) as container:
            stream = video_stream(container)
            rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            sound = tuple(track.codec.canonical_name for track in container.streams.audio)
            return Header(int(stream.frames) or None, rate, stream.time_base, sound)
    except Exception as error:
        raise UnreadableImageError(_reason(error)) from error


def timed_frames(path: Path) -> Iterator[tuple[Fraction, Image.Image]]:
    """Yield the times in seconds and the upright frames, with 8 bits per channel. Each is valid until the next one.

    Frames without a time follow the one before by the average distance.

    Raises:
        UnreadableImageError: The file is missing, damaged or not a video.
        ValueError: PyAV is needed but not installed.
    """
    if is_gif(path):
        seconds = Fraction(0)
        try:
            for image in gif_images(path):
                yield seconds, eight_bit(image)
                seconds += Fraction(round(image.info.get("duration", 0)), 1000) or GIF_DELAY
        except Exception as error:
            raise UnreadableImageError(_reason(error)) from error
        return
    step, following = 1 / header(path).rate, Fraction(0)
    frames = video_images(pyav(), path)
    while True:
        try:
            frame = next(frames, None)
            picture = None if frame is None else _upright(frame)
        except Exception as error:
            raise UnreadableImageError(_reason(error)) from error
        if frame is None or picture is None:
            return
        seconds = following if frame.pts is None else frame.pts * frame.time_base
        yield seconds, picture
        following = seconds + step


def gif_images(path: Path) -> Iterator[Image.Image]:
    """Yield the frames of a GIF. Each is valid only until the next one."""
    with Image.open(path) as file:
        yield from ImageSequence.Iterator(file)


def video_images(av: Any, path: Path) -> Iterator[Any]:
    """Yield the frames of a video as PyAV objects, which are not converted yet."""
    with av.open(str(path)) as container:
        yield from container.decode(video_stream(container))


def video_stream(container: Any) -> Any:
    """Return the first video stream of PyAV's container.

    Raises:
        UnreadableImageError: There is no video stream.
    """
    if not container.streams.video:
        raise UnreadableImageError("no video in it")
    return container.streams.video[0]


def is_gif(path: Path) -> bool:
    """Return whether a file has the suffix of a GIF."""
    return path.suffix.lower() == ".gif"


def pyav() -> Any:
    """Return the package `av`, which is needed for videos only.

    Raises:
        ValueError: It is not installed.
    """
    try:
        return import_module("av")
    except ImportError as error:
        raise ValueError('videos other than GIF need PyAV: pip install "lightning-gans[video]"') from error


def _pixels(frame: Any, target: Target) -> Tensor:
    return resized(tensor(in_channels(_upright(frame), target.channels)), target)


def _upright(frame: Any) -> Image.Image:
    if isinstance(frame, Image.Image):
        return eight_bit(frame)
    # Phones store frames in the orientation of the sensor, with the rotation as metadata.
    upright: Image.Image = frame.to_image().rotate(frame.rotation, expand=True)
    return upright


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    text = getattr(error, "strerror", None) or str(error)  # the full text of an OSError repeats the path
    return (text.strip().splitlines() or [type(error).__name__])[0].rstrip(".")
