"""The parser of the commands, and what its flags name: a checkpoint, the class of a model, a folder to write to."""

import inspect
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

import datamodules
import gans.models
from gans import terms
from gans.checks import imported, nearest
from gans.commands.home import expanded
from gans.commands.words import sentence
from gans.recipes.catalogue import recipes
from gans.runs import atomic
from gans.runs import folder as runs
from gans.runs.parent import main_process

# The parser knows the short names of classes that have been imported: so all of them are imported here.
KINDS = {
    part: [getattr(module, name) for name in module.__all__]
    for part, module in (("model", gans.models), ("data", datamodules))
}


class Parser(LightningArgumentParser):
    """A parser whose errors are one sentence, and whose flags have one name each."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.allow_abbrev = False  # --trainer.max_epoch would be taken for max_epochs

    def parse_args(self, *args: Any, **kwargs: Any) -> Namespace:  # type: ignore[override]
        """Return the values of flags and YAML files, with `~` expanded and checkpoints found by their names."""
        found: Namespace = expanded(super().parse_args(*args, **kwargs))
        if isinstance(named := found.get("checkpoint"), Path):
            found.checkpoint = trained(named)
        if found.get("compare"):
            found.compare = [trained(named) for named in found.compare]
        return found

    def instantiate_classes(self, *args: Any, **kwargs: Any) -> Namespace:
        """Make the objects that flags describe, and raise the errors of their constructors unchanged."""
        try:
            made: Namespace = super().instantiate_classes(*args, **kwargs)
        except (TypeError, ValueError) as error:
            raise cause(error) from error
        return made

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise a ValueError with one sentence, without the usage of hundreds of flags."""
        verbs = self._subcommands_action.choices.values() if self._subcommands_action else ()
        flags = {flag[2:] for parser in (self, *verbs) for flag in parser._option_string_actions if flag[:2] == "--"}
        kinds = {part: [kind.__name__ for kind in kinds] for part, kinds in {**KINDS, "terms": terms.kinds()}.items()}
        check_class(str(message))
        if "trainer" in flags:
            flags |= class_flags()
        raise ValueError(sentence(str(message), flags, kinds)) from ex


def trained(named: Path) -> Path:
    """Return the checkpoint that a file, the folder of a run, or a recipe names. Print it if it is not a file.

    Raises:
        ValueError: for a folder without a checkpoint, and a recipe that has not been trained.
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
    return named  # a missing file is reported when it is read


def cause(error: BaseException) -> BaseException:
    """Return the error of a constructor, on which jsonargparse reports with all types that it tried."""
    while str(error).startswith("Does not validate") and error.__cause__:
        error = error.__cause__
    return error


def check_writable(folder: Path) -> None:
    """Raise a ValueError unless a folder, which need not exist yet, is writable. Nothing is left behind."""
    there = atomic.existing(folder)
    try:
        with tempfile.TemporaryDirectory(dir=there):
            pass
    except OSError as error:
        raise ValueError(f"cannot write under {folder}: {error.strerror} ({there})") from error


def check_class(message: str) -> None:
    """Raise a ValueError with the reason why a class cannot be used, if the parser's `message` is about a class."""
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
    flags.add_argument(
        "--model", type=str, help="import path of your own model's class, such as my_gan.MyGAN; gans.models need none"
    )


def own_model(name: str | None) -> type[L.LightningModule] | None:
    """Return the class that `--model` names: an import path, or a name of `gans.models`; None for None.

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


def class_flags() -> set[str]:
    """Return the flags of all models and datamodules, such as `model.lr`."""
    found = set()
    for part, kinds in KINDS.items():
        for base in {base for kind in kinds for base in kind.__mro__}:
            found |= {f"{part}.{word}" for word in inspect.signature(base.__init__).parameters if word != "self"}
    return found
