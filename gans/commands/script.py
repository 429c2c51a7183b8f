"""What the commands of `scripts/` share: a parser whose errors are one sentence, and exit codes."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from gans.commands.words import HERE
from gans.runs.memory import ran_out


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


def finished(name: str, run: Callable[[], int], stopped: str = "stopped") -> int:
    """Run a command and return its exit code: its own, 2 for bad input, 130 for Ctrl-C.

    Args:
        name: of the command, before its errors.
        run: returns the exit code of the command.
        stopped: what to say after Ctrl-C.
    """
    try:
        return run()
    except SystemExit as end:  # of --help
        return int(end.code or 0)
    except KeyboardInterrupt:
        print(f"{name}: {stopped}", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        memory = ran_out(error)
        if os.environ.get("GANS_TRACEBACK") or not (memory or isinstance(error, ValueError | OSError)):
            raise
        message = memory or " ".join(str(error).replace(HERE, "").rstrip(".").split())
        print(f"{name}: error: {message}", file=sys.stderr)
        return 2
