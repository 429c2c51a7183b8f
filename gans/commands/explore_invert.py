"""`gans explore invert`: the latents of pictures, by descent, by the model's encoder, or by both."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from gans.checks import at_least
from gans.commands.explore_pictures import codes_of, read_pictures
from gans.commands.explore_subject import add_features, flags, place, subject
from gans.explore import codes
from gans.explore.inversion import decibels, squares
from gans.pictures.images import save_grid
from gans.pictures.plot import save_plot, save_table

COLUMNS = 8  # of the picture of reconstructions


def invert(args: list[str]) -> int:
    """Find the latents of pictures; all pictures of a folder at once, each as if it were alone."""
    parser = flags("invert", invert.__doc__)
    parser.add_argument("--image", type=Path, required=True, help="file, or folder, of pictures")
    parser.add_argument(
        "--method",
        type=Literal["optimise", "encoder", "hybrid"],
        help="descent, the model's encoder, or descent from there; by default hybrid where there is an encoder",
    )
    parser.add_argument("--steps", type=int, default=300, help="of the descent")
    parser.add_argument("--lr", type=float, default=0.1, help="its highest learning rate")
    parser.add_argument("--feature_weight", type=float, default=0.03, help="of the features in its loss")
    parser.add_argument("--out", type=Path, help="folder; by default explore/invert of the run")
    add_features(parser)
    options = parser.parse_args(args)
    at_least(0, steps=options.steps, lr=options.lr, feature_weight=options.feature_weight)
    folder = place(options.out, options.checkpoint, "invert")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out is {folder}, which is a file; expected a folder")
    model = subject(options)
    method = options.method or ("hybrid" if model.encodes() else "optimise")
    if method != "optimise" and not model.encodes():
        raise ValueError(f"method is {method}; expected optimise, for {type(model.model).__name__} has no encoder")
    files, pictures, skipped = read_pictures(options.image, model.shape)
    z, found = codes_of(options, model, pictures, method)
    rebuilt = model.pictures(z)
    psnr = decibels(squares(rebuilt, pictures))
    for file, value in list(zip(files, psnr.tolist(), strict=True))[:COLUMNS]:
        print(f"{value:6.1f} dB    {file.name}")
    print(f"{psnr.mean():6.1f} dB    mean of {len(files)}, by {method}")
    print(f"codes        {codes.save(folder / 'codes.safetensors', z, [file.name for file in files], model.space)}")
    shown, columns = beside(pictures, rebuilt)
    print(f"pictures     {save_grid(shown, folder / 'reconstructions.png', columns)}")
    if found is not None:
        errors = found.errors.cpu()
        steps = list(range(len(errors)))
        names = [file.stem for file in files]
        if len(set(names)) < len(names):
            names = [f"{i}-{name}" for i, name in enumerate(names)]
        columns_of = {name: errors[:, i].tolist() for i, name in enumerate(names)}
        save_table({"step": steps, **columns_of}, folder / "error.csv")
        curves = {name: (steps, values) for name, values in columns_of.items()}
        path = save_plot(curves, folder / "error.png", "step", "mean squared error of the pixels", log=True)
        print(f"error        {path}, error.csv")
    return 1 if skipped else 0


def beside(pictures: Tensor, rebuilt: Tensor) -> tuple[Tensor, int]:
    """Return pictures with what became of them below, row by row, and the number of columns."""
    columns = min(COLUMNS, len(pictures))
    blank = -(-len(pictures) // columns) * columns - len(pictures)
    rows = []
    for part in (pictures, rebuilt):
        white = torch.ones_like(part[:1]).expand(blank, -1, -1, -1)
        rows.append(torch.split(torch.cat([part, white]), columns))
    return torch.cat([row for pair in zip(*rows, strict=True) for row in pair]), columns
