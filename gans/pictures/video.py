"""Writing of video files frame by frame, with the sound of another file: GIF with Pillow, other formats with PyAV.

H.264 (VP9 in WebM) has colours at half the resolution and even sides. Colours are converted by BT.709 and tagged so,
because players take this for granted in videos without tags.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image

from gans.runs import atomic

# Codecs of the containers that are written, with their options.
H264: tuple[str, dict[str, str]] = ("libx264", {"crf": "16"})
CONTAINERS = {".mp4": H264, ".mov": H264, ".mkv": H264, ".webm": ("libvpx-vp9", {"crf": "24", "b": "0"})}
FORMATS = {".mkv": "matroska"}  # PyAV's names where they are not the suffix
SUFFIXES = (*CONTAINERS, ".gif")
BT709, LIMITED = 1, 1  # FFmpeg's numbers of the colour space, its primaries and curve, and of the range 16..235


def pyav() -> Any:
    """Return the package `av`, which is needed for MP4 only.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        return import_module("av")
    except ImportError as error:
        raise ValueError('an MP4 needs PyAV: pip install "lightning-gans[video]"; a GIF does not') from error


def holders(codecs: tuple[str, ...]) -> list[str]:
    """Return the suffixes of the containers that can hold sound of all these codecs."""
    if not codecs:
        return list(SUFFIXES)
    found = []
    for suffix in CONTAINERS:
        with pyav().open(io.BytesIO(), "w", format=FORMATS.get(suffix, suffix[1:])) as container:
            if set(codecs) <= set(container.supported_codecs):
                found.append(suffix)
    return found


class Film:
    """An open video file made by PyAV.

    Args:
        container: PyAV's container.
        suffix: of the file.
        rate: frames per second, which encoders assume.
        unit: of the times of frames, in seconds.
        sound: container whose sound is copied, or None.
    """

    def __init__(self, container: Any, suffix: str, rate: Fraction, unit: Fraction, sound: Any) -> None:
        codec, options = CONTAINERS[suffix]
        self.container, self.unit = container, unit
        self.stream = container.add_stream(codec, rate=rate, options=dict(options))
        self.stream.pix_fmt = "yuv420p"
        self.stream.codec_context.time_base = unit
        for name in ("colorspace", "color_primaries", "color_trc"):
            setattr(self.stream.codec_context, name, BT709)
        self.stream.codec_context.color_range = LIMITED
        tracks = list(sound.streams.audio) if sound else []
        self.copies = {track.index: container.add_stream_from_template(track) for track in tracks}
        self.packets = sound.demux(tracks) if tracks else iter(())
        self.waiting: Any = None
        self.begun = False

    def write(self, image: Image.Image, seconds: Fraction) -> None:
        """Add a frame, cropped to even sides, that is shown at a time after all others, and the sound before it.

        Raises:
            ValueError: if a side is shorter than 2 pixels.
        """
        width, height = (side // 2 * 2 for side in image.size)
        if not width or not height:
            raise ValueError(f"a frame has {image.width}x{image.height} pixels; a video needs at least 2 a side")
        if not self.begun:
            self.stream.width, self.stream.height = width, height
            self.begun = True
        frame = pyav().VideoFrame.from_image(image.convert("RGB").crop((0, 0, width, height)))
        frame = frame.reformat(format="yuv420p", dst_colorspace=BT709, dst_color_range=LIMITED)
        frame.pts, frame.time_base = round(seconds / self.unit), self.unit
        self.container.mux(self.stream.encode(frame))
        self.copy_sound(seconds)

    def copy_sound(self, until: Fraction | None) -> None:
        """Copy the sound up to a time in seconds, or all that is left."""
        while True:
            packet = self.waiting or next(self.packets, None)
            self.waiting = None
            if packet is None:
                return
            if packet.dts is None:  # the end of a track
                continue
            if until is not None and packet.dts * packet.time_base > until:
                self.waiting = packet
                return
            packet.stream = self.copies[packet.stream.index]
            self.container.mux(packet)

    def end(self) -> None:
        """Write what encoders hold back."""
        self.container.mux(self.stream.encode())
        self.copy_sound(None)


class Animation:
    """The frames of a GIF, which are written at the end.

    Args:
        rate: frames per second, for the time of the last frame.
    """

    def __init__(self, rate: Fraction) -> None:
        self.rate = rate
        self.frames: list[Image.Image] = []
        self.times: list[Fraction] = []

    def write(self, image: Image.Image, seconds: Fraction) -> None:
        """Add a frame that is shown at a time after all others."""
        self.frames.append(image.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE))
        self.times.append(seconds)

    def save(self, path: Path) -> None:
        """Write the file."""
        ends = [*self.times[1:], self.times[-1] + 1 / self.rate]
        lengths = [round(1000 * (end - start)) for start, end in zip(self.times, ends, strict=True)]
        self.frames[0].save(path, "GIF", save_all=True, append_images=self.frames[1:], duration=lengths, loop=0)


@contextmanager
def opened(
    path: Path, rate: Fraction, unit: Fraction | None = None, sound: Path | None = None
) -> Iterator[Film | Animation]:
    """Open a video file for atomic writing, in the format of the suffix of `path`.

    Args:
        path: of the file, with one of `SUFFIXES`.
        rate: frames per second.
        unit: of the times of frames, in seconds; None is the time of a frame.
        sound: video file whose sound is copied, if the format holds it, see `holders`.

    Raises:
        ValueError: if PyAV is needed but not installed.
        UnwrittenError: if the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix == ".gif":
        with atomic.replacing(path) as partial:
            animation = Animation(rate)
            yield animation
            animation.save(partial)
        return
    av = pyav()
    with (
        atomic.replacing(path) as partial,
        av.open(str(sound)) if sound else nullcontext() as source,
        av.open(str(partial), "w") as container,
    ):
        film = Film(container, suffix, rate, unit or 1 / rate, source)
        yield film
        film.end()
