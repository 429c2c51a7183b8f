"""`gans predict` with a model of clips, which continues a folder of frames or a clip, by each seed in another way."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from datamodules.archive import is_folder
from datamodules.decode import Target, UnreadableImageError
from datamodules.files import is_image
from datamodules.sequences import Clip, ClipFiles, natural
from datamodules.video import VIDEOS, header
from gans.checks import article, at_least
from gans.commands.parser import check_writable
from gans.pictures import images, video
from gans.pictures.images import to_float, to_uint8

RATE = Fraction(8)  # frames per second of a folder of frames
FRAMES = 16  # new frames by default


def continues(model: Any) -> bool:
    """Return whether a model continues clips."""
    return callable(getattr(model, "extend", None))


def continue_clip(model: Any, checkpoint: Path, given: Path, output: Path, frames: int | None, seed: int) -> None:
    """Write given frames and their continuation to a clip or a folder of frames, and print what was written.

    Args:
        model: has `extend`.
        checkpoint: of the model, for errors.
        given: folder of frames, or clip. Frames are resized and cropped to the size of the model.
        output: file of a clip, or folder.
        frames: number of new frames; None is `FRAMES`.
        seed: of the continuation.

    Raises:
        ValueError: if the model was trained to continue nothing, frames cannot be read or are too few, or the output is
            a file of another kind.
    """
    frames = FRAMES if frames is None else frames
    at_least(1, frames=frames)
    at_least(0, seed=seed)
    if not model.given:
        told = f"{checkpoint} holds {article(type(model))} that was trained with given 0"
        raise ValueError(f"{told}, so it cannot continue clips: train it with --model.given 4")
    one_file = output.suffix.lower() in video.SUFFIXES and not output.is_dir()
    if not one_file and (output.suffix or output.is_file()) and not output.is_dir():
        raise ValueError(f"output is {output}; expected a folder, or a file that ends with {', '.join(video.SUFFIXES)}")
    if output.resolve() == given.resolve():
        raise ValueError(f"output is {output}, the input; expected another file or folder")
    if one_file and output.suffix.lower() != ".gif":
        video.pyav()
    channels, _, *size = model.input_shape or model.image_shape
    clip, rate = read(given, Target(channels, (size[0], size[1]), "crop"))
    if clip.shape[1] < model.given:
        count = f"{clip.shape[1]} frame{'s' if clip.shape[1] > 1 else ''}"
        raise ValueError(f"{given} has {count}; expected at least {model.given}, the model's given")
    check_writable(output.parent if one_file else output)
    whole = model.extend(to_float(clip[None]).to(model.device), frames, seed=seed)[0]
    write(to_uint8(whole.cpu()), output, rate, one_file)
    width, height = size[1], size[0]
    print(f"clip         {output} ({clip.shape[1]} given and {frames} new frames of {width}x{height})")


def read(given: Path, target: Target) -> tuple[Tensor, Fraction]:
    """Return the frames `(C, T, H, W)` uint8 of a folder, in natural order of their names, or of a clip, and its rate.

    Raises:
        ValueError: if there are none, or one cannot be read.
    """
    if is_folder(given):
        names = sorted((path.name for path in given.iterdir() if is_image(path.name)), key=natural)
        if not names:
            raise ValueError(f"input is {given}, which holds no pictures; expected a folder of frames, or a clip")
        clip, count, rate = Clip(given.name, tuple(names)), len(names), RATE
    else:
        if not given.is_file():
            raise ValueError(f"input is {given}, which does not exist; expected a folder of frames, or a clip")
        if given.suffix.lower()[1:] not in VIDEOS:
            raise ValueError(f"input is {given}; expected a folder of frames, or a clip: {', '.join(VIDEOS)}")
        try:
            known = header(given)
        except UnreadableImageError as error:
            raise ValueError(f"{given} cannot be read: {error}") from error
        clip, count, rate = Clip(given.name), known.frames or 0, known.rate
    try:
        files = ClipFiles(given.resolve().parent, [clip], target, "raise", shared=False)
        found = files.window(0, range(count or int(files.lengths[0])))
    except OSError as error:
        raise ValueError(str(error).split("; on_error")[0]) from error
    assert found is not None
    return found, rate


def write(frames: Tensor, output: Path, rate: Fraction, one_file: bool) -> None:
    """Write frames `(C, T, H, W)` uint8 to a clip, or to numbered files in a folder."""
    pictures = frames.transpose(0, 1)
    if not one_file:
        for number, picture in enumerate(pictures):
            images.save(picture, output / f"{number:06d}.png")
        return
    with video.opened(output, rate) as file:
        for number, picture in enumerate(pictures):
            pixels = picture.permute(1, 2, 0).squeeze(-1).contiguous()
            file.write(Image.fromarray(torch.as_tensor(pixels).numpy()), number / rate)
