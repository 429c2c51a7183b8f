"""`gans predict CKPT --input FILE|DIR --output DIR|FILE`: translate whole pictures of any size, or clips, with a model.

Inpainting also needs `--mask`, which is white in holes. Style transfer needs `--style`. The output of a clip is a file.
A SequenceGAN or a NextFrame continues a folder of frames, or a clip.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from tqdm import tqdm

from datamodules.archive import is_folder
from datamodules.decode import UnreadableImageError
from gans.checks import article, at_least
from gans.commands.device import chosen_device
from gans.commands.extras import EXTRAS, needed, partners, read_extra
from gans.commands.parser import Parser, add_own_model, check_writable, own_model
from gans.commands.predict_clip import Sound, checked, extra_inputs, is_clip, translate_clip
from gans.commands.predict_continued import continue_clip, continues
from gans.commands.predict_files import Format, check_apart, pictures, targets
from gans.commands.predict_network import Applied, Precision
from gans.commands.predict_pictures import Alpha, has_alpha, pixels_allowed, read, write
from gans.engine.checkpoint import load_model
from gans.engine.interface import makes_images, translates
from gans.pictures.tiles import starts

OF_CLIPS = ("frames", "seed")  # flags for models that continue clips
OF_BOTH = ("checkpoint", "model", "input", "output", "device")  # flags for these and for translators


def parser() -> Parser:
    """Return the parser of the flags."""
    flags = Parser(prog="gans predict", description=__doc__)
    flags.add_argument(
        "checkpoint",
        type=Path,
        help="checkpoint, folder of a run, recipe, or user/name of the Hub, whose model translates images",
    )
    add_own_model(flags)
    flags.add_argument("--input", type=Path, required=True, help="a picture, a folder of pictures, or a clip")
    flags.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder for the results, with the same names; for a clip a file: mp4, mov, mkv, webm or gif",
    )
    flags.add_argument(
        "--sound", type=Sound, default="copy", help="of a clip: copy it, if the kind of file can hold it, or drop it"
    )
    flags.add_argument(
        "--format",
        type=Format,
        default="same",
        help="of the results: png, jpg, webp, tiff, bmp, or same as the input's; kinds that are not written, such as "
        "gif, become png",
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
        flags.add_argument(f"--{name}", type=Path, nargs="+", help=extra.help)
    flags.add_argument("--style_weights", type=float, nargs="+", help="of several styles; by default equal")
    flags.add_argument(
        "--strength",
        type=float,
        help="for style transfer: 0 keeps the style of the picture, 1, the default, replaces it",
    )
    flags.add_argument(
        "--preserve_colour", action="store_true", help="for style transfer: give the style the colours of the picture"
    )
    flags.add_argument(
        "--outscale",
        type=float,
        help="size of the results relative to the pictures, such as 2.5: what the model makes is resized to it",
    )
    flags.add_argument("--frames", type=int, help="for models of clips: number of frames that continue the input")
    flags.add_argument(
        "--seed", type=int, default=0, help="for models of clips: SequenceGAN continues by each seed in another way"
    )
    flags.add_argument("--tile", type=int, default=512, help="side of the tiles that larger pictures are cut into")
    flags.add_argument("--overlap", type=int, default=64, help="minimum overlap of neighbouring tiles in pixels")
    flags.add_argument("--batch", type=int, default=1, help="tiles of a picture, or small frames, computed at once")
    flags.add_argument("--precision", type=Precision, default="32", help="32, or bf16 or 16, which GPUs compute faster")
    flags.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:1")
    return flags


def main(args: list[str]) -> int:
    """Run the command and return its exit code: 0, or 1 if some of the pictures could not be read.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    options = parser().parse_args(args)
    starts(1, options.tile, options.overlap)  # checks both
    at_least(1, batch=options.batch)
    if options.max_pixels is not None:
        at_least(1, max_pixels=options.max_pixels)
    if options.outscale is not None and not 0 < options.outscale < inf:
        raise ValueError(f"outscale is {options.outscale}; expected a number above 0")
    device = chosen_device(options.device)
    model: Any = load_model(options.checkpoint, device, model=own_model(options.model))
    check_flags(options, model)
    if continues(model):
        continue_clip(model, options.checkpoint, options.input, options.output, options.frames, options.seed)
        return 0
    if not translates(model):
        instead = f": use {getattr(model, 'usage', '`gans sample CKPT`')}" if makes_images(model) else ""
        kind = type(model).__name__
        raise ValueError(f"{options.checkpoint} holds {article(kind)}, which makes no images of images{instead}")
    if options.back and not hasattr(model, "back"):
        raise ValueError(f"back asks for the other way, but {options.checkpoint} holds {article(type(model))}")
    wanted = needed(model, options.checkpoint, {name: options[name] for name in EXTRAS})
    make = function(model, options)
    applied = Applied(
        model,
        make,
        options.tile,
        options.overlap,
        options.batch,
        options.precision,
        options.outscale,
        options.preserve_colour,
    )
    given, made = model.source_channels, model.image_shape[0]
    if options.back:
        given, made = made, given
    if is_clip(options.input, options.output):
        if options.format != "same":
            raise ValueError(f"format is {options.format}; expected none, because {options.input} is a clip")
        known = checked(options.input, options.output, options.sound)
        inputs = extra_inputs(wanted, given, options.tile)
        check_writable(options.output.parent)
        translate_clip(applied, options.input, options.output, known, inputs, given, options.sound)
        return 0
    keep = options.alpha == "keep"
    folder, names, others = pictures(options.input, options.output)
    files = targets(names, options.format, made == 4 and keep)
    check_apart(folder, options.output, files)
    check_writable(options.output)
    with pixels_allowed(options.max_pixels):
        extras = {name: [partners(name, path, folder, names) for path in paths] for name, paths in wanted.items()}
        wrong = translate(
            applied,
            folder,
            options.output,
            files,
            extras,
            channels=given,
            keep_alpha=keep,
            longest=options.tile,
        )
    if wrong and not is_folder(options.input):
        raise ValueError(f"{options.input} {wrong[0][1]}")
    for name, why in wrong:
        print(f"gans: skipped {folder / name}: {why.removeprefix('cannot be read: ')}", file=sys.stderr)
    print(f"pictures     {options.output} ({len(names) - len(wrong)} of {len(names)})")
    if others:
        print(f"left out     {', '.join(f'{count:,} {kind}' for kind, count in others.items())}")
    return 1 if wrong else 0


def check_flags(options: Any, model: Any) -> None:
    """Check that no flag is given that is for the other kind of models: those of clips, and translators.

    Raises:
        ValueError: if one was.
    """
    defaults = dict(parser().get_defaults().items())
    others = (set(defaults) - set(OF_BOTH) - set(OF_CLIPS)) if continues(model) else OF_CLIPS
    if wrong := [name for name in defaults if name in others and options[name] != defaults[name]]:
        kind = "models that translate pictures" if continues(model) else "models of clips"
        raise ValueError(
            f"{wrong[0]} is for {kind}, but {options.checkpoint} holds {article(type(model))}: leave it out"
        )


def function(model: Any, options: Any) -> Callable[..., Tensor]:
    """Return the function of images, and of extra inputs, that the flags ask of a translator.

    Raises:
        ValueError: if a flag does not fit the model, or another flag.
    """
    flags = ("style_weights", "strength", "preserve_colour")
    given = [name for name in flags if options[name] is not None and options[name] is not False]
    if given and not hasattr(model, "restyled"):
        kind = type(model).__name__
        raise ValueError(f"{given[0]} is for style transfer, but {options.checkpoint} holds {article(kind)}")
    if options.back:
        back: Callable[..., Tensor] = model.back
        return back
    several = len(options.style or ())
    if several < 2 and not given:
        translate: Callable[..., Tensor] = model.translate
        return translate
    strength = 1.0 if options.strength is None else options.strength
    if not 0 <= strength <= 1:
        raise ValueError(f"strength is {strength}; expected a number from 0 to 1")
    weights = options.style_weights or [1.0] * several
    if len(weights) != several:
        count = f"{len(weights)} number{'s' if len(weights) > 1 else ''}"
        styles = f"each of {several} styles" if several > 1 else "the style"
        raise ValueError(f"style_weights has {count}; expected one for {styles}")
    total = sum(weights)
    if not (min(weights) >= 0 and 0 < total < inf):
        raise ValueError(f"style_weights is {', '.join(map(str, weights))}; expected numbers of at least 0, not all 0")
    shares = [weight / total for weight in weights]
    return lambda images, *styles: model.restyled(images, styles, strength, shares)


def translate(
    applied: Applied,
    folder: Path,
    output: Path,
    files: Mapping[str, str],
    extras: Mapping[str, Sequence[Mapping[str, Path]]],
    *,
    channels: int,
    keep_alpha: bool,
    longest: int,
) -> list[tuple[str, str]]:
    """Translate pictures and write the results. Return the names of those that failed, each with the reason.

    Args:
        applied: a translator.
        folder: of the pictures.
        output: folder of the results.
        files: name of each result by the name of its picture.
        extras: files of the extra inputs, by the name of the input and of the picture.
        channels: that the translator takes.
        keep_alpha: keep the alpha of pictures.
        longest: side in pixels to which larger styles are shrunk.
    """
    wrong: list[tuple[str, str]] = []
    for name in tqdm(files, desc="predict", unit="image", dynamic_ncols=True, disable=not sys.stderr.isatty()):
        try:
            picture, alpha = read(folder / name, channels, keep_alpha)
            given = {
                extra: [read_extra(extra, paths[name], channels, longest) for paths in several]
                for extra, several in extras.items()
            }
        except UnreadableImageError as error:
            allowed = ", or --max_pixels" if isinstance(error.__cause__, Image.DecompressionBombError) else ""
            wrong.append((name, f"cannot be read: {error}{allowed}"))
            continue
        aligned = [part for extra, parts in given.items() if EXTRAS[extra].aligned for part in parts]
        whole = [part for extra, parts in given.items() if not EXTRAS[extra].aligned for part in parts]
        opaque = not (keep_alpha and has_alpha(output / files[name]))
        [made] = applied.images(picture[None], aligned, whole, alpha, opaque)
        try:
            write(output / files[name], made)
        except ValueError as error:
            wrong.append((name, str(error)))
    return wrong
