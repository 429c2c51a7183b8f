"""Files of statistics and scores that are kept between evaluations, each under a checksum."""

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

from gans.runs import atomic


def cache_folder() -> Path:
    """Return the folder of the files: $GANS_CACHE, or `lightning-gans` in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if home else Path.home() / ".cache"
    return Path(os.environ.get("GANS_CACHE") or base / "lightning-gans").expanduser()


def write(path: Path, content: Any) -> None:
    """Write tensors and plain values with their checksum; a reader finds the whole file or none."""
    memory = io.BytesIO()
    torch.save(content, memory)
    payload = memory.getvalue()
    atomic.write(path, hashlib.sha256(payload).digest() + payload)


def read(path: Path) -> Any:
    """Return what `write` wrote.

    Raises:
        ValueError: if the file is damaged.
    """
    content = path.read_bytes()
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        raise ValueError(f"the cached statistics {path} are damaged: delete the file")
    return torch.load(io.BytesIO(content[32:]), weights_only=True)
