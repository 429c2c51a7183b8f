"""How a command ends: other libraries' notes are silenced, and an error is one sentence and an exit code."""

import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable

from lightning.fabric.utilities.exceptions import MisconfigurationException

from gans.commands.words import HERE
from gans.runs import atomic
from gans.runs.memory import ran_out

BAD_INPUT = (ValueError, OSError, MisconfigurationException)
HOOK = threading.excepthook


def unless_full(args: threading.ExceptHookArgs) -> None:
    """Report the error that ended a thread, but not a full disk, which TensorBoard's writer raises again."""
    if args.exc_value is None or not atomic.full(args.exc_value):
        HOOK(args)


def quiet() -> None:
    """Silence other libraries' notes that a user can do nothing about, and print warnings in one line."""
    warnings.formatwarning = lambda message, *args, **kwargs: f"gans: warning: {message}\n"
    for message in (
        r".*isinstance\(treespec, LeafSpec\).*",  # Lightning's own use of torch
        r".*Checkpoint directory .* exists and is not empty.*",  # that is what --ckpt_path last is for
        r".*The dirpath has changed from .*",  # a run that starts from another's checkpoint has a folder of its own
        r".*is smaller than the logging interval.*",  # curves are written across epochs here
        r".*Total length of `list` across ranks is zero.*",  # no images were asked to be held out
    ):
        warnings.filterwarnings("ignore", message=message)
    threading.excepthook = unless_full
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # tips, seeds, devices that are not there


def finished(name: str, run: Callable[[], int | None]) -> int:
    """Run a command and return its exit code: its own, 2 for bad input, 1 for a full disk or memory.

    Args:
        name: of the program, before its errors.
        run: returns the exit code of the command; None is 0.
    """
    try:
        return int(run() or 0)
    except SystemExit as end:  # of --help
        return int(end.code or 0)
    except BrokenPipeError:  # the reader of a pipe has left
        raise
    except (RuntimeError, MemoryError, *BAD_INPUT) as error:
        memory = ran_out(error)
        if os.environ.get("GANS_TRACEBACK") or not (memory or isinstance(error, BAD_INPUT)):
            raise
        told = memory or " ".join(str(error).replace(HERE, "").rstrip(".").split())
        print(f"{name}: error: {told}", file=sys.stderr)
        return 1 if memory or atomic.full(error) else 2
