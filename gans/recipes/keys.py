"""The parser of recipes and flags: its errors are one sentence, with the nearest valid name."""

import inspect
import re
from argparse import SUPPRESS
from typing import Any, NoReturn, get_args

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

import datamodules
import gans.models
from gans import terms
from gans.checks import imported
from gans.commands.home import expanded
from gans.commands.words import sentence

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
        """Return the values of flags and YAML files, with `~` expanded."""
        found: Namespace = expanded(super().parse_args(*args, **kwargs))
        for part in KINDS:
            check_none(part, found.get(f"{found.get('subcommand')}.{part}"))
        return found

    def instantiate_classes(self, *args: Any, **kwargs: Any) -> Namespace:
        """Make the objects that flags describe, and raise the errors of their constructors unchanged."""
        try:
            made: Namespace = super().instantiate_classes(*args, **kwargs)
        except (TypeError, ValueError) as error:
            raise cause(error) from error
        return made

    def format_help(self, *args: Any, **options: Any) -> str:
        """Return the help with this project's flags first and those of Lightning's trainer below them.

        The usage of a verb is one line, and there is none before the arguments of a class.
        """

        def of_trainer(group: Any) -> bool:
            return any(action.dest.startswith("trainer.") for action in group._group_actions)

        self._action_groups[:] = sorted(self._action_groups, key=of_trainer)  # type: ignore[index]
        if str(self.description).startswith("Help for --"):
            self.usage = SUPPRESS
        elif any(map(of_trainer, self._action_groups)):
            self.usage = f"gans {self.prog.split()[-1]} RECIPE|FILE.yaml [flags]"
        return str(super().format_help(*args, **options))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise a ValueError with one sentence, without the usage of hundreds of flags."""
        verbs = self._subcommands_action.choices.values() if self._subcommands_action else ()
        flags = {flag[2:] for parser in (self, *verbs) for flag in parser._option_string_actions if flag[:2] == "--"}
        kinds = {part: [kind.__name__ for kind in kinds] for part, kinds in {**KINDS, "terms": terms.kinds()}.items()}
        check_class(str(message))
        if "trainer" in flags:
            flags |= class_flags()
        raise ValueError(sentence(str(message), flags, kinds)) from ex


def cause(error: BaseException) -> BaseException:
    """Return the error of a constructor, on which jsonargparse reports with all types that it tried."""
    while str(error).startswith("Does not validate") and error.__cause__:
        error = error.__cause__
    return error


def check_class(message: str) -> None:
    """Raise a ValueError with the reason why a class cannot be used, if the parser's `message` is about a class."""
    key = re.search(r'Parser key "([\w.]+)"', message)
    path = r"([A-Za-z_]\w*(?:\.\w+)+)"
    places = rf"class_path '{path}'|class_path': '{path}'|Given value: {path}$|Import path {path} does not"
    name = re.search(places, message, re.MULTILINE)
    if not key or not name:
        return
    given = next(filter(None, name.groups()))
    try:
        imported(given)
    except ValueError as error:
        raise ValueError(f"{key[1]}: {error}") from error
    if base := re.search(r"does not correspond to a subclass of (\w+)", message):
        raise ValueError(f"{key[1]} is {given}, which is no {base[1]}")


def check_none(part: str, section: Any) -> None:
    """Raise a ValueError if an argument is None, whose type has no None: the parser takes it for one not given.

    Args:
        part: `model` or `data`.
        section: its class and arguments; None if it has none.
    """
    if not section or not section.get("init_args"):
        return
    taken = inspect.signature(imported(section.class_path)).parameters
    for name in [name for name, value in vars(section.init_args).items() if value is None and name in taken]:
        of_type, default = taken[name].annotation, taken[name].default
        types = get_args(of_type) or (of_type,)
        anything = isinstance(of_type, str) or any(kind in types for kind in (None, type(None), Any, taken[name].empty))
        if default is not None and not anything:
            raise ValueError(f"{part}.{name} is None; expected a value")


def class_flags() -> set[str]:
    """Return the flags of all models and datamodules, such as `model.lr`."""
    found = set()
    for part, kinds in KINDS.items():
        for base in {base for kind in kinds for base in kind.__mro__}:
            found |= {f"{part}.{word}" for word in inspect.signature(base.__init__).parameters if word != "self"}
    return found
