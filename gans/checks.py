"""Checks of input that raise one-sentence errors. This module imports neither torch nor Lightning."""

import difflib
import importlib
import re
import sys
from math import inf, isfinite
from pathlib import Path
from typing import Any


def at_least(least: float, **values: float) -> None:
    """Check that all given numbers are finite and at least `least`. The keywords are their names in the error.

    Raises:
        ValueError: if one is below `least`, infinite, NaN, or an integer of 2^63 or more.
    """
    for name, value in values.items():
        if isinstance(value, int) and value >= 2**63:
            raise ValueError(f"{name} is {value}; expected a number below 2^63")
        if not least <= value < inf:
            finite = "" if isfinite(value) else "a finite number of "
            raise ValueError(f"{name} is {value}; expected {finite}at least {least}")


def positive(**values: float | None) -> None:
    """Check that all given numbers are finite and above 0. None passes.

    Raises:
        ValueError: if one is 0 or below, infinite or NaN.
    """
    for name, value in values.items():
        if value is not None and not 0 < value < inf:
            finite = "" if isfinite(value) else "finite "
            raise ValueError(f"{name} is {value}; expected a {finite}number above 0")


def imported(name: str) -> Any:
    """Return the object with the dotted path `name`, such as `my_gan.MyGAN`.

    Raises:
        ValueError: if its module cannot be imported or has no such name, with the reason.
    """
    module, _, attribute = name.rpartition(".")
    try:
        holder = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            where = "PYTHONPATH=. before the command adds the current folder"
            raise ValueError(f"{name} cannot be imported: there is no module {error.name} ({where})") from error
        raise ValueError(f"{name} cannot be imported: {module} needs {error.name}, which is not installed") from error
    except Exception as error:  # a user's module may raise any exception
        raise ValueError(f"{name} cannot be imported: {type(error).__name__} in {module}: {error}") from error
    if not hasattr(holder, attribute):
        close = difflib.get_close_matches(attribute, vars(holder), n=1, cutoff=0.6)
        raise ValueError(f"{module} has no {attribute}{f' (did you mean {module}.{close[0]}?)' if close else ''}")
    return getattr(holder, attribute)


def named_in(path: str | Path, name: str, home: str, base: type, flag: str) -> Any:
    """Return the class that a file names by a dotted path, without running foreign code.

    Importing a module runs it. So only modules of the package `home` are imported. Other classes are found only if
    they have been imported before, as the command line does for a class that the user names.

    Args:
        path: file that names the class.
        name: dotted path of the class, read from the file.
        home: package of this project from which classes may be imported.
        base: required base class.
        flag: command-line flag with which a user can name the class.

    Raises:
        ValueError: if the class is neither in `home` nor imported, or is not derived from `base`.
    """
    module, _, kind = name.rpartition(".")
    if not module or f"{module}.".startswith(f"{home}."):
        try:
            found = imported(name if module else f"{home}.{name}")
        except ValueError as error:
            raise ValueError(f"{path} names {name}: {error}") from error
    else:
        found = vars(sys.modules[module]).get(kind) if module in sys.modules else None
    if found is None:
        raise ValueError(
            f"{path} names {name}, which is not in {home}, and has not been imported: give {flag} {name}, "
            "or import it before in Python"
        )
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ValueError(f"{path} names {name}, which is not a {base.__name__}")
    return found


def nearest(word: str, words: list[str]) -> str:
    """Return ' (did you mean X?)' with the nearest of `words`, or an empty string."""
    # lr matches model.lr, grid.every matches grid.every_n_steps, and MNIST matches MNISTDataModule.
    close = [other for other in words if other.endswith(f".{word}") or other.startswith(f"{word}_")]
    close = close or [other for other in words if len(word) > 2 and other.lower().startswith(word.lower())]
    initials = "".join(part[:1] for part in word.split("_"))  # learning_rate is lr
    close = close or [other for other in words if len(initials) > 1 and other.rpartition(".")[2] == initials]
    close = close or difflib.get_close_matches(word, words, n=3, cutoff=0.6)
    close.sort(key=lambda other: sorted(other) != sorted(word))  # GNA is GAN with two letters swapped, and not GAT
    return f" (did you mean {close[0]}?)" if close else ""


def article(kind: str | type) -> str:
    """Return the name of a class after `a` or `an`, as it is pronounced: an SRGAN, an InfoGAN, a SAGAN, an int."""
    name = kind if isinstance(kind, str) else kind.__name__
    spelled = re.match(r"[FHLMNRX][\dB-DF-HJ-NP-TV-Z]|S[\dBDFGMNRVXZ]", name)  # letter by letter: "ess"
    vowel = re.match(r"[AEIOaeio]|Un[a-z]|Up", name)
    return f"{'an' if spelled or vowel else 'a'} {name}"
