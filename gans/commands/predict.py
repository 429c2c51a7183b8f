"""`gans predict CKPT --input FILE|DIR --output DIR`: whole pictures of any size, translated by a trained model.

A model that fills holes is given `--mask` besides, white where there is a hole, one that restyles pictures `--style`.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from torch import Tensor
from tqdm import tqdm

from datamodules.decode import UnreadableImageError, read_whole
from datamodules.files import image_files
from gans import images
from gans.checkpoint import load_model
from gans.cli import Parser, check_writable
from gans.commands.evaluate import chosen_device
from gans.commands.extras import EXTRAS, holes, needed, partners, shrunk
from gans.images import to_float, to_uint8
from gans.metrics.sampling import translates
from gans.tiles import starts, tiled

SAVED = {  # what a file of this kind is written with; other kinds, and four channels where there is no room, become PNG
    ".png": {},
    ".bmp": {},
    ".tif": {},
    ".tiff": {},
    ".webp": {"quality": 95},
    ".jpg": {"quality": 95, "subsampling": 0},
    ".jpeg": {"quality": 95, "subsampling": 0},
}
ALPHA = (".png", ".tif", ".tiff", ".webp")


def parser() -> Parser:
    """Return the parser of the flags."""
    flags = Parser(prog="gans predict", description=__doc__)
    flags.add_argument("checkpoint", type=Path, help="file that training wrote, of a model that translates images")
    flags.add_argument("--input", type=Path, required=True, help="a picture, or a folder of pictures")
    flags.add_argument("--output", type=Path, required=True, help="folder that gets pictures of the same names")
    flags.add_argument("--back", action="store_true", help="the other way, for a model that goes both")
    for name, extra in EXTRAS.items():
        flags.add_argument(f"--{name}", type=Path, help=extra.help)
    flags.add_argument("--tile", type=int, default=512, help="side of the pieces that larger pictures are made in")
    flags.add_argument("--overlap", type=int, default=64, help="pixels in which pieces go over into each other")
    flags.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:1")
    return flags


def main(args: list[str]) -> int:
    """Run the command and return its exit code: 0, or 1 if some of the pictures could not be read.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    options = parser().parse_args(args)
    starts(1, options.tile, options.overlap)  # complains of them
    device = chosen_device(options.device)
    model: Any = load_model(options.checkpoint, device)
    if not translates(model):
        kind = type(model).__name__
        raise ValueError(f"{options.checkpoint} holds a {kind}, which makes images of nothing: gans predict RECIPE")
    if options.back and not hasattr(model, "back"):
        raise ValueError(f"back asks for the other way, but {options.checkpoint} holds a {type(model).__name__}")
    wanted = needed(model, options)
    folder, names = pictures(options.input)
    if options.output.resolve() == folder.resolve():
        raise ValueError(f"output is {options.output}, where the input is; expected another folder")
    beside = {name: partners(name, given, folder, names) for name, given in wanted.items()}
    check_writable(options.output)
    wrong = translate(model, folder, names, beside, options, device)
    if wrong and options.input.is_file():
        raise ValueError(f"{options.input} cannot be read: {wrong[0][1]}")
    for name, why in wrong:
        print(f"gans: skipped {folder / name}: {why}", file=sys.stderr)
    print(f"pictures     {options.output} ({len(names) - len(wrong)} of {len(names)})")
    return 1 if wrong else 0


def pictures(given: Path) -> tuple[Path, list[str]]:
    """Return a folder and the names of the pictures in it: all, or the one that is given.

    Raises:
        ValueError: if there are none.
    """
    if given.is_file():
        return given.parent, [given.name]
    names = sorted(image_files(given)) if given.is_dir() else []
    if not names:
        raise ValueError(f"input is {given}, which {'holds no pictures' if given.is_dir() else 'does not exist'}")
    return given, names


def translate(
    model: Any,
    folder: Path,
    names: list[str],
    beside: dict[str, dict[str, Path]],
    options: Namespace,
    device: torch.device,
) -> list[tuple[str, str]]:
    """Write what the model makes of each picture, and return those that cannot be read and why.

    `beside` has the files of what the model is given besides, by its name and that of the picture.
    """
    wrong: list[tuple[str, str]] = []
    make, channels = (model.back, model.image_shape[0]) if options.back else (model.translate, model.source_channels)
    scale = getattr(model, "scale", 1)  # a tile is as large as what is made of it, and so is the work
    overlap = options.overlap // scale
    tile = max(overlap + 1, options.tile // scale)
    for name in tqdm(names, desc="predict", unit="image", dynamic_ncols=True, disable=not sys.stderr.isatty()):
        try:
            picture = read_whole(folder / name, channels)
            cut, whole = [to_float(picture)[None]], []
            for extra, files in beside.items():
                given = read_beside(extra, files[name], EXTRAS[extra].channels or model.source_channels)
                if EXTRAS[extra].aligned:
                    cut.append(holes(given)[None])
                else:
                    whole.append(shrunk(to_float(given)[None], options.tile).to(device))
        except UnreadableImageError as error:
            wrong.append((name, str(error)))
            continue
        made = tiled(lambda *parts, whole=whole: make(*parts, *whole), tuple(cut), tile, overlap, device)
        write(options.output / name, to_uint8(made[0]))
    return wrong


def read_beside(extra: str, path: Path, channels: int) -> Tensor:
    """Return what is given besides a picture, as `read_whole` does, and says whose fault it is if it cannot."""
    try:
        return read_whole(path, channels)
    except UnreadableImageError as error:
        raise UnreadableImageError(f"its {extra} {path}: {error}") from error


def write(path: Path, picture: Tensor) -> None:
    """Write a picture `(C, H, W)` uint8 under a name, with .png behind it if files of its kind cannot hold it."""
    kind = path.suffix.lower()
    if kind not in SAVED or (len(picture) == 4 and kind not in ALPHA):
        path, kind = path.with_name(f"{path.name}.png"), ".png"
    images.save(picture, path, **SAVED[kind])
