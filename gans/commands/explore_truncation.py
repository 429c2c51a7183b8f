"""`gans explore truncation`: a sheet of truncation, whose images move towards the mean w and beyond it.

A row is a point, a column is a value of psi: 1 is the point itself, 0 the mean w, and -1 its opposite (Karras et al.
2019, figure 8).
"""

from math import isfinite

import torch

from gans.commands.explore_flags import add_out, file_at, parser_of
from gans.commands.explore_subject import style_subject
from gans.explore.styles import PSI, truncation_sheet
from gans.pictures.captions import headed
from gans.pictures.images import grid, save


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    flags = parser_of("truncation", __doc__)
    flags.add_argument("--points", type=str, nargs="+", default=["0", "1", "2", "3"], help="one a row")
    flags.add_argument("--psi", type=float, nargs="+", default=list(PSI), help="one a column")
    flags.add_argument("--cutoff", type=int, help="layers that are truncated, the first ones; by default all")
    add_out(flags)
    options = flags.parse_args(args)
    path = file_at(options.out, options.checkpoint, "truncation.png")
    if wrong := [psi for psi in options.psi if not isfinite(psi)]:
        raise ValueError(f"psi is {wrong[0]}; expected finite numbers")
    model = style_subject(options.checkpoint, options.model, options.label, options.truncation, options.device)
    cutoff, layers = options.cutoff, model.network.layers
    if cutoff is not None and not 1 <= cutoff <= layers:
        raise ValueError(f"cutoff is {cutoff}; expected 1 to {layers}, the layers of the model")
    points, noise = torch.cat([model.point(text) for text in options.points]), model.noise(options.points)
    sheet = truncation_sheet(model.network, points, options.psi, cutoff, noise).clamp(-1, 1)
    print(f"sheet        {save(headed(grid(sheet, len(options.psi)), [f'{psi:g}' for psi in options.psi]), path)}")
    print(f"columns      psi {', '.join(f'{psi:g}' for psi in options.psi)}")
