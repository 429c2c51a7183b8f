"""The list of recipes in groups, as text for a terminal or as JSON. Nothing here imports torch, Lightning or YAML.

The group of a recipe is the `task` of its model's class, or of the nearest of its bases that has one.
"""

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from gans.recipes.catalogue import find
from gans.runs.recipes import recipes

START = ("dcgan-digits", "folder")  # the first run, which downloads nothing, and the first on one's own images
FEW = "few images"  # also of a recipe that says so in its first line
TASKS = ("images", FEW, "codes", "translation", "restoration", "clips", "text")  # in the order of the list
OTHER = "other"  # of a model without a task


class Entry(NamedTuple):
    """What the list says of a recipe.

    Args:
        name: of the recipe.
        task: of its model, or `few images`.
        gpu: whether it says that it is for a GPU.
        model: class of its model.
        data: class of its data.
        about: its first line.
    """

    name: str
    task: str
    gpu: bool
    model: str
    data: str
    about: str

    @property
    def group(self) -> str:
        """Heading of the recipe."""
        return "start here" if self.name in START else f"{self.task}{', on a GPU' if self.gpu else ''}"


def entries() -> list[Entry]:
    """Return what is said of every recipe, group by group."""
    known, found = tasks(), []
    for name, path in recipes().items():
        text = path.read_text(encoding="utf-8")
        about = text.splitlines()[0].lstrip("# ")
        model, data = (
            match[1] if (match := re.search(rf"^{part}:\s+(?:class_path:\s+)?(\w+)", text, re.MULTILINE)) else ""
            for part in ("model", "data")
        )
        gpu = re.search(r"\bGPUs?\b", about) is not None
        task = FEW if FEW in about else known.get(model, OTHER)
        found.append(Entry(name, task, gpu, model, data, about))
    order = [*TASKS, OTHER]
    return sorted(found, key=lambda entry: (entry.name not in START, order.index(entry.task), entry.gpu))


def tasks() -> dict[str, str]:
    """Return the task of each class of `gans.models` by its name, read from their files, which are not imported."""
    bases: dict[str, str] = {}
    own: dict[str, str] = {}
    for path in Path(str(files("gans") / "models")).glob("*.py"):
        for name, base, body in re.findall(
            r"^class (\w+)\(([\w.]+).*?\):\n(.*?)(?=^\S|\Z)", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        ):
            bases[name] = base
            if task := re.search(r'^    task = "(.+?)"', body, re.MULTILINE):
                own[name] = task[1]
    found = {}
    for name in bases:
        nearest = name
        while nearest in bases and nearest not in own:
            nearest = bases[nearest]
        found[name] = own.get(nearest, OTHER)
    return found


def lines(width: int | None) -> Iterator[str]:
    """Yield the lines of the list: a heading for each group, and below it its recipes.

    Args:
        width: of the terminal, at which lines are wrapped between words; None writes a line for each recipe.
    """
    group = None
    for entry in entries():
        if entry.group != group:
            yield from ([""] if group else [])
            group = entry.group
            yield group
        if width is None:
            yield f"  {entry.name:22} {entry.about}"
        else:
            yield from wrapped(entry.name, entry.about, width)


def wrapped(name: str, about: str, width: int, column: int = 32) -> list[str]:
    """Return a name and a text beside it, or below it in a narrow terminal, wrapped at `width` between words."""
    beside = width >= 2 * column
    indent = " " * (column if beside else 4)
    text = textwrap.wrap(about, max(width, 20), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    if not beside:
        return [f"  {name}", *text]
    return [f"  {name}".ljust(column) + text[0].lstrip(), *text[1:]] if text else [f"  {name}"]


def show(args: list[str]) -> None:
    """Print the list, or the whole recipe that is named; `--json` prints the list as JSON.

    Raises:
        ValueError: for another flag, for a second word, or if there is no such recipe.
    """
    flags = [arg for arg in args if arg.startswith("-")]
    if unknown := [flag for flag in flags if flag != "--json"]:
        raise ValueError(f"there is no key {unknown[0]}; expected a recipe, or --json")
    if len(args) > 1:
        raise ValueError(f"recipes is given {' '.join(args)}; expected one recipe, or --json")
    if names := [arg for arg in args if arg not in flags]:
        print(find(names[0]).read_text(encoding="utf-8"), end="")
    elif flags:
        print(json.dumps([{**entry._asdict(), "group": entry.group} for entry in entries()], indent=1))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print("\n".join(lines(width)))
