"""Files of published checkpoints: what they hold, in a pickle of modules or in PyTorch's format, and their hash."""

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gans.published import pickles

ZIP = b"PK\x03\x04"
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # the magic number of torch.save before PyTorch 1.6


@dataclass(frozen=True)
class File:
    """A file, and what it holds."""

    path: Path
    content: Any


def opened(path: Path) -> File:
    """Return a file with what it holds.

    Raises:
        ValueError: as `contents`.
    """
    return File(path, contents(path))


def contents(path: Path) -> Any:
    """Return what a file holds; nothing in it is executed.

    Files of `torch.save` are loaded with `weights_only`, which gives tensors and plain values. Besides these only
    `argparse.Namespace` may occur, an object without behaviour in which some authors keep their options.

    Raises:
        ValueError: if the file is missing, damaged, or holds anything else.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(LEGACY))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    if not start.startswith((ZIP, LEGACY)):
        return pickles.read(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling what is damaged raises almost anything
        why = str(error).strip().splitlines()[:1] or [type(error).__name__]
        told = "weights only" if "Weights only" in why[0] else why[0]
        raise ValueError(f"{path} is no whole file of tensors and plain values ({told})") from error


def sha256(path: Path) -> str:
    """Return the hash of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors(held: Any) -> dict[str, Tensor]:
    """Return the tensors by name of a stub or of a state dict; nothing for anything else."""
    if isinstance(held, pickles.Stub):
        return dict(held.tensors())
    if isinstance(held, dict):
        return {name: value for name, value in held.items() if isinstance(name, str) and isinstance(value, Tensor)}
    return {}
