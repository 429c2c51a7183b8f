"""`gans explore traverse`: what single axes, codes or directions change, one a row, from the lowest to the highest."""

import torch

from gans.checks import at_least
from gans.commands.explore_flags import add_directions, add_layers, add_out, add_space, file_at, parser_of
from gans.commands.explore_subject import Subject, components, subject
from gans.explore import directions, walks
from gans.pictures.images import save_grid
from gans.runs.folder import of_checkpoint
from gans.runs.memory import check_fits

ROWS = 8  # of a traversal without given axes


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    flags = parser_of("traverse", __doc__)
    add_space(flags)
    flags.add_argument("--point", type=str, default="0", help="where to start")
    flags.add_argument(
        "--axes",
        type=int,
        nargs="+",
        help="numbers of a point; by default InfoGAN's codes, else the 8 that change images most; in W its 8 first "
        "principal components",
    )
    flags.add_argument("--direction", type=str, nargs="+", help="names of found directions, instead of axes")
    add_directions(flags)
    add_layers(flags)
    flags.add_argument("--steps", type=int, default=9, help="images in a row")
    flags.add_argument("--range", type=float, help="distance both ways; by default 3, and 1 for a uniform prior")
    add_out(flags)
    options = flags.parse_args(args)
    path = file_at(options.out, options.checkpoint, "traverse.png")
    at_least(2, steps=options.steps)
    if options.direction and options.axes:
        raise ValueError(f"direction is {' '.join(options.direction)}, with axes; expected one of the two")
    if options.direction and options.layers:
        raise ValueError(f"layers is {options.layers}; expected none, for directions have layers of their own")
    file, space = options.directions or of_checkpoint(options.checkpoint) / directions.FILE, options.space
    if options.direction and space is None:
        space = directions.common_space(file, options.direction)
    model = subject(options.checkpoint, options.model, options.label, options.truncation, options.device, space=space)
    point, noise = model.point(options.point)[:1], model.noise([options.point])
    far = options.range if options.range is not None else model.reach
    check_fits(4 * options.steps * point.numel(), f"a row of steps {options.steps}")
    values = torch.linspace(-far, far, options.steps)
    if options.direction:
        found = directions.fitting(file, model.network, options.direction)
        rows = walks.along(model.network.layered(point)[0], torch.stack(list(found.values())), values)
        names = list(found)
    elif options.axes is None and model.network.layers:
        network, layers = model.network, model.layers(options.layers)
        held = components(model, ROWS)
        moves = torch.stack([network.offset(vector, layers) for vector in held.values()])
        rows, names = walks.along(network.layered(point)[0], moves, values), list(held)
    else:
        layers = model.layers(options.layers)
        start = point if layers is None else model.network.layered(point)
        axes = options.axes or usual_axes(model, far)
        rows, names = walks.traversal(start[0], axes, values, layers), [f"axis {axis}" for axis in axes]
    made = model.pictures(rows, None if noise is None else noise[:1].expand(len(rows), -1))
    save_grid(made, path, options.steps)
    print(f"rows         {', '.join(names)}")
    print(f"traversal    {path}")


def usual_axes(model: Subject, far: float) -> list[int]:
    """Return the axes of a traversal without given ones: InfoGAN's codes, or those that change images most."""
    count = getattr(model.model, "num_codes", 0)
    if count:
        return list(range(model.dim - count, model.dim))
    return walks.strongest_axes(model.network, model.draws(range(4), 0), -far, far, ROWS)
