"""The list of `gans results`: which recipes run with which seeds, how long, and how they are scored."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gans.checks import nearest
from gans.recipes.arguments import name_of
from gans.recipes.catalogue import find
from gans.recipes.configuration import read
from gans.recipes.listing import tasks

KEYS = ("name", "recipe", "seeds", "steps", "fit", "evaluate", "test", "show", "picture", "pictures")
DRAWN = ("kind", "rows", "scale")  # of one of `pictures`
PLACES = ("file", "readme", "pictures")  # of `write`
TESTED = ("translation", "restoration", "text")  # tasks whose models are scored by `gans test`
GIVEN = re.compile(r"\{([\w.-]+)\}")  # stands for a path that the command line gives
NAME = re.compile(r"\w[\w.-]*")
SEEDS = 2**32  # those of PyTorch and NumPy are below

Flags = dict[str, Any]  # of a command by their names, such as data.root


@dataclass(frozen=True)
class Entry:
    """A recipe with its seeds.

    Args:
        name: of the entry and of its folder; by default that of the recipe.
        recipe: name of a recipe, or path of a YAML file.
        seeds: of the runs.
        steps: trainer steps of a run; None takes the recipe's.
        settings: keys and values of the recipe.
        fit: flags of `gans fit` besides these. `{name}` stands for a path that the command line gives.
        evaluate: flags of `gans evaluate`; None leaves it out.
        test: flags of `gans test`; None leaves it out.
        show: scores that a README shows; by default the first ones.
        picture: first word of the name of the grids in `samples` that a README shows a row of.
        pictures: other files that are made of such grids, by their paths: the `kind` of the grid, and the number of its
            first `rows`, enlarged by `scale`.
    """

    name: str
    recipe: str
    seeds: tuple[int, ...] = (0,)
    steps: int | None = None
    settings: Flags = field(default_factory=dict)
    fit: Flags = field(default_factory=dict)
    evaluate: Flags | None = None
    test: Flags | None = None
    show: tuple[str, ...] = ()
    picture: str | None = None
    pictures: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def whole(self) -> int | None:
        """Trainer steps of the recipe; None if it has none."""
        trainer = self.settings.get("trainer")
        steps: int | None = trainer.get("max_steps") if isinstance(trainer, dict) else None
        return steps

    @property
    def needs(self) -> list[str]:
        """Names of the paths that the command line must give."""
        flags = [value for part in (self.fit, self.evaluate, self.test) for value in (part or {}).values()]
        return sorted({name for value in flags if isinstance(value, str) for name in GIVEN.findall(value)})


@dataclass(frozen=True)
class Plan:
    """All entries, and where their results are written: `file`, `readme` and `pictures`."""

    entries: tuple[Entry, ...]
    places: dict[str, Path]


def plan(path: Path) -> Plan:
    """Return the list in a YAML file.

    Raises:
        ValueError: if it has unknown keys or recipes, a name twice, or values of another kind.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    held = read(path)
    known(f"{path}", held, ("runs", "write"))
    places = {name: Path(where) for name, where in dictionary(f"{path}: write", held.get("write") or {}).items()}
    known(f"{path}: write", places, PLACES)
    rows = held.get("runs")
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{path}: runs is {rows}; expected a list of recipes")
    known_tasks = tasks()
    found = tuple(entry(f"{path}: run {i + 1}", row, known_tasks) for i, row in enumerate(rows))
    names = [row.name for row in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{path} holds {twice[0]} twice: give one of them another `name`")
    return Plan(found, places)


def entry(where: str, row: Any, known_tasks: Mapping[str, str]) -> Entry:
    """Return one entry of the list.

    Args:
        where: it stands, for errors.
        row: its keys and values.
        known_tasks: those of the classes of models by their names.

    Raises:
        ValueError: if a key or value is wrong.
    """
    row = {"recipe": row} if isinstance(row, str) else dictionary(where, row)
    known(where, row, KEYS)
    recipe = row.get("recipe")
    if not isinstance(recipe, str):
        raise ValueError(f"{where}: recipe is {recipe}; expected the name of a recipe, or a YAML file")
    where = f"{where} ({recipe})"
    name = row.get("name", name_of(Path(recipe)))
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"{where}: name is {name}; expected a letter or digit, then letters, digits, dots, - and _")
    seeds = row.get("seeds", [0])
    if not isinstance(seeds, list) or not seeds or not all(is_count(seed) and seed < SEEDS for seed in seeds):
        raise ValueError(f"{where}: seeds is {seeds}; expected a list of integers of at least 0, below 2**32")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{where}: seeds is {seeds}; expected each once")
    steps = row.get("steps")
    if steps is not None and not (is_count(steps) and steps):
        raise ValueError(f"{where}: steps is {steps}; expected an integer of at least 1")
    flags: dict[str, Any] = {
        key: dictionary(f"{where}: {key}", row[key]) for key in ("fit", "evaluate", "test") if row.get(key) is not None
    }
    try:
        settings = read(find(recipe))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if not any(key in row for key in ("evaluate", "test")):
        flags["test" if known_tasks.get(model_of(settings)) in TESTED else "evaluate"] = {}
    show = row.get("show", [])
    if not isinstance(show, list) or not all(isinstance(score, str) for score in show):
        raise ValueError(f"{where}: show is {show}; expected a list of names of scores")
    drawn = dictionary(f"{where}: pictures", row.get("pictures", {}))
    for path, options in drawn.items():
        known(f"{where}: {path}", dictionary(f"{where}: {path}", options), DRAWN)
        for key in ("rows", "scale"):
            if key in options and not (is_count(options[key]) and options[key]):
                raise ValueError(f"{where}: {path}: {key} is {options[key]}; expected an integer of at least 1")
    if not isinstance(row.get("picture"), str | None):
        raise ValueError(f"{where}: picture is {row['picture']}; expected the first word of the names of grids")
    shown: dict[str, Any] = {"show": tuple(show), "picture": row.get("picture"), "pictures": drawn}
    return Entry(name, recipe, tuple(seeds), steps, settings, **flags, **shown)


def model_of(settings: Mapping[str, Any]) -> str:
    """Return the name of the model's class in a recipe, without its package."""
    model = settings.get("model")
    path = model.get("class_path") if isinstance(model, dict) else model
    return str(path).rpartition(".")[2]


def chosen(found: tuple[Entry, ...], only: list[str] | None) -> list[Entry]:
    """Return the entries of the given names, or all.

    Raises:
        ValueError: if there is none of a name.
    """
    names = [row.name for row in found]
    for name in only or ():
        if name not in names:
            raise ValueError(f"only is {name}{nearest(name, names)}; expected names of the list: {', '.join(names)}")
    return [row for row in found if not only or row.name in only]


def filled(flags: Flags, given: Mapping[str, str]) -> list[str]:
    """Return flags as words of a command line, with the given paths in their places.

    A list is several words after a flag of its own, such as `--seeds 0 1`. Arguments of a class, such as
    `--model.betas=[0.5, 0.9]`, take JSON.
    """
    words = []
    for key, value in flags.items():
        if isinstance(value, str):
            value = GIVEN.sub(lambda match: given.get(match[1], match[0]), value)
        several = isinstance(value, list) and "." not in key
        shown = [part if isinstance(part, str) else json.dumps(part) for part in (value if several else [value])]
        words += [f"--{key}", *shown] if several else [f"--{key}={shown[0]}"]
    return words


def paths(words: list[str]) -> dict[str, str]:
    """Return the paths that `--given name=path` names. Relative ones become absolute.

    Raises:
        ValueError: if one has another form, or there is nothing at the path.
    """
    found = {}
    for word in words:
        name, _, path = word.partition("=")
        if not path or not NAME.fullmatch(name):
            raise ValueError(f"given is {word}; expected a name and a path, such as mnist=data")
        if not Path(path).expanduser().exists():
            raise ValueError(f"given is {word}, and there is nothing at {path}")
        found[name] = str(Path(path).expanduser().absolute())
    return found


def unused(found: tuple[Entry, ...], given: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each given path that no entry names."""
    needed = sorted({name for row in found for name in row.needs})
    for name in given:
        if name not in needed:
            expected = ", ".join(needed) or "none"
            yield f"given is {name}{nearest(name, needed)}, which no entry names; expected {expected}"


def known(where: str, held: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    """Raise a ValueError if there is a key besides these."""
    for key in held:
        if key not in keys:
            raise ValueError(f"{where} has a key {key}{nearest(str(key), list(keys))}; expected {', '.join(keys)}")


def dictionary(where: str, value: Any) -> dict[str, Any]:
    """Return a value that has to be keys with values; raise a ValueError if it is not."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{where} is {value}; expected keys with values")
    return value


def is_count(value: Any) -> bool:
    """Return whether a value is an integer of at least 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
