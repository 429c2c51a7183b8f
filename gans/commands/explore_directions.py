"""`gans explore directions`: finds directions, shows what they do, and keeps them for `traverse` and `gans sample`."""

import re
from pathlib import Path
from typing import Literal

import torch
from jsonargparse import Namespace
from torch import Tensor

from datamodules.files import existing_folder
from datamodules.layout import layout
from gans.checks import at_least
from gans.commands.explore_pictures import codes_of, read_pictures
from gans.commands.explore_subject import Subject, add_features, flags, network_of, place, subject
from gans.explore import directions, walks
from gans.explore.boundary import Boundary, of_classes
from gans.explore.generators import images
from gans.explore.pca import pca
from gans.explore.sefa import sefa
from gans.metrics.report import sha256
from gans.pictures.images import save_grid, to_uint8

LEAST = 10  # latents of a class, for a boundary
STEPS = 9  # pictures of a row of the contact sheet

Found = dict[str, tuple[Tensor, str]]


def find(args: list[str]) -> None:
    """Find directions, write them to a file and a contact sheet, and say how much each changes."""
    parser = flags("directions", find.__doc__)
    parser.add_argument(
        "--method",
        type=Literal["pca", "sefa", "classifier"],
        required=True,
        help="components of the first hidden layer, weights of the first layer, or a boundary for each class",
    )
    parser.add_argument("--count", type=int, default=8, help="directions of pca and sefa")
    parser.add_argument("--samples", type=int, default=10_000, help="pictures that pca and classifier look at")
    parser.add_argument("--classes", type=int, nargs="+", help="of the classifier; by default all")
    parser.add_argument("--images", type=Path, help="folders of pictures, one a class: boundaries of their latents")
    parser.add_argument("--steps", type=int, default=100, help="of the inversion of these, where there is no encoder")
    parser.add_argument(
        "--name", type=str, help="of the directions; by default pca-1, ..., class-0, ... or the folder's"
    )
    parser.add_argument("--point", type=str, default="0", help="what the contact sheet starts from")
    parser.add_argument("--range", type=float, help="how far it goes both ways; by default 3, 1 for a uniform prior")
    parser.add_argument("--out", type=Path, help="FILE.safetensors; by default directions.safetensors of the run")
    add_features(parser)
    options = parser.parse_args(args)
    check(options)
    name = f"directions_{options.name or options.method}.png"
    sheet = place(options.out and options.out.with_name(name), options.checkpoint, name)
    model = subject(options, "latent")
    path = options.out or model.folder / "directions.safetensors"
    known = directions.load(path) if path.is_file() else {}
    if {len(vector) for vector in known.values()} - {model.dim}:
        raise ValueError(f"{path} holds directions of another model: give another file by --out")
    found = by_classes(options, model) if options.method == "classifier" else by_layers(options, model)
    z, start = model.draws(range(16), 0), model.point(options.point).z[0]
    chance = directions.random_effect(model.network, z)
    print(f"{'direction':14}{'changes':>9}   (1 is a random direction)")
    for name, (vector, told) in found.items():
        print(f"{name:14}{directions.effect(model.network, z, vector) / max(chance, 1e-12):9.2f}   {told}")
    far = options.range if options.range is not None else 1.0 if model.uniform else 3.0
    vectors = {name: vector for name, (vector, _) in found.items()}
    rows = walks.along(start, torch.stack(list(vectors.values())), torch.linspace(-far, far, STEPS))
    notes = {"method": options.method, "model": type(model.model).__name__, "checkpoint": sha256(options.checkpoint)}
    print(f"directions   {directions.save(path, vectors, notes)}")
    print(f"sheet        {save_grid(model.pictures(rows), sheet, STEPS)}")


def check(options: Namespace) -> None:
    """Check what does not need the checkpoint.

    Raises:
        ValueError: if it makes no sense.
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


def by_layers(options: Namespace, model: Subject) -> Found:
    """Return the directions of pca or sefa, each with what is known of it.

    Raises:
        ValueError: for clips, whose first layers see a frame and not the latent.
    """
    if len(model.model.image_shape) == 4:
        raise ValueError(f"method is {options.method}; expected classifier for clips, whose layers see single frames")
    if options.method == "sefa":
        vectors, strengths = sefa(model.network, model.draws(range(1), 0), options.count)
        told = [f"the first layer answers {strength:.3g}" for strength in strengths.tolist()]
    else:
        vectors, shares = pca(model.network, model.draws(range(options.samples), 0), options.count)
        told = [f"{share:.1%} of the variance" for share in shares.tolist()]
    name = options.name or options.method
    return {f"{name}-{i}": pair for i, pair in enumerate(zip(vectors, told, strict=True), 1)}


def by_classes(options: Namespace, model: Subject) -> Found:
    """Return a direction for each class, towards it and away from all others, with what is known of it."""
    if options.images:
        return by_folders(options, model)
    network = network_of(options, model.shape[0])
    known = network.num_classes if network is not None else None
    if network is None or known is None:
        raise ValueError("features is none; expected mnist or FILE of train_features: it has to know classes")
    wrong = [kind for kind in options.classes or () if not 0 <= kind < known]
    if wrong:
        raise ValueError(f"class is {wrong[0]}; expected 0 to {known - 1}, which {network.name} knows")
    z = model.draws(range(options.samples), 0)
    network = network.to(z.device)
    classes = torch.cat([network(to_uint8(images(model.network, part)))[1].argmax(1) for part in torch.split(z, 250)])
    found: Found = {}
    for kind in options.classes or range(known):
        count = int((classes == kind).sum())
        if min(count, len(z) - count) >= LEAST:
            found[f"{options.name or 'class'}-{kind}"] = described(of_classes(z, classes == kind), count, len(z))
        elif options.classes:
            raise ValueError(f"class is {kind}, of which {count} of {len(z):,} samples are; expected at least {LEAST}")
    if not found:
        raise ValueError(f"there is no class of which {LEAST} of {len(z):,} samples are, and {LEAST} are not")
    return found


def by_folders(options: Namespace, model: Subject) -> Found:
    """Return a direction for each class folder of pictures, from their latents."""
    there = layout(existing_folder(options.images))
    if len(there.classes) < 2:
        raise ValueError(f"images is {options.images}, which has no two folders of pictures; expected one a class")
    label = {there.root / path: label for path, label in zip(there.paths, there.labels.tolist(), strict=True)}
    files, pictures, _ = read_pictures(options.images, model.shape)
    used = [i for i, file in enumerate(files) if file in label]
    z, _ = codes_of(options, model, pictures[used])
    labels = torch.tensor([label[files[i]] for i in used], device=z.device)
    found: Found = {}
    for number, name in list(enumerate(there.classes))[0 if len(there.classes) > 2 else 1 :]:
        positive = labels == number
        # A sum takes what begins with a digit for a point.
        first = options.name or ("class" if name[0].isdigit() else None)
        key = f"{first}-{name}" if first else name
        found[key] = described(of_classes(z, positive), int(positive.sum()), len(z))
    return found


def described(boundary: Boundary, count: int, of: int) -> tuple[Tensor, str]:
    """Return the normal of a boundary, and what is known of it."""
    return boundary.normal, f"tells {boundary.accuracy:.0%} of held-out latents, learnt from {count:,} of {of:,}"
