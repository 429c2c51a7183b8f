"""`gans sample`: images of a checkpoint, as one file or many. Image i of a seed is the same however many are drawn."""

import hashlib
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from torch import Tensor

from datamodules.text import tokenizer
from gans.checks import article, at_least, positive
from gans.commands import labels
from gans.commands import sample_files as files
from gans.commands.device import chosen_device
from gans.commands.parser import Parser, add_own_model, own_model
from gans.commands.sample_text import sentences, tokenized
from gans.engine.checkpoint import load_generator, load_model
from gans.engine.interface import class_names, has_names, styled, truncated
from gans.explore import directions, styles
from gans.explore.spaces import Space, space_of
from gans.explore.walks import with_codes
from gans.metrics.sampling import latents
from gans.models.texttoimage import TextToImage
from gans.runs.folder import of_checkpoint

# Images in every batch of the network: a layer may round differently in a batch of another size.
ROWS = 25
NUM, EACH = 64, 8  # images by default, and images of each sentence
LONG = 100  # characters of a file's name after the seed
SHOWN = 20  # classes in a line
UNREAD = ("labels", "codes", "direction", "directions", "cutoff")  # flags that sentences do not go with


def parser() -> Parser:
    """Return the parser of the flags."""
    flags = Parser(prog="gans sample", description=__doc__)
    flags.add_argument("checkpoint", type=Path, help="checkpoint, folder of a run, recipe, or user/name of the Hub")
    add_own_model(flags)
    flags.add_argument("--num", type=int, help="images; by default 64, or 8 for each sentence")
    flags.add_argument("--seed", type=int, default=0, help="of the latents; the same as in `gans evaluate` on a CPU")
    flags.add_argument(
        "--labels",
        type=str,
        help="classes by name or number, used in turn: cat,dog or 3 or 0-9; by default all classes",
    )
    flags.add_argument(
        "--truncation",
        type=float,
        help="limit latents to ± this many deviations, or psi of a style model: 0 is its mean w; by default none",
    )
    flags.add_argument("--cutoff", type=int, help="layers of a style model that are truncated, the first ones")
    flags.add_argument("--text", type=str, nargs="+", action="extend", help="sentences, for a text-to-image model")
    flags.add_argument("--text_file", type=Path, help="file of sentences, one a line")
    flags.add_argument("--codes", type=float, nargs="+", help="InfoGAN's continuous codes, the same for all images")
    flags.add_argument(
        "--direction",
        type=str,
        nargs="+",
        action="extend",
        metavar="NAME=STRENGTH",
        help="move latents along directions of `gans explore directions`",
    )
    flags.add_argument("--directions", type=Path, help="their file; by default directions.safetensors of the run")
    flags.add_argument(
        "--out", type=Path, help="X.png (a grid; for clips a film strip), X.gif (clips), or a folder for a file each"
    )
    flags.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:1")
    return flags


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    options = parser().parse_args(args)
    if options.num is not None:
        at_least(1, num=options.num)
    if options.text is not None or options.text_file:
        sample_sentences(options)
    else:
        sample_latents(options)


def sample_latents(options: Namespace) -> None:
    """Draw and write the images of a model of latents.

    Raises:
        ValueError: for bad input.
    """
    device = chosen_device(options.device)
    model: Any = load_generator(options.checkpoint, device, model=own_model(options.model))
    kinds = labels.parsed(options.labels, model)
    psi, cutoff = options.truncation if styled(model) else None, options.cutoff
    check_truncation(model, options.truncation, cutoff)
    check_codes(model, options.codes)
    run = of_checkpoint(options.checkpoint)
    usual = "latent" if cutoff is None else "w"
    space, move = moved(model, options.direction or (), options.directions or run / directions.FILE, usual)
    if cutoff is not None and not space.layers:
        raise ValueError(f"cutoff is {cutoff}; expected none beside directions of latents")
    count, out = options.num or NUM, options.out or run / file_name(options)
    clips = len(model.image_shape or ()) == 4  # None: a user's own model need not have a shape
    files.check_out(out, clips)
    files.check_count(count, model.image_shape, out)

    def inputs(rows: range) -> tuple[Tensor, ...]:
        limit = None if styled(model) else options.truncation
        z = with_codes(latents(model, rows, options.seed, limit), options.codes or ())
        return z, *([torch.tensor([kinds[row % len(kinds)] for row in rows])] if kinds else [])

    def make(z: Tensor, labels: Tensor | None = None) -> Tensor:
        at = space.at(labels, psi if cutoff is None else None)
        points = at.from_latents(z)
        if cutoff is not None or move is not None:
            points = at.layered(points)
        if cutoff is not None:
            points = styles.truncated(points, [options.truncation], cutoff)
        with truncated(model, options.truncation):
            return at.made(points if move is None else points + move.to(points))

    drawn = images(make, model.device, count, inputs)
    seconds, written, started = 0.0, 0, time.perf_counter()
    if files.is_one_file(out):
        whole = torch.cat(list(drawn))  # before a file is opened
        seconds = time.perf_counter() - started
        names = [class_names(model)[kind] for kind in kinds] if len(kinds) > 1 and has_names(model) else []
        files.write_one(whole, out, files.columns(kinds), names)
    else:
        for batch in drawn:
            seconds += time.perf_counter() - started
            files.write_each(batch, out, written)
            written, started = written + len(batch), time.perf_counter()
    report(count, "clips" if clips else "images", seconds, device)
    if has_names(model):
        several = ", ".join(labels.shown(model, kind) for kind in kinds[:SHOWN])
        print(f"classes      {several}{', ...' if len(kinds) > SHOWN else ''}")
    print(f"pictures     {out}")


def sample_sentences(options: Namespace) -> None:
    """Draw and write the images of sentences, with the sentence below each.

    Raises:
        ValueError: for bad input.
    """
    if given := [name for name in UNREAD if options[name]]:
        raise ValueError(f"{given[0]} is {options[given[0]]}; expected none beside --text")
    positive(truncation=options.truncation)
    device = chosen_device(options.device)
    model = load_model(options.checkpoint, device, model=own_model(options.model))
    if not isinstance(model, TextToImage):
        raise ValueError(f"{options.checkpoint} holds {article(type(model))}, which makes no pictures of sentences")
    texts = sentences(options.text, options.text_file)
    tokens, lengths = tokenized(texts, tokenizer(model.hparams["vocabulary"]), model.hparams["max_length"])
    out = options.out or of_checkpoint(options.checkpoint) / file_name(options)
    files.check_out(out, clips=False)
    each, started = options.num or EACH, time.perf_counter()

    def of_sentence(caption: tuple[Tensor, Tensor]) -> Tensor:
        def inputs(rows: range) -> tuple[Tensor, ...]:
            z = latents(model, rows, options.seed, options.truncation)
            return z, *(part.expand(len(rows), *part.shape) for part in caption)

        return torch.cat(list(images(model, model.device, each, inputs)))

    drawn = [of_sentence(caption) for caption in zip(tokens, lengths, strict=True)]
    seconds = time.perf_counter() - started
    files.write_captioned(drawn, texts, out)
    report(each * len(texts), "images", seconds, device)
    print(f"pictures     {out}")


@torch.no_grad()
def images(
    make: Callable[..., Tensor], device: torch.device, count: int, inputs: Callable[[range], tuple[Tensor, ...]]
) -> Iterator[Tensor]:
    """Yield images `(n, C, H, W)`, or clips `(n, C, T, H, W)`, in [-1, 1] on the CPU, `count` in all.

    Args:
        make: a function from inputs to images.
        device: of the inputs.
        count: images in all.
        inputs: returns what `make` takes for a range of image numbers, a row for each.
    """
    for start in range(0, count, ROWS):
        rows = range(start, start + ROWS)
        made = make(*(part.to(device) for part in inputs(rows)))
        yield made[: count - start].clamp(-1, 1).float().cpu()


def report(count: int, what: str, seconds: float, device: torch.device) -> None:
    """Print how many images a second were drawn."""
    print(f"speed        {count / seconds:,.0f} {what}/s on {device.type}, in batches of {ROWS}")


def file_name(options: Namespace) -> str:
    """Return the default name of the file, which names the checkpoint, the seed, and the other flags given."""
    texts = [*(options.text or ()), *([options.text_file.stem] if options.text_file else ())]
    parts = [
        f"{word}{options[word]}" for word in ("num", "labels", "truncation", "cutoff") if options[word] is not None
    ]
    parts += [f"codes{','.join(f'{code:g}' for code in options.codes)}"] if options.codes else []
    parts += [*(options.direction or ()), *([options.directions.stem] if options.directions else ()), *texts]
    words = re.sub(r"[^\w.,=+-]+", "-", "_".join(["", *parts]))
    if len(words) > LONG:
        words = f"{words[:LONG]}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:8]}"
    return f"{options.checkpoint.stem}_seed{options.seed}{words}.png"


def check_truncation(model: Any, truncation: float | None, cutoff: int | None) -> None:
    """Check that the latents of a model can be truncated, or the styles of so many of its layers.

    Raises:
        ValueError: if not.
    """
    if cutoff is not None:
        if not styled(model):
            raise ValueError(f"cutoff is {cutoff}; expected none, for {type(model).__name__} has no styles of layers")
        if truncation is None:
            raise ValueError(f"cutoff is {cutoff}; expected none without --truncation, which it limits")
        if not 1 <= cutoff <= model.num_ws:
            raise ValueError(f"cutoff is {cutoff}; expected 1 to {model.num_ws}, the layers of the model")
    if truncation is None:
        return
    if styled(model):
        if not math.isfinite(truncation):
            raise ValueError(f"truncation is {truncation}; expected a finite number")
        return
    positive(truncation=truncation)
    if model.prior != "normal":
        raise ValueError(f"truncation is {truncation}; expected none, for the latents are {model.prior}")


def check_codes(model: Any, given: Sequence[float] | None) -> None:
    """Check that a model has as many continuous codes as are given.

    Raises:
        ValueError: if not.
    """
    codes = getattr(model, "num_codes", 0)
    if given and len(given) != codes:
        raise ValueError(f"codes is {given}; expected {codes or 'none'}, as {type(model).__name__} has")


def moved(model: Any, moves: Sequence[str], file: Path, usual: str) -> tuple[Space, Tensor | None]:
    """Return the space of directions of a file, and the sum of them, each times its strength.

    Args:
        model: whose points are moved.
        moves: such as `sefa-1=2.0`; without any, the space is the usual one, and the sum None.
        file: of the directions.
        usual: name of a space.

    Raises:
        ValueError: for a move of another form, a direction that the file does not have, or one of another length or
            space.
    """
    steps = [strength(move) for move in moves]
    if not steps:
        return space_of(model, usual), None
    names = [name for name, _ in steps]
    space = space_of(model, directions.common_space(file, names))
    found = directions.fitting(file, space, names)
    return space, torch.stack([far * found[name] for name, far in steps]).sum(0)


def strength(text: str) -> tuple[str, float]:
    """Return name and strength of NAME=STRENGTH.

    Raises:
        ValueError: for a text of another form.
    """
    found = re.fullmatch(r"(.+)=([-+.\deE]+)", text)
    try:
        return found[1], float(found[2])  # type: ignore[index]
    except (TypeError, ValueError) as error:
        raise ValueError(f"direction is {text}; expected NAME=STRENGTH, such as {text.split('=')[0]}=2.0") from error
