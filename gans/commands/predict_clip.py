"""`gans predict` of a clip: frame by frame, with the times of the frames and the sound of the input.

Flicker is measured as the mean absolute difference of successive frames. That of the input, enlarged to the same size,
is what motion alone gives. More than that is flicker, or detail that moves.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from typing import Literal, TypeVar

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from datamodules.archive import is_folder
from datamodules.decode import UnreadableImageError, bicubic, in_channels, tensor
from datamodules.video import VIDEOS, Header, header, is_gif, timed_frames
from gans.commands.extras import EXTRAS, read_extra
from gans.commands.predict_network import Applied
from gans.pictures import video

Sound = Literal["copy", "drop"]
Item = TypeVar("Item")


def is_clip(given: Path, output: Path) -> bool:
    """Return whether the input is a clip. A GIF is one if the output is one, and else a picture.

    Raises:
        ValueError: if the output is a clip, but not the input.
    """
    wanted = output.suffix.lower() in video.SUFFIXES and not output.is_dir()
    if given.suffix.lower()[1:] in VIDEOS and not is_folder(given):
        return wanted or not is_gif(given)
    if wanted:
        raise ValueError(f"output is {output}, a clip, but input is {given}, which is none; expected a folder")
    return False


def checked(given: Path, output: Path, sound: Sound) -> Header:
    """Return what is known of a clip, if its results can be written to a file.

    Raises:
        ValueError: if the clip cannot be read, the output is no file of a known kind, or it cannot hold the sound.
    """
    if not given.is_file():
        told = "is neither a file nor a folder" if given.exists() else "does not exist"
        raise ValueError(f"input is {given}, which {told}")
    kinds = f"{', '.join(video.SUFFIXES[:-1])} or {video.SUFFIXES[-1]}"
    if output.suffix.lower() not in video.SUFFIXES or output.is_dir():
        raise ValueError(f"output is {output}; expected a file that ends with {kinds}, because {given} is a clip")
    if output.resolve() == given.resolve():
        raise ValueError(f"output is {output}, the input; expected another file")
    if not is_gif(output):
        video.pyav()
    try:
        found = header(given)
    except UnreadableImageError as error:
        raise ValueError(f"{given} cannot be read: {error}") from error
    if sound == "copy" and output.suffix.lower() not in (fit := video.holders(found.sound)):
        told = f"{output} cannot hold the sound of {given}, which is {', '.join(found.sound)}"
        raise ValueError(f"{told}; expected {' or '.join([*fit, '--sound drop'])}")
    return found


def extra_inputs(given: Mapping[str, list[Path]], channels: int, longest: int) -> dict[str, list[Tensor]]:
    """Return the extra inputs of all frames, by their names.

    Args:
        given: their files.
        channels: of the frames.
        longest: side in pixels to which larger styles are shrunk.

    Raises:
        ValueError: if one is missing or cannot be read.
    """
    found: dict[str, list[Tensor]] = {}
    for name, paths in given.items():
        for path in paths:
            if not path.is_file():
                told = "is a folder" if is_folder(path) else "is no file" if path.exists() else "does not exist"
                raise ValueError(f"{name} is {path}, which {told}; expected one file for all frames of the clip")
            try:
                found.setdefault(name, []).append(read_extra(name, path, channels, longest))
            except UnreadableImageError as error:
                raise ValueError(str(error).removeprefix("its ")) from error
    return found


def translate_clip(
    applied: Applied,
    given: Path,
    output: Path,
    known: Header,
    extras: Mapping[str, list[Tensor]],
    channels: int,
    sound: Sound,
) -> None:
    """Translate a clip frame by frame, and print what was written.

    Args:
        applied: a translator.
        given: the clip.
        output: file of the result.
        known: what is known of the clip.
        extras: extra inputs of all frames.
        channels: that the translator takes.
        sound: whether the sound is copied.

    Raises:
        ValueError: if a frame cannot be read, frames differ in size, or a mask has another size.
    """
    aligned = [part for name, parts in extras.items() if EXTRAS[name].aligned for part in parts]
    whole = [part for name, parts in extras.items() if not EXTRAS[name].aligned for part in parts]
    copied = known.sound if sound == "copy" else ()
    flicker, count, end, size, began = Flicker(), 0, Fraction(0), (0, 0), perf_counter()
    bar = tqdm(total=known.frames, desc="predict", unit="frame", dynamic_ncols=True, disable=not sys.stderr.isatty())
    with bar, video.opened(output, known.rate, known.unit, given if copied else None) as file:
        for some in groups(frames(given, channels, aligned), applied.batch):
            pictures = torch.stack([picture for _, picture in some])
            for (seconds, picture), made in zip(
                some, applied.images(pictures, aligned, whole, opaque=True), strict=True
            ):
                file.write(made, seconds)
                flicker.add(picture, made)
                count, end, size = count + 1, seconds, made.size
                bar.update()
    taken = perf_counter() - began
    width, height = size if is_gif(output) else (side // 2 * 2 for side in size)
    length, rate = float(end + 1 / known.rate), f"{float(known.rate):.5g}"
    print(f"clip         {output} ({count} frames of {width}x{height}, {rate} frames/s, {length:.1f} s)")
    if known.sound:
        print(f"sound        {', '.join(known.sound)}, {'copied' if copied else 'dropped'}")
    print(f"speed        {count / taken:.2f} frames/s")
    if count > 1:
        print(f"flicker      {flicker.made:.2f} of 255 between frames, {flicker.given:.2f} in the input")


def frames(path: Path, channels: int, aligned: Iterable[Tensor]) -> Iterator[tuple[Fraction, Tensor]]:
    """Yield times in seconds and frames `(channels, H, W)`, uint8, of a clip.

    Raises:
        ValueError: if one cannot be read, or has another size than those before or than aligned inputs.
    """
    sizes = [tuple(part.shape[-2:]) for part in aligned]
    clip, number, size = timed_frames(path), 0, (0, 0)
    before = Fraction(-(2**31))
    while True:
        try:
            found = next(clip, None)
        except UnreadableImageError as error:
            raise ValueError(f"{path} cannot be read after frame {number}: {error}") from error
        if found is None:
            break
        seconds, image = found
        number += 1
        if number == 1:
            size = image.size
        if image.size != size:
            told = f"{size[0]}x{size[1]} pixels, but from frame {number} on {image.width}x{image.height}"
            raise ValueError(f"{path} has frames of {told}; expected one size")
        if any(side != image.size[::-1] for side in sizes):
            height, width = next(side for side in sizes if side != image.size[::-1])
            raise ValueError(f"mask has {width}x{height} pixels, the frames of {path} {image.width}x{image.height}")
        if seconds > before:  # of two frames at one time, a player shows one
            yield seconds, tensor(in_channels(image, channels)).contiguous()
            before = seconds
    if not number:
        raise ValueError(f"{path} has no frames")


def groups(items: Iterable[Item], most: int) -> Iterator[list[Item]]:
    """Yield items in lists of so many; the last may be shorter."""
    group: list[Item] = []
    for item in items:
        group.append(item)
        if len(group) == most:
            yield group
            group = []
    if group:
        yield group


class Flicker:
    """Mean absolute differences of successive frames, in levels of 255, of the result and of the input."""

    def __init__(self) -> None:
        self.before: tuple[Tensor, Tensor] | None = None
        self.sums, self.count = [0.0, 0.0], 0

    def add(self, picture: Tensor, made: Image.Image) -> None:
        """Add a frame of the input, `(C, H, W)` uint8, and the one that was made of it."""
        wanted = tensor(made.convert("RGB"))
        now = (wanted, bicubic(picture, (made.height, made.width))[:3])
        if self.before is not None:
            for i, (old, new) in enumerate(zip(self.before, now, strict=True)):
                self.sums[i] += float((new.short() - old.short()).abs().float().mean())
            self.count += 1
        self.before = now

    @property
    def made(self) -> float:
        """Of the result."""
        return self.sums[0] / max(self.count, 1)

    @property
    def given(self) -> float:
        """Of the input."""
        return self.sums[1] / max(self.count, 1)
