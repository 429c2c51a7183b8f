"""`gans explore directions`: find directions, measure and show what they change, and keep them in a file."""

import re
from pathlib import Path
from typing import Literal

import torch
from jsonargparse import Namespace
from torch import Tensor

from datamodules.files import existing_folder
from datamodules.layout import layout
from gans.checks import at_least
from gans.commands.explore_flags import (
    add_features,
    add_layers,
    add_space,
    extractor_of,
    feature_function_of,
    parser_of,
    place,
)
from gans.commands.explore_pictures import inverted, read_pictures
from gans.commands.explore_subject import Subject, subject
from gans.explore import directions, walks
from gans.explore.boundary import Boundary, of_classes
from gans.explore.generators import classified
from gans.explore.pca import pca, pca_of_styles
from gans.explore.sefa import sefa, sefa_of_styles
from gans.explore.styles import compact
from gans.metrics.report import sha256
from gans.pictures.images import save_grid

LEAST = 10  # latents of a class, for a boundary
STEPS = 9  # images in a row of the contact sheet

Method = Literal["pca", "sefa", "classifier"]
Found = dict[str, tuple[Tensor, str]]  # unit directions `(D,)` by name, each with what is known of it


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    flags = parser_of("directions", __doc__)
    add_space(flags)
    flags.add_argument(
        "--method",
        type=Method,
        required=True,
        help="components of the first hidden layer or of W, weights of the first layer or of those that read W, or a "
        "boundary for each class",
    )
    flags.add_argument("--count", type=int, default=8, help="directions of pca and sefa")
    flags.add_argument("--samples", type=int, default=10_000, help="images that pca and classifier use")
    flags.add_argument("--classes", type=int, nargs="+", help="of the classifier; by default all")
    flags.add_argument("--images", type=Path, help="folder of pictures, with a folder for each class, to invert")
    flags.add_argument("--steps", type=int, default=100, help="of their inversion, where there is no encoder")
    flags.add_argument(
        "--name", type=str, help="of the directions; by default pca-1, ..., class-0, ... or the folder's"
    )
    flags.add_argument("--point", type=str, default="0", help="where the contact sheet starts")
    flags.add_argument("--range", type=float, help="distance both ways; by default 3, and 1 for a uniform prior")
    flags.add_argument("--out", type=Path, help="FILE.safetensors; by default directions.safetensors of the run")
    add_layers(flags)
    add_features(flags)
    options = flags.parse_args(args)
    check(options)
    name = f"directions_{options.name or options.method}.png"
    sheet = place(options.out and options.out.with_name(name), options.checkpoint, name)
    model = subject(
        options.checkpoint,
        options.model,
        options.label,
        options.truncation,
        options.device,
        space=options.space,
        moved=True,
    )
    space, layers = model.network, model.layers(options.layers)
    if space.name != space.directions:
        told = f"expected {space.directions}, whose directions move {space.name} too"
        raise ValueError(f"space is {space.name}; {told}")
    path = options.out or model.folder / directions.FILE
    known, held = directions.read(path) if path.is_file() else ({}, {})
    same = {len(vector) for name, vector in known.items() if directions.space_in(held[name]) == space.name}
    if same - {model.dim}:
        raise ValueError(f"{path} holds directions of another model: give another file by --out")
    if options.method != "classifier":
        found = by_layers(model, options.method, options.samples, options.count, options.name, layers)
    elif options.images:
        found = by_folders(model, options.images, options.steps, options.features, options.name)
    else:
        found = by_classes(model, options.features, options.samples, options.classes, options.name)
    points, start = (space.layered(rows) for rows in (model.draws(range(16), 0), model.point(options.point)))

    def place_of(vector: Tensor) -> Tensor:
        return space.offset(vector, layers)

    moves = {name: place_of(vector) for name, (vector, _) in found.items()}
    chance = directions.random_effect(space, points, place=place_of)
    print(f"{'direction':14}{'changes':>9}   (1 is a random direction)")
    for name, (_, told) in found.items():
        print(f"{name:14}{directions.effect(space, points, moves[name]) / max(chance, 1e-12):9.2f}   {told}")
    far = options.range if options.range is not None else model.reach
    rows = walks.along(start[0], torch.stack(list(moves.values())), torch.linspace(-far, far, STEPS))
    notes = {"method": options.method, "model": type(model.model).__name__, "checkpoint": sha256(options.checkpoint)}
    notes |= {"space": space.name} | ({} if layers is None else {"layers": compact(layers)})
    vectors = {name: vector * space.scale for name, (vector, _) in found.items()}
    print(f"directions   {directions.save(path, vectors, notes)}")
    noise = model.noise([options.point])
    made = model.pictures(rows, None if noise is None else noise[:1].expand(len(rows), -1))
    print(f"sheet        {save_grid(made, sheet, STEPS)}")


def check(options: Namespace) -> None:
    """Check what does not need the checkpoint.

    Raises:
        ValueError: for flags that are out of range, or do not go together.
    """
    at_least(1, count=options.count)
    at_least(100, samples=options.samples)
    at_least(0, steps=options.steps)
    if options.out and options.out.is_dir():
        raise ValueError(f"out is {options.out}, which is a folder; expected a file")
    if options.out and options.out.suffix != ".safetensors":
        raise ValueError(f"out is {options.out}; expected a name that ends with .safetensors")
    if options.name and not re.fullmatch(r"[\w.-]+", options.name):
        raise ValueError(f"name is {options.name}; expected letters, digits, dots, dashes and underscores")
    if options.method != "classifier":
        for name in ("classes", "images", "features"):
            if options[name] is not None:
                raise ValueError(f"{name} is {options[name]}; expected none, for only classifier reads it")
    if options.images and options.classes:
        raise ValueError(f"classes is {options.classes}; expected none, for the folders of images are the classes")


def by_layers(
    model: Subject, method: Method, samples: int, count: int, name: str | None, layers: list[int] | None
) -> Found:
    """Return `count` directions of pca, from so many samples, or of sefa.

    Args:
        model: whose space they are of.
        method: `pca` or `sefa`.
        samples: points that pca uses.
        count: of directions.
        name: of the directions, before their number; None is the method.
        layers: of a style model, whose weights sefa takes; None is all.

    Raises:
        ValueError: for clips, whose first layers see single frames and not the latent.
    """
    if model.clips:
        raise ValueError(f"method is {method}; expected classifier for clips, whose layers see single frames")
    styles = bool(model.network.layers)
    if method == "sefa":
        if styles:
            vectors, strengths = sefa_of_styles(model.model, model.network.chosen(layers), count)
        else:
            vectors, strengths = sefa(model.network, model.draws(range(1), 0), count)
        which = "layers" if styles else "the first layer"
        told = [f"response {strength:.3g} of {which}" for strength in strengths.tolist()]
    else:
        points = model.draws(range(samples), 0)
        vectors, shares = pca_of_styles(points, count) if styles else pca(model.network, points, count)
        told = [f"{share:.1%} of the variance" for share in shares.tolist()]
    return {f"{name or method}-{i}": pair for i, pair in enumerate(zip(vectors, told, strict=True), 1)}


def by_classes(model: Subject, features: str | None, samples: int, wanted: list[int] | None, name: str | None) -> Found:
    """Return a direction towards each class of the extractor `features`, away from all other classes.

    Args:
        model: makes the images.
        features: name or file of a classifier; None takes the default of the images.
        samples: images that are classified.
        wanted: classes; None takes all with enough samples.
        name: of the directions, before the class; None is `class`.

    Raises:
        ValueError: if the extractor has no such classes, or one has too few samples.
    """
    network = extractor_of(features, model.shape[0])
    known = network.num_classes if network is not None else None
    if network is None or known is None:
        raise ValueError("features is none; expected mnist or FILE of train_features: it has to know classes")
    wrong = [kind for kind in wanted or () if not 0 <= kind < known]
    if wrong:
        raise ValueError(f"class is {wrong[0]}; expected 0 to {known - 1}, which {network.name} knows")
    z = model.draws(range(samples), 0)
    classes = classified(model.network, z, network)
    found: Found = {}
    for kind in wanted or range(known):
        count = int((classes == kind).sum())
        if min(count, len(z) - count) >= LEAST:
            found[f"{name or 'class'}-{kind}"] = described(of_classes(z, classes == kind), count, len(z))
        elif wanted:
            raise ValueError(f"class is {kind}, of which {count} of {len(z):,} samples are; expected at least {LEAST}")
    if not found:
        raise ValueError(f"there is no class of which {LEAST} of {len(z):,} samples are, and {LEAST} are not")
    return found


def by_folders(model: Subject, folder: Path, steps: int, features: str | None, name: str | None) -> Found:
    """Return a direction towards the pictures of each class folder, from the points of all pictures.

    Of two classes only the direction to the second is returned.

    Args:
        model: whose latents are found.
        folder: with a folder for each class.
        steps: of the inversion, for a model without an encoder.
        features: extractor of the inversion.
        name: of the directions, before the class; by default the class alone.

    Raises:
        ValueError: if there are not two classes.
    """
    there = layout(existing_folder(folder))
    if len(there.classes) < 2:
        raise ValueError(f"images is {folder}, which has no two folders of pictures; expected one a class")
    label = {there.root / path: label for path, label in zip(there.paths, there.labels.tolist(), strict=True)}
    files, pictures, _ = read_pictures(folder, model.shape)
    used = [i for i, file in enumerate(files) if file in label]
    compared = feature_function_of(features, model.model)
    z, _ = inverted(model, pictures[used], "encoder" if model.encodes else "optimise", compared, steps)
    labels = torch.tensor([label[files[i]] for i in used], device=z.device)
    found: Found = {}
    for number, kind in list(enumerate(there.classes))[0 if len(there.classes) > 2 else 1 :]:
        positive = labels == number
        # In a sum, a name that begins with a digit would be a point.
        first = name or ("class" if kind[0].isdigit() else None)
        found[f"{first}-{kind}" if first else kind] = described(of_classes(z, positive), int(positive.sum()), len(z))
    return found


def described(boundary: Boundary, count: int, of: int) -> tuple[Tensor, str]:
    """Return the normal of a boundary, and what is known of it."""
    return boundary.normal, f"tells {boundary.accuracy:.0%} of held-out latents, learnt from {count:,} of {of:,}"
