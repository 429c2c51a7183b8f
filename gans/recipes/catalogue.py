"""The recipes: found by their names, listed, printed, and checked before anything is imported for them."""

import os
import re
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from gans.checks import nearest
from gans.runs.parent import main_process

LINKED = ("size", "channels", "source_channels", "frames", "max_length")  # what the data decide for the model


NODES = 10_000  # keys and values in a YAML file


def recipes() -> dict[str, Path]:
    """Return the path of every recipe by its name."""
    folder = Path(str(files("gans") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find(name: str) -> Path:
    """Return the file of a recipe, or of a configuration of the user's own.

    Raises:
        ValueError: if there is neither.
    """
    known = recipes()
    if name in known:
        return known[name]
    if name.endswith((".yaml", ".yml")):
        path = Path(os.path.expanduser(name))
        try:
            there = path.is_file()
        except OSError as error:  # a name longer than any file's
            raise ValueError(f"there is no file {name[:40]}...: {error.strerror}") from error
        if there:
            return path
        raise ValueError(f"there is no file {name}")
    raise ValueError(f"there is no recipe {name}{nearest(name, list(known))}: `gans recipes` lists them")


def show(names: list[str]) -> None:
    """Print the recipes with a line each, or one recipe whole."""
    if names:
        print(find(names[0]).read_text(encoding="utf-8"), end="")
        return
    for name, path in recipes().items():
        print(f"{name:25}{path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")


def checked(verb: str, args: list[str]) -> tuple[str, list[str]]:
    """Return the name of the run and its flags, with the paths of all configurations, whose keys have been looked at.

    Raises:
        ValueError: for a file that is missing or no YAML, and for what is set where the data decide it.
    """
    if not args:
        raise ValueError(f"{verb} needs a recipe or a YAML file: `gans recipes` lists the recipes")
    args = list(args) if args[0].startswith("-") else ["--config", *args]
    name = ""
    for i, flag in enumerate(args):
        if found := re.match(rf"--model\.(?:init_args\.)?({'|'.join(LINKED)})\b", flag):
            raise ValueError(f"model.{found[1]} follows data.{found[1]}: give --data.{found[1]}")
        if flag.startswith(("--config=", "-c=")):
            args[i : i + 1] = flag.split("=", 1)  # the list grows behind i, so the value comes next
        if args[i] in ("--config", "-c") and i + 1 < len(args):
            path = find(args[i + 1])
            check_file(path)
            args[i : i + 2] = ["--config", str(path)]
            parent = path.absolute().parent
            of_a_run = path.stem == "config" and parent.name.startswith("version_")
            name = name or (parent.parent.name if of_a_run else path.stem)
    return name or "run", [*args, *whole_epochs(args)]


def whole_epochs(args: list[str]) -> list[str]:
    """Return the flag that lifts a recipe's `max_steps` for a user who gives `max_epochs` alone, and say so."""
    import yaml

    given: dict[str, Any] = {}  # beside the recipe, which is the first configuration
    files = [args[i + 1] for i, flag in enumerate(args[:-1]) if flag == "--config"]
    for file in files[1:]:
        given |= yaml.safe_load(Path(file).read_text(encoding="utf-8")).get("trainer") or {}
    for i, flag in enumerate(args):
        if found := re.match(r"--trainer\.(max_epochs|max_steps)(?:=(.*))?$", flag):
            given[found[1]] = found[2] if found[2] is not None else "".join(args[i + 1 : i + 2])
    recipe = yaml.safe_load(Path(files[0]).read_text(encoding="utf-8")).get("trainer") or {} if files else {}
    steps, epochs = recipe.get("max_steps", -1), str(given.get("max_epochs", ""))
    if "max_steps" in given or not epochs.isdigit() or steps in (None, -1):
        return []
    if main_process():
        name = Path(files[0]).stem
        print(f"gans: trainer.max_epochs is {epochs}: max_steps of {name}, {steps}, is lifted", file=sys.stderr)
    return ["--trainer.max_steps=-1"]


def check_file(path: Path) -> None:
    """Raise a ValueError for a configuration that is no YAML, or sets what it cannot."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        check_nodes(path, yaml.compose(text, Loader=yaml.SafeLoader))
        config = yaml.safe_load(text)
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deep; expected at most a few levels of keys") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or error
        raise ValueError(
            f"{path}{f', line {mark.line + 1},' if mark else ''} is not YAML: {' '.join(str(problem).split())}"
        ) from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} holds no keys; expected model, data, trainer and what is below them")
    for part in ("trainer", "grid", "health", "checkpoint", "evaluate", "explore"):
        if not isinstance(config.get(part, {}), dict):
            raise ValueError(f"{part} is {config[part]} in {path}; expected keys and values below it")
    for part in ("model", "data"):
        value = config.get(part)
        if isinstance(value, dict) and not isinstance(value.get("init_args") or {}, dict):
            raise ValueError(f"{part}.init_args is {value['init_args']} in {path}; expected keys and values below it")
    model = config["model"] if isinstance(config.get("model"), dict) else {}
    given = model.get("init_args") or {}
    for name in LINKED:
        if name in model or name in given:
            raise ValueError(f"model.{name} follows data.{name}: set that one in {path}")


def check_nodes(path: Path, root: Any) -> None:
    """Raise a ValueError for YAML that aliases (`*name`) make endless, or larger than any recipe."""
    sizes: dict[int, int] = {}  # of what a node becomes where every alias is written out; 0 while it is looked at

    def size(node: Any) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = 0
            parts = node.value if isinstance(node.value, list) else ()
            keys = [entry[0].value for entry in parts if isinstance(entry, tuple)]
            if twice := [key for key in keys if isinstance(key, str) and keys.count(key) > 1]:
                raise ValueError(f"{path} holds {twice[0]} twice, below line {node.start_mark.line + 1}")
            within = (part for entry in parts for part in (entry if isinstance(entry, tuple) else (entry,)))
            sizes[id(node)] = 1 + sum(map(size, within))
        elif not sizes[id(node)]:
            raise ValueError(f"{path} holds an alias of what it stands in, line {node.start_mark.line + 1}")
        return sizes[id(node)]

    if root is not None and (count := size(root)) > NODES:
        raise ValueError(f"{path} holds {count:,} keys and values, aliases written out; expected at most {NODES:,}")
