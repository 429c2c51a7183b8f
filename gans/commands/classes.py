"""The list of models and of data modules that `--model.help` and `--data.help` without a name print."""

import inspect
import shutil
from collections.abc import Iterator

from gans.recipes.keys import KINDS
from gans.recipes.listing import wrapped


def asked(args: list[str]) -> str | None:
    """Return `model` or `data` if its `.help` stands without a name on a command line, else None."""
    for part in KINDS:
        for arg, following in zip(args, [*args[1:], "--"], strict=True):
            if arg == f"--{part}.help" and following.startswith("-"):
                return part
    return None


def lines(part: str, verb: str) -> Iterator[str]:
    """Yield the names of all models, or data modules, each with the first sentence about it."""
    width = shutil.get_terminal_size().columns
    yield f"usage: gans {verb} --{part}.help NAME"
    yield ""
    for kind in sorted(KINDS[part], key=lambda kind: str(kind.__name__).lower()):
        about = (inspect.getdoc(kind) or "").partition("\n\n")[0]
        yield from wrapped(kind.__name__, " ".join(about.split()), width)
