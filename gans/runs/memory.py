"""Checks that data fit into memory and on disk before they are allocated, and messages for out-of-memory errors."""

import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gans.runs.atomic import existing

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # memory limits of containers
GIB = 2**30


def total() -> int:
    """Return the memory of this machine, or the limit of its container if that is smaller, in bytes."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in LIMITS:
        with suppress(OSError, ValueError):  # the file contains "max" if there is no limit
            found = min(found, int(Path(path).read_text()))
    return found


def check_fits(needed: int, what: str) -> None:
    """Check that `needed` bytes fit into the memory of this machine.

    Args:
        needed: number of bytes.
        what: subject of the error message.

    Raises:
        ValueError: if they do not fit.
    """
    if needed > total():
        raise ValueError(f"{what} needs {needed / GIB:,.0f} GiB of memory; this machine has {total() / GIB:,.0f} GiB")


def check_disk(needed: int, folder: Path, what: str) -> None:
    """Check that the disk of `folder`, which need not exist yet, has `needed` free bytes.

    Args:
        needed: number of bytes.
        folder: folder that will be written to.
        what: subject of the error message, in the plural.

    Raises:
        ValueError: if the disk has fewer free bytes.
    """
    there = existing(folder)
    free = shutil.disk_usage(there).free
    if needed > free:
        raise ValueError(f"{what} need at least {needed / GIB:,.0f} GiB; the disk of {there} has {free / GIB:,.0f} GiB")


def ran_out(error: BaseException) -> str | None:
    """Return the message for an out-of-memory error of the CPU or a GPU, or None for another error."""
    message = " ".join(str(error).split())
    if isinstance(error, torch.OutOfMemoryError):
        # "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ..."
        details = message.removeprefix("CUDA out of memory. ").split(" Process ")[0].split(" Including ")[0]
        return f"the GPU is out of memory: {details.rstrip('. ')}"
    if isinstance(error, MemoryError) or re.search(r"can't allocate memory|not enough memory", message):
        asked = re.search(r"tried to allocate (\d+)", message)
        return f"this machine is out of memory{f': {int(asked[1]) / GIB:,.1f} GiB were asked for' if asked else ''}"
    return None


class Budget(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context manager that raises before tensors are created that do not fit into memory.

    Args:
        what: subject of the error message.
    """

    def __init__(self, what: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.what = what
        self.made = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count the bytes of tensors that factories such as `torch.empty` create.

        Raises:
            ValueError: if all tensors together do not fit.
        """
        kwargs = kwargs or {}
        arguments = func._schema.arguments
        if arguments and arguments[0].name == "size":
            dtype = kwargs.get("dtype") or torch.get_default_dtype()
            self.made += prod(int(side) for side in args[0]) * dtype.itemsize
            check_fits(self.made, self.what)
        call: Callable[..., Any] = func
        return call(*args, **kwargs)
