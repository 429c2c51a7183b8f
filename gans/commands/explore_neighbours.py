"""`gans explore neighbours`: generated images, each with the real ones nearest to it, in pixels and in features."""

from typing import Any

from gans.checks import at_least
from gans.commands.explore_compared import neighbours
from gans.commands.explore_flags import add_features, add_out, add_space, extractor_of, file_at, parser_of
from gans.commands.explore_real import RealImages, add_data
from gans.commands.explore_subject import subject
from gans.commands.splits import data_of, sets, with_data
from gans.explore.neighbours import Nearest
from gans.pictures.images import save_grid
from gans.pictures.plot import save_table


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    flags = parser_of("neighbours", __doc__)
    add_space(flags)
    flags.add_argument("--samples", type=int, default=8, help="generated images")
    flags.add_argument("--seed", type=int, default=0, help="of their latents")
    flags.add_argument("--count", type=int, default=5, help="neighbours of each")
    add_out(flags)
    add_features(flags)
    add_data(flags)
    options = with_data(flags, args)
    at_least(1, samples=options.samples, count=options.count)
    if options.reference is not None:
        at_least(1, reference=options.reference)
    path = file_at(options.out, options.checkpoint, "neighbours.png")
    model = subject(
        options.checkpoint,
        options.model,
        options.label,
        options.truncation,
        options.device,
        space=options.space,
        turns=True,
    )
    network = extractor_of(options.features, model.shape[0])
    real = RealImages(sets(data_of(options, flags), options.split)[0], options.reference)
    real.check_shape(model.shape, options.checkpoint)
    grid, found = neighbours(model, real, network, options.samples, options.count, options.seed)
    print(f"neighbours   {save_grid(grid.flatten(0, 1), path, grid.shape[1])}")
    print(f"table        {save_table(table(found, real.rows), path.with_suffix('.csv'))}")
    print(f"columns      generated, then the nearest {options.count} of {len(real):,} in {', then in '.join(found)}")
    root_mean = found["pixels"].distances[:, 0] / grid[0, 0].numel() ** 0.5
    told = ", ".join(f"{value:.1f}" for value in root_mean.tolist()[:8])
    print(f"distances    {told} of 255 a pixel, to the nearest in pixels; 0 is a copy")


def table(found: dict[str, Nearest], rows: list[int]) -> dict[str, list[Any]]:
    """Return a table of neighbours as columns, one line for each: of which image, in what, how near, which real one.

    Args:
        found: neighbours in pixels, and in features.
        rows: of the data set, by the numbers of the real images that were compared with.
    """
    columns: dict[str, list[Any]] = {"picture": [], "in": [], "rank": [], "distance": [], "row": []}
    for name, which in found.items():
        for picture, (distances, numbers) in enumerate(zip(which.distances.tolist(), which.rows.tolist(), strict=True)):
            for rank, (distance, number) in enumerate(zip(distances, numbers, strict=True), 1):
                for column, value in zip(columns.values(), (picture, name, rank, distance, rows[number]), strict=True):
                    column.append(value)
    return columns
