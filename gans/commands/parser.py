"""What all commands share: the parser, a checkpoint named by its run, a user's own model, one sentence on errors."""

import inspect
import logging
import os
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser

import datamodules
import gans.models
from gans.checks import imported, nearest
from gans.commands.words import HERE, expanded, sentence
from gans.recipes.catalogue import recipes
from gans.runs import atomic
from gans.runs import folder as runs
from gans.runs.memory import ran_out
from gans.runs.parent import main_process

# Asking for every model and datamodule makes their short names known to the parser.
KINDS = {
    part: [getattr(module, name) for name in module.__all__]
    for part, module in (("model", gans.models), ("data", datamodules))
}


BAD_INPUT = (ValueError, OSError, MisconfigurationException)


class Parser(LightningArgumentParser):
    """A parser whose errors are one sentence, and whose flags have one name each."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.allow_abbrev = False  # --trainer.max_epoch would be taken for max_epochs

    def parse_args(self, *args: Any, **kwargs: Any) -> Namespace:  # type: ignore[override]
        """Return what the flags and the YAML files say, where `~` is the home folder."""
        found: Namespace = expanded(super().parse_args(*args, **kwargs))
        if isinstance(named := found.get("checkpoint"), Path):
            found.checkpoint = trained(named)
        if found.get("compare"):
            found.compare = [trained(named) for named in found.compare]
        return found

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what is wrong as one sentence, without the usage of hundreds of flags."""
        verbs = self._subcommands_action.choices.values() if self._subcommands_action else ()
        flags = {flag[2:] for parser in (self, *verbs) for flag in parser._option_string_actions if flag[:2] == "--"}
        kinds = {part: [kind.__name__ for kind in kinds] for part, kinds in KINDS.items()}
        check_class(str(message))
        raise ValueError(sentence(str(message), flags | (arguments() if "trainer" in flags else set()), kinds)) from ex


def as_list(value: Any) -> list[Any]:
    """Return what a flag holds, none, one or several, as a list."""
    return [] if value is None else value if isinstance(value, list) else [value]


def trained(named: Path) -> Path:
    """Return the checkpoint that a user has named, and say which it is where that is not its own name.

    Raises:
        ValueError: for a folder without one, and a recipe that has not been trained.
    """
    found, known = runs.trained(named), recipes()
    if found is not None:
        if found != named and main_process():
            print(f"checkpoint   {found}", file=sys.stderr)
        return found
    if str(named) in known:
        raise ValueError(f"there is no checkpoint of {named} under {Path('runs') / named}: fit it, or give a file")
    if named.is_dir():
        raise ValueError(f"{named} holds no last.ckpt; expected a checkpoint, the folder of a run, or a recipe")
    if not named.suffix and (close := nearest(str(named), list(known))):
        raise ValueError(f"there is no checkpoint {named}{close}")
    return named  # what reads it says what is wrong


def check_writable(folder: Path) -> None:
    """Raise a ValueError unless `folder` could be made, without making it."""
    there = atomic.existing(folder)
    try:
        with tempfile.TemporaryDirectory(dir=there):
            pass
    except OSError as error:
        raise ValueError(f"cannot write under {folder}: {error.strerror} ({there})") from error


def check_class(message: str) -> None:
    """Raise a ValueError that says why the class that the parser's `message` is about cannot be used, if it is one."""
    key = re.search(r'Parser key "([\w.]+)"', message)
    path = r"([A-Za-z_]\w*(?:\.\w+)+)"
    name = re.search(rf"class_path '{path}'|class_path': '{path}'|Given value: {path}$", message, re.MULTILINE)
    if not key or not name:
        return
    given = next(filter(None, name.groups()))
    try:
        imported(given)
    except ValueError as error:
        raise ValueError(f"{key[1]}: {error}") from error
    if base := re.search(r"does not correspond to a subclass of (\w+)", message):
        raise ValueError(f"{key[1]} is {given}, which is no {base[1]}")


def add_own_model(flags: Parser) -> None:
    """Add the flag that names the class of a checkpoint's model, for a class of the user's own."""
    told = "import path of the class of a model of your own, such as my_gan.MyGAN; those of gans.models need none"
    flags.add_argument("--model", type=str, help=told)


def own_model(name: str | None) -> type[L.LightningModule] | None:
    """Return the class that `--model` names, by its import path or as one of `gans.models`; None for None.

    Raises:
        ValueError: if it cannot be imported, or is no LightningModule.
    """
    if name is None:
        return None
    short = {kind.__name__: kind for kind in KINDS["model"]}
    if "." not in name and name not in short:
        close = nearest(name, list(short))
        raise ValueError(f"model is {name}{close}; expected the import path of a class, such as my_gan.MyGAN")
    found = short.get(name) or imported(name)
    if not (isinstance(found, type) and issubclass(found, L.LightningModule)):
        raise ValueError(f"model is {name}, which is no LightningModule")
    return found


def arguments() -> set[str]:
    """Return the flags of all models and datamodules, as `model.lr`."""
    found = set()
    for part, kinds in KINDS.items():
        for base in {base for kind in kinds for base in kind.__mro__}:
            found |= {f"{part}.{word}" for word in inspect.signature(base.__init__).parameters if word != "self"}
    return found


HOOK = threading.excepthook


def unless_full(args: threading.ExceptHookArgs) -> None:
    """Report what ended a thread, but not a full disk: TensorBoard's writer raises that again where it is reported."""
    if args.exc_value is None or not atomic.full(args.exc_value):
        HOOK(args)


def quiet() -> None:
    """Silence other people's notes that a user of this command can do nothing about; let the others be one line."""
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


def finished(main: Callable[[list[str]], int | None], args: list[str]) -> int:
    """Run a command and return its exit code: 0, the command's own, 2 for bad input, 1 for a full disk or memory."""
    quiet()
    try:
        return int(main(args) or 0)
    except SystemExit as end:  # of --help
        return int(end.code or 0)
    except (RuntimeError, MemoryError, *BAD_INPUT) as error:
        memory = ran_out(error)
        if os.environ.get("GANS_TRACEBACK") or not (memory or isinstance(error, BAD_INPUT)):
            raise
        told = memory or " ".join(str(error).replace(HERE, "").rstrip(".").split())
        print(f"gans: error: {told}", file=sys.stderr)
        return 1 if memory or atomic.full(error) else 2
