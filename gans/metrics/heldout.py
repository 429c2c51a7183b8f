"""Scores of held-out images: kept batch by batch, computed of all batches and processes at the end of the epoch."""

from typing import Any

import lightning as L
import torch
from torch import Tensor

from gans.engine.distributed import gather_rows


class HeldOut:
    """The scores of a model's held-out images.

    A model owns one and calls it from its hooks:

        def validation_step(self, batch, batch_idx):
            self.held_out.add(self, batch)

        def on_validation_epoch_end(self):
            self.held_out.log(self, "val")

    It is no `nn.Module`: networks that it holds are neither parts of the model nor in its checkpoints.
    """

    def __init__(self) -> None:
        self._batches: list[dict[str, Tensor]] = []

    def add(self, model: Any, batch: Any) -> None:
        """Keep what the scores need to know of a batch."""
        self._batches.append(self.rows(model, batch))

    def log(self, model: L.LightningModule, stage: str) -> None:
        """Log the scores of all batches of all processes as `<stage>/<name>`, if there were any, and forget these."""
        if not self._batches:
            return
        # Not by Lightning's averages of batches and processes, which need not be equally large.
        rows = {name: gather_rows(torch.cat([batch[name] for batch in self._batches])) for name in self._batches[0]}
        self._batches = []
        found: dict[str, Tensor | float] = {
            f"{stage}/{name}": score for name, score in self.scores(model, rows).items()
        }
        model.log_dict({**found, "step": float(model.trainer.global_step)}, sync_dist=True)

    def rows(self, model: Any, batch: Any) -> dict[str, Tensor]:
        """Return tensors `(N, ...)` by name, a row for each image of a batch; the same names for every batch."""
        raise NotImplementedError

    def scores(self, model: Any, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the scores by name, given the rows of all batches of all processes."""
        raise NotImplementedError
