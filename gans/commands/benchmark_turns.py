"""Two training loops that take turns in one process, and the training run that a user has."""

import time
from collections.abc import Callable

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from gans.callbacks.health import Health
from gans.callbacks.progress import Progress
from gans.commands.benchmark_models import Options
from gans.commands.timing import wait
from gans.engine.checkpoint import AtomicCheckpoints, Checkpoint

Step = Callable[[int], None]


class Turns(L.Callback):
    """Times rounds of steps, and runs a round of the other side after each."""

    def __init__(self, round_steps: int, other: Step) -> None:
        self.round_steps = round_steps
        self.other = other
        self.seconds: list[float] = []
        self.start = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the first round."""
        self.begin(pl_module.device)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: object) -> None:
        """At the end of a round, record its time and run one of the other side."""
        if trainer.global_step % self.round_steps == 0:
            wait(pl_module.device)
            self.seconds.append(time.perf_counter() - self.start)
            self.other(self.round_steps)
            self.begin(pl_module.device)

    def begin(self, device: torch.device) -> None:
        """Start the clock."""
        wait(device)
        self.start = time.perf_counter()


def trainer_of(options: Options, steps: int, folder: str, *callbacks: L.Callback) -> L.Trainer:
    """Return a trainer with the callbacks of recipes: logging, health, progress bar, checkpoints."""
    return L.Trainer(
        max_steps=steps,
        max_epochs=-1,
        devices=1,
        precision=options.precision,
        logger=TensorBoardLogger(folder),
        callbacks=[*callbacks, Progress(), Health(), Checkpoint()],
        plugins=[AtomicCheckpoints()],
        enable_model_summary=False,
    )
