"""`gans predict CKPT --input FILE|DIR --output DIR`: whole pictures of any size, translated by a trained model.

A model that fills holes is given `--mask` besides, white where there is a hole, one that restyles pictures `--style`.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from datamodules.archive import is_folder, walk
from datamodules.decode import UnreadableImageError, look, read_whole
from datamodules.files import is_image
from gans.checks import at_least
from gans.commands.device import chosen_device
from gans.commands.extras import EXTRAS, holes, needed, partners, shrunk
from gans.commands.outputs import Alpha, Format, from_alpha, targets, write
from gans.commands.parser import Parser, add_own_model, check_writable, own_model
from gans.engine.checkpoint import load_model
from gans.engine.interface import translates
from gans.pictures.images import to_float
from gans.pictures.tiles import starts, tiled


def parser() -> Parser:
    """Return the parser of the flags."""
    flags = Parser(prog="gans predict", description=__doc__)
    flags.add_argument(
        "checkpoint",
        type=Path,
        help="checkpoint, folder of a run, or recipe, whose model translates images",
    )
    add_own_model(flags)
    flags.add_argument("--input", type=Path, required=True, help="a picture, or a folder of pictures")
    flags.add_argument("--output", type=Path, required=True, help="folder that gets pictures of the same names")
    flags.add_argument(
        "--format",
        type=Format,
        default="same",
        help="of the files: png, jpg, or same as the input's; kinds that are not written, such as gif, become png",
    )
    flags.add_argument(
        "--alpha",
        type=Alpha,
        default="keep",
        help="of pictures that have it, for models without: keep, enlarged if need be, in png, webp and tiff (jpg and "
        "bmp get the picture over white); or drop, which puts the picture over white before it is translated",
    )
    flags.add_argument(
        "--max_pixels", type=int, help="larger pictures are skipped; by default those of Pillow's limit, 178,956,970"
    )
    flags.add_argument("--back", action="store_true", help="the other way, for a model that goes both")
    for name, extra in EXTRAS.items():
        flags.add_argument(f"--{name}", type=Path, help=extra.help)
    flags.add_argument("--tile", type=int, default=512, help="side of the tiles that larger pictures are made in")
    flags.add_argument("--overlap", type=int, default=64, help="pixels that neighbouring tiles share at least")
    flags.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:1")
    return flags


def main(args: list[str]) -> int:
    """Run the command and return its exit code: 0, or 1 if some of the pictures could not be read.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    options = parser().parse_args(args)
    starts(1, options.tile, options.overlap)  # complains of them
    if options.max_pixels is not None:
        at_least(1, max_pixels=options.max_pixels)
    device = chosen_device(options.device)
    model: Any = load_model(options.checkpoint, device, model=own_model(options.model))
    if not translates(model):
        kind = type(model).__name__
        raise ValueError(f"{options.checkpoint} holds a {kind}, which makes images of nothing: gans predict RECIPE")
    if options.back and not hasattr(model, "back"):
        raise ValueError(f"back asks for the other way, but {options.checkpoint} holds a {type(model).__name__}")
    wanted = needed(model, options)
    folder, names, others = pictures(options.input, options.output)
    channels = model.source_channels if options.back else model.image_shape[0]
    files = targets(names, options.format, channels == 4 and options.alpha == "keep")
    check_apart(folder, options.output, files)
    check_writable(options.output)
    with pixels_allowed(options.max_pixels):
        beside = {name: partners(name, given, folder, names) for name, given in wanted.items()}
        wrong = translate(model, folder, files, beside, options, device)
    if wrong and not is_folder(options.input):
        raise ValueError(f"{options.input} {wrong[0][1]}")
    for name, why in wrong:
        print(f"gans: skipped {folder / name}: {why.removeprefix('cannot be read: ')}", file=sys.stderr)
    print(f"pictures     {options.output} ({len(names) - len(wrong)} of {len(names)})")
    if others:
        print(f"left out     {', '.join(f'{count:,} {kind}' for kind, count in others.items())}")
    return 1 if wrong else 0


def pictures(given: Path, output: Path) -> tuple[Path, list[str], dict[str, int]]:
    """Return a folder and the names of the pictures in it, all, or the one that is given; and other files by kind.

    What lies in the output folder is not looked at, so that a second run does not translate what the first one made.

    Raises:
        ValueError: if there are none.
    """
    if not is_folder(given):
        if not given.is_file():
            told = "is neither a file nor a folder" if given.exists() else "does not exist"
            raise ValueError(f"input is {given}, which {told}")
        if output.resolve() == given.parent.resolve():
            raise ValueError(f"output is {output}, where the input is; expected another folder")
        return given.parent, [given.name], {}
    if output.resolve() == given.resolve():
        raise ValueError(f"output is {output}, where the input is; expected another folder")
    names, others = [], Counter[str]()
    inside = output.resolve().is_relative_to(given.resolve())
    made = f"{output.resolve().relative_to(given.resolve()).as_posix()}/" if inside else None
    for name in sorted(walk(given)):
        if name.endswith("/") or (made and name.startswith(made)):
            continue
        if is_image(name):
            names.append(name)
        else:
            others[Path(name).suffix.lower() or "without extension"] += 1
    if not names:
        raise ValueError(f"input is {given}, which holds no pictures")
    return given, names, dict(others.most_common())


def check_apart(folder: Path, output: Path, files: dict[str, str]) -> None:
    """Check that no picture is written over one that is read.

    Raises:
        ValueError: if one would be.
    """
    read = {os.path.realpath(folder / name): name for name in files}
    for name, made in files.items():
        if over := read.get(os.path.realpath(output / made)):
            raise ValueError(f"{folder / name} would be written over {folder / over}; expected another output folder")


@contextmanager
def pixels_allowed(most: int | None) -> Iterator[None]:
    """Let Pillow read pictures of so many pixels, meanwhile; None leaves its own limit."""
    before = Image.MAX_IMAGE_PIXELS
    if most is not None:
        Image.MAX_IMAGE_PIXELS = -(-most // 2)  # Pillow warns above that, and refuses above twice as many
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def translate(
    model: Any,
    folder: Path,
    files: dict[str, str],
    beside: dict[str, dict[str, Path]],
    options: Namespace,
    device: torch.device,
) -> list[tuple[str, str]]:
    """Write what the model makes of each picture, and return the names of those that cannot be, and why.

    Args:
        model: a translator.
        folder: of the pictures.
        files: the name of what becomes of each picture, by its name.
        beside: the files of what the model is given besides, by its name and that of the picture.
        options: of the command.
        device: of the model.
    """
    wrong: list[tuple[str, str]] = []
    make, channels = (model.back, model.image_shape[0]) if options.back else (model.translate, model.source_channels)
    scale = getattr(model, "scale", 1)  # a tile is as large as what is made of it, and so is the work
    overlap = options.overlap // scale
    tile = max(overlap + 1, options.tile // scale)
    multiple = int(getattr(model, "multiple", getattr(getattr(model, "generator_ema", None), "multiple", 1)))
    for name in tqdm(files, desc="predict", unit="image", dynamic_ncols=True, disable=not sys.stderr.isatty()):
        try:
            picture, alpha = read(folder / name, channels, options.alpha == "keep")
            cut, whole = [picture[None]], []
            for extra, given_files in beside.items():
                given = read_beside(extra, given_files[name], EXTRAS[extra].channels or model.source_channels)
                if EXTRAS[extra].aligned:
                    cut.append(holes(given)[None])
                else:
                    whole.append(shrunk(to_float(given)[None], options.tile).to(device))
        except UnreadableImageError as error:
            allowed = ", or --max_pixels" if isinstance(error.__cause__, Image.DecompressionBombError) else ""
            wrong.append((name, f"cannot be read: {error}{allowed}"))
            continue
        function = partial(with_whole, make, whole)
        made = tiled(function, tuple(cut), tile, overlap, device, model, multiple)
        try:
            write(options.output / files[name], made[0], alpha, options.alpha == "keep")
        except ValueError as error:
            wrong.append((name, str(error)))
    return wrong


def with_whole(make: Callable[..., Tensor], whole: list[Tensor], *parts: Tensor) -> Tensor:
    """Return what the model makes of parts of images, and of others whole."""
    return make(*parts, *whole)


def read(path: Path, channels: int, keep: bool) -> tuple[Tensor, Tensor | None]:
    """Return a picture `(C, H, W)` in [-1, 1] with the channels of a model, and the alpha `(1, H, W)` that it has not.

    Raises:
        UnreadableImageError: if it cannot be decoded.
    """
    if keep and channels != 4 and look(path)[1]:
        picture = read_whole(path)
        if len(picture) == 4:
            return from_alpha(picture, channels)
    return to_float(read_whole(path, channels)), None


def read_beside(extra: str, path: Path, channels: int) -> Tensor:
    """Return what is given besides a picture, as `read_whole` does, and says whose fault it is if it cannot."""
    try:
        return read_whole(path, channels)
    except UnreadableImageError as error:
        raise UnreadableImageError(f"its {extra} {path}: {error}") from error
