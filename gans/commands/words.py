"""Sentences about wrong input, with the nearest valid name, made from the messages of parsers and constructors.

Nothing here imports torch or Lightning.
"""

import re
from typing import Any

from gans.checks import nearest

HERE = "\0"  # precedes a key in a sentence of a nested parser, which does not know its own key


def sentence(message: str, flags: set[str], classes: dict[str, list[str]]) -> str:
    """Return jsonargparse's message, which nested parsers have put together, as one sentence.

    Args:
        message: of the outermost parser.
        flags: valid keys.
        classes: valid names of classes for the keys `model`, `data` and `terms`.
    """
    owner, value = re.search(r'Parser key "([\w.]+)"', message), re.search(r"(?:Got|Given) value: (.*)", message)
    key = owner[1] if owner else ""
    if found := re.search(rf".*{HERE}.*", message):  # the parser of a class has made the sentence already
        return found[0].strip(" -").replace(HERE, f"{HERE}{key}." if key else HERE)
    if found := re.search(r"(?:ption '|Key '|unrecognized arguments: )([^\s'=]+)", message):
        name = found[1].lstrip("-").replace("init_args.", "")
        if name == found[1] and "unrecognized" in message:
            return f"{name} stands alone; expected --key value, and a recipe only right after the command"
        if found[1][:1] == "-" != found[1][1:2] and name in flags:
            return f"{found[1]} begins with one dash; expected --{name}"
        return f"there is no key {HERE}{name}{nearest(name, sorted(flags))}".replace("mean ", f"mean {HERE}")
    if found := re.search(r"arguments are required: (?:\w+\.)?(.*)", message):
        return f"{HERE}{re.sub(r', (fit|validate|test|predict)[.]', ' and ', found[1])} must be given"
    no_class = re.search(r"dot import path string: (\S+)", message)
    if key == "terms" and no_class:
        known = ", ".join(classes[key])
        near = nearest(no_class[1], classes[key])
        return f"{HERE}{key} has no {no_class[1]}{near}; expected {known} or the import path of another"
    if value and key in ("model", "data"):
        given = re.search(r"class_path': '([^']+)", value[1])
        name, names = given[1] if given else value[1], classes[key]
        return f"{key} is {name}{nearest(name, names)}; expected {', '.join(names)} or the import path of another"
    kinds = re.findall(r"Expected an? (.+?)(?:\. Got value|$)", message, re.MULTILINE)
    told = [kind for kind in dict.fromkeys(map(plain, kinds)) if kind not in ("", "NoneType")]
    if not told:  # of types that are classes, without a path among the values
        told = [f"the import path of a class of {base}" for base in re.findall(r"valid subclass of (\w+)", message)[:1]]
    if nested := value and re.match(r"NestedArg\(key='(\w+)'", value[1]):
        return f"{HERE}{key}.{nested[1]} is an argument of a class: give --{key} CLASS before it"
    if key and value and told:
        # A size such as 64x48; jsonargparse lists types, but does not mention brackets.
        if sides := re.fullmatch(r"\W*(\d+)\s*[x*,]\s*(\d+)\W*", value[1]):
            return f"{HERE}{key} is {value[1]}; expected [{sides[1]},{sides[2]}] for two numbers"
        near = nearest(value[1], re.findall(r"'([^']+)'", " ".join(told)))
        return f"{HERE}{key} is {value[1]}{near}; expected {' or '.join(told)}"
    return " ".join(message.split())


def plain(kind: str) -> str:
    """Return the name of a type in jsonargparse's messages as a user knows it."""
    kind = re.sub(r"<class '(?:[\w.]+\.)?(\w+)'>", r"\1", kind)
    kind = re.sub(r"^dot import path.*", "the import path of a class", re.sub(r"^path but.*", "", kind))
    return re.sub(r"(?:typing\.)?Literal\[(.*)\]", r"one of \1", kind)


def located(message: str, config: dict[str, Any]) -> str:
    """Return a constructor's message, such as "size is 0", with the whole key of that name and value."""
    word = re.match(r"`?(\w+)`?", message)
    keys = [
        key for key, value in config.items() if word and f".{key}".endswith(f".{word[1]}") and str(value) in message
    ]
    keys.sort(key=lambda key: key.startswith("model."))  # a key of the data, if both have it
    return keys[0].replace("init_args.", "") + message[word.end() :] if word and keys else message
