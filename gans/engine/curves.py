"""Metrics of training steps, kept on the device and logged as means at intervals: no synchronisation per step."""

import time
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor

from gans.engine.distributed import average


class Curves:
    """Points of curves since the last time they were logged."""

    def __init__(self) -> None:
        self.points: dict[str, list[Tensor]] = {}
        self.since = (time.perf_counter(), 0)

    def add(self, name: str, value: Tensor) -> None:
        """Record the mean of `value` for the curve `name`."""
        # mean() also copies a scalar, whose memory may be overwritten before the curve is logged.
        self.points.setdefault(name, []).append(value.detach().float().mean())

    def start(self, device: torch.device, images: int) -> None:
        """Start to measure speed at `images` seen, and move restored points to the device."""
        self.points = {name: [value.to(device) for value in values] for name, values in self.points.items()}
        self.since = (time.perf_counter(), images)

    def pending(self, distributed: bool) -> dict[str, Tensor]:
        """Return the points of each curve, `(n,)`, averaged over processes."""
        points = {name: torch.stack(values) for name, values in self.points.items()}
        if distributed:
            average(list(points.values()))
        return points

    def restore(self, pending: dict[str, Tensor]) -> None:
        """Restore the points that `pending` returned."""
        self.points = {name: list(values) for name, values in pending.items()}

    def means(self, distributed: bool) -> dict[str, float]:
        """Return the mean of every curve, over processes too, and clear the points. It needs one all-reduce."""
        means = torch.stack([torch.stack(values).mean() for values in self.points.values()])
        if distributed:
            average([means])
        named = dict(zip(self.points, means.tolist(), strict=True))
        self.points = {}
        return named

    def speed(self, images: int) -> float:
        """Return images per second since the last call, given the number of images seen."""
        now, (then, before) = time.perf_counter(), self.since
        self.since = (now, images)
        return (images - before) / (now - then)


def log_means(module: Any, values: Mapping[str, Tensor | float], rows: int) -> None:
    """Log means over `rows` held-out images of this process. Lightning averages them over the epoch."""
    # Lightning averages batch sizes over processes and truncates the result. Multiples of the world size stay exact.
    module.log_dict(dict(values), sync_dist=True, batch_size=rows * module.trainer.world_size)


def log_interval(trainer: L.Trainer) -> int:
    """Return the trainer's `log_every_n_steps`, at least 1."""
    return max(1, int(getattr(trainer, "log_every_n_steps", 50)))
