"""A reader of pickled networks that executes nothing: it gives tensors, plain containers and inert stubs of modules.

A pickle is a program: it names functions, and loading it calls them. This reader gives its own replacement for each
name that a published network needs, and refuses the file at any other name. A module becomes a `Stub`, which has the
module's state and no behaviour. StyleGAN's pickles carry the source code of their classes; it stays a text.

A pickle may also set attributes on what it was given. This reader sets the state of stubs alone, and the opcodes are
those that pickles of networks have.
"""

import io
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy
import torch
from torch import Tensor

from gans.checks import article

# Classes of these modules become stubs, whatever their names: PyTorch's layers, and the code of the networks' authors.
STUBBED = re.compile(r"torch\.nn\.modules\.\w+|training\.\w+|R3GAN\.\w+")
PERSISTENT = ("torch_utils.persistence", "_reconstruct_persistent_obj")
TENSORFLOW = "it holds networks of TensorFlow, which `legacy.py` of stylegan2-ada-pytorch converts"


class Stub:
    """What a module of a pickle held, by the name of its class: `state` has its attributes."""

    state: dict[str, Any]

    def __setstate__(self, state: Any) -> None:
        """Keep the state.

        Raises:
            ValueError: if it is no dictionary.
        """
        if not isinstance(state, dict):
            raise ValueError(f"the state of {article(type(self))} is {article(type(state))}")
        self.__dict__["state"] = state

    def part(self, kind: str) -> Mapping[str, Any]:
        """Return the parameters, buffers or modules, by the names of `torch.nn.Module`'s attributes."""
        held = self.__dict__.get("state", {}).get(kind)
        return {name: value for name, value in held.items() if isinstance(name, str)} if isinstance(held, dict) else {}

    def at(self, path: str) -> "Stub | None":
        """Return the module with a dotted path below this one, or None."""
        name, _, rest = path.partition(".")
        found = self.part("_modules").get(name)
        return found.at(rest) if rest and isinstance(found, Stub) else found if isinstance(found, Stub) else None

    def tensors(self, above: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Tensor]]:
        """Yield the names and tensors of parameters and buffers, like the items of a `state_dict`.

        A module that occurs several times, or within itself, is taken once.
        """
        seen = set() if seen is None else seen
        if id(self) in seen:
            return
        seen.add(id(self))
        for kind in ("_parameters", "_buffers"):
            for name, tensor in self.part(kind).items():
                if isinstance(tensor, Tensor):
                    yield f"{above}{name}", tensor
        for name, module in self.part("_modules").items():
            if isinstance(module, Stub):
                yield from module.tensors(f"{above}{name}.", seen)


def stub(name: str) -> type[Stub]:
    """Return a new class of stubs with this name."""
    return type(name, (Stub,), {})


def persistent(meta: Any) -> Stub:
    """Return the stub of an object of StyleGAN's `persistence`, whose `meta` has the source code besides the state."""
    made = stub(str(meta["class_name"]))()
    made.__setstate__(meta["state"])
    return made


def storage(held: bytes) -> Any:
    """Return the storage that `torch.save` has written to bytes inside a pickle."""
    found = torch.load(io.BytesIO(held), map_location="cpu", weights_only=True)
    if not isinstance(found, torch.storage.TypedStorage):
        raise ValueError(f"{article(type(found))} stands in place of a storage")
    return found


def tensor(held: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    """Return a tensor of a storage; the other arguments of the pickle are about gradients.

    Raises:
        ValueError: if the storage is shorter than the tensor.
    """
    numbers = [offset, *size, *stride]
    if not all(type(number) is int and number >= 0 for number in numbers) or len(size) != len(stride):
        raise ValueError(f"a tensor has the offset {offset}, size {size} and stride {stride}")
    last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
    untyped = held._untyped_storage  # `untyped()` warns that it will be removed
    if prod(size) and last >= untyped.nbytes() // held.dtype.itemsize:
        raise ValueError(f"a tensor of size {tuple(size)} is larger than its storage")
    return torch.empty(0, dtype=held.dtype).set_(untyped, offset, tuple(size), tuple(stride))


def device(kind: Any, *_: Any) -> str:
    """Return the name of a device.

    Raises:
        ValueError: if it is no text, which Python would decode by a module that it imports.
    """
    if not isinstance(kind, str):
        raise ValueError(f"a device is {article(type(kind))}")
    return kind


def parameter(data: Tensor, *_: Any) -> Tensor:
    """Return the tensor of a parameter."""
    return data


class NumberType:
    """The type of a number of numpy, such as `f8`: a stub in place of `numpy.dtype`."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or code not in NUMBERS:
            raise ValueError(f"a number has the type {code if isinstance(code, str) else type(code).__name__}")
        self.code = code


def number(kind: Any, held: Any) -> int | float | bool:
    """Return a number of numpy as Python's.

    Raises:
        ValueError: if it is none.
    """
    if not isinstance(kind, NumberType) or not isinstance(held, bytes):
        raise ValueError("a number is made of something else than its type and bytes")
    found: int | float | bool = numpy.frombuffer(held, kind.code)[0].item()
    return found


NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): tensor,
    ("torch._utils", "_rebuild_parameter"): parameter,
    ("torch.storage", "_load_from_bytes"): storage,
    ("torch", "Size"): tuple,
    ("torch", "device"): device,
    ("numpy", "dtype"): NumberType,
    ("numpy.core.multiarray", "scalar"): number,
    ("numpy._core.multiarray", "scalar"): number,  # since numpy 2
    PERSISTENT: persistent,
}
CONTAINERS: dict[tuple[str, str], type] = {("collections", "OrderedDict"): OrderedDict, ("builtins", "set"): set}


class Refused(ValueError):
    """A pickle names something that this reader does not give."""


# Opcodes that pickles of networks do not have: storages outside of the pickle, and names of a registry that the process
# has. Three of protocol 5 allocate what the file says, before anything is read.
REFUSED = (
    pickle.PERSID, pickle.BINPERSID, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.INST, pickle.OBJ,
    pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER,
)  # fmt: skip


class Reader(pickle._Unpickler):
    """An unpickler whose names lead to this file's replacements only.

    It is Python's own in Python, whose opcodes can be replaced. That in C keeps its memo in an array as long as the
    largest index in the file, and sets attributes on any object.
    """

    stack: list[Any]  # of the base class

    def find_class(self, module: str, name: str) -> Any:
        """Return the replacement of a name.

        Raises:
            Refused: if it has none.
        """
        if found := CONTAINERS.get((module, name)):
            return found
        if function := FUNCTIONS.get((module, name)):
            return lambda *args: function(*args)
        if (module, name) == ("dnnlib.util", "EasyDict"):
            return type(name, (dict,), {})
        if module == "torch" and isinstance(vars(torch).get(name), torch.dtype):
            return vars(torch)[name]
        if STUBBED.fullmatch(module) and name.isidentifier():
            return stub(name)
        why = TENSORFLOW if module.startswith("dnnlib.tflib") else "networks need tensors and plain containers only"
        asked = f"{module}.{name}"
        raise Refused(f"it asks for {asked if asked.isprintable() else ascii(asked)}, which is not loaded: {why}")

    def build(self) -> None:
        """Set the state of the stub before it on the stack; what else a file gives a state to keeps its own.

        Raises:
            Refused: if a state is given to a tensor, a type or a function.
        """
        state, held = self.stack.pop(), self.stack[-1]
        if isinstance(held, Stub):
            held.__setstate__(state)
        elif not isinstance(held, OrderedDict | NumberType):  # these have versions and fields, which nothing reads
            raise Refused(f"it sets the state of {article(type(held))}")

    def refuse(self) -> None:
        """Refuse an opcode.

        Raises:
            Refused: always.
        """
        raise Refused("it has opcodes that no pickle of a network has, or refers to storages outside of the pickle")

    dispatch: ClassVar[dict[int, Any]] = {
        **vars(pickle._Unpickler)["dispatch"],
        **dict.fromkeys([opcode[0] for opcode in REFUSED], cast(Any, refuse)),
        pickle.BUILD[0]: build,
    }


def read(path: Path) -> Any:
    """Return what the pickle of a published network holds, with stubs in place of modules.

    Raises:
        ValueError: if the file cannot be read, is no whole pickle, or names something else than networks need.
    """
    try:
        with path.open("rb") as file:
            return Reader(file).load()
    except Refused as error:
        raise ValueError(f"{path} is refused: {error}") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged pickle raises almost anything
        why = " ".join(str(error).split()) or type(error).__name__
        why = why if why.isprintable() else ascii(why)
        raise ValueError(f"{path} is no whole pickle of a network: {why}") from error
