"""The health of a run: numbers that are not finite, players that have won, generators that collapse.

`Health` needs a LightningModule with `sample(n)` that returns images `(n, C, H, W)` in [-1, 1], or one that
translates, see `gans.engine.interface`. It knows nothing else of a model.
"""

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from gans.checks import at_least
from gans.engine.checkpoint import not_finite
from gans.engine.curves import log_interval
from gans.engine.interface import (
    made,
    makes_images,
    real_images,
)

Trainer = L.Trainer


Module = L.LightningModule


class DivergedError(RuntimeError):
    """Training produced a number that is not finite; nothing was saved after it."""


class Health(L.Callback):
    """Warns in one line when training goes wrong, logs `health/*`, and stops before NaN or infinity is saved.

    Warnings: vanishing gradients of the generator, a discriminator that has won, and collapse: the mean distance
    between two fakes is far under that between two reals. One batch that is told apart without a fault is nothing:
    the first two must last.

    Args:
        every_n_steps: trainer steps between two measurements of diversity.
        collapse: warn when the diversity of fakes falls under this share of that of the reals.
        vanishing: warn when the gradient norm of the generator falls under this.
        won: warn when the discriminator's accuracy exceeds this.
        patience: trainer steps for which each logged point must say so before a vanished gradient or a discriminator
            that has won is warned of.
    """

    def __init__(
        self,
        every_n_steps: int = 500,
        collapse: float = 0.3,
        vanishing: float = 1e-6,
        won: float = 0.99,
        patience: int = 500,
    ) -> None:
        at_least(1, every_n_steps=every_n_steps)
        at_least(0, patience=patience)
        self.every_n_steps = every_n_steps
        self.collapse = collapse
        self.vanishing = vanishing
        self.won = won
        self.patience = patience
        self.since: dict[str, int] = {}
        self.warned: set[str] = set()
        self.last = 0

    def setup(self, trainer: Trainer, pl_module: Module, stage: str) -> None:
        """Begin anew; a run that goes on then loads its state."""
        self.since, self.warned = {}, set()

    def on_train_start(self, trainer: Trainer, pl_module: Module) -> None:
        """Look next when it is due, also in a run that goes on."""
        self.last = trainer.global_step

    def state_dict(self) -> dict[str, Any]:
        """Return since when something has been wrong, and what has been warned of."""
        return {"since": self.since, "warned": sorted(self.warned)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.since, self.warned = dict(state_dict["since"]), set(state_dict["warned"])

    def on_train_batch_end(self, trainer: Trainer, pl_module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look at the newest points of the curves and, when due, at a batch of samples."""
        step = trainer.global_step
        last, self.last = self.last, step
        if step // log_interval(trainer) > last // log_interval(trainer):
            self.check(trainer, trainer.callback_metrics)
        due = step // self.every_n_steps > last // self.every_n_steps
        # While another player's steps count, the generator has learnt nothing yet.
        playing = getattr(pl_module, "clock", 0) == 0
        if due and playing and trainer.is_global_zero and makes_images(pl_module):
            self.check_diversity(trainer, pl_module, batch)

    def check(self, trainer: Trainer, metrics: Mapping[str, Tensor]) -> None:
        """Judge the curves' newest points.

        Raises:
            DivergedError: if a loss or logit is not finite.
        """
        for name, value in metrics.items():
            if name.startswith(("loss/", "logits/", "penalty/")) and not torch.isfinite(value):
                raise diverged(trainer, f"{name} is {float(value)} at step {trainer.global_step}: training diverged")
        if "grad_norm/generator" in metrics:
            norm = float(metrics["grad_norm/generator"])
            says = f"the generator's gradient has vanished (norm {norm:.1e})"
            self.warn("vanishing", self.lasts("vanishing", norm < self.vanishing, trainer.global_step), says, trainer)
        if "accuracy/discriminator" in metrics:
            accuracy = float(metrics["accuracy/discriminator"])
            says = f"the discriminator has won (accuracy {accuracy:.3f}): lower its learning rate or regularise it"
            self.warn("won", self.lasts("won", accuracy > self.won, trainer.global_step), says, trainer)

    def check_diversity(self, trainer: Trainer, module: Module, batch: Any) -> None:
        """Compare the mean distance between two fakes with that between two reals, on at most 64 of each."""
        real = real_images(module, batch)[:64].float().cpu()
        if len(real) < 2:
            return
        ratio = spread(made(module, batch, len(real), seed=1).cpu()) / max(spread(real), 1e-12)
        for logger in trainer.loggers:
            logger.log_metrics({"health/diversity": ratio}, step=trainer.global_step)
        says = f"samples have collapsed (diversity {ratio:.2f} of that of the real images)"
        self.warn("collapse", ratio < self.collapse, says, trainer)

    def lasts(self, kind: str, wrong: bool, step: int) -> bool:
        """Return whether it has been wrong at every point of the curve for `patience` steps."""
        if not wrong:
            self.since.pop(kind, None)
            return False
        return step - self.since.setdefault(kind, step) >= self.patience

    def warn(self, kind: str, wrong: bool, says: str, trainer: Trainer) -> None:
        """Warn once, and again only after it has been well in between."""
        if wrong and kind not in self.warned:
            rank_zero_warn(f"step {trainer.global_step}: {says}", category=UserWarning)
        self.warned = self.warned | {kind} if wrong else self.warned - {kind}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Module, checkpoint: dict[str, Any]) -> None:
        """Refuse to write weights that are not finite over good ones.

        Raises:
            DivergedError: if a tensor of the checkpoint holds NaN or infinity.
        """
        if name := not_finite(checkpoint["state_dict"]):
            raise diverged(trainer, f"{name} is not finite at step {trainer.global_step}: training diverged, not saved")


def diverged(trainer: Trainer, says: str) -> DivergedError:
    """Return the error that stops a run, noted in its curves as `health/diverged`."""
    for logger in trainer.loggers:
        logger.log_metrics({"health/diverged": 1.0}, step=trainer.global_step)
        logger.save()
    return DivergedError(says)


def spread(batch: Tensor) -> float:
    """Return the mean Euclidean distance between two of the images `(N, C, H, W)`."""
    return float(torch.pdist(batch.flatten(1)).mean())
