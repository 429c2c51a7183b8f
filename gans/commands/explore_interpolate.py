"""`gans explore interpolate`: a walk through points of the latent space, as rows of images or as a film."""

from itertools import pairwise
from typing import Literal

import torch

from gans.checks import at_least, positive
from gans.commands.explore_flags import add_out, parser_of, place
from gans.commands.explore_subject import subject
from gans.explore import walks
from gans.pictures.film import check_suffix, save_film
from gans.runs.memory import check_fits


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    flags = parser_of("interpolate", __doc__)
    flags.add_argument("--points", type=str, nargs="+", default=["0", "1", "2", "3"], help="two or more")
    flags.add_argument("--steps", type=int, help="images from one point to the next; by default 10, for a film 24")
    flags.add_argument(
        "--path",
        type=Literal["lerp", "slerp"],
        help="linear or spherical; by default spherical, and linear for a uniform prior",
    )
    flags.add_argument("--loop", type=bool, nargs="?", const=True, default=False, help="return to the first point")
    flags.add_argument("--fps", type=float, default=12, help="frames per second of a film")
    add_out(flags, "file.png, .gif or .mp4")
    options = flags.parse_args(args)
    path = place(options.out, options.checkpoint, "interpolate.png")
    check_suffix(path)
    if options.steps is not None:
        at_least(1, steps=options.steps)
    positive(fps=options.fps)
    model = subject(options.checkpoint, options.model, options.label, options.truncation, options.device)
    points = torch.cat([model.point(text) for text in options.points])
    still = path.suffix == ".png"
    steps = options.steps if options.steps is not None else 10 if still else 24
    check_fits(4 * steps * len(points) * model.dim, f"steps {steps} between two points")
    way = options.path or ("lerp" if model.uniform else "slerp")
    if still and options.loop:
        points = torch.cat([points, points[:1]])
    if len(points) < 2:
        raise ValueError(f"points is {' '.join(options.points)}; expected two or more")
    if still:  # every row has both of its ends
        z = torch.cat([walks.through(torch.stack(ends), steps, way) for ends in pairwise(points)])
    else:
        z = walks.through(points, steps, way, options.loop)
    save_film(model.pictures(z), path, steps if still else None, options.fps)
    print(f"{'pictures' if still else 'film':12} {path}")
