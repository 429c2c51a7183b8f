"""What a file says of a trained model: a checkpoint, or the two files of `save_pretrained` in the form of one.

Nothing in the files is executed: they hold tensors and plain values.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

CONFIG, WEIGHTS = "config.json", "model.safetensors"  # the two files


def stored(path: str | Path, device: torch.device | str = "cpu", *, mmap: bool = False) -> dict[str, Any]:
    """Return what a checkpoint holds. Files of `save_pretrained` lack all that only training needs.

    Args:
        path: of a checkpoint, or of `model.safetensors` with `config.json` beside it.
        device: of the tensors.
        mmap: read tensors of a checkpoint from the disk when they are used.

    Raises:
        OSError: if a file cannot be read.
        Exception: almost any other, if a file is neither.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        held: dict[str, Any] = torch.load(path, map_location=device, weights_only=True, mmap=mmap)
        return held
    if path.is_file() and not path.with_name(CONFIG).is_file():
        raise FileNotFoundError(f"{CONFIG} is not beside it")
    config = json.loads(path.with_name(CONFIG).read_text(encoding="utf-8"))
    counts: dict[str, Any] = {"seed": None, "batches_seen": 0, "images_seen": 0, "images_averaged": 0, "pending": {}}
    noted = {name: config[name] for name in ("model", "images_seen", "classes", "origin") if name in config}
    return {
        "state_dict": load_file(path, str(device)),
        "hyper_parameters": config["arguments"],
        "adversarial": counts | noted,
    }
