"""Helpers of measurements of training: a repeated batch, synchronisation, peak memory, no warnings."""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor


class Repeat:
    """A loader that repeats one batch on the device."""

    def __init__(self, batch: tuple[Tensor, ...], steps: int) -> None:
        self.batch, self.steps = batch, steps

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        return iter([self.batch] * self.steps)

    def __len__(self) -> int:
        return self.steps


def wait(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory() -> float:
    """Return the peak memory of this process in MB: allocated on CUDA, else resident (Linux)."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    # Not getrusage: the peak of a child process begins at that of its parent.
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6


def quiet() -> None:
    """Hide the tips of Lightning, and the warnings of `Health` about training on noise."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
