"""Stops a run on a signal: after a batch that all processes agree on, with a checkpoint.

SIGINT (Ctrl-C), SIGTERM (schedulers, `docker stop`, `kill`) and SIGUSR1 (Slurm, ahead of a time limit) do the same,
whichever process receives them. The exit code is 128 + the signal's number.

Lightning's own handlers are switched off. They save in the middle of a batch, end with exit code 0, and broadcast
from inside a handler; its loop also broadcasts a flag at every step, for which the CPU waits for the device. Here
processes agree through the store of the process group: a thread looks for a request twice a second, and a step costs
nothing until there is one.
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
TWICE = 0.5  # seconds; wrappers and terminals may both deliver one Ctrl-C
PATIENCE = 3  # seconds that the main thread has to handle a signal that ends the process at once
LOOK = 0.5  # seconds between two looks at the store
AHEAD = 2  # batches: no process is further than this when the last one has answered


def nothing() -> None:
    """Do nothing."""


def forget_pipe() -> None:
    """Keep a forked process, a loader's worker, from noting its signals in the pipe of the one that it came from."""
    with contextlib.suppress(ValueError):  # a thread forked it
        signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_pipe)


class Stopped(SystemExit):
    """A signal ended the run; `code` is 128 + its number."""


class StopOnSignal(L.Callback):
    """Handles signals from `with` on: at once while nothing can be saved, and after a batch while a run trains.

    For the end of the trainer's list of callbacks: a batch's scores and checkpoints come first.

    Args:
        clean: called before the process ends while its main thread cannot.
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
        self.launched: list[subprocess.Popen[bytes]] = []  # the other processes of this machine

    # -- signals ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self.catch(number)
        if self.handlers and launched_by() is None:
            self.pipe = os.pipe()
            os.set_blocking(self.pipe[1], False)
            signal.set_wakeup_fd(self.pipe[1], warn_on_full_buffer=False)
            threading.Thread(target=self.insist, args=[self.pipe[0]], name="signals", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.pipe is not None:
            signal.set_wakeup_fd(-1)
            os.close(self.pipe[1])
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def insist(self, pipe: int) -> None:
        """End the process if its main thread cannot: inside C++, where it waits for other processes, it sees no signal.

        Only where it should end at once. During training it is given the time that a batch takes.
        """
        interrupts = 0
        while data := os.read(pipe, 1):
            if data[0] not in SIGNALS:
                continue
            interrupts += data[0] == signal.SIGINT
            if self.training and interrupts < 2:
                continue
            self.release()
            sent = time.monotonic() - 1
            time.sleep(PATIENCE)
            if self.received < sent:
                self.part(seconds=0)
                self.clean()
                os.write(2, b"gans: stopped\n")
                os._exit(128 + data[0])
        os.close(pipe)

    def catch(self, number: int) -> None:
        """Handle a signal until the end of `with`; only the main thread of a process can."""
        if threading.current_thread() is threading.main_thread() and signal.getsignal(number) != self.receive:
            self.handlers[number] = signal.signal(number, self.receive)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Note that the run is to stop, or stop at once: before and after training, or at the second Ctrl-C.

        Raises:
            Stopped: to stop at once.
        """
        if os.getpid() != self.process:
            return  # a loader's worker, forked with this handler: the process that trains decides
        now = time.monotonic()
        repeated, self.received = now - self.received < TWICE, now
        if repeated or self.ending or now - self.raised < PATIENCE:
            return
        launcher = launched_by()
        if self.training and self.requested is None:
            self.requested = number
            if number == signal.SIGINT and launcher is None and os.isatty(2):
                # Not print: the main thread may be inside it.
                os.write(2, b"\ngans: stopping after this batch; Ctrl-C again stops at once\n")
        elif launcher is not None and not self.training and number != signal.SIGINT:
            os.kill(launcher, number)  # which ends, and this process with it; a terminal sends Ctrl-C to both
        elif launcher is None and (not self.training or number == signal.SIGINT):
            self.raised = now
            raise Stopped(128 + number)

    def replace_lightning(self, trainer: Trainer) -> None:
        """Switch off what a trainer does about signals, and what it resumes from unasked.

        A run without `ckpt_path` is a new one: Lightning would go on from an `hpc_ckpt_*.ckpt` of another run under
        Slurm, and from what `OnExceptionCheckpoint` left.
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
        """Know the process that trains, and the signal that its Slurm job is requeued with."""
        self.process = os.getpid()
        environment = slurm(trainer)
        if environment is not None and environment.requeue_signal is not None:
            self.catch(environment.requeue_signal)

    def on_train_start(self, trainer: Trainer, pl_module: Module) -> None:
        """From here on wait for the end of a batch."""
        self.step = trainer.global_step
        if several():
            self.store = _get_default_store()
            self.finished = threading.Event()
            self.listener = threading.Thread(target=self.listen, args=[self.finished], name="stopping", daemon=True)
            self.listener.start()
        self.training = True

    def listen(self, finished: threading.Event) -> None:
        """Wait until another process asks for the end."""
        try:
            while not finished.wait(LOOK):
                if self.store.check(["gans/stop"]):
                    self.requested = self.requested or int(self.store.get("gans/stop"))
                    return
        except RuntimeError:  # the process with the store is gone: the next reduction says so
            return

    def on_train_batch_end(self, trainer: Trainer, pl_module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save and stop if it is time to.

        Raises:
            Stopped: after the checkpoint was written.
        """
        self.batches += 1
        stepped, self.step = trainer.global_step != self.step, trainer.global_step
        # Between two steps of the generator BatchNorm's statistics differ between processes: not a place to go on from.
        if self.requested is None or not self.all_here(trainer) or not stepped or complete(trainer):
            return
        self.ending = True
        self.silence()
        self.release()
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, Checkpoint):
                callback.save(trainer)
        environment = slurm(trainer)
        if trainer.is_global_zero and environment is not None and self.requested == environment.requeue_signal:
            requeue(environment)
        raise Stopped(128 + self.requested)

    def all_here(self, trainer: Trainer) -> bool:
        """Return whether every process has reached the batch after which all stop."""
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
        """Stop at once again."""
        self.training = False
        self.silence()

    def on_exception(self, trainer: Trainer, pl_module: Module, exception: BaseException) -> None:
        """Look for requests no more."""
        self.training = False
        self.silence()
        self.release()

    def silence(self) -> None:
        """End the thread that listens, while the store is still there."""
        if self.finished is not None and self.listener is not None:
            self.finished.set()
            self.listener.join(10)

    def release(self) -> None:
        """Take the launched processes from Lightning's observer, which kills this one when one of them fails."""
        running = getattr(self.launcher, "procs", [])
        self.launched += running
        running.clear()  # the list that the observer looks at

    def part(self, seconds: float | None = None) -> None:
        """Wait for the launched processes, and end those that are left after some time."""
        until = time.monotonic() + seconds if seconds is not None else None
        for process in [*self.launched, *getattr(self.launcher, "procs", [])]:
            try:
                process.wait(None if until is None else max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()


def slurm(trainer: Trainer) -> SLURMEnvironment | None:
    """Return the Slurm job that this process is a task of."""
    environment = trainer._accelerator_connector.cluster_environment
    return environment if isinstance(environment, SLURMEnvironment) else None


def requeue(environment: SLURMEnvironment) -> None:
    """Put the Slurm job back into its queue, unless that was switched off."""
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
    """Return the checkpoint that Lightning finds for what was given, and none for nothing."""
    return None if path is None else parse(function, path, **more)
