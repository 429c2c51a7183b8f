"""Directions in a latent space by their names: files of them, and how much they change.

A file is safetensors: a vector `(D,)` a name, and what is noted of each. `pca`, `sefa` and `boundary` find them.
"""

import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor

from gans.explore.generators import Generator
from gans.latent import draw, key
from gans.runs import atomic

FILE = "directions.safetensors"  # of a run
NOTES = "gans.directions"  # the key of what is noted, JSON in the order of the directions


def save(path: str | Path, directions: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """Write directions `(D,)` by their names, beside those that the file has already, and return its path.

    A name that is there already is overwritten. `metadata` is noted of each of these directions.

    Raises:
        ValueError: if one is no vector of finite numbers, or of another length than those of the file.
    """
    path = Path(path)
    there, notes = read(path) if path.is_file() else ({}, {})
    merged = there | {name: vector.detach().float().cpu().contiguous() for name, vector in directions.items()}
    for name, vector in merged.items():
        if vector.ndim != 1 or not vector.isfinite().all():
            raise ValueError(f"{name} has the shape {tuple(vector.shape)}; expected a vector of finite numbers")
    lengths = {len(vector) for vector in merged.values()}
    if len(lengths) > 1:
        raise ValueError(f"directions have {' and '.join(map(str, sorted(lengths)))} numbers; expected equally many")
    notes |= {name: dict(metadata or {}) for name in directions}
    return atomic.write(path, serialised(merged, {NOTES: json.dumps(notes)}))


def load(path: str | Path) -> dict[str, Tensor]:
    """Return the directions `(D,)` of a file by their names.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds none.
    """
    return read(path)[0]


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, dict[str, str]]]:
    """Return the directions of a file, and what is noted of each, both by their names.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds none.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}: `gans explore directions CKPT` writes one")
    try:
        with safe_open(path, "pt") as file:
            notes: dict[str, dict[str, str]] = json.loads((file.metadata() or {})[NOTES])
            return {name: file.get_tensor(name) for name in notes}, notes
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path} holds no directions; expected a file of `gans explore directions`") from error


def chosen(directions: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """Return the directions of these names.

    Raises:
        ValueError: for a name that there is not, with the nearest one.
    """
    found = {}
    for name in names:
        if name not in directions:
            close = difflib.get_close_matches(name, list(directions), n=1, cutoff=0.5)
            near = f" (did you mean {close[0]}?)" if close else ""
            raise ValueError(f"there is no direction {name}{near}; expected one of {', '.join(directions) or 'none'}")
        found[name] = directions[name]
    return found


def fitting(path: str | Path, length: int, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Return the directions `(length,)` of these names from a file; None returns all.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no directions, not these, or they are for latents of another length.
    """
    held = load(path)
    found = held if names is None else chosen(held, names)
    for name, vector in found.items():
        if len(vector) != length:
            wrong = f"{len(vector)} numbers; expected {length}, as latents of this model"
            raise ValueError(f"the direction {name} of {path} has {wrong}")
    return found


@torch.no_grad()
def effect(generator: Generator, z: Tensor, direction: Tensor, step: float = 1.0) -> float:
    """Return how much pixels change, on the mean, when latents `z` `(N, D)` go `step` along a unit `direction` `(D,)`.

    The mean of both ways.
    """
    move = step * direction.to(z) / direction.norm()
    images = generator(z)
    return float(sum((generator(z + way * move) - images).abs().mean() for way in (-1, 1)) / 2)


def random_effect(generator: Generator, z: Tensor, step: float = 1.0, count: int = 16, seed: int = 0) -> float:
    """Return the mean `effect` of `count` random unit directions: what found ones have to be compared with."""
    drawn = draw((count, z.shape[1]), key("random direction", seed), device=z.device, dtype=z.dtype)
    return sum(effect(generator, z, direction, step) for direction in drawn) / count
