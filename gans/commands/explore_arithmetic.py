"""`gans explore arithmetic`: sums of mean latents of pictures, of classes and of directions."""

import re
from pathlib import Path

import torch
from jsonargparse import Namespace
from torch import Tensor

from gans.checks import at_least
from gans.commands.explore_subject import Subject, add_features, flags, network_of, place, subject
from gans.explore import codes, directions
from gans.explore.arithmetic import terms, total
from gans.explore.generators import images
from gans.pictures.images import save_grid, to_uint8


def arithmetic(args: list[str]) -> None:
    """Show the terms of a sum of latents and, last, what it amounts to.

    A term is a point or several with commas between, of which the mean is taken; class:K, the mean latent of the
    pictures that a classifier takes for class K; or the name of a found direction. 2*TERM weighs it. For instance
    "0:3 - class:1 + class:7" or "0:3,0:8 + 2*sefa-1".
    """
    parser = flags("arithmetic", arithmetic.__doc__)
    parser.add_argument("sum", type=str, help="terms with ' + ' and ' - ' between them")
    parser.add_argument("--samples", type=int, default=4000, help="pictures that means of classes are sought among")
    parser.add_argument(
        "--directions", type=Path, help="file of directions; by default directions.safetensors of the run"
    )
    parser.add_argument("--out", type=Path, help="file.png; by default in the folder explore of the run")
    add_features(parser)
    options = parser.parse_args(args)
    at_least(1, samples=options.samples)
    parts = terms(options.sum)
    path = place(options.out, options.checkpoint, "arithmetic.png")
    if path.suffix != ".png":
        raise ValueError(f"out is {path}; expected a name that ends with .png")
    model = subject(options, "latent")
    classes = Classes(options, model)
    means = [mean_of(part.name, options, model, classes) for part in parts]
    result = total([part.weight for part in parts], means)
    shown = model.pictures(torch.stack([*means, result]))
    print(f"pictures     {save_grid(shown, path, len(shown))}")
    print(f"columns      {', '.join(part.name for part in parts)}, and the sum")
    print(f"code         {codes.save(path.with_suffix('.safetensors'), result.unsqueeze(0), [options.sum])}")


class Classes:
    """Mean latents of classes, found when they are first asked for.

    Args:
        options: with `features` and `samples`.
        model: whose pictures are classified.
    """

    def __init__(self, options: Namespace, model: Subject) -> None:
        self.options, self.model = options, model
        self.z: Tensor | None = None
        self.found: Tensor | None = None

    def mean(self, kind: int) -> Tensor:
        """Return the mean latent `(D,)` of the pictures of a class.

        Raises:
            ValueError: if there are none, or nothing knows classes.
        """
        if self.z is None or self.found is None:
            network = network_of(self.options, self.model.shape[0])
            if network is None or network.num_classes is None:
                raise ValueError("features is none; expected mnist or FILE of train_features: a class was asked for")
            self.z = self.model.draws(range(self.options.samples), 0)
            look = network.to(self.z.device)
            pieces = torch.split(self.z, 250)
            self.found = torch.cat([look(to_uint8(images(self.model.network, z)))[1].argmax(1) for z in pieces])
        rows = self.z[self.found == kind]
        if len(rows) == 0:
            raise ValueError(f"class is {kind}, of which none of {len(self.z):,} pictures is")
        return rows.mean(0)


def mean_of(name: str, options: Namespace, model: Subject, classes: Classes) -> Tensor:
    """Return the latent `(D,)` of a term of the sum.

    Raises:
        ValueError: if it names nothing.
    """
    if found := re.fullmatch(r"class:(\d+)", name):
        return classes.mean(int(found[1]))
    if name[0].isdigit() or ".safetensors" in name:
        return torch.cat([model.point(part).z for part in name.split(",")]).mean(0)
    file = options.directions or model.folder / "directions.safetensors"
    vector = directions.chosen(directions.load(file), [name])[name]
    if len(vector) != model.dim:
        raise ValueError(f"the direction {name} of {file} has {len(vector)} numbers; expected {model.dim}")
    return vector.to(model.model.device)
