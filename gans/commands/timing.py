"""What measurements of training share: a batch that repeats, the end of work on a device, memory, and silence."""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor


class Repeat:
    """A loader that gives the same batch on the device for ever."""

    def __init__(self, batch: tuple[Tensor, ...], steps: int) -> None:
        self.batch, self.steps = batch, steps

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        return iter([self.batch] * self.steps)

    def __len__(self) -> int:
        return self.steps


def wait(device: torch.device) -> None:
    """Wait until the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory() -> float:
    """Return the most memory that this process has used, in MB: allocated on CUDA, else resident (Linux)."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    # Not getrusage: its peak of a started process begins at that of the process that started it.
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6


def quiet() -> None:
    """Silence Lightning's advice and the health of a network that learns noise."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
