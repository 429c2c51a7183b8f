"""`gans explore traverse`: what single axes, codes or directions change, one a row, from the lowest to the highest."""

import torch

from gans.checks import at_least
from gans.commands.explore_flags import add_directions, add_out, file_at, parser_of
from gans.commands.explore_subject import Subject, subject
from gans.explore import directions, walks
from gans.explore.generators import Space
from gans.pictures.images import save_grid
from gans.runs.memory import check_fits

ROWS = 8  # of a traversal without given axes


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    flags = parser_of("traverse", __doc__)
    flags.add_argument("--point", type=str, default="0", help="where to start")
    flags.add_argument(
        "--axes",
        type=int,
        nargs="+",
        help="numbers of the latent; by default InfoGAN's codes, else the 8 that change images most",
    )
    flags.add_argument("--direction", type=str, nargs="+", help="names of found directions, instead of axes")
    add_directions(flags)
    flags.add_argument("--steps", type=int, default=9, help="images in a row")
    flags.add_argument("--range", type=float, help="distance both ways; by default 3, and 1 for a uniform prior")
    add_out(flags)
    options = flags.parse_args(args)
    path = file_at(options.out, options.checkpoint, "traverse.png")
    at_least(2, steps=options.steps)
    if options.direction and options.axes:
        raise ValueError(f"direction is {' '.join(options.direction)}, with axes; expected one of the two")
    space: Space | None = "latent" if options.direction else None
    model = subject(options.checkpoint, options.model, options.label, options.truncation, options.device, space=space)
    z = model.point(options.point)[0]
    far = options.range if options.range is not None else model.reach
    check_fits(4 * options.steps * model.dim, f"a row of steps {options.steps}")
    values = torch.linspace(-far, far, options.steps)
    if options.direction:
        file = options.directions or model.folder / directions.FILE
        found = directions.fitting(file, model.dim, options.direction)
        rows, names = walks.along(z, torch.stack(list(found.values())), values), list(found)
    else:
        axes = options.axes or usual_axes(model, far)
        rows, names = walks.traversal(z, axes, values), [f"axis {axis}" for axis in axes]
    save_grid(model.pictures(rows), path, options.steps)
    print(f"rows         {', '.join(names)}")
    print(f"traversal    {path}")


def usual_axes(model: Subject, far: float) -> list[int]:
    """Return the axes of a traversal without given ones: InfoGAN's codes, or those that change images most."""
    count = getattr(model.model, "num_codes", 0)
    if count:
        return list(range(model.dim - count, model.dim))
    return walks.strongest_axes(model.network, model.draws(range(4), 0), -far, far, ROWS)
