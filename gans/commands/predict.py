"""`gans predict CKPT --input FILE|DIR --output DIR`: translate whole pictures of any size with a trained model.

Inpainting also needs `--mask`, which is white in holes. Style transfer needs `--style`.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from tqdm import tqdm

from datamodules.archive import is_folder
from datamodules.decode import UnreadableImageError
from gans.checks import at_least
from gans.commands.device import chosen_device
from gans.commands.extras import EXTRAS, needed, partners, read_extra
from gans.commands.parser import Parser, add_own_model, check_writable, own_model
from gans.commands.predict_files import Format, check_apart, pictures, targets
from gans.commands.predict_pictures import Alpha, pixels_allowed, read, write
from gans.engine.checkpoint import load_model
from gans.engine.interface import translates
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
    flags.add_argument("--output", type=Path, required=True, help="folder for the results, with the same names")
    flags.add_argument(
        "--format",
        type=Format,
        default="same",
        help="of the results: png, jpg, or same as the input's; kinds that are not written, such as gif, become png",
    )
    flags.add_argument(
        "--alpha",
        type=Alpha,
        default="keep",
        help="of pictures that have alpha, for models without: keep it in png, webp and tiff, enlarged if need be (jpg "
        "and bmp are composed over white); or drop it, and compose over white before the picture is translated",
    )
    flags.add_argument(
        "--max_pixels", type=int, help="larger pictures are skipped; by default Pillow's limit, 178,956,970"
    )
    flags.add_argument("--back", action="store_true", help="the reverse direction, for a model that has both")
    for name, extra in EXTRAS.items():
        flags.add_argument(f"--{name}", type=Path, help=extra.help)
    flags.add_argument("--tile", type=int, default=512, help="side of the tiles that larger pictures are cut into")
    flags.add_argument("--overlap", type=int, default=64, help="minimum overlap of neighbouring tiles in pixels")
    flags.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:1")
    return flags


def main(args: list[str]) -> int:
    """Run the command and return its exit code: 0, or 1 if some of the pictures could not be read.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    options = parser().parse_args(args)
    starts(1, options.tile, options.overlap)  # checks both
    if options.max_pixels is not None:
        at_least(1, max_pixels=options.max_pixels)
    device = chosen_device(options.device)
    model: Any = load_model(options.checkpoint, device, model=own_model(options.model))
    if not translates(model):
        kind = type(model).__name__
        raise ValueError(f"{options.checkpoint} holds a {kind}, which makes images of nothing: gans predict RECIPE")
    if options.back and not hasattr(model, "back"):
        raise ValueError(f"back asks for the other way, but {options.checkpoint} holds a {type(model).__name__}")
    wanted = needed(model, options.checkpoint, {name: options[name] for name in EXTRAS})
    folder, names, others = pictures(options.input, options.output)
    channels, keep = model.source_channels if options.back else model.image_shape[0], options.alpha == "keep"
    files = targets(names, options.format, channels == 4 and keep)
    check_apart(folder, options.output, files)
    check_writable(options.output)
    with pixels_allowed(options.max_pixels):
        extras = {name: partners(name, given, folder, names) for name, given in wanted.items()}
        wrong = translate(
            model,
            folder,
            options.output,
            files,
            extras,
            back=options.back,
            keep_alpha=keep,
            tile=options.tile,
            overlap=options.overlap,
        )
    if wrong and not is_folder(options.input):
        raise ValueError(f"{options.input} {wrong[0][1]}")
    for name, why in wrong:
        print(f"gans: skipped {folder / name}: {why.removeprefix('cannot be read: ')}", file=sys.stderr)
    print(f"pictures     {options.output} ({len(names) - len(wrong)} of {len(names)})")
    if others:
        print(f"left out     {', '.join(f'{count:,} {kind}' for kind, count in others.items())}")
    return 1 if wrong else 0


def translate(
    model: Any,
    folder: Path,
    output: Path,
    files: Mapping[str, str],
    extras: Mapping[str, Mapping[str, Path]],
    *,
    back: bool,
    keep_alpha: bool,
    tile: int,
    overlap: int,
) -> list[tuple[str, str]]:
    """Translate pictures and write the results. Return the names of those that failed, each with the reason.

    Args:
        model: a translator.
        folder: of the pictures.
        output: folder of the results.
        files: name of each result by the name of its picture.
        extras: files of the extra inputs, by the name of the input and of the picture.
        back: use the reverse direction of the model.
        keep_alpha: keep the alpha of pictures.
        tile: side in pixels of the tiles of the larger of picture and result.
        overlap: of these tiles.
    """
    wrong: list[tuple[str, str]] = []
    make, channels = (model.back, model.image_shape[0]) if back else (model.translate, model.source_channels)
    scale = getattr(model, "scale", 1)  # tiles are measured in pixels of the result, which the work depends on
    shared = overlap // scale
    side = max(shared + 1, tile // scale)
    multiple = int(getattr(model, "multiple", getattr(getattr(model, "generator_ema", None), "multiple", 1)))
    for name in tqdm(files, desc="predict", unit="image", dynamic_ncols=True, disable=not sys.stderr.isatty()):
        try:
            picture, alpha = read(folder / name, channels, keep_alpha)
            given = {
                extra: read_extra(extra, paths[name], model.source_channels, tile) for extra, paths in extras.items()
            }
        except UnreadableImageError as error:
            allowed = ", or --max_pixels" if isinstance(error.__cause__, Image.DecompressionBombError) else ""
            wrong.append((name, f"cannot be read: {error}{allowed}"))
            continue
        cut = [picture[None], *(part for extra, part in given.items() if EXTRAS[extra].aligned)]
        whole = [part.to(model.device) for extra, part in given.items() if not EXTRAS[extra].aligned]
        made = tiled(followed_by(make, whole), tuple(cut), side, shared, model.device, model, multiple)
        try:
            write(output / files[name], made[0], alpha, keep_alpha)
        except ValueError as error:
            wrong.append((name, str(error)))
    return wrong


def followed_by(function: Callable[..., Tensor], last: Sequence[Tensor]) -> Callable[..., Tensor]:
    """Return the function with its last arguments bound: images that are not cut into tiles."""
    return lambda *parts: function(*parts, *last)
