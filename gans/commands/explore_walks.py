"""`gans explore interpolate` and `traverse`: pictures of walks in the latent space."""

from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from jsonargparse import Namespace
from torch import Tensor

from gans.checks import at_least
from gans.commands.explore_subject import Subject, flags, place, subject
from gans.commands.parser import Parser
from gans.explore import directions, walks
from gans.pictures.film import check_suffix, save_film
from gans.pictures.images import save_grid
from gans.runs.memory import check_fits

ROWS = 8  # of a traversal whose axes are not given


def interpolate(args: list[str]) -> None:
    """Show a walk through points: a row from one to the next, or a film."""
    parser = flags("interpolate", interpolate.__doc__)
    parser.add_argument(
        "--points", type=str, nargs="+", default=["0", "1", "2", "3"], help="to go through, two or more"
    )
    parser.add_argument("--steps", type=int, help="pictures from one point to the next; by default 10, of a film 24")
    parser.add_argument(
        "--path", type=Literal["lerp", "slerp"], help="straight or round; by default straight for a uniform prior"
    )
    parser.add_argument("--loop", type=bool, nargs="?", const=True, default=False, help="go back to the first point")
    parser.add_argument("--fps", type=float, default=12, help="frames per second of a film")
    add_out(parser, "file.png, .gif or .mp4")
    options = parser.parse_args(args)
    path = place(options.out, options.checkpoint, "interpolate.png")
    check_suffix(path)
    if options.steps is not None:
        at_least(1, steps=options.steps)
    if options.fps <= 0:
        raise ValueError(f"fps is {options.fps}; expected a number above 0")
    model = subject(options)
    points = torch.cat([model.point(text).z for text in options.points])
    still = path.suffix == ".png"
    steps = options.steps if options.steps is not None else 10 if still else 24
    check_fits(4 * steps * len(points) * model.dim, f"steps {steps} between two points")
    way = options.path or ("lerp" if model.uniform else "slerp")
    if still and options.loop:
        points = torch.cat([points, points[:1]])
    if len(points) < 2:
        raise ValueError(f"points is {' '.join(options.points)}; expected two or more")
    if still:  # every row with both of its ends
        z = torch.cat([walks.through(torch.stack(ends), steps, way) for ends in pairwise(points)])
    else:
        z = walks.through(points, steps, way, options.loop)
    save_film(model.pictures(z), path, steps if still else None, options.fps)
    print(f"{'pictures' if still else 'film':12} {path}")


def traverse(args: list[str]) -> None:
    """Show what single axes, codes or found directions change: one a row, from the lowest value to the highest."""
    parser = flags("traverse", traverse.__doc__)
    parser.add_argument("--point", type=str, default="0", help="where to start")
    parser.add_argument(
        "--axes",
        type=int,
        nargs="+",
        help="numbers of the latent; by default InfoGAN's codes, else the 8 that tell most",
    )
    parser.add_argument("--direction", type=str, nargs="+", help="names of found directions, instead of axes")
    parser.add_argument("--directions", type=str, help="their file; by default directions.safetensors of the run")
    parser.add_argument("--steps", type=int, default=9, help="pictures of a row")
    parser.add_argument("--range", type=float, help="so far both ways; by default 3, and 1 for a uniform prior")
    add_out(parser, "file.png")
    options = parser.parse_args(args)
    path = place(options.out, options.checkpoint, "traverse.png")
    if path.suffix != ".png":
        raise ValueError(f"out is {path}; expected a name that ends with .png")
    at_least(2, steps=options.steps)
    if options.direction and options.axes:
        raise ValueError(f"direction is {' '.join(options.direction)}, with axes; expected one of the two")
    model = subject(options, "latent" if options.direction else None)
    z = model.point(options.point).z[0]
    rows, names = moves(options, model, z)
    save_grid(model.pictures(rows), path, options.steps)
    print(f"rows         {', '.join(names)}")
    print(f"traversal    {path}")


def moves(options: Namespace, model: Subject, z: Tensor) -> tuple[Tensor, list[str]]:
    """Return latents `(R steps, D)`, a row of `steps` for each move that the options ask for, and the moves' names."""
    far = options.range if options.range is not None else 1.0 if model.uniform else 3.0
    check_fits(4 * options.steps * model.dim, f"a row of steps {options.steps}")
    values = torch.linspace(-far, far, options.steps)
    if options.direction:
        file = options.directions or model.folder / "directions.safetensors"
        found = directions.chosen(directions.load(file), options.direction)
        for name, vector in found.items():
            if len(vector) != model.dim:
                raise ValueError(f"the direction {name} of {file} has {len(vector)} numbers; expected {model.dim}")
        return walks.along(z, torch.stack(list(found.values())), values), list(found)
    axes = options.axes or usual_axes(model, far)
    return walks.traversal(z, axes, values), [f"axis {axis}" for axis in axes]


def usual_axes(model: Subject, far: float) -> list[int]:
    """Return the axes of a traversal that names none: the codes at the end of InfoGAN's latents, or the strongest."""
    count = getattr(model.model, "num_codes", 0)
    if count:
        return list(range(model.dim - count, model.dim))
    return walks.strongest_axes(model.network, model.draws(range(4), 0), -far, far, ROWS)


def add_out(parser: Parser, what: str) -> None:
    """Add the flag of the file."""
    parser.add_argument("--out", type=Path, help=f"{what}; by default in the folder explore of the run")
