"""Two training loops that take turns in one process, their ratio, and the peak memory of each in a process of its own.

The ratio of two neighbouring rounds is meaningful even if absolute times drift.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from gans.callbacks.compile import Compile
from gans.callbacks.health import Health
from gans.callbacks.progress import Progress
from gans.commands.timing import Repeat, peak_memory, quiet, wait
from gans.engine.checkpoint import AtomicCheckpoints, Checkpoint
from gans.runs.allocator import keep_freed_memory


class Other(Protocol):
    """A loop that runs and times rounds."""

    seconds: list[float]

    def round(self, batches: int) -> None:
        """Train on that many batches."""


class Rounds(NamedTuple):
    """Seconds of the rounds of both sides, without the first, which warms up."""

    ours: list[float]
    theirs: list[float]

    def ratio(self) -> tuple[float, float, float]:
        """Return the first quartile, the median and the third quartile of theirs over ours, by neighbouring rounds."""
        low, middle, high = statistics.quantiles([b / a for a, b in zip(self.ours, self.theirs, strict=True)], n=4)
        return low, middle, high


class Turns(L.Callback):
    """Times rounds of batches, and runs a round of the other side after each."""

    def __init__(self, batches: int, other: Other) -> None:
        self.batches, self.other = batches, other
        self.seconds: list[float] = []
        self.start, self.done = 0.0, 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the first round."""
        self.begin(pl_module.device)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: object) -> None:
        """At the end of a round, record its time and run one of the other side."""
        self.done += 1
        if self.done % self.batches == 0:
            wait(pl_module.device)
            self.seconds.append(time.perf_counter() - self.start)
            self.other.round(self.batches)
            self.begin(pl_module.device)

    def begin(self, device: torch.device) -> None:
        """Start the clock."""
        wait(device)
        self.start = time.perf_counter()


class Pauses(L.Callback):
    """A training run that is the other side: it trains in a thread of its own, and waits between its rounds.

    Args:
        fit: trains on all batches, with the callback that it is given.
        total: number of all batches. `round` waits for the end of the run after the last.
    """

    def __init__(self, fit: Callable[[L.Callback], None], total: int) -> None:
        self.fit, self.total = fit, total
        self.batches, self.seen, self.start = 0, 0, 0.0
        self.seconds: list[float] = []
        self.go, self.pause = threading.Semaphore(0), threading.Semaphore(0)
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self.run, args=(torch.get_num_threads(),), daemon=True)

    def run(self, threads: int) -> None:
        """Train, in the thread."""
        torch.set_num_threads(threads)  # PyTorch counts them for each thread
        try:
            self.fit(self)
        except BaseException as failure:
            self.failure = failure
        self.pause.release()

    def round(self, batches: int) -> None:
        """Let it train on that many batches.

        Raises:
            RuntimeError: if it has failed.
        """
        self.batches = batches
        if not self.thread.is_alive():
            self.thread.start()
        self.go.release()
        self.pause.acquire()
        if self.seen == self.total:
            self.thread.join()
        if self.failure is not None:
            raise RuntimeError("the other side has failed") from self.failure

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: object) -> None:
        """Wait before a round."""
        if self.seen % max(1, self.batches) == 0:
            self.go.acquire()
            self.start = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: object) -> None:
        """Record the time of a round at its end."""
        self.seen += 1
        if self.seen % self.batches == 0:
            wait(pl_module.device)
            self.seconds.append(time.perf_counter() - self.start)
            self.pause.release()


def extras(options: argparse.Namespace) -> list[L.Callback]:
    """Return the callbacks of our side that are no part of every recipe."""
    return [Compile()] if options.compile else []


def fit(model: Any, batch: tuple[Tensor, ...], batches: int, precision: str, *callbacks: L.Callback) -> None:
    """Train a model as a recipe does: with averaged weights, logging, health, progress bar and checkpoints."""
    keep_freed_memory()  # as `gans fit` does
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_steps=-(-batches // getattr(model, "critic_steps", 1)),
            max_epochs=-1,
            devices=1,
            precision=precision,  # type: ignore[arg-type]
            logger=TensorBoardLogger(folder),
            callbacks=[*callbacks, Progress(), Health(), Checkpoint()],
            plugins=[AtomicCheckpoints()],
            enable_model_summary=False,
        )
        trainer.fit(model, Repeat(batch, batches))


def alternate(
    model: Any,
    batch: tuple[Tensor, ...],
    other: Other,
    batches: int,
    rounds: int,
    precision: str,
    *callbacks: L.Callback,
) -> Rounds:
    """Train a model and the other side in turns.

    Args:
        model: of our side.
        batch: that it sees again and again.
        other: the other side.
        batches: of a round, a multiple of the model's `critic_steps`.
        rounds: that are timed, after a first one.
        precision: of our trainer.
        callbacks: more of our trainer.
    """
    turns = Turns(batches, other)
    fit(model, batch, (rounds + 1) * batches, precision, turns, *callbacks)
    return Rounds(turns.seconds[1:], other.seconds[1:])


def peak_of(run: Callable[..., None], *arguments: Any) -> float:
    """Return the peak memory in MB of a function, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return float(pool.apply(peak, (run, *arguments)))


def peak(run: Callable[..., None], *arguments: Any) -> float:
    """Run a function and return the peak memory of this process in MB."""
    quiet()
    run(*arguments)
    return peak_memory()


def machine() -> str:
    """Return the device, the threads, the load and the version of PyTorch, for the head of a table."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return f"{name}, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}"


def shown(values: dict[str, float]) -> str:
    """Return the lines of a table."""
    return "\n".join(
        f"  {key:26} {value:14,.3f}" if value < 100 else f"  {key:26} {value:14,.0f}" for key, value in values.items()
    )
