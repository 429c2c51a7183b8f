"""`gans explore path-length`: the perceptual path length, the change of features for a short step between points."""

from torch import Tensor

from gans.checks import at_least
from gans.commands.explore_flags import add_features, add_maps, add_out, add_space, compared_by, file_at, parser_of
from gans.commands.explore_subject import subject
from gans.engine.interface import classes
from gans.explore.path_length import path_length
from gans.pictures.plot import save_table


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    flags = parser_of("path-length", __doc__)
    add_space(flags)
    flags.add_argument("--samples", type=int, default=2000, help="paths between two points")
    flags.add_argument("--epsilon", type=float, default=1e-3, help="step on each, as a share of its length")
    flags.add_argument("--seed", type=int, default=0, help="of the points")
    add_out(flags, "file.csv")
    add_features(flags)
    add_maps(flags)
    options = flags.parse_args(args)
    if not 0 < options.epsilon <= 1:
        raise ValueError(f"epsilon is {options.epsilon}; expected a share above 0")
    at_least(2, samples=options.samples)  # for a deviation
    path = file_at(options.out, options.checkpoint, "path_length.csv")
    model = subject(
        options.checkpoint,
        options.model,
        options.label,
        options.truncation,
        options.device,
        space=options.space,
        turns=True,
    )
    seen = compared_by(options.features, options.maps, model.model)
    if seen is None:
        raise ValueError("features is none; expected mnist, FILE of train_features, or --maps, to measure a path in")
    at = 0

    def draws(count: int) -> Tensor:
        nonlocal at
        at += count
        return model.draws(range(at - count, at), options.seed)

    def labelled(points: Tensor, labels: Tensor) -> Tensor:
        return model.network.at(labels, model.network.truncation)(points)  # type: ignore[no-any-return]

    # A point of W has its class already: as rows of both ends take turns alike, that of both ends of a path is one.
    kinds = classes(model.model) if model.network.label is None and not model.network.layers else 0
    mean, deviation = path_length(
        labelled if kinds else model.network,
        draws,
        seen,
        samples=options.samples,
        epsilon=options.epsilon,
        path=model.network.path,
        num_classes=kinds,
        seed=options.seed,
    )
    name, path_kind = options.maps or options.features or "mnist", model.network.path
    told = f"over {options.samples:,} paths in {model.space}, {path_kind}, features {name}"
    print(f"path length  {mean:.4g} (deviation {deviation:.4g}) {told}")
    row = {"path_length": mean, "deviation": deviation, "samples": options.samples, "epsilon": options.epsilon}
    held = {**row, "space": model.space, "path": path_kind, "features": name, "label": model.network.label}
    print(f"table        {save_table({key: [value] for key, value in held.items()}, path)}")
