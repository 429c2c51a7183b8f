"""The arguments of a model: its constructor's own, and those that it passes on to the class above.

A class declares what it adds, and passes the rest on as `**options`. What it passes by name, as in
`super().__init__(prior="uniform", **options)`, it sets itself: a user cannot give that. So each option is declared
once, and `help(DCGAN)`, `inspect.signature`, hyper-parameters and the command line show the same list.
"""

import ast
import inspect
import textwrap
from functools import cache
from inspect import Parameter, Signature
from typing import Any, Self

from gans.checks import nearest

OPEN = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


class UnknownArgumentError(TypeError, ValueError):
    """A class does not take an argument: a mistake in Python, and bad input where a file or a flag holds it."""


class Merged:
    """Class attribute `__signature__`: the signature of a class, with the arguments that its bases take."""

    def __get__(self, instance: object, owner: type) -> Signature:
        """Return the signature of the class."""
        if instance is not None:
            raise AttributeError("__signature__")
        return signature(owner)


class KeepsArguments:
    """Base of a class whose signature has the arguments of its bases, and whose objects keep what they were given."""

    __signature__ = Merged()

    def __new__(cls, *args: Any, **words: Any) -> Self:
        """Keep the arguments until the constructor asks for them.

        Raises:
            UnknownArgumentError: for an argument that the class does not take.
        """
        made = super().__new__(cls)
        vars(made)["_arguments"] = given(cls, args, words)
        return made

    def arguments(self) -> dict[str, Any]:
        """Return, once, all arguments by name as plain values; objects that have a description by that."""
        return {name: plain(value) for name, value in vars(self).pop("_arguments").items()}


@cache
def signature(kind: type) -> Signature:
    """Return the signature of a class. Arguments of its bases are keyword-only.

    A class that does more with its `**options` than to pass them on keeps them: it may take anything.
    """
    above = next((base for base in kind.__mro__ if "__init__" in vars(base)), object)
    own = [part for part in inspect.signature(vars(above)["__init__"]).parameters.values() if part.name != "self"]
    rest = next((part.name for part in own if part.kind is Parameter.VAR_KEYWORD), None)
    base = next((other for other in above.__mro__[1:] if "__init__" in vars(other)), object)
    passed = passes(above, base, rest) if rest else None
    if passed is None:
        return Signature(own)
    named = [part for part in own if part.kind not in OPEN]
    taken = passed | {part.name for part in named}
    inherited = [part for part in signature(base).parameters.values() if part.name not in taken]
    more = [part.replace(kind=Parameter.KEYWORD_ONLY) for part in inherited if part.kind not in OPEN]
    return Signature([*named, *more, *(part for part in inherited if part.kind is Parameter.VAR_KEYWORD)])


def passes(kind: type, base: type, rest: str) -> set[str] | None:
    """Return the arguments that a constructor gives the class above besides its `**rest`.

    None if it does anything else with these, or its source is not known.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind.__init__)))  # type: ignore[misc]
    except (OSError, TypeError, SyntaxError):
        return None
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "super().__init__"
        if any(word.arg is None and ast.unparse(word.value) == rest for word in node.keywords)
    ]
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == rest]
    if len(calls) != 1 or len(uses) != 1 or any(isinstance(value, ast.Starred) for value in calls[0].args):
        return None
    places = [name for name in inspect.signature(base.__init__).parameters if name != "self"]  # type: ignore[misc]
    return {*places[: len(calls[0].args)], *(word.arg for word in calls[0].keywords if word.arg)}


def given(kind: type, args: tuple[Any, ...], words: dict[str, Any]) -> dict[str, Any]:
    """Return all arguments of a class by name, those that are not given by their defaults.

    Raises:
        UnknownArgumentError: for an argument that the class does not take, with the nearest that it takes.
    """
    taken = signature(kind)
    open_ended = any(part.kind is Parameter.VAR_KEYWORD for part in taken.parameters.values())
    for name in words:
        if name not in taken.parameters and not open_ended:
            known = [name for name, part in taken.parameters.items() if part.kind not in OPEN]
            raise UnknownArgumentError(f"{kind.__name__} has no argument {name}{nearest(name, known)}")
    bound = taken.bind_partial(*args, **words)
    bound.apply_defaults()
    found = dict(bound.arguments)
    for name, part in taken.parameters.items():
        if part.kind is Parameter.VAR_KEYWORD:
            found |= found.pop(name, {})
        elif part.kind is Parameter.VAR_POSITIONAL:
            found.pop(name, None)
    return {name: value for name, value in found.items() if value is not Parameter.empty}


def plain(value: Any) -> Any:
    """Return an argument as a plain value: objects of a list that have a description by that."""
    if isinstance(value, list | tuple) and any(hasattr(part, "described") for part in value):
        return [part.described() if hasattr(part, "described") else part for part in value]
    return value
