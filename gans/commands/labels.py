"""Classes in flags, by name or by number, for all commands alike."""

import difflib
import re
from typing import Any

from gans.engine.interface import class_names


def shown(model: Any, label: int) -> str:
    """Return a label with its name, such as `3 cat`; only the label if that is its name."""
    name = class_names(model)[label]
    return str(label) if name == str(label) else f"{label} {name}"


def parsed(text: str | None, model: Any, key: str = "labels") -> list[int]:
    """Return the labels of a text such as `cat,dog`, `3`, `0-9` or `cat,3-5`; all labels for None.

    Names come before numbers: if classes are called 1, 10 and 2, `2` is the class of that name. So are the numbers of a
    range.

    Args:
        text: value of the flag.
        model: has the number of classes and, in `class_names`, their names.
        key: name of the flag, for errors.

    Raises:
        ValueError: for a text that is not a class of the model, or any text if the model has no classes.
    """
    known = class_names(model)
    count = len(known)
    if text is None:
        return list(range(count))
    if not count:
        raise ValueError(f"{key} is {text}; expected none, for {type(model).__name__} has no classes")
    if text in known:  # it may have a comma in it
        return [known.index(text)]
    found: list[int] = []
    for part in map(str.strip, text.split(",")):
        ends = re.fullmatch(r"(\d+)\s*-\s*(\d+)", part)
        if part in known or not ends:
            found.append(single(part, known, text, key))
            continue
        first, last = int(ends[1]), int(ends[2])
        if not first <= last < first + count:  # before a huge range is written out
            raise wrong(text, known, key, "")
        found += [single(str(number), known, text, key) for number in range(first, last + 1)]
    return found


def single(part: str, known: list[str], text: str, key: str) -> int:
    """Return the label of a name or number.

    Args:
        part: the name or number.
        known: names of the classes.
        text: value of the flag, for errors.
        key: name of the flag, for errors.

    Raises:
        ValueError: if there is no such class.
    """
    if part in known:
        return known.index(part)
    if re.fullmatch(r"\d+", part) and int(part) < len(known):
        return int(part)
    raise wrong(text, known, key, part)


def wrong(text: str, known: list[str], key: str, part: str) -> ValueError:
    """Return the error about a class that does not exist, with the nearest name."""
    close = difflib.get_close_matches(part, known, n=1, cutoff=0.5) if not part.isdigit() else []
    near = f" (did you mean {close[0]}?)" if close else ""
    named = [name for label, name in enumerate(known) if name != str(label)]
    several = ", ".join(named[:10]) + (", ..." if len(named) > 10 else "")
    ways = f"{several}, or " if named else ""
    return ValueError(f"{key} is {text}{near}; expected {ways}classes from 0 to {len(known) - 1}, such as 0,1 or 0-1")
