"""Stops a run on a signal: all processes finish the same batch, save a checkpoint and exit.

SIGINT (Ctrl-C), SIGTERM (schedulers, `docker stop`, `kill`) and SIGUSR1 (Slurm, before a time limit) have the same
effect in every process. The exit code is 128 + the signal's number.

Lightning's handlers are switched off. They save in the middle of a batch, exit with code 0, and broadcast inside a
handler. Lightning's loop also broadcasts a flag at every step, which synchronises with the device. Here the processes
agree through the store of the process group. A thread checks the store twice per second, so steps have no extra cost
until there is a request.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType, TracebackType
from typing import Any, Self

import lightning as L
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from torch.distributed.distributed_c10d import _get_default_store

from gans.engine.checkpoint import Checkpoint, complete
from gans.engine.distributed import several
from gans.runs.parent import launched_by

Trainer = L.Trainer
Module = L.LightningModule

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
TWICE = 0.5  # seconds in which a repeated signal is ignored: wrapper and terminal may both deliver one Ctrl-C
PATIENCE = 3  # seconds in which the main thread must handle a signal that ends the process at once
LOOK = 0.5  # seconds between two checks of the store
AHEAD = 2  # maximum number of batches that a process is ahead when the last process has answered


def nothing() -> None:
    """Do nothing."""


def forget_pipe() -> None:
    """Stop a forked process, such as a dataloader's worker, from writing its signals to its parent's pipe."""
    with contextlib.suppress(ValueError):  # forked by a thread other than the main one
        signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_pipe)


class Stopped(SystemExit):
    """A signal ended the run. `code` is 128 + the signal's number."""


class StopOnSignal(L.Callback):
    """Handles signals inside its `with` block: after the current batch in training, otherwise at once.

    It must be the last of the trainer's callbacks, after those that compute scores and save checkpoints.

    Args:
        clean: called before the process exits if its main thread is blocked.
    """

    def __init__(self, clean: Callable[[], None] = nothing) -> None:
        self.clean = clean
        self.process = os.getpid()
        self.pipe: tuple[int, int] | None = None
        self.launcher: Any = None
        self.handlers: dict[int, Any] = {}
        self.training = False
        self.ending = False
        self.requested: int | None = None
        self.received = self.raised = -float(PATIENCE)
        self.batches = self.step = 0
        self.agreed: int | None = None
        self.store: Any = None
        self.finished: threading.Event | None = None
        self.listener: threading.Thread | None = None
        self.launched: list[subprocess.Popen[bytes]] = []  # the other processes on this machine

    # -- signals ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self.handle(number)
        if self.handlers and launched_by() is None:
            self.pipe = os.pipe()
            os.set_blocking(self.pipe[1], False)
            signal.set_wakeup_fd(self.pipe[1], warn_on_full_buffer=False)
            threading.Thread(target=self.exit_if_blocked, args=[self.pipe[0]], name="signals", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.pipe is not None:
            signal.set_wakeup_fd(-1)
            os.close(self.pipe[1])
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def exit_if_blocked(self, pipe: int) -> None:
        """Exit if the main thread does not handle a signal, because it is blocked in C++ and waits for other processes.

        This happens only for signals that end the process at once. In training the current batch may finish first.
        """
        interrupts = 0
        while data := os.read(pipe, 1):
            if data[0] not in SIGNALS:
                continue
            interrupts += data[0] == signal.SIGINT
            if self.training and interrupts < 2:
                continue
            self.forget_launched()
            sent = time.monotonic() - 1
            time.sleep(PATIENCE)
            if self.received < sent:
                self.part(seconds=0)
                self.clean()
                os.write(2, b"gans: stopped\n")
                os._exit(128 + data[0])
        os.close(pipe)

    def handle(self, number: int) -> None:
        """Install the handler of a signal until the end of the `with` block. Only the main thread can do this."""
        if threading.current_thread() is threading.main_thread() and signal.getsignal(number) != self.receive:
            self.handlers[number] = signal.signal(number, self.receive)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Request a stop after this batch in training. Outside of training, or at the second Ctrl-C, stop at once.

        Raises:
            Stopped: to stop at once.
        """
        if os.getpid() != self.process:
            return  # a dataloader's worker, forked with this handler; the training process decides
        now = time.monotonic()
        repeated, self.received = now - self.received < TWICE, now
        if repeated or self.ending or now - self.raised < PATIENCE:
            return
        launcher = launched_by()
        if self.training and self.requested is None:
            self.requested = number
            if number == signal.SIGINT and launcher is None and os.isatty(2):
                # Not `print`, because the signal may have interrupted one.
                os.write(2, b"\ngans: stopping after this batch; Ctrl-C again stops at once\n")
        elif launcher is not None and not self.training and number != signal.SIGINT:
            os.kill(launcher, number)  # this process ends with its launcher; a terminal sends Ctrl-C to both
        elif launcher is None and (not self.training or number == signal.SIGINT):
            self.raised = now
            raise Stopped(128 + number)

    def replace_lightning(self, trainer: Trainer) -> None:
        """Switch off Lightning's signal handling and its automatic resuming.

        A run without `ckpt_path` is a new run. Lightning would resume from another run's `hpc_ckpt_*.ckpt` under Slurm,
        and from the file of an `OnExceptionCheckpoint`.
        """
        self.launcher, connector = trainer.strategy.launcher, trainer._checkpoint_connector
        for owner, name, instead in (
            (trainer._signal_connector, "register_signal_handlers", nothing),
            (trainer.fit_loop.epoch_loop, "_broadcast_sigterm_tensor", nothing),
            (connector, "_parse_ckpt_path", partial(given_only, connector._parse_ckpt_path)),
        ):
            setattr(owner, name, instead)

    # -- training -----------------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: Module, stage: str) -> None:
        """Remember the training process, and handle the signal with which Slurm requeues the job."""
        self.process = os.getpid()
        environment = slurm(trainer)
        if environment is not None and environment.requeue_signal is not None:
            self.handle(environment.requeue_signal)

    def on_train_start(self, trainer: Trainer, pl_module: Module) -> None:
        """From now on, stop only after a batch."""
        self.step = trainer.global_step
        if several():
            self.store = _get_default_store()
            self.finished = threading.Event()
            self.listener = threading.Thread(target=self.listen, args=[self.finished], name="stopping", daemon=True)
            self.listener.start()
        self.training = True

    def listen(self, finished: threading.Event) -> None:
        """Wait until another process requests a stop. It runs in a thread."""
        try:
            while not finished.wait(LOOK):
                if self.store.check(["gans/stop"]):
                    self.requested = self.requested or int(self.store.get("gans/stop"))
                    return
        except RuntimeError:  # the process with the store has ended; the next all-reduce reports it
            return

    def on_train_batch_end(self, trainer: Trainer, pl_module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save a checkpoint and stop if a stop was requested and all processes have reached the agreed batch.

        Raises:
            Stopped: after the checkpoint was written.
        """
        self.batches += 1
        stepped, self.step = trainer.global_step != self.step, trainer.global_step
        # A run cannot resume between two generator steps, because BatchNorm's statistics differ between processes.
        if self.requested is None or not self.all_reached(trainer) or not stepped or complete(trainer):
            return
        self.ending = True
        self.end_listener()
        self.forget_launched()
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, Checkpoint):
                callback.save(trainer)
        environment = slurm(trainer)
        if trainer.is_global_zero and environment is not None and self.requested == environment.requeue_signal:
            requeue(environment)
        raise Stopped(128 + self.requested)

    def all_reached(self, trainer: Trainer) -> bool:
        """Return whether this is the batch after which all processes stop."""
        if self.store is None:
            return True
        if self.agreed is None:
            mine, keys = f"gans/at/{trainer.global_rank}", [f"gans/at/{rank}" for rank in range(trainer.world_size)]
            if not self.store.check([mine]):
                self.store.set("gans/stop", str(self.requested))
                self.store.set(mine, str(self.batches))
            if trainer.strategy.root_device.type != "cpu":
                torch.accelerator.synchronize()  # so that no process runs ahead of the others from here on
            if self.store.check(keys):
                self.requested = int(self.store.get("gans/stop"))
                self.agreed = max(int(self.store.get(key)) for key in keys) + AHEAD
        return self.agreed is not None and self.batches >= self.agreed

    def on_train_end(self, trainer: Trainer, pl_module: Module) -> None:
        """From now on, stop at once."""
        self.training = False
        self.end_listener()

    def on_exception(self, trainer: Trainer, pl_module: Module, exception: BaseException) -> None:
        """End the listener."""
        self.training = False
        self.end_listener()
        self.forget_launched()

    def end_listener(self) -> None:
        """End the listening thread while the store still exists."""
        if self.finished is not None and self.listener is not None:
            self.finished.set()
            self.listener.join(10)

    def forget_launched(self) -> None:
        """Remove the launched processes from Lightning's observer, which would kill this process if one fails."""
        running = getattr(self.launcher, "procs", [])
        self.launched += running
        running.clear()  # the observer reads this list

    def part(self, seconds: float | None = None) -> None:
        """Wait for the launched processes, and kill those that still run after `seconds`. None waits without limit."""
        until = time.monotonic() + seconds if seconds is not None else None
        for process in [*self.launched, *getattr(self.launcher, "procs", [])]:
            try:
                process.wait(None if until is None else max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()


def slurm(trainer: Trainer) -> SLURMEnvironment | None:
    """Return Lightning's environment of the Slurm job that this process belongs to, or None."""
    environment = trainer._accelerator_connector.cluster_environment
    return environment if isinstance(environment, SLURMEnvironment) else None


def requeue(environment: SLURMEnvironment) -> None:
    """Requeue the Slurm job, unless automatic requeueing is switched off."""
    if not environment.auto_requeue:
        return
    job = os.environ.get("SLURM_JOB_ID", "")
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        problem = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True).stderr
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        os.write(2, f"gans: scontrol requeue {job}: {' '.join(problem.split())}\n".encode())


def given_only(parse: Callable[..., Any], function: Any, path: Any, **more: Any) -> Any:
    """Return the checkpoint that Lightning finds for `path`, or None without a path."""
    return None if path is None else parse(function, path, **more)
