"""`gans explore mixing`: a sheet of style mixing, images with some layers of their column and others of their row.

The first row and the first column are the images that are mixed. For each choice of layers there is a block of rows:
its images take these layers from the column, and the others from the row (Karras et al. 2019, figure 3).
"""

import torch

from gans.checks import article
from gans.commands.explore_flags import add_out, file_at, parser_of
from gans.commands.explore_subject import style_subject
from gans.explore.styles import GROUPS, compact, mixing_sheet
from gans.pictures.images import save_grid


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    flags = parser_of("mixing", __doc__)
    flags.add_argument("--rows", type=str, nargs="+", default=["0", "1", "2"], help="points of the rows")
    flags.add_argument(
        "--columns", type=str, nargs="+", default=["3", "4", "5", "6", "7"], help="points whose layers are taken"
    )
    flags.add_argument(
        "--layers", type=str, nargs="+", default=list(GROUPS), help="a block for each: coarse, middle, fine, or 0-3"
    )
    add_out(flags)
    options = flags.parse_args(args)
    path = file_at(options.out, options.checkpoint, "mixing.png")
    model = style_subject(options.checkpoint, options.model, options.label, options.truncation, options.device)
    if model.network.layers < 2:
        told = f"{options.checkpoint} holds {article(type(model.model))}, which has one w for all layers"
        raise ValueError(f"{told}; expected a model with several w, such as StyleGAN2")
    choices = [model.layers(text) or [] for text in options.layers]
    rows, columns = (torch.cat([model.point(text) for text in texts]) for texts in (options.rows, options.columns))
    sheet = mixing_sheet(model.network, rows, columns, choices).clamp(-1, 1).cpu()
    print(f"sheet        {save_grid(sheet, path, len(columns) + 1)}")
    for text, layers in zip(options.layers, choices, strict=True):
        print(f"{text:12} layers {compact(layers)} of {model.network.layers} from the columns")
