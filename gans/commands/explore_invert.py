"""`gans explore invert`: the points of pictures, by descent, by the model's encoder, or by both.

The pictures of a folder are inverted at once, each as if it were alone.
"""

from pathlib import Path

import torch
from torch import Tensor

from gans.checks import at_least
from gans.commands.explore_flags import add_features, add_maps, add_space, compared_by, parser_of, place
from gans.commands.explore_pictures import FEATURE_WEIGHT, Method, inverted, read_pictures
from gans.commands.explore_subject import Subject, subject
from gans.explore import codes
from gans.explore.inversion import Sizes, decibels, squares
from gans.pictures.images import save_grid
from gans.pictures.plot import save_plot, save_table

COLUMNS = 8  # of the grid of reconstructions


def main(args: list[str]) -> int:
    """Run the command and return its exit code: 1 if some pictures could not be read.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    flags = parser_of("invert", __doc__)
    add_space(flags)
    flags.add_argument("--image", type=Path, required=True, help="file, or folder, of pictures")
    flags.add_argument(
        "--method",
        type=Method,
        help="descent, the model's encoder, or descent from there; by default hybrid where there is an encoder",
    )
    flags.add_argument("--steps", type=int, default=300, help="of the descent")
    flags.add_argument("--lr", type=float, default=0.1, help="its highest learning rate")
    flags.add_argument(
        "--feature_weight", type=float, help="of the features in its loss; by default 0.03, and 1 for --maps"
    )
    flags.add_argument("--pixel_weight", type=float, default=1.0, help="of the pixels in its loss")
    flags.add_argument(
        "--noise",
        type=bool,
        help="optimise the noise inputs of a style model too, which the file of codes then holds; by default in W and "
        "W+ of a model that has such",
    )
    flags.add_argument("--out", type=Path, help="folder; by default explore/invert of the run")
    add_features(flags)
    add_maps(flags)
    options = flags.parse_args(args)
    weight = options.feature_weight
    if weight is None:
        weight = FEATURE_WEIGHT if options.maps is None else 1.0
    at_least(0, steps=options.steps, lr=options.lr, feature_weight=weight, pixel_weight=options.pixel_weight)
    folder = place(options.out, options.checkpoint, "invert")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out is {folder}, which is a file; expected a folder")
    model = subject(
        options.checkpoint, options.model, options.label, options.truncation, options.device, space=options.space
    )
    method: Method = options.method or ("hybrid" if model.encodes else "optimise")
    if method != "optimise" and not model.encodes:
        raise ValueError(f"method is {method}; expected optimise, for {type(model.model).__name__} has no encoder")
    sizes = noise_sizes(model, options.noise)
    compared = compared_by(options.features, options.maps, model.model)
    files, pictures, skipped = read_pictures(options.image, model.shape)
    points, descent = inverted(
        model, pictures, method, compared, options.steps, options.lr, weight, options.pixel_weight, sizes
    )
    noise = None if descent is None else descent.noise
    rebuilt = model.pictures(points, noise)
    psnr = decibels(squares(rebuilt, pictures))
    for file, value in list(zip(files, psnr.tolist(), strict=True))[:COLUMNS]:
        print(f"{value:6.1f} dB    {file.name}")
    print(f"{psnr.mean():6.1f} dB    mean of {len(files)}, by {method}")
    names, stored = [file.name for file in files], model.network.stored(points)
    print(f"codes        {codes.save(folder / 'codes.safetensors', stored, names, model.space, noise)}")
    shown, columns = beside(pictures, rebuilt)
    print(f"pictures     {save_grid(shown, folder / 'reconstructions.png', columns)}")
    if descent is not None:
        print(f"error        {save_errors(descent.errors.cpu(), [file.stem for file in files], folder)}, error.csv")
    return 1 if skipped else 0


def noise_sizes(model: Subject, asked: bool | None) -> Sizes:
    """Return the sizes of the noise inputs that `--noise` asks to optimise; none for the stored noise.

    Raises:
        ValueError: if the points of the space have no noise inputs.
    """
    sizes: Sizes = getattr(model.model, "noise_sizes", ()) if model.network.layers else ()
    if asked and not sizes:
        told = f"{type(model.model).__name__} has no noise inputs in the space {model.space}"
        raise ValueError(f"noise is true; expected false, for {told}")
    return () if asked is False else sizes


def beside(pictures: Tensor, rebuilt: Tensor) -> tuple[Tensor, int]:
    """Return pictures in rows, with their reconstructions below each row, and the number of columns."""
    columns = min(COLUMNS, len(pictures))
    blank = -(-len(pictures) // columns) * columns - len(pictures)
    rows = []
    for part in (pictures, rebuilt):
        white = torch.ones_like(part[:1]).expand(blank, -1, -1, -1)
        rows.append(torch.split(torch.cat([part, white]), columns))
    return torch.cat([row for pair in zip(*rows, strict=True) for row in pair]), columns


def save_errors(errors: Tensor, names: list[str], folder: Path) -> Path:
    """Write the errors `(steps + 1, N)` of a descent as a table and a plot, and return the path of the plot."""
    if len(set(names)) < len(names):
        names = [f"{i}-{name}" for i, name in enumerate(names)]
    steps = list(range(len(errors)))
    columns = {name: errors[:, i].tolist() for i, name in enumerate(names)}
    save_table({"step": steps, **columns}, folder / "error.csv")
    curves = {name: (steps, values) for name, values in columns.items()}
    return save_plot(curves, folder / "error.png", "step", "mean squared error of the pixels", log=True)
