"""`gans evaluate --compare`: parameters, work, speed and memory of models in one table with their scores."""

import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.flop_counter import FlopCounterMode

from gans.commands.timing import Repeat, peak_memory, quiet, wait
from gans.engine.checkpoint import load_model
from gans.engine.interface import made, pretended
from gans.metrics.sampling import BLOCK

STEPS = 20  # timed training steps, after five steps of warm-up
SCORES = ("fid", "recall", "coverage")
COLUMNS = {
    "generator": "parameters of G",
    "discriminator": "parameters of D",
    "multiply_adds": "multiply-adds of G",
    "sampling": "sampled images/s",
    "training": "trained images/s",
    "memory": "peak MB of training",
    "fid": "FID",
    "recall": "recall",
    "coverage": "coverage",
}


def row(
    path: Path, device: torch.device, kind: type[L.LightningModule] | None, report: dict[str, Any]
) -> dict[str, Any]:
    """Return the costs of a checkpoint's model, as `cost` does, and the scores of its report."""
    found = {name: report["metrics"][name]["value"] for name in SCORES}
    protocol, features = report["protocol"]["name"], report["extractor"]["name"]
    return cost(path, device, kind) | found | {"protocol": protocol, "features": features}


def table(rows: list[dict[str, Any]]) -> str:
    """Return lines to print: a column for each model."""
    lines = [f"{'':22}" + "".join(f"{row['model']:>16}" for row in rows)]
    lines += [f"{title:22}" + "".join(f"{number(row[name]):>16}" for row in rows) for name, title in COLUMNS.items()]
    return "\n".join(lines)


def number(value: float) -> str:
    """Return a number as a short text."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3f}"


def cost(path: Path, device: torch.device, kind: type[L.LightningModule] | None = None) -> dict[str, Any]:
    """Return size, work and speed of a checkpoint's model. Training is measured in a separate process.

    Args:
        path: of the checkpoint.
        device: to measure on.
        kind: class of the model, for one that is not of `gans.models`.
    """
    model = load_model(path, device, model=kind)
    one, block = pretended(model, 1), pretended(model, BLOCK)  # the inputs of a model that translates
    with FlopCounterMode(display=False) as counter:
        made(model, one, 1, 0)
    made(model, block, BLOCK, 0)
    wait(device)
    start, rounds = time.perf_counter(), 4
    for _ in range(rounds):
        made(model, block, BLOCK, 0)
    wait(device)
    seconds = time.perf_counter() - start
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        speed, memory = pool.apply(training, (str(path), str(device), type(model)))
    players = {name: getattr(model, name, None) for name in ("generator", "discriminator")}
    return {
        "checkpoint": str(path),
        "model": type(model).__name__,
        **{name: 0 if net is None else sum(p.numel() for p in net.parameters()) for name, net in players.items()},
        "multiply_adds": counter.get_total_flops() // 2,
        "sampling": rounds * BLOCK / seconds,
        "training": speed,
        "memory": memory,
    }


class Stopwatch(L.Callback):
    """Times the last `STEPS` batches of a run."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: object) -> None:
        """Record the time."""
        wait(pl_module.device)
        self.times.append(time.perf_counter())


def training(
    path: str, device: str, kind: type[L.LightningModule] | None = None, batch_size: int = 64
) -> tuple[float, float]:
    """Return images/s and peak memory in MB of training a checkpoint's model on random images of its shape."""
    quiet()
    model = load_model(path, "cpu", model=kind).train()
    watch, steps = Stopwatch(), STEPS + 5
    batch = tuple(part.to(device) for part in pretended(model, batch_size))
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_epochs=1,
            limit_train_batches=steps,
            accelerator="cuda" if device.startswith("cuda") else "cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[watch],
        )
        trainer.fit(model, Repeat(batch, steps))
    return STEPS * batch_size / (watch.times[-1] - watch.times[-1 - STEPS]), peak_memory()
