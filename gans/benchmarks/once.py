"""One step of a training run under a context manager, for what is counted and not timed."""

from contextlib import AbstractContextManager
from typing import Any

import lightning as L
from torch import Tensor

from gans.commands.timing import Repeat

WARM = 2  # steps before it: optimizers have their state, and stages their length


class Third(L.Callback):
    """Enters a context manager before the third step, and leaves it after."""

    def __init__(self, around: AbstractContextManager[Any]) -> None:
        self.around = around

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Enter it."""
        if batch_idx == WARM:
            self.around.__enter__()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Leave it."""
        if batch_idx == WARM:
            self.around.__exit__(None, None, None)


def third_step(model: L.LightningModule, batch: tuple[Tensor, ...], around: AbstractContextManager[Any]) -> None:
    """Train a model for three steps on the CPU, without logging and callbacks, the third under `around`."""
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        callbacks=[Third(around)],
        log_every_n_steps=1000,
    )
    trainer.fit(model, Repeat(batch, WARM + 1))
