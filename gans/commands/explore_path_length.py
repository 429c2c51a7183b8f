"""`gans explore path-length`: the perceptual path length, how much features change on a short way between latents."""

from typing import Literal

from torch import Tensor

from gans.checks import at_least
from gans.commands.explore_flags import add_features, add_out, feature_function_of, file_at, parser_of
from gans.commands.explore_subject import subject
from gans.engine.interface import classes
from gans.explore.generators import still
from gans.explore.path_length import path_length
from gans.pictures.plot import save_table


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    flags = parser_of("path-length", __doc__)
    flags.add_argument("--samples", type=int, default=2000, help="ways between two latents")
    flags.add_argument("--epsilon", type=float, default=1e-3, help="step on each, as a share of its length")
    flags.add_argument("--seed", type=int, default=0, help="of the latents")
    add_out(flags, "file.csv")
    add_features(flags)
    options = flags.parse_args(args)
    if not 0 < options.epsilon <= 1:
        raise ValueError(f"epsilon is {options.epsilon}; expected a share above 0")
    at_least(2, samples=options.samples)  # for a deviation
    path = file_at(options.out, options.checkpoint, "path_length.csv")
    model = subject(options.checkpoint, options.model, options.label, options.truncation, options.device, turns=True)
    seen = feature_function_of(options.features, model.model)
    if seen is None:
        raise ValueError("features is none; expected mnist or FILE of train_features, which a path is measured in")
    at = 0

    def draws(count: int) -> Tensor:
        nonlocal at
        at += count
        return model.draws(range(at - count, at), options.seed)

    def labelled(z: Tensor, labels: Tensor) -> Tensor:
        return still(model.model(z, *model.model.conditions(len(z), labels)).float())

    way: Literal["lerp", "slerp"] = "lerp" if model.uniform else "slerp"
    kinds = classes(model.model) if model.network.label is None else 0
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
    name = options.features or "mnist"
    print(f"path length  {mean:.4g} (deviation {deviation:.4g}) over {options.samples:,} ways, {way}, features {name}")
    row = {"path_length": mean, "deviation": deviation, "samples": options.samples, "epsilon": options.epsilon}
    held = {**row, "path": way, "features": name, "label": model.network.label}
    print(f"table        {save_table({key: [value] for key, value in held.items()}, path)}")
