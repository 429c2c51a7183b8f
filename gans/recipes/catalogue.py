"""The recipes by their names, and the file of one. Nothing here imports torch, Lightning or YAML."""

import os
from importlib.resources import files
from pathlib import Path

from gans.checks import nearest


def recipes() -> dict[str, Path]:
    """Return the path of every recipe by its name, in the order of names."""
    folder = Path(str(files("gans") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem)}


def find(name: str) -> Path:
    """Return the file of a recipe, or the YAML file of that name.

    Raises:
        ValueError: if there is neither.
    """
    known = recipes()
    if name in known:
        return known[name]
    if not name.endswith((".yaml", ".yml")):
        raise ValueError(f"there is no recipe {name}{nearest(name, list(known))}: `gans recipes` lists them")
    path = Path(os.path.expanduser(name))
    try:
        there = path.is_file()
    except OSError as error:  # a name that is too long
        raise ValueError(f"there is no file {name[:40]}...: {error.strerror}") from error
    if not there:
        raise ValueError(f"there is no file {name}")
    return path
