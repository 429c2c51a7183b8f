"""`gans explore neighbours`, `spectrum` and `path-length`: what generated pictures are beside real ones."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from jsonargparse import Namespace
from torch import Tensor

from gans.checks import at_least
from gans.commands.explore_subject import Subject, add_features, eyes_of, flags, network_of, place, subject
from gans.commands.parser import Parser
from gans.commands.splits import Split, bar, data_of, sets, with_data
from gans.engine.interface import classes
from gans.explore import path_length as length
from gans.explore.generators import still
from gans.explore.neighbours import Nearest, nearest
from gans.explore.spectrum import power_spectrum
from gans.metrics.interface import Extractor
from gans.metrics.sampling import BLOCK, chosen, stored
from gans.pictures.images import save_grid, to_float, to_uint8
from gans.pictures.plot import save_plot, save_table


def add_data(parser: Parser) -> None:
    """Add the flags of the real pictures."""
    parser.add_argument("--split", type=Split, default="train", help="the real pictures to compare with")
    parser.add_argument("--reference", type=int, help="how many of them; by default all")
    parser.add_lightning_class_args(L.LightningDataModule, "data", subclass_mode=True, required=False)


def neighbours(args: list[str]) -> None:
    """Show generated pictures, each beside the real ones nearest to it, in pixels and in features."""
    parser = flags("neighbours", neighbours.__doc__)
    parser.add_argument("--samples", type=int, default=8, help="generated pictures")
    parser.add_argument("--seed", type=int, default=0, help="of their latents")
    parser.add_argument("--count", type=int, default=5, help="neighbours of each")
    parser.add_argument("--out", type=Path, help="file.png; by default in the folder explore of the run")
    add_features(parser)
    add_data(parser)
    options = with_data(parser, args)
    path = at_least_one(options, "neighbours.png")
    model = subject(options, turns=True)
    network = network_of(options, model.shape[0])
    if network is not None and network.clips:
        raise ValueError(f"features is {network.name}, which is for clips; expected an extractor of images")
    real = Real(options, parser, model)
    made = model.pictures(model.draws(range(options.samples), options.seed))
    in_pixels = nearest(pixels(to_uint8(made)), map(pixels, real.blocks("pixels")), options.count)
    found = {"pixels": in_pixels}
    if network is not None:
        seen = (features(network, block) for block in real.blocks("features"))
        found[network.name] = nearest(features(network, to_uint8(made)), seen, options.count)
    columns = [made.unsqueeze(1)]
    for which in found.values():
        shown = to_float(real.pictures(which.rows.flatten().tolist())).view(len(made), -1, *made.shape[1:])
        columns += [torch.ones_like(made).unsqueeze(1), shown]
    grid = torch.cat(columns, 1)
    print(f"neighbours   {save_grid(grid.flatten(0, 1), path, grid.shape[1])}")
    print(f"table        {save_table(table(found, real.rows), path.with_suffix('.csv'))}")
    print(f"columns      generated, then the nearest {options.count} of {real.count:,} in {', then in '.join(found)}")
    root_mean = in_pixels.distances[:, 0] / made[0].numel() ** 0.5
    told = ", ".join(f"{value:.1f}" for value in root_mean.tolist()[:8])
    print(f"distances    {told} of 255 a pixel, to the nearest in pixels; 0 is a copy")


def pixels(images: Tensor) -> Tensor:
    """Return uint8 images `(N, C, H, W)` as rows of float64."""
    return images.flatten(1).double()


def features(network: Extractor, images: Tensor) -> Tensor:
    """Return the features of uint8 images `(N, C, H, W)`, `(N, F)` on the CPU."""
    found: Tensor = network(images)[0].cpu()
    return found


def table(found: dict[str, Nearest], owners: list[int]) -> dict[str, list[Any]]:
    """Return the columns of a table of neighbours: of which picture, in what, how near, which row of the data.

    `owners` are the rows of the data that were compared with, which neighbours are counted among.
    """
    columns: dict[str, list[Any]] = {"picture": [], "in": [], "rank": [], "distance": [], "row": []}
    for name, which in found.items():
        for picture, (distances, rows) in enumerate(zip(which.distances.tolist(), which.rows.tolist(), strict=True)):
            for rank, (distance, row) in enumerate(zip(distances, rows, strict=True), 1):
                for column, value in zip(columns.values(), (picture, name, rank, distance, owners[row]), strict=True):
                    column.append(value)
    return columns


class Real:
    """The real pictures that the options name; of clips the middle frames.

    Args:
        options: with the flags of `add_data`.
        parser: that parsed them.
        model: whose pictures they are compared with.
        most: of them unless `--reference` says how many; None takes all.
    """

    def __init__(self, options: Namespace, parser: Parser, model: Subject, most: int | None = None) -> None:
        self.dataset = sets(data_of(options, parser), options.split)[0]
        there = len(self.dataset)
        self.rows = sorted(chosen(there, options.reference or min(there, most or there)))  # as the data have them
        self.count = len(self.rows)
        shape = tuple(self.pictures([0]).shape[1:])
        if shape != model.shape:
            raise ValueError(
                f"{options.checkpoint} makes images of shape {model.shape} (channels, height, width), the data are "
                f"{shape}: give --data.size and --data.channels"
            )

    def pictures(self, which: list[int]) -> Tensor:
        """Return the pictures of these of the rows, uint8 `(N, C, H, W)`."""
        return torch.cat([still(block) for block, _ in stored(self.dataset, [self.rows[i] for i in which])])

    def blocks(self, what: str) -> Iterator[Tensor]:
        """Yield all pictures, uint8 `(n, C, H, W)`, with a bar."""
        for block, _ in bar(what, self.count)(stored(self.dataset, self.rows)):
            yield still(block)


def spectrum(args: list[str]) -> None:
    """Plot the power of each frequency, of real and of generated pictures."""
    parser = flags("spectrum", spectrum.__doc__)
    parser.add_argument("--samples", type=int, default=2000, help="generated pictures, and real ones if there are")
    parser.add_argument("--seed", type=int, default=0, help="of their latents")
    parser.add_argument("--out", type=Path, help="file.png; by default in the folder explore of the run")
    add_data(parser)
    options = with_data(parser, args)
    path = at_least_one(options, "spectrum.png")
    model = subject(options, turns=True)
    real = Real(options, parser, model, options.samples)
    frequencies, of_real = power_spectrum(map(to_float, real.blocks("real images")))
    _, of_fake = power_spectrum(
        model.pictures(model.draws(range(start, min(start + BLOCK, options.samples)), options.seed))
        for start in range(0, options.samples, BLOCK)
    )
    across = frequencies.tolist()
    curves = {"real": (across, of_real.tolist()), "generated": (across, of_fake.tolist())}
    print(f"spectrum     {save_plot(curves, path, 'cycles a pixel', 'power', log=True)}")
    columns = {"frequency": across, "real": of_real.tolist(), "generated": of_fake.tolist()}
    print(f"table        {save_table(columns, path.with_suffix('.csv'))}")
    apart = 10 * (of_fake.clamp(min=1e-12) / of_real.clamp(min=1e-12)).log10()
    high = apart[frequencies > 0.25]
    print(f"difference   {apart.abs().mean():.2f} dB on the mean, {high.mean():+.2f} dB above 1/4 cycle a pixel")


def path_length(args: list[str]) -> None:
    """Measure the perceptual path length: how much the features of pictures change on a short way of the latents."""
    parser = flags("path-length", path_length.__doc__)
    parser.add_argument("--samples", type=int, default=2000, help="ways")
    parser.add_argument("--epsilon", type=float, default=1e-3, help="share of a way that is gone")
    parser.add_argument("--seed", type=int, default=0, help="of the latents")
    parser.add_argument("--out", type=Path, help="file.csv; by default in the folder explore of the run")
    add_features(parser)
    options = parser.parse_args(args)
    if not 0 < options.epsilon <= 1:
        raise ValueError(f"epsilon is {options.epsilon}; expected a share above 0")
    at_least(2, samples=options.samples)  # for a deviation
    path = at_least_one(options, "path_length.csv")
    model = subject(options, turns=True)
    seen = eyes_of(options, model.model)
    if seen is None:
        raise ValueError("features is none; expected mnist or FILE of train_features, which a path is measured in")
    at = 0

    def draws(count: int) -> Tensor:
        nonlocal at
        at += count
        return model.draws(range(at - count, at), options.seed)

    way: Literal["lerp", "slerp"] = "lerp" if model.uniform else "slerp"

    def labelled(z: Tensor, labels: Tensor) -> Tensor:
        return still(model.model(z, *model.model.conditions(len(z), labels)).float())

    kinds = classes(model.model) if model.network.label is None else 0
    mean, deviation = length.path_length(
        labelled if kinds else model.network,
        draws,
        seen,
        samples=options.samples,
        epsilon=options.epsilon,
        path=way,
        num_classes=kinds,
        seed=options.seed,
    )
    name = options.features or "mnist"
    print(f"path length  {mean:.4g} (deviation {deviation:.4g}) over {options.samples:,} ways, {way}, features {name}")
    row = {"path_length": mean, "deviation": deviation, "samples": options.samples, "epsilon": options.epsilon}
    held = {**row, "path": way, "features": name, "label": model.network.label}
    print(f"table        {save_table({key: [value] for key, value in held.items()}, path)}")


def at_least_one(options: Namespace, name: str) -> Path:
    """Return where the result goes, once the numbers of pictures have been looked at.

    Raises:
        ValueError: if one is under 1, or the file is not named as the result.
    """
    for flag in ("samples", "count", "reference"):
        if options.get(flag) is not None:
            at_least(1, **{flag: options[flag]})
    path = place(options.out, options.checkpoint, name)
    if path.suffix != Path(name).suffix:
        raise ValueError(f"out is {path}; expected a name that ends with {Path(name).suffix}")
    return path
