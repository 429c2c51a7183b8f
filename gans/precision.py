"""Precision of float32 products: where TF32 is allowed, and where it is forbidden.

TF32 has the 10 bits of mantissa of float16. PyTorch allows it by default in convolutions on Ampere GPUs and newer. It
spoils gradient penalties and features of scores, which therefore forbid it for as long as they run.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import attrgetter

import torch
from torch import Tensor

# What PyTorch can compute in less than float32.
BACKENDS = attrgetter("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv")(torch.backends)


def reduced_precision() -> bool:
    """Return whether some float32 products may be computed in less, such as TF32, on a GPU or a CPU."""
    return any(backend.fp32_precision not in ("ieee", "none") for backend in BACKENDS)


def allow_tf32(allowed: bool) -> None:
    """Allow TF32 for float32 matrix products and convolutions on a GPU, or forbid it."""
    # By their older names, which set the newer ones too. The reverse would make `torch.get_float32_matmul_precision`,
    # which Lightning and the compiler call, raise an error.
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def require_full_precision() -> Callable[[], None]:
    """Compute float32 products in float32 from now on, and return the function that restores the settings of before."""
    before = [backend.fp32_precision for backend in BACKENDS]
    try:
        older: tuple[str, bool] | None = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    except RuntimeError:  # someone has set the newer names alone
        older = None
    allow_tf32(False)
    for backend in BACKENDS:  # those that the older names do not reach
        backend.fp32_precision = "ieee"

    def restore() -> None:
        if older is not None:
            torch.set_float32_matmul_precision(older[0])
            torch.backends.cudnn.allow_tf32 = older[1]
        for backend, precision in zip(BACKENDS, before, strict=True):
            backend.fp32_precision = precision

    return restore


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute float32 products in float32, regardless of `torch.set_float32_matmul_precision` and other settings."""
    restore = require_full_precision()
    try:
        yield
    finally:
        restore()


def require_to_the_end(gradient: Tensor) -> None:
    """Require full precision until the running backward pass ends: a hook of a tensor."""
    if reduced_precision():
        torch.autograd.Variable._execution_engine.queue_callback(require_full_precision())
