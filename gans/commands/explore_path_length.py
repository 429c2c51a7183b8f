"""`gans explore path-length`: the perceptual path length, how much features change on a short way between latents."""

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
    flags.add_argument("--samples", type=int, default=2000, help="ways between two latents")
    flags.add_argument("--epsilon", type=float, default=1e-3, help="step on each, as a share of its length")
    flags.add_argument("--seed", type=int, default=0, help="of the latents")
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

    way = model.network.path
    # A point of W has its class already: as rows of both ends take turns alike, that of both ends of a path is one.
    kinds = classes(model.model) if model.network.label is None and not model.network.layers else 0
    mean, deviation = path_length(
        labelled if kinds else model.network,
        draws,
        seen,
        samples=options.samples,
        epsilon=options.epsilon,
        path=way,
        num_classes=kinds,
        seed=options.seed,
    )
    name, place = options.maps or options.features or "mnist", model.space
    told = f"over {options.samples:,} ways in {place}, {way}, features {name}"
    print(f"path length  {mean:.4g} (deviation {deviation:.4g}) {told}")
    row = {"path_length": mean, "deviation": deviation, "samples": options.samples, "epsilon": options.epsilon}
    held = {**row, "space": place, "path": way, "features": name, "label": model.network.label}
    print(f"table        {save_table({key: [value] for key, value in held.items()}, path)}")
