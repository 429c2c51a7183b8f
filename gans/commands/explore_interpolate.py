"""`gans explore interpolate`: a walk through points of the latent space, as rows of images or as a film."""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from gans.checks import at_least, positive
from gans.commands.explore_flags import add_out, add_space, parser_of, place
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
    add_space(flags)
    flags.add_argument("--points", type=str, nargs="+", default=["0", "1", "2", "3"], help="two or more")
    flags.add_argument("--steps", type=int, help="images from one point to the next; by default 10, for a film 24")
    flags.add_argument(
        "--path",
        type=Literal["lerp", "slerp"],
        help="linear or spherical; by default spherical, and linear for a uniform prior and in W",
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
    model = subject(
        options.checkpoint, options.model, options.label, options.truncation, options.device, space=options.space
    )
    points, noise = torch.cat([model.point(text) for text in options.points]), model.noise(options.points)
    still = path.suffix == ".png"
    steps = options.steps if options.steps is not None else 10 if still else 24
    check_fits(4 * steps * points.numel(), f"steps {steps} between two points")
    way = options.path or model.network.path
    if len(points) < 2:
        raise ValueError(f"points is {' '.join(options.points)}; expected two or more")

    def walk(ends: Tensor, way: str) -> Tensor:
        if not still:
            return walks.through(ends, steps, way, options.loop)
        closed = torch.cat([ends, ends[:1]]) if options.loop else ends
        # Every row has both of its ends.
        return torch.cat([walks.through(torch.stack(pair), steps, way) for pair in pairwise(closed)])

    made = model.pictures(walk(points, way), None if noise is None else walk(noise, "slerp"))
    save_film(made, path, steps if still else None, options.fps)
    print(f"{'pictures' if still else 'film':12} {path}")
