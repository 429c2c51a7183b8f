"""Numbers that steps record, kept on the device and written as means every so often: no wait for the device between."""

import time
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor

from gans.engine.distributed import average


class Curves:
    """Points of curves since they were last written."""

    def __init__(self) -> None:
        self.points: dict[str, list[Tensor]] = {}
        self.since = (time.perf_counter(), 0)

    def add(self, name: str, value: Tensor) -> None:
        """Note the mean of `value` for the curve `name`."""
        # mean() copies a number too: what it is read from may change before the curve is written.
        self.points.setdefault(name, []).append(value.detach().float().mean())

    def start(self, device: torch.device, images: int) -> None:
        """Begin to measure speed at `images` seen, and take restored points to the device."""
        self.points = {name: [value.to(device) for value in values] for name, values in self.points.items()}
        self.since = (time.perf_counter(), images)

    def pending(self, distributed: bool) -> dict[str, Tensor]:
        """Return the points by curve, `(n,)` each, averaged over processes."""
        points = {name: torch.stack(values) for name, values in self.points.items()}
        if distributed:
            average(list(points.values()))
        return points

    def restore(self, pending: dict[str, Tensor]) -> None:
        """Take over what `pending` returned."""
        self.points = {name: list(values) for name, values in pending.items()}

    def means(self, distributed: bool) -> dict[str, float]:
        """Return the mean of every curve, over processes too, and begin anew: one reduction, one transfer."""
        means = torch.stack([torch.stack(values).mean() for values in self.points.values()])
        if distributed:
            average([means])
        named = dict(zip(self.points, means.tolist(), strict=True))
        self.points = {}
        return named

    def speed(self, images: int) -> float:
        """Return images per second since the last time, now that `images` have been seen."""
        now, (then, before) = time.perf_counter(), self.since
        self.since = (now, images)
        return (images - before) / (now - then)


def log_means(module: Any, values: Mapping[str, Tensor | float], rows: int) -> None:
    """Log the means `values` over `rows` held-out images of this process: at the end, means over all of an epoch."""
    # Lightning averages the numbers of rows over processes and cuts off the fraction; such multiples have none.
    module.log_dict(dict(values), sync_dist=True, batch_size=rows * module.trainer.world_size)


def log_interval(trainer: L.Trainer) -> int:
    """Return the trainer's `log_every_n_steps`, at least 1."""
    return max(1, int(getattr(trainer, "log_every_n_steps", 50)))
