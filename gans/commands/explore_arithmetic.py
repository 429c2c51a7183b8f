"""`gans explore arithmetic`: a sum of points, of means of points and of classes, and of directions.

A term is a point; several points with commas between, of which the mean is taken; class:K, the mean point of the
images that a classifier assigns to class K; or the name of a found direction. 2*TERM weighs it. For instance
"0:3 - class:1 + class:7" or "0:3,0:8 + 2*sefa-1".
"""

import re
from pathlib import Path

import torch
from torch import Tensor

from gans.checks import at_least
from gans.commands.explore_flags import (
    add_directions,
    add_features,
    add_out,
    add_space,
    extractor_of,
    file_at,
    parser_of,
)
from gans.commands.explore_subject import Subject, subject
from gans.explore import codes, directions
from gans.explore.arithmetic import terms, total
from gans.explore.generators import classified
from gans.pictures.images import save_grid

CLASS = re.compile(r"class:(\d+)")
Classified = tuple[Tensor, Tensor]  # points `(N, ...)`, and the classes `(N,)` of their images


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    flags = parser_of("arithmetic", __doc__)
    add_space(flags)
    flags.add_argument("sum", type=str, help="terms with ' + ' and ' - ' between them")
    flags.add_argument("--samples", type=int, default=4000, help="images that are classified for means of classes")
    add_directions(flags)
    add_out(flags)
    add_features(flags)
    options = flags.parse_args(args)
    at_least(1, samples=options.samples)
    parts = terms(options.sum)
    path = file_at(options.out, options.checkpoint, "arithmetic.png")
    model = subject(
        options.checkpoint,
        options.model,
        options.label,
        options.truncation,
        options.device,
        space=options.space,
        moved=True,
    )
    file = options.directions or model.folder / directions.FILE
    of_classes = any(CLASS.fullmatch(part.name) for part in parts)
    samples = classified_samples(model, options.features, options.samples) if of_classes else None
    means = [mean_of(part.name, model, file, samples) for part in parts]
    if any(mean.shape != means[0].shape for mean in means):  # a direction moves the layers of W+
        means = [mean if mean.ndim == 2 else model.network.layered(mean) for mean in means]
    result = total([part.weight for part in parts], means)
    shown = model.pictures(torch.stack([*means, result]))
    print(f"pictures     {save_grid(shown, path, len(shown))}")
    print(f"columns      {', '.join(part.name for part in parts)}, and the sum")
    print(f"code         {save_sum(model, result, options.sum, path.with_suffix('.safetensors'))}")


def save_sum(model: Subject, point: Tensor, name: str, path: Path) -> Path:
    """Write a point `(D,)`, or `(num_ws, D)` of W+, with its name, and return the path."""
    space = "w+" if point.ndim == 2 else model.space
    return codes.save(path, model.network.stored(point.unsqueeze(0)), [name], space)


def classified_samples(model: Subject, features: str | None, count: int) -> Classified:
    """Return `count` latents, and the classes that the extractor `features` assigns to their images.

    Raises:
        ValueError: if it knows no classes.
    """
    network = extractor_of(features, model.shape[0])
    if network is None or network.num_classes is None:
        raise ValueError("features is none; expected mnist or FILE of train_features: a class was asked for")
    z = model.draws(range(count), 0)
    return z, classified(model.network, z, network)


def mean_of(name: str, model: Subject, file: Path, samples: Classified | None) -> Tensor:
    """Return the point `(...)` of a term of the sum, or the move `(num_ws, D)` of a direction in W.

    Args:
        name: of a class, of points with commas between, or of a direction.
        model: whose latents they are.
        file: of the directions.
        samples: latents and their classes, for the name of a class.

    Raises:
        ValueError: if there is no such point, direction, or sample of the class.
    """
    if samples is not None and (found := CLASS.fullmatch(name)):
        z, classes = samples
        rows = z[classes == int(found[1])]
        if len(rows) == 0:
            raise ValueError(f"class is {found[1]}, of which none of {len(z):,} pictures is")
        return rows.mean(0)
    if name[0].isdigit() or ".safetensors" in name:
        return torch.cat([model.point(part) for part in name.split(",")]).mean(0)
    return directions.fitting(file, model.network, [name])[name].to(model.model.device)
