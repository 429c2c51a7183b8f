"""Checks of training: NaN and infinity, an overconfident discriminator, vanishing gradients and mode collapse.

`Health` works with any LightningModule that has `sample(n)`, which returns images `(n, C, H, W)` in [-1, 1], or that
translates images, see `gans.engine.interface`.
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from gans.checks import at_least
from gans.engine.checkpoint import not_finite
from gans.engine.curves import log_interval
from gans.engine.interface import made, makes_images, real_images
from gans.losses import Loss, undecided

Trainer = L.Trainer
Module = L.LightningModule

ADVICE = "lower discriminator_lr, add the term R1 or an augmentation, or start from the recipe `folder`"


class DivergedError(RuntimeError):
    """Training produced NaN or infinity. No checkpoint was saved after that."""


class Health(L.Callback):
    """Warns if training fails, logs `health/*`, and stops the run before weights with NaN or infinity are saved.

    There are three warnings: the generator's gradient vanishes, the discriminator is too strong, or the samples
    collapse. Diversity is the mean distance between two images. The first two conditions must hold for `patience`
    steps, so a single perfect batch does not trigger a warning.

    The discriminator is too strong by its accuracy or by its loss. A few images on the wrong side keep the accuracy
    low, although the logits of all others are far apart. The loss is the mean over `patience` steps, and is compared
    with that of a discriminator that cannot tell, so it has no unit. A module whose `loss` is none of `gans.losses`, or
    the Wasserstein loss, is judged by accuracy alone.

    Args:
        every_n_steps: trainer steps between two measurements of diversity.
        collapse: warn if the diversity of samples is below this share of the diversity of real images.
        vanishing: warn if the gradient norm of the generator is below this.
        won: warn if the discriminator's accuracy is above this.
        patience: number of trainer steps for which a condition must hold at every logged point.
        certain: warn if the discriminator's loss is below this share of the loss of one that cannot tell.
    """

    def __init__(
        self,
        every_n_steps: int = 500,
        collapse: float = 0.3,
        vanishing: float = 1e-6,
        won: float = 0.99,
        patience: int = 500,
        certain: float = 0.25,
    ) -> None:
        at_least(1, every_n_steps=every_n_steps)
        at_least(0, patience=patience)
        self.every_n_steps = every_n_steps
        self.collapse = collapse
        self.vanishing = vanishing
        self.won = won
        self.certain = certain
        self.patience = patience
        self.since: dict[str, int] = {}
        self.shares: list[list[float]] = []  # step, and the discriminator's loss as `loss_share` gives it
        self.warned: set[str] = set()
        self.last = 0

    def setup(self, trainer: Trainer, pl_module: Module, stage: str) -> None:
        """Reset the state. A resumed run restores it afterwards."""
        self.since, self.shares, self.warned = {}, [], set()

    def on_train_start(self, trainer: Trainer, pl_module: Module) -> None:
        """Set the step from which intervals are counted."""
        self.last = trainer.global_step

    def state_dict(self) -> dict[str, Any]:
        """Return the step at which each condition began to hold, losses, and the kinds of warnings already given."""
        return {"since": self.since, "shares": self.shares, "warned": sorted(self.warned)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self.since, self.warned = dict(state_dict["since"]), set(state_dict["warned"])
        self.shares = [list(point) for point in state_dict.get("shares", ())]  # absent in old checkpoints

    def on_train_batch_end(self, trainer: Trainer, pl_module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Check the newest points of the curves and, at the end of an interval, the diversity of samples."""
        step = trainer.global_step
        last, self.last = self.last, step
        if step // log_interval(trainer) > last // log_interval(trainer):
            self.check(trainer, trainer.callback_metrics)
        due = step // self.every_n_steps > last // self.every_n_steps
        # Before the generator's training starts, its samples mean nothing.
        generating = getattr(pl_module, "clock", 0) == 0
        if due and generating and trainer.is_global_zero and makes_images(pl_module):
            self.check_diversity(trainer, pl_module, batch)

    def check(self, trainer: Trainer, metrics: Mapping[str, Tensor]) -> None:
        """Check the newest points of the curves.

        Raises:
            DivergedError: if a loss, logit or penalty is not finite.
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
            always_right = self.lasts("won", accuracy > self.won, trainer.global_step)
            loss = self.mean_loss(trainer.global_step, loss_share(trainer, metrics))
            found = f"accuracy {accuracy:.3f}"
            if loss < math.inf:
                found = f"{found}, its loss {100 * loss:.0f} % of that of one that cannot tell"
            says = f"the discriminator is too strong ({found}): {ADVICE}"
            self.warn("won", always_right or loss < self.certain, says, trainer)

    def check_diversity(self, trainer: Trainer, module: Module, batch: Any) -> None:
        """Compare the diversity of at most 64 samples with that of as many real images."""
        real = real_images(module, batch)[:64].float().cpu()
        if len(real) < 2:
            return
        ratio = spread(made(module, batch, len(real), seed=1).cpu()) / max(spread(real), 1e-12)
        for logger in trainer.loggers:
            logger.log_metrics({"health/diversity": ratio}, step=trainer.global_step)
        says = f"samples have collapsed (diversity {ratio:.2f} of that of the real images)"
        self.warn("collapse", ratio < self.collapse, says, trainer)

    def mean_loss(self, step: int, share: float) -> float:
        """Return the mean of the shares of the last `patience` steps with this one, infinity before so many steps."""
        self.shares = [*self.shares, [step, share]]
        while len(self.shares) > 1 and step - self.shares[1][0] >= self.patience:  # the first one is not needed
            self.shares.pop(0)
        whole = step - self.shares[0][0] >= self.patience
        return sum(past for _, past in self.shares) / len(self.shares) if whole else math.inf

    def lasts(self, kind: str, wrong: bool, step: int) -> bool:
        """Return whether a condition has held at every logged point for `patience` steps."""
        if not wrong:
            self.since.pop(kind, None)
            return False
        return step - self.since.setdefault(kind, step) >= self.patience

    def warn(self, kind: str, wrong: bool, says: str, trainer: Trainer) -> None:
        """Warn once. Warn again only after the condition has stopped to hold in between."""
        if wrong and kind not in self.warned:
            rank_zero_warn(f"step {trainer.global_step}: {says}", category=UserWarning)
        self.warned = self.warned | {kind} if wrong else self.warned - {kind}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Module, checkpoint: dict[str, Any]) -> None:
        """Check the weights, so that NaN or infinity does not overwrite a good checkpoint.

        Raises:
            DivergedError: if a tensor of the checkpoint contains NaN or infinity.
        """
        if name := not_finite(checkpoint["state_dict"]):
            raise diverged(trainer, f"{name} is not finite at step {trainer.global_step}: training diverged, not saved")


def diverged(trainer: Trainer, says: str) -> DivergedError:
    """Log `health/diverged`, and return the error that stops the run."""
    for logger in trainer.loggers:
        logger.log_metrics({"health/diverged": 1.0}, step=trainer.global_step)
        logger.save()
    return DivergedError(says)


def loss_share(trainer: Trainer, metrics: Mapping[str, Tensor]) -> float:
    """Return the discriminator's loss over that of one that cannot tell; infinity if the objective has no such loss."""
    game = getattr(getattr(trainer, "lightning_module", None), "loss", None)
    if "loss/discriminator" not in metrics or not hasattr(game, "boundary"):
        return math.inf
    most = undecided(cast(Loss, game))
    return float(metrics["loss/discriminator"]) / most if most > 0 else math.inf


def spread(batch: Tensor) -> float:
    """Return the mean Euclidean distance between two images of a batch `(N, C, H, W)`."""
    return float(torch.pdist(batch.flatten(1)).mean())
