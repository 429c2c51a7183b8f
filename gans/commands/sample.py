"""`gans sample`: pictures of a checkpoint, one, a grid or a file each, that depend on a seed and on nothing else."""

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from torch import Tensor

from gans.checks import at_least, positive
from gans.commands import labels
from gans.commands.device import chosen_device
from gans.commands.parser import Parser, add_own_model, check_writable, own_model
from gans.engine.checkpoint import load_generator
from gans.engine.interface import class_names, has_names
from gans.metrics.sampling import latents
from gans.pictures import captions, images
from gans.runs import atomic
from gans.runs.folder import of_checkpoint
from gans.runs.memory import check_disk, check_fits

# Pictures that the network makes at once, always as many: a layer may round otherwise in a batch of another size.
ROWS = 25
NUM = 64
LONG = 100  # characters of a file's name beside the seed
SUFFIXES = (".png", ".gif")
SHOWN = 20  # classes in a line

Move = Callable[[Tensor], Tensor]


def parser() -> Parser:
    """Return the parser of the flags."""
    flags = Parser(prog="gans sample", description=__doc__)
    flags.add_argument("checkpoint", type=Path, help="checkpoint, folder of a run, or recipe")
    add_own_model(flags)
    flags.add_argument(
        "--num", type=int, help="pictures, 64 if it is not given, of sentences 8 each; picture i is the same for all"
    )
    flags.add_argument("--seed", type=int, default=0, help="of the latents; those that `gans evaluate` draws on a CPU")
    flags.add_argument(
        "--labels",
        type=str,
        help="classes in turn by name or number, cat,dog or 3 or 0-9; by default all, if there are any",
    )
    flags.add_argument("--truncation", type=float, help="squeeze latents into ± this many deviations; by default none")
    flags.add_argument("--text", type=str, nargs="+", action="extend", help="sentences, for a model of text to image")
    flags.add_argument("--text_file", type=Path, help="file of sentences, a line each")
    flags.add_argument("--codes", type=float, nargs="+", help="InfoGAN's continuous codes, the same for all pictures")
    flags.add_argument(
        "--direction",
        type=str,
        nargs="+",
        action="extend",
        metavar="NAME=STRENGTH",
        help="go so far along directions of `gans explore`",
    )
    flags.add_argument("--directions", type=Path, help="their file; by default directions.safetensors of the run")
    flags.add_argument(
        "--out", type=Path, help="X.png (a grid; of clips a film strip), X.gif (clips), or a folder for a file each"
    )
    flags.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:1")
    return flags


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    options = parsed(args)
    if options.text is not None or options.text_file:
        from gans.commands import sample_text  # which builds on this file

        sample_text.main(options)
        return
    device = chosen_device(options.device)
    model: Any = load_generator(options.checkpoint, device, model=own_model(options.model))
    kinds = labels.parsed(options.labels, model)
    check_latents(options, model)
    move = moved(options, model)
    count = options.num or NUM
    out = options.out or of_checkpoint(options.checkpoint) / file_name(options)
    clips = len(model.image_shape or ()) == 4  # None: a model of the user's own need not say
    check_out(out, clips)
    check_count(count, model, out)
    drawn = pictures(model, count, options.seed, kinds, options.truncation, move)
    started = time.perf_counter()
    if out.suffix in SUFFIXES and not out.is_dir():
        drawn = iter([torch.cat(list(drawn))])  # before a file is opened
    seconds, written = 0.0, 0
    for batch in drawn:
        seconds += time.perf_counter() - started
        written += write(batch, out, written, columns(model, kinds), headings(model, kinds))
        started = time.perf_counter()
    print(
        f"speed        {count / seconds:,.0f} {'clips' if clips else 'images'}/s on {device.type}, in batches of {ROWS}"
    )
    if has_names(model):
        several = ", ".join(labels.shown(model, kind) for kind in kinds[:SHOWN])
        print(f"classes      {several}{', ...' if len(kinds) > SHOWN else ''}")
    print(f"pictures     {out}")


def parsed(args: list[str]) -> Namespace:
    """Return the options, checked as far as they can be without the checkpoint."""
    options = parser().parse_args(args)
    if options.num is not None:
        at_least(1, num=options.num)
    positive(truncation=options.truncation)
    return options


def file_name(options: Namespace) -> str:
    """Return the name of the file that says what it shows: the checkpoint, the seed, and what else was asked for."""
    texts = [*(options.text or ()), *([options.text_file.stem] if options.text_file else ())]
    parts = [f"{word}{options[word]}" for word in ("num", "labels", "truncation") if options[word] is not None]
    parts += [f"codes{','.join(f'{code:g}' for code in options.codes)}"] if options.codes else []
    parts += [*(options.direction or ()), *([options.directions.stem] if options.directions else ()), *texts]
    told = re.sub(r"[^\w.,=+-]+", "-", "_".join(["", *parts]))
    if len(told) > LONG:
        told = f"{told[:LONG]}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:8]}"
    return f"{options.checkpoint.stem}_seed{options.seed}{told}.png"


def check_latents(options: Namespace, model: Any) -> None:
    """Check that the model has latents that can be changed as it is asked.

    Raises:
        ValueError: if it has not.
    """
    if options.truncation is not None and model.prior != "normal":
        raise ValueError(f"truncation is {options.truncation}; expected none, for the latents are {model.prior}")
    codes = getattr(model, "num_codes", 0)
    if options.codes and len(options.codes) != codes:
        raise ValueError(f"codes is {options.codes}; expected {codes or 'none'}, as {type(model).__name__} has")


def moved(options: Namespace, model: Any) -> Move:
    """Return the function that sets the codes of latents `(N, latent_dim)` and takes them along the directions.

    Raises:
        ValueError: for directions that are no NAME=STRENGTH, that there are not, or of another length.
    """
    steps = [strength(text) for text in options.direction or ()]
    way = torch.zeros(model.latent_dim)
    if steps:
        from gans.explore import directions

        path = options.directions or of_checkpoint(options.checkpoint) / "directions.safetensors"
        found = directions.chosen(directions.load(path), [name for name, _ in steps])
        for name, far in steps:
            if len(found[name]) != model.latent_dim:
                told = f"{len(found[name])} numbers; expected {model.latent_dim}, as latents of this model"
                raise ValueError(f"the direction {name} of {path} has {told}")
            way += far * found[name]

    def move(z: Tensor) -> Tensor:
        if options.codes:
            z = torch.cat([z[:, : -len(options.codes)], torch.tensor(options.codes).to(z).expand(len(z), -1)], 1)
        return z + way.to(z)

    return move


def strength(text: str) -> tuple[str, float]:
    """Return name and strength of NAME=STRENGTH.

    Raises:
        ValueError: if it is none.
    """
    found = re.fullmatch(r"(.+)=([-+.\deE]+)", text)
    try:
        return found[1], float(found[2])  # type: ignore[index]
    except (TypeError, ValueError) as error:
        raise ValueError(f"direction is {text}; expected NAME=STRENGTH, such as {text.split('=')[0]}=2.0") from error


def check_out(out: Path, clips: bool) -> None:
    """Check that pictures can be written there.

    Raises:
        ValueError: if they cannot, or the suffix is of something else.
    """
    if out.is_dir() or not out.suffix:
        if out.exists() and not out.is_dir():
            raise ValueError(f"out is {out}, which is a file; expected a folder, or a name that ends with .png")
        check_writable(out)
        return
    if out.suffix not in SUFFIXES or (out.suffix == ".gif" and not clips):
        expected = ".png or .gif" if clips else ".png"
        raise ValueError(f"out is {out}; expected a name that ends with {expected}, or a folder")
    check_writable(out.parent)


def check_count(count: int, model: Any, out: Path) -> None:
    """Check that so many pictures fit in memory, in a grid, or on the disk, a file each.

    Raises:
        ValueError: if they do not.
    """
    numbers = prod(model.image_shape or (1,))
    if out.suffix in SUFFIXES and not out.is_dir():
        check_fits(4 * count * numbers, f"a grid of num {count} pictures")
    else:  # hardly a file is smaller
        check_disk(count * (100 + numbers // 20), out, f"num {count} files")


@torch.no_grad()
def pictures(
    model: Any, count: int, seed: int, kinds: list[int], truncation: float | None, move: Move
) -> Iterator[Tensor]:
    """Yield images `(n, C, H, W)`, or clips `(n, C, T, H, W)`, in [-1, 1] on the CPU, `count` in all.

    Image i is that of sample i of the seed, its class that of place i in `kinds`, which are taken in turn.
    """
    for start in range(0, count, ROWS):
        rows = range(start, start + ROWS)
        given = torch.tensor([kinds[i % len(kinds)] for i in rows]) if kinds else None
        z = move(latents(model, rows, seed, truncation)).to(model.device)
        shown: Tensor = model(z, *model.conditions(ROWS, given))
        yield shown[: count - start].clamp(-1, 1).float().cpu()


def columns(model: Any, kinds: list[int]) -> int | None:
    """Return the columns of a grid: one for each class, unless that is the only one."""
    return len(kinds) if len(kinds) > 1 else None


def headings(model: Any, kinds: list[int]) -> list[str]:
    """Return the names of the classes of a grid's columns; none where they have no names but their numbers."""
    return [class_names(model)[kind] for kind in kinds] if len(kinds) > 1 and has_names(model) else []


def write(batch: Tensor, out: Path, first: int, across: int | None, names: Sequence[str] = ()) -> int:
    """Write images `(N, C, H, W)`, or clips `(N, C, T, H, W)`, the first of them number `first`; return how many.

    Into one picture of `across` columns, `names` above them, or one that moves, if `out` is named so, else into a file
    each.
    """
    clips = batch.ndim == 5
    if out.is_dir() or out.suffix not in SUFFIXES:
        for i, image in enumerate(batch, first):
            path = out / f"{i:06d}{'.gif' if clips else '.png'}"
            write(image.unsqueeze(0), path, i, None)
        return len(batch)
    if out.suffix == ".gif":
        atomic.write(out, images.gif(batch), durable=False)
    elif clips:
        images.save(images.film(batch), out)
    elif len(batch) == 1:
        images.save(images.to_uint8(batch[0]), out)  # as it is, no border, grey if it is
    else:
        images.save(captions.headed(images.grid(batch, across), names), out)
    return len(batch)
