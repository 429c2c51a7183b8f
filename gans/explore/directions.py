"""Named directions in a latent space: their files, and the strength of their effect.

A file is safetensors with a vector `(D,)` and metadata for each name. `pca`, `sefa` and `boundary` find directions.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor

from gans.checks import nearest
from gans.explore.generators import Generator
from gans.latent import draw, key
from gans.runs import atomic

FILE = "directions.safetensors"  # of a run
NOTES = "gans.directions"  # key of the metadata, which is JSON in the order of the directions


def save(path: str | Path, directions: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """Add named directions `(D,)` to a file, and return its path.

    Directions of the same name are overwritten, others are kept. `metadata` is stored for each of the new directions.

    Raises:
        ValueError: if a direction is not a finite vector, or has another length than those in the file.
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


def fitting(path: str | Path, length: int, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Return the directions `(length,)` in a file with these names, or all of them for None.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file does not contain these directions, or if they have another length.
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
    """Return the mean absolute change of a pixel when latents `z` `(N, D)` move by `step` along a `direction` `(D,)`.

    The direction is normalised. The result is the mean of both signs.
    """
    move = step * direction.to(z) / direction.norm()
    images = generator(z)
    return float(sum((generator(z + way * move) - images).abs().mean() for way in (-1, 1)) / 2)


def random_effect(generator: Generator, z: Tensor, step: float = 1.0, count: int = 16, seed: int = 0) -> float:
    """Return the mean `effect` of `count` random unit directions, the baseline for found directions."""
    drawn = draw((count, z.shape[1]), key("random direction", seed), device=z.device, dtype=z.dtype)
    return sum(effect(generator, z, direction, step) for direction in drawn) / count
