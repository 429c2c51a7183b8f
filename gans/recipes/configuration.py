"""A YAML file with the configuration of a run: read safely, and checked before anything is imported for it."""

from pathlib import Path
from typing import Any

LINKED = ("size", "channels", "source_channels", "frames", "max_length")  # of the model; set by the data
SECTIONS = ("trainer", "grid", "health", "checkpoint", "evaluate", "explore")
NODES = 10_000  # keys and values in a file, aliases written out


def read(path: Path) -> dict[str, Any]:
    """Return the keys and values of a YAML file.

    Raises:
        ValueError: if it is not YAML, has no keys, or is too large or too deeply nested.
    """
    import yaml  # here, so that `gans recipes` does without it

    try:
        text = path.read_text(encoding="utf-8")
        check_nodes(path, yaml.compose(text, Loader=yaml.SafeLoader))
        held = yaml.safe_load(text)
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deep; expected at most a few levels of keys") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or error
        line = f", line {mark.line + 1}," if mark else ""
        raise ValueError(f"{path}{line} is not YAML: {' '.join(str(problem).split())}") from error
    if not isinstance(held, dict):
        raise ValueError(f"{path} holds no keys; expected model, data, trainer and what is below them")
    return held


def check_nodes(path: Path, root: Any) -> None:
    """Check the parsed nodes of a YAML file before they become values: aliases (`*name`) can make it endless, or huge.

    Raises:
        ValueError: if a key is there twice, an alias is inside of what it names, or there are too many nodes.
    """
    sizes: dict[int, int] = {}  # of a node with all aliases written out; 0 while it is computed

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


def check(path: Path) -> None:
    """Check that a file is a configuration, and does not set for the model what the data decide.

    Raises:
        ValueError: if not.
    """
    config = read(path)
    for part in SECTIONS:
        if not isinstance(config.get(part, {}), dict):
            raise ValueError(f"{part} is {config[part]} in {path}; expected keys and values below it")
    for part in ("model", "data"):
        value = config.get(part)
        if isinstance(value, dict) and not isinstance(value.get("init_args") or {}, dict):
            raise ValueError(f"{part}.init_args is {value['init_args']} in {path}; expected keys and values below it")
    model = config["model"] if isinstance(config.get("model"), dict) else {}
    arguments = model.get("init_args") or {}
    for name in LINKED:
        if name in model or name in arguments:
            raise ValueError(f"model.{name} follows data.{name}: set that one in {path}")
