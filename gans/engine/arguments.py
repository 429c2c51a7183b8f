"""The arguments of a model: its constructor's own, and those that it passes on to the class above.

A class declares what it adds, and passes the rest on as `**options`. What it passes by name, as in
`super().__init__(prior="uniform", **options)`, it sets itself: a user cannot give that. So each option is declared
once, and `help(DCGAN)`, `inspect.signature`, checkpoints and the command line show the same list. Hyper-parameters also
have what a class sets itself, because its bases read them.
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
        return signature(constructors(owner))


class KeepsArguments:
    """Base of a class whose signature has the arguments of its bases, and whose objects keep what they were given."""

    __signature__ = Merged()
    hparams: Any
    _own: tuple[str, ...]  # names of the arguments that the class itself takes, or was given

    def __new__(cls, *args: Any, **words: Any) -> Self:
        """Keep the arguments until the constructor asks for them.

        Raises:
            UnknownArgumentError: for an argument that the class does not take, with the nearest that it takes.
        """
        taken = signature(constructors(cls))
        known = [name for name, part in taken.parameters.items() if part.kind not in OPEN]
        for name in words:
            if name not in known and not open_ended(taken):
                raise UnknownArgumentError(f"{cls.__name__} has no argument {name}{nearest(name, known)}")
        made = super().__new__(cls)
        vars(made)["_arguments"] = given(taken, args, words)
        return made

    def arguments(self) -> dict[str, Any]:
        """Return, once, all arguments by name as plain values; objects that have a description by that.

        The constructors of the bases, which must be running, add what they received besides.
        """
        own = vars(self).pop("_arguments")
        self._own = tuple(own)
        return {name: plain(value) for name, value in {**own, **received(self), **own}.items()}

    def own_arguments(self) -> dict[str, Any]:
        """Return the hyper-parameters that the class itself takes, or was given: they make an equal object."""
        return {name: self.hparams[name] for name in self._own}


def constructors(kind: type) -> tuple[type, ...]:
    """Return the classes whose constructors run for an object, its own first, up to the last that keeps arguments."""
    kinds = [base for base in kind.__mro__ if "__init__" in vars(base)]
    return tuple(kinds[: 1 + max((i for i, base in enumerate(kinds) if issubclass(base, KeepsArguments)), default=0)])


@cache
def signature(kinds: tuple[type, ...]) -> Signature:
    """Return the signature of the first of `constructors`. Arguments of its bases are keyword-only.

    A class that does more with its `**options` than to pass them on keeps them: it may take anything.
    """
    own = list(inspect.signature(vars(kinds[0])["__init__"]).parameters.values())[1:]
    passed = passes(*kinds[:2]) if len(kinds) > 1 else None
    if passed is None:
        return Signature(own)
    named = [part for part in own if part.kind not in OPEN]
    taken = passed | {part.name for part in named}
    inherited = [part for part in signature(kinds[1:]).parameters.values() if part.name not in taken]
    more = [part.replace(kind=Parameter.KEYWORD_ONLY) for part in inherited if part.kind not in OPEN]
    return Signature([*named, *more, *(part for part in inherited if part.kind is Parameter.VAR_KEYWORD)])


@cache
def passes(kind: type, base: type) -> set[str] | None:
    """Return the arguments that a constructor gives the class above besides its `**options`.

    None if it has no such options, does anything else with them, or its source is not known.
    """
    own = inspect.signature(vars(kind)["__init__"]).parameters.values()
    rest = next((part.name for part in own if part.kind is Parameter.VAR_KEYWORD), None)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(vars(kind)["__init__"])))
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
    places = list(inspect.signature(vars(base)["__init__"]).parameters)[1:]
    return {*places[: len(calls[0].args)], *(word.arg for word in calls[0].keywords if word.arg)}


def received(made: object) -> dict[str, Any]:
    """Return the named arguments of all constructors that are running for an object; a class wins over its bases."""
    inits = [inspect.unwrap(vars(kind)["__init__"]) for kind in constructors(type(made))]
    codes = {init.__code__ for init in inits if inspect.isfunction(init)}
    found: dict[str, Any] = {}
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code in codes:
            names, _, _, values = inspect.getargvalues(frame)
            if names and values.get(names[0]) is made:
                found |= {name: values[name] for name in names[1:] if name in values}
        frame = frame.f_back
    return found


def open_ended(taken: Signature) -> bool:
    """Return whether a signature takes arguments of any name."""
    return any(part.kind is Parameter.VAR_KEYWORD for part in taken.parameters.values())


def given(taken: Signature, args: tuple[Any, ...], words: dict[str, Any]) -> dict[str, Any]:
    """Return all arguments by name, those that are not given by their defaults."""
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
