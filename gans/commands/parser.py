"""The parser of the commands, and what its flags name: the class of a model, a folder to write to."""

import tempfile
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import Namespace

from gans.checks import imported, nearest
from gans.recipes import keys
from gans.recipes.keys import KINDS
from gans.recipes.named import FILES, trained
from gans.runs import atomic


class Parser(keys.Parser):
    """A parser of recipes and flags that also finds checkpoints by their names."""

    def parse_args(self, *args: Any, **kwargs: Any) -> Namespace:  # type: ignore[override]
        """Return the values of flags and YAML files, with `~` expanded and checkpoints found by their names."""
        found = super().parse_args(*args, **kwargs)
        if isinstance(named := found.get("checkpoint"), Path):
            found.checkpoint = path_of(named)
        if found.get("compare"):
            found.compare = [path_of(named) for named in found.compare]
        return found


def path_of(named: Path) -> Path:
    """Return the file of what was trained. A missing file is reported when it is read, after the other flags."""
    return named if named.suffix in FILES and not named.exists() else trained(named)


def check_writable(folder: Path) -> None:
    """Raise a ValueError unless a folder, which need not exist yet, is writable. Nothing is left behind."""
    there = atomic.existing(folder)
    try:
        with tempfile.TemporaryDirectory(dir=there):
            pass
    except OSError as error:
        raise ValueError(f"cannot write under {folder}: {error.strerror} ({there})") from error


def add_own_model(flags: Parser) -> None:
    """Add the flag that names the class of a checkpoint's model, for a class of the user's own."""
    flags.add_argument(
        "--model", type=str, help="import path of your own model's class, such as my_gan.MyGAN; gans.models need none"
    )


def own_model(name: str | None) -> type[L.LightningModule] | None:
    """Return the class that `--model` names: an import path, or a name of `gans.models`; None for None.

    Raises:
        ValueError: if it cannot be imported, or is no LightningModule.
    """
    if name is None:
        return None
    short = {kind.__name__: kind for kind in KINDS["model"]}
    if "." not in name and name not in short:
        close = nearest(name, list(short))
        raise ValueError(f"model is {name}{close}; expected the import path of a class, such as my_gan.MyGAN")
    found = short.get(name) or imported(name)
    if not (isinstance(found, type) and issubclass(found, L.LightningModule)):
        raise ValueError(f"model is {name}, which is no LightningModule")
    return found
