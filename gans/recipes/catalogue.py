"""The file of a recipe, by its name or path. Nothing here imports torch, Lightning or YAML."""

import os
from pathlib import Path

from gans.checks import nearest
from gans.runs.recipes import recipes


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
