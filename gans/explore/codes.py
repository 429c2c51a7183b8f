"""Files of latents found by inversion: safetensors with a row for each image, and the names of the images."""

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor

from gans.runs import atomic

NOTES = "gans.codes"  # key of the metadata, which is JSON


def save(path: str | Path, codes: Tensor, names: Sequence[str], space: str = "latent") -> Path:
    """Write codes `(N, D)` with the names of their images and the name of their space, and return the path."""
    held = {"codes": codes.detach().float().cpu().contiguous()}
    return atomic.write(path, serialised(held, {NOTES: json.dumps({"names": list(names), "space": space})}))


def load(path: str | Path) -> tuple[Tensor, list[str], str]:
    """Return the codes `(N, D)` in a file, the names of their images and the name of their space.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file contains no codes.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}: `gans explore invert CKPT --image FILE` writes one")
    try:
        with safe_open(path, "pt") as file:
            notes = json.loads((file.metadata() or {})[NOTES])
            return file.get_tensor("codes"), notes["names"], notes["space"]
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path} contains no codes; expected a file of `gans explore invert`") from error
