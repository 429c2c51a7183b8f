"""Pictures of a user as a model wants them, and the latents that are found for them."""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jsonargparse import Namespace
from torch import Tensor
from tqdm import tqdm

from datamodules.archive import is_folder
from datamodules.decode import Target, UnreadableImageError, dimensions, read_image
from datamodules.files import existing_folder, image_files
from gans.commands.explore_subject import Subject, eyes_of
from gans.explore.inversion import Inversion, invert, nearest_start
from gans.pictures.images import to_float

STARTS = 1000  # random pictures, of which an inversion begins with the nearest


class Pictures(NamedTuple):
    """Pictures of a user.

    Args:
        files: those that could be read, sorted.
        images: `(N, C, H, W)` in [-1, 1], in the same order.
        skipped: how many could not be read.
    """

    files: list[Path]
    images: Tensor
    skipped: int


def read_pictures(path: Path, shape: tuple[int, int, int]) -> Pictures:
    """Return the pictures of a file or folder in the shape `(C, H, W)` of a model.

    Says which are of another size, for they are resized, and which of a folder cannot be read, for they are skipped.

    Raises:
        ValueError: if there is none that can be read.
    """
    folder = is_folder(path)
    if folder:
        files = sorted(path / name for name in image_files(existing_folder(path)))
    elif path.is_file():
        files = [path]
    else:
        raise ValueError(f"there is no picture {path}")
    channels, height, width = shape
    read, pixels, others, wrong = [], [], [], []
    for file in files:
        try:
            pixels.append(read_image(file, Target(channels, (height, width))))
        except UnreadableImageError as error:
            wrong.append(f"{file}: {error}")
            continue
        read.append(file)
        across, down = dimensions(file)
        if (across, down) != (width, height):
            others.append(f"{file.name} is {across}x{down}")
    if not read:
        told = f"none of the {len(wrong)} pictures in {path} can" if folder else f"{path} cannot"
        raise ValueError(f"{told} be read: {wrong[0].removeprefix(f'{path}: ')}")
    for what in wrong:
        print(f"gans: skipped {what}", file=sys.stderr)
    if others:
        more = f", as are {len(others) - 1} more" if len(others) > 1 else ""
        print(f"{others[0]}{more}: resized to {width}x{height}, cut to its aspect", file=sys.stderr)
    return Pictures(read, to_float(torch.stack(pixels)), len(wrong))


def codes_of(options: Namespace, model: Subject, pictures: Tensor, method: str | None = None) -> tuple[Tensor, Any]:
    """Return latents `(N, D)` of pictures `(N, C, H, W)`: by the encoder if there is one, else found by descent.

    And the inversion, or None where nothing was descended. `hybrid` descends from what the encoder says.
    """
    pictures = pictures.to(model.model.device)
    method = method or ("encoder" if model.encodes() else "optimise")
    if method == "encoder":
        return model.encode(pictures), None
    if method == "hybrid":
        start = model.encode(pictures)
    else:
        start = nearest_start(model.network, pictures, model.draws(range(STARTS), 0))
    found = descended(options, model, pictures, start)
    return found.codes, found


def descended(options: Namespace, model: Subject, pictures: Tensor, start: Tensor) -> Inversion:
    """Return the latents found from `start`, with a bar of the steps."""
    with tqdm(total=options.steps, desc="inversion", unit="step", disable=not sys.stderr.isatty()) as bar:
        return invert(
            model.network,
            pictures,
            start,
            steps=options.steps,
            lr=options.get("lr", 0.1),
            features=eyes_of(options, model.model),
            feature_weight=options.get("feature_weight", 0.03),
            limit=1.0 if model.uniform else None,
            watch=lambda step: bar.update(1) and None,
        )
