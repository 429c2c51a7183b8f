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
            self.held_out.add(self, batch, batch_idx)

        def on_validation_epoch_end(self):
            self.held_out.log(self, "val")

    It is no `nn.Module`: networks that it holds are neither parts of the model nor in its checkpoints.
    """

    def __init__(self) -> None:
        self._batches: list[dict[str, Tensor]] = []

    def add(self, model: Any, batch: Any, batch_idx: int) -> None:
        """Keep what the scores need to know of a batch. The first batch replaces those of an interrupted epoch."""
        if batch_idx == 0:
            self._batches = []
        self._batches.append(self.rows(model, batch))

    def log(self, model: L.LightningModule, stage: str) -> None:
        """Log the scores of all batches as `<stage>/<name>` over the generator's updates."""
        found = self.compute(model)
        if found:
            named = {f"{stage}/{name}": score for name, score in found.items()}
            model.log_dict({**named, "step": float(model.trainer.global_step)}, sync_dist=True)

    def compute(self, model: Any) -> dict[str, Tensor]:
        """Return the scores of all batches of all processes by name, and forget the batches. None gives no scores."""
        if not self._batches:
            return {}
        # Lightning would average batches and processes as if they were equally large.
        rows = {name: gather_rows(torch.cat([batch[name] for batch in self._batches])) for name in self._batches[0]}
        self._batches = []
        return self.scores(model, rows)

    def rows(self, model: Any, batch: Any) -> dict[str, Tensor]:
        """Return tensors `(N, ...)` by name, a row for each image of a batch; the same names for every batch."""
        raise NotImplementedError

    def scores(self, model: Any, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the scores by name, given the rows of all batches of all processes."""
        raise NotImplementedError
