"""Files of points found by inversion: safetensors with a row for each image, and the names of the images.

Points are in the model's own numbers: latents, codes, or w of a style model. With them may be the noise that was found.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor

from gans.runs import atomic

NOTES = "gans.codes"  # key of the metadata, which is JSON


class Codes(NamedTuple):
    """What a file holds.

    Args:
        codes: `(N, ...)`, of the shape of a point.
        names: of the images, N.
        space: name of the space, see `gans.explore.spaces`.
        noise: `(N, noise_dim)`, noise inputs of a style model in place of the stored ones; None for none.
    """

    codes: Tensor
    names: list[str]
    space: str
    noise: Tensor | None = None


def save(
    path: str | Path, codes: Tensor, names: Sequence[str], space: str = "latent", noise: Tensor | None = None
) -> Path:
    """Write codes `(N, ...)` with what belongs to them, see `Codes`, and return the path."""
    held = {"codes": codes} | ({} if noise is None else {"noise": noise})
    held = {name: value.detach().float().cpu().contiguous() for name, value in held.items()}
    return atomic.write(path, serialised(held, {NOTES: json.dumps({"names": list(names), "space": space})}))


def load(path: str | Path) -> tuple[Tensor, list[str], str]:
    """Return the codes `(N, ...)` in a file, the names of their images and the name of their space.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file contains no codes.
    """
    return read(path)[:3]


def read(path: str | Path) -> Codes:
    """Return what a file holds.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file contains no codes.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}: `gans explore invert CKPT --image FILE` writes one")
    try:
        with safe_open(path, "pt") as file:
            notes = json.loads((file.metadata() or {})[NOTES])
            noise = file.get_tensor("noise") if "noise" in file.keys() else None  # noqa: SIM118, no mapping
            return Codes(file.get_tensor("codes"), notes["names"], notes["space"], noise)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path} contains no codes; expected a file of `gans explore invert`") from error
