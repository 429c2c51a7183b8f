"""Complaints about input, in one sentence that names it."""

import difflib
import importlib
import sys
from math import inf, isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def at_least(least: float, **values: float) -> None:
    """Check numbers by their names.

    Raises:
        ValueError: if one is under `least`, infinite, no number, or a whole number that no tensor can count to.
    """
    for name, value in values.items():
        if isinstance(value, int) and value >= 2**63:
            raise ValueError(f"{name} is {value}; expected a number below 2^63")
        if not least <= value < inf:
            finite = "" if isfinite(value) else "a finite number of "
            raise ValueError(f"{name} is {value}; expected {finite}at least {least}")


def positive(**values: float | None) -> None:
    """Check numbers by their names; None passes.

    Raises:
        ValueError: if one is not above 0, infinite or no number.
    """
    for name, value in values.items():
        if value is not None and not 0 < value < inf:
            finite = "" if isfinite(value) else "finite "
            raise ValueError(f"{name} is {value}; expected a {finite}number above 0")


def checked_batch(batch: Any, shape: tuple[int, ...] | None) -> Tensor:
    """Return the images `(N, C, H, W)`, or clips `(N, C, T, H, W)`, of a batch that a model for `shape` can train on.

    Raises:
        ValueError: if it is no tuple with such images, as floats, in front.
    """
    if not isinstance(batch, tuple | list):
        raise ValueError(f"a batch is a {type(batch).__name__}; expected a tuple whose first element holds the images")
    real: Tensor = batch[0]
    if shape is not None and tuple(real.shape[1:]) != shape:
        clips = len(shape) == 4
        what, sides = ("clips", "channels, frames, height, width") if clips else ("images", "channels, height, width")
        raise ValueError(
            f"the data gives {what} of shape {tuple(real.shape[1:])} ({sides}), but the model was built for {shape}: "
            f"set the same size{', channels and frames' if clips else ' and channels'} for both"
        )
    if not real.is_floating_point():
        raise ValueError(f"the data gives images of {real.dtype}; expected floats in [-1, 1]")
    return real


class Extremes:
    """The smallest and largest pixel of the images that a run has begun with, kept on the device until it is asked."""

    def __init__(self) -> None:
        self.seen: list[Tensor] | None = []

    def see(self, images: Tensor) -> None:
        """Take note of `(N, ...)`, unless the range has been judged already."""
        if self.seen is not None:
            self.seen += images.detach().float().aminmax()

    def judged(self) -> str | None:
        """Return, the first time, what is wrong with a range that is not that of models, [-1, 1]; else None."""
        seen, self.seen = self.seen, None
        if not seen:
            return None
        values = torch.stack(seen).tolist()
        least, most = min(values), max(values)
        says = f"the images of this run are in [{least:.3g}, {most:.3g}]; expected [-1, 1]"
        if 0 <= least < most <= 1:
            return f"{says}: normalize them with mean 0.5 and standard deviation 0.5"
        if least >= 0 and most > 2:
            return f"{says}: divide them by 127.5 and subtract 1"
        return says if least < -1.1 or most > 1.1 else None


def imported(name: str) -> Any:
    """Return the object with the dotted path `name`, such as `my_gan.MyGAN`.

    Raises:
        ValueError: if its module cannot be imported, or has no such name; it says why.
    """
    module, _, attribute = name.rpartition(".")
    try:
        holder = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            where = "PYTHONPATH=. before the command adds the current folder"
            raise ValueError(f"{name} cannot be imported: there is no module {error.name} ({where})") from error
        raise ValueError(f"{name} cannot be imported: {module} needs {error.name}, which is not installed") from error
    except Exception as error:  # a module of the user's may raise anything
        raise ValueError(f"{name} cannot be imported: {type(error).__name__} in {module}: {error}") from error
    if not hasattr(holder, attribute):
        close = difflib.get_close_matches(attribute, vars(holder), n=1, cutoff=0.5)
        raise ValueError(f"{module} has no {attribute}{f' (did you mean {module}.{close[0]}?)' if close else ''}")
    return getattr(holder, attribute)


def named_in(path: str | Path, name: str, home: str, base: type, flag: str) -> Any:
    """Return the class that a file names by a dotted path, without running more than this project's own modules.

    To import a module is to run it. So a file gets nothing imported but what is in `home`; other classes are found if
    they have been imported before, as the command line does for a class that its user names.

    Args:
        path: of the file.
        name: dotted path of the class, from the file.
        home: package of this project that may be imported from.
        base: class that it shall be derived from.
        flag: of the command line, by which a user names a class.

    Raises:
        ValueError: if it is not in `home` and not imported, or not derived from `base`.
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
            f"{path} names {name}, which is not in {home}, and what a file names is not imported: give {flag} {name}, "
            "or import it before in Python"
        )
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ValueError(f"{path} names {name}, which is no {base.__name__}")
    return found
