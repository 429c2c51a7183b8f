"""What is said to the person at the terminal: one sentence on wrong input, with the nearest valid name.

Nothing here imports torch or Lightning.
"""

import os
import re
from argparse import Namespace
from pathlib import Path
from typing import Any

from gans.checks import nearest

HERE = "\0"  # stands before a key in the complaint of a parser that does not know below which key it was called


def expanded(value: Any) -> Any:
    """Return what a parser has read, with the home folder in place of the `~` that a path or a string begins with.

    A shell does not expand `--flag=~/x`, and nothing expands what a YAML file holds.
    """
    if isinstance(value, str):
        return os.path.expanduser(value)  # unlike Path.expanduser, it leaves ~name as it is where there is no such user
    if isinstance(value, Path):
        return Path(os.path.expanduser(value))
    if isinstance(value, list):
        return [expanded(part) for part in value]
    if isinstance(value, dict | Namespace):
        held = value if isinstance(value, dict) else vars(value)
        held.update({name: expanded(part) for name, part in held.items()})
    return value


def sentence(message: str, flags: set[str], classes: dict[str, list[str]]) -> str:
    """Return jsonargparse's report, nested as its parsers are, as one complaint with the nearest valid name.

    `flags` are the valid keys, `classes` the names that `model` and `data` may have.
    """
    owner, value = re.search(r'Parser key "([\w.]+)"', message), re.search(r"(?:Got|Given) value: (.*)", message)
    key = owner[1] if owner else ""
    if found := re.search(rf".*{HERE}.*", message):  # the parser of a class has found the words already
        return found[0].strip(" -").replace(HERE, f"{HERE}{key}." if key else HERE)
    if found := re.search(r"(?:ption '|Key '|unrecognized arguments: )([^\s'=]+)", message):
        name = found[1].lstrip("-").replace("init_args.", "")
        if name == found[1] and "unrecognized" in message:
            return f"{name} stands alone; expected --key value, and a recipe only right after the command"
        return f"there is no key {HERE}{name}{nearest(name, sorted(flags))}".replace("mean ", f"mean {HERE}")
    if found := re.search(r"arguments are required: (?:\w+\.)?(.*)", message):
        return f"{HERE}{re.sub(r', (fit|validate|test|predict)[.]', ' and ', found[1])} must be given"
    if value and key in classes:
        given = re.search(r"class_path': '([^']+)", value[1])
        name, known = given[1] if given else value[1], classes[key]
        return f"{key} is {name}{nearest(name, known)}; expected {', '.join(known)} or the import path of another"
    kinds = re.findall(r"Expected an? (.+?)(?:\. Got value|$)", message, re.MULTILINE)
    told = [kind for kind in dict.fromkeys(map(plain, kinds)) if kind not in ("", "NoneType")]
    if key and value and told:
        # Two numbers as people write sizes; told is then a list of types that says nothing of brackets.
        if sides := re.fullmatch(r"\W*(\d+)\s*[x*,]\s*(\d+)\W*", value[1]):
            return f"{HERE}{key} is {value[1]}; expected [{sides[1]},{sides[2]}] for two numbers"
        near = nearest(value[1], re.findall(r"'([^']+)'", " ".join(told)))
        return f"{HERE}{key} is {value[1]}{near}; expected {' or '.join(told)}"
    return " ".join(message.split())


def plain(kind: str) -> str:
    """Return a type, as jsonargparse writes it, for the eyes of a user."""
    kind = re.sub(r"<class '(?:[\w.]+\.)?(\w+)'>", r"\1", kind)
    kind = re.sub(r"^dot import path.*", "the import path of a class", re.sub(r"^path but.*", "", kind))
    return re.sub(r"(?:typing\.)?Literal\[(.*)\]", r"one of \1", kind)


def located(message: str, config: dict[str, Any]) -> str:
    """Return a complaint of a constructor, such as "size is 0", with the whole key: that which has the value."""
    word = re.match(r"`?(\w+)`?", message)
    keys = [
        key for key, value in config.items() if word and f".{key}".endswith(f".{word[1]}") and str(value) in message
    ]
    keys.sort(key=lambda key: key.startswith("model."))  # where both have it, the data decide
    return keys[0].replace("init_args.", "") + message[word.end() :] if word and keys else message
