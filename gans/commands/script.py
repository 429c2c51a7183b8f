"""What the commands of `scripts/` share: a parser whose errors are one sentence, and exit code 130 for Ctrl-C."""

import argparse
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from gans.commands.outcome import finished


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong instead of printing the usage."""
        raise ValueError(message)


def least(smallest: int) -> Any:
    """Return a converter of the command line for integers of at least `smallest`."""

    def convert(word: str) -> int:
        if not word.isdecimal() or int(word) < smallest:
            raise argparse.ArgumentTypeError(f"{word} is no integer of at least {smallest}")
        return int(word)

    return convert


def interruptible(name: str, run: Callable[[], int], stopped: str = "stopped") -> int:
    """Run a script and return its exit code: as `finished` does, and 130 for Ctrl-C.

    Args:
        name: of the script, before its errors.
        run: returns the exit code of the script.
        stopped: what to say after Ctrl-C.
    """
    try:
        return finished(name, run)
    except KeyboardInterrupt:
        print(f"{name}: {stopped}", file=sys.stderr)
        return 130
