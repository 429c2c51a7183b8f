"""The flags of a recipe before they are parsed. Nothing here imports torch or Lightning."""

import json
import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from gans.checks import nearest
from gans.recipes import configuration
from gans.recipes.catalogue import find
from gans.recipes.configuration import LINKED
from gans.runs.parent import main_process

ACTIONS = ("help",)  # flags below a section that print and end


def checked(verb: str, args: list[str]) -> tuple[str, list[str]]:
    """Return the name of a run, and its flags with the paths of all configurations after `--config`.

    Args:
        verb: of the command.
        args: a recipe or a YAML file, and flags.

    Raises:
        ValueError: if there is no such recipe or file, it is no configuration, or the model is given what the data set.
    """
    if not args:
        raise ValueError(f"{verb} needs a recipe or a YAML file: `gans recipes` lists the recipes")
    args = list(args) if args[0].startswith("-") else ["--config", *args]
    name = ""
    for i, flag in enumerate(args):
        if found := re.match(rf"--model\.(?:init_args\.)?({'|'.join(LINKED)})\b", flag):
            raise ValueError(f"model.{found[1]} follows data.{found[1]}: give --data.{found[1]}")
        if flag.startswith(("--config=", "-c=")):
            args[i : i + 1] = flag.split("=", 1)  # the value is the next item of this loop
        if args[i] in ("--config", "-c") and i + 1 < len(args):
            path = find(args[i + 1])
            configuration.check(path)
            args[i : i + 2] = ["--config", str(path)]
            name = name or name_of(path)
    return name or "run", [*args, *whole_epochs(args)]


def name_of(path: Path) -> str:
    """Return the name of the runs of a configuration: that of its file, or of the run that wrote it."""
    folder = path.absolute().parent
    return folder.parent.name if path.stem == "config" and folder.name.startswith("version_") else path.stem


def whole_epochs(args: list[str]) -> list[str]:
    """Return the flag that removes a recipe's `max_steps` if only `max_epochs` is given, and say so."""
    files = [Path(args[i + 1]) for i, flag in enumerate(args[:-1]) if flag == "--config"]
    recipe, *others = [configuration.read(file).get("trainer") or {} for file in files] or [{}]
    set_here: dict[str, Any] = {}
    for trainer in others:
        set_here |= trainer
    for i, flag in enumerate(args):
        if found := re.match(r"--trainer\.(max_epochs|max_steps)(?:=(.*))?$", flag):
            set_here[found[1]] = found[2] if found[2] is not None else "".join(args[i + 1 : i + 2])
    steps, epochs = recipe.get("max_steps", -1), str(set_here.get("max_epochs", ""))
    if "max_steps" in set_here or not epochs.isdigit() or steps in (None, -1):
        return []
    if main_process():
        recipe_name = files[0].stem
        print(f"gans: trainer.max_epochs is {epochs}: max_steps of {recipe_name}, {steps}, is lifted", file=sys.stderr)
    return ["--trainer.max_steps=-1"]


def given(args: list[str], key: str, skip: Collection[str] = ()) -> str | None:
    """Return the value that a command line gives a key, itself or by its YAML files; None if it gives none.

    Args:
        args: as `checked` returns them.
        key: such as `trainer.max_steps`.
        skip: paths of YAML files that do not count.
    """
    value = None
    for flag, following in zip(args, [*args[1:], ""], strict=True):
        name, equals, held = flag.partition("=")
        if name == f"--{key}":
            value = held if equals else following
        elif name == "--config" and following not in skip:
            inner: Any = configuration.read(Path(following))
            for part in key.split("."):
                inner = inner.get(part) if isinstance(inner, dict) else None
            value = value if inner is None else str(inner)
    return value


def flags(sections: dict[str, Any], alone: dict[str, Any], unknown: dict[str, Any]) -> list[str]:
    """Return the flags that keywords of Python stand for.

    Args:
        sections: keys and values by the part that takes them, such as `model`; None for parts without any.
        alone: values by the flags that they stand for, such as `data.size`; None is not given.
        unknown: keywords that stand for nothing.

    Raises:
        ValueError: for an unknown keyword, a section that is no dictionary, or a value that no flag can have.
    """
    for name in unknown:
        known = [*sections, *(flag.rpartition(".")[2] for flag in alone)]
        told = f"the model's arguments go into model=dict({name}=...), those of the data into data=dict({name}=...)"
        raise ValueError(f"load has no keyword {name}{nearest(name, known)}: {told}")
    found: dict[str, Any] = {}
    for part, held in sections.items():
        if held is not None and not isinstance(held, dict):
            raise ValueError(f"{part} is {held!r}; expected its arguments, as in {part}=dict(...)")
        values = dict(held or {})
        if "class_path" in values:  # before the arguments of the class
            found[part] = values.pop("class_path")
        if not isinstance(inner := values.pop("init_args", {}), dict):
            raise ValueError(f"{part}.init_args is {inner!r}; expected its arguments, as in {part}=dict(...)")
        values |= inner
        if asked := [name for name in values if name.rpartition(".")[2] in ACTIONS]:
            told = f"`gans fit --{part}.{asked[0]} NAME` prints the arguments of a class"
            raise ValueError(f"{part} has no argument {asked[0]}: {told}")
        found |= {f"{part}.{name}": value for name, value in values.items()}
    found |= {name: value for name, value in alone.items() if value is not None}
    return [f"--{name}={as_text(name, value)}" for name, value in found.items()]


def as_text(name: str, value: Any) -> str:
    """Return the value of a flag as a command line has it.

    Raises:
        ValueError: if it is, or holds, an object that has no such text.
    """

    def plain(part: Any) -> Any:
        if isinstance(part, Path):
            return str(part)
        if isinstance(part, type):
            return f"{part.__module__}.{part.__qualname__}"
        if hasattr(part, "described"):
            return part.described()
        option = name.removeprefix("trainer.")
        instead = f": put it into `recipe.trainer[{option!r}]`, of what `load` returns" if option != name else ""
        verb = "is" if part is value else "holds"
        kind = type(part).__name__
        raise ValueError(f"{name} {verb} an object of {kind}; expected numbers, texts, lists or keys{instead}")

    if isinstance(value, str | Path | type):
        return str(plain(value) if isinstance(value, type) else value)
    try:
        return json.dumps(value, default=plain)
    except TypeError as error:  # keys that are no texts
        raise ValueError(f"{name} is {value!r}; expected texts as keys") from error
