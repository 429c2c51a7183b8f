"""Named directions in a space: their files, and the strength of their effect.

A file is safetensors with a vector `(D,)` and metadata for each name. `pca`, `sefa` and `boundary` find directions. The
metadata have the space of a direction, and the layers that it moves if these are not all. Vectors of W are in the
model's own numbers: a step of strength 1 adds the vector to w. Its length is the deviation of a coordinate of w.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor

from gans.checks import nearest
from gans.explore.generators import Generator
from gans.explore.spaces import Space
from gans.explore.styles import layers_named
from gans.latent import draw, key
from gans.runs import atomic

FILE = "directions.safetensors"  # of a run
NOTES = "gans.directions"  # key of the metadata, which is JSON in the order of the directions


def save(path: str | Path, directions: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """Add named directions `(D,)` to a file, and return its path.

    Directions of the same name are overwritten, others are kept. `metadata` is stored for each of the new directions.

    Raises:
        ValueError: if a direction is not a finite vector, or has another length than those of its space in the file.
    """
    path = Path(path)
    there, notes = read(path) if path.is_file() else ({}, {})
    merged = there | {name: vector.detach().float().cpu().contiguous() for name, vector in directions.items()}
    for name, vector in merged.items():
        if vector.ndim != 1 or not vector.isfinite().all():
            raise ValueError(f"{name} has the shape {tuple(vector.shape)}; expected a vector of finite numbers")
    notes |= {name: dict(metadata or {}) for name in directions}
    for space in {space_in(note) for note in notes.values()}:
        lengths = {len(vector) for name, vector in merged.items() if space_in(notes[name]) == space}
        if len(lengths) > 1:
            raise ValueError(
                f"directions have {' and '.join(map(str, sorted(lengths)))} numbers; expected equally many"
            )
    return atomic.write(path, serialised(merged, {NOTES: json.dumps(notes)}))


def load(path: str | Path) -> dict[str, Tensor]:
    """Return the directions `(D,)` in a file by name.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file contains no directions.
    """
    return read(path)[0]


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, dict[str, str]]]:
    """Return the directions in a file and their metadata, both by name.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file contains no directions.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}: `gans explore directions CKPT` writes one")
    try:
        with safe_open(path, "pt") as file:
            notes: dict[str, dict[str, str]] = json.loads((file.metadata() or {})[NOTES])
            return {name: file.get_tensor(name) for name in notes}, notes
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path} contains no directions; expected a file of `gans explore directions`") from error


def chosen(directions: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """Return the directions with the given names.

    Raises:
        ValueError: if a name is unknown; the message suggests the nearest one.
    """
    found = {}
    for name in names:
        if name not in directions:
            near = nearest(name, list(directions))
            raise ValueError(f"there is no direction {name}{near}; expected one of {', '.join(directions) or 'none'}")
        found[name] = directions[name]
    return found


def space_in(note: Mapping[str, str]) -> str:
    """Return the space that the metadata of a direction name; earlier versions wrote none."""
    return note.get("space", "latent")


def common_space(path: str | Path, names: Iterable[str]) -> str:
    """Return the space of the directions with the given names.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file does not contain these directions, or they are of several spaces.
    """
    held, notes = read(path)
    spaces = {name: space_in(notes[name]) for name in chosen(held, names)}
    if len(set(spaces.values())) > 1:
        told = ", ".join(f"{name} of {space}" for name, space in spaces.items())
        raise ValueError(f"directions are {told}; expected one space")
    return next(iter(spaces.values()), "latent")


def fitting(path: str | Path, space: Space, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Return the directions in a file as moves of the `layered` points of a space, `(D,)` or `(num_ws, D)`.

    Args:
        path: the file.
        space: whose points they move.
        names: of the directions; None is all of the space.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file does not contain these directions, or if they are of another space or length.
    """
    held, notes = read(path)
    if names is None:
        names = [name for name in held if space_in(notes[name]) == space.directions]
    found = {}
    for name, vector in chosen(held, names).items():
        own = space_in(notes[name])
        if own != space.directions:
            told = f"is of the space {own}; expected {space.directions}: give --space {own}"
            raise ValueError(f"the direction {name} of {path} {told}")
        if len(vector) != space.dim:
            points = "latents" if own == "latent" else own
            told = f"{len(vector)} numbers; expected {space.dim}, as {points} of this model"
            raise ValueError(f"the direction {name} of {path} has {told}")
        layers = layers_named(notes[name]["layers"], space.layers) if "layers" in notes[name] else None
        found[name] = space.offset(vector / space.scale, layers)
    return found


@torch.no_grad()
def effect(generator: Generator, points: Tensor, direction: Tensor, step: float = 1.0) -> float:
    """Return the mean absolute change of a pixel when `points` `(N, ...)` move by `step` along a `direction` `(...)`.

    The direction is normalised; of one with a vector for each layer, the longest vector. The result is the mean of both
    signs.
    """
    move = step * direction.to(points) / direction.norm(dim=-1).max()
    images = generator(points)
    return float(sum((generator(points + way * move) - images).abs().mean() for way in (-1, 1)) / 2)


def random_effect(
    generator: Generator,
    points: Tensor,
    step: float = 1.0,
    count: int = 16,
    seed: int = 0,
    place: Callable[[Tensor], Tensor] | None = None,
) -> float:
    """Return the mean `effect` of `count` random unit directions, the baseline for found directions.

    Args:
        generator: from points to images.
        points: `(N, ...)`.
        step: length of a move.
        count: random directions.
        seed: of the directions.
        place: from a vector `(D,)` to a direction in the shape of a point, see `Space.offset`; None is the identity.
    """
    drawn = draw((count, points.shape[-1]), key("random direction", seed), device=points.device, dtype=points.dtype)
    return sum(effect(generator, points, place(vector) if place else vector, step) for vector in drawn) / count
