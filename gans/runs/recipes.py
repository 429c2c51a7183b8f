"""The recipes of this package by their names, which also name the folders of their runs."""

from importlib.resources import files
from pathlib import Path


def recipes() -> dict[str, Path]:
    """Return the path of every recipe by its name, in the order of names."""
    folder = Path(str(files("gans") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem)}
