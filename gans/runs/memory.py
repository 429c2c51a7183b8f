"""The memory of this machine, and what is refused because it cannot fit: before it is asked for, not by the kernel."""

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

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container
GIB = 2**30


def total() -> int:
    """Return the bytes of memory that this machine has, or that its container may use."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in LIMITS:
        with suppress(OSError, ValueError):  # the file says max where there is no limit
            found = min(found, int(Path(path).read_text()))
    return found


def check_fits(needed: int, what: str) -> None:
    """Check that `needed` bytes, for `what`, can fit.

    Raises:
        ValueError: if they are more than this machine has.
    """
    if needed > total():
        raise ValueError(f"{what} needs {needed / GIB:,.0f} GiB of memory; this machine has {total() / GIB:,.0f} GiB")


def check_disk(needed: int, folder: Path, what: str) -> None:
    """Check that `needed` bytes, for `what`, can be written under `folder`, which need not exist yet.

    Raises:
        ValueError: if the disk has less left.
    """
    there = next(path for path in [folder, *folder.absolute().parents] if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise ValueError(f"{what} need at least {needed / GIB:,.0f} GiB; the disk of {there} has {free / GIB:,.0f} GiB")


def ran_out(error: BaseException) -> str | None:
    """Return what to say of an error of memory that ran out, on this machine or on a GPU; None of another error."""
    message = " ".join(str(error).split())
    if isinstance(error, torch.OutOfMemoryError):
        # "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ..."
        told = message.removeprefix("CUDA out of memory. ").split(" Process ")[0].split(" Including ")[0]
        return f"the GPU is out of memory: {told.rstrip('. ')}"
    if isinstance(error, MemoryError) or re.search(r"can't allocate memory|not enough memory", message):
        asked = re.search(r"tried to allocate (\d+)", message)
        return f"this machine is out of memory{f': {int(asked[1]) / GIB:,.1f} GiB were asked for' if asked else ''}"
    return None


class Budget(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside `with Budget(what):` tensors are made until they need more memory than there is.

    Args:
        what: what is being made, the subject of the complaint.
    """

    def __init__(self, what: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.what = what
        self.made = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count the bytes of what a factory such as `torch.empty` is asked for.

        Raises:
            ValueError: if they and all before do not fit.
        """
        kwargs = kwargs or {}
        arguments = func._schema.arguments
        if arguments and arguments[0].name == "size":
            dtype = kwargs.get("dtype") or torch.get_default_dtype()
            self.made += prod(int(side) for side in args[0]) * dtype.itemsize
            check_fits(self.made, self.what)
        call: Callable[..., Any] = func
        return call(*args, **kwargs)
