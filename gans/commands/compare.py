"""`gans evaluate --runs` and `--compare`: several runs of one recipe over seeds, and the costs of several models."""

import math
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jsonargparse import Namespace
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.flop_counter import FlopCounterMode

from gans.commands.benchmark import Repeat, peak_memory, quiet, wait
from gans.commands.device import chosen_device
from gans.commands.parser import own_model
from gans.engine.checkpoint import fits, held_model, load_model
from gans.engine.interface import made, pretended
from gans.metrics import report
from gans.metrics.sampling import BLOCK

DIVERGED = 3  # a run has diverged whose FID is over this many times its best in the last fifth of its scores
PASSED_ON = ("features", "weights", "protocol", "samples", "reference", "split", "truncation", "batch_size", "device")
STEPS = 20  # timed training steps, after five to warm up


def main(options: Namespace) -> None:
    """Print the table that was asked for, and write it as JSON too if `--out` is given."""
    result = over_runs(options.runs, options.features) if options.runs else costs(options)
    if options.out:
        report.write(options.out, result)
        print(f"report       {options.out}")


def over_runs(runs: list[Path], features: str | None) -> dict[str, Any]:
    """Print and return final and best FID of run folders, their spread, and the share of runs that diverged.

    Raises:
        ValueError: if a folder has no curve of FID, or several and none was asked for.
    """
    found = {str(run): stability(*curve(run, features)) for run in runs}
    print(f"{'run':40} {'final':>10} {'best':>10} {'at step':>9} {'final/best':>11}  diverged")
    for name, row in found.items():
        numbers = f"{'-':>10} {'-':>10} {'-':>9} {'-':>11}"
        if row["final"] is not None:
            numbers = f"{row['final']:10.3f} {row['best']:10.3f} {row['best_step']:9} {row['ratio']:11.3f}"
        print(f"{name[-40:]:40} {numbers}  {'yes' if row['diverged'] else 'no'}")
    summary: dict[str, Any] = {"runs": len(found)}
    for name in ("final", "best", "ratio"):
        values = [row[name] for row in found.values() if row[name] is not None]
        if not values:  # all diverged before their first score
            continue
        summary[name] = {"mean": statistics.fmean(values)}
        if len(values) > 1:
            summary[name]["std"] = statistics.stdev(values)
        spread = f" ± {summary[name]['std']:.3f}" if len(values) > 1 else ""
        print(f"{name:12} {summary[name]['mean']:.3f}{spread}")
    summary["diverged"] = statistics.fmean(float(row["diverged"]) for row in found.values())
    print(f"{'diverged':12} {summary['diverged']:.0%}")
    return {"summary": summary, "apart": found}


def curve(run: Path, features: str | None) -> tuple[list[int], list[float], bool]:
    """Return steps and values of a run's curve `fid/<features>`, and whether it was stopped for a number not finite.

    Raises:
        ValueError: if there is none, or several and none was asked for.
    """
    if not run.is_dir():
        raise ValueError(f"there is no run folder {run}")
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("fid/")]
    if features is not None:
        tags = [tag for tag in tags if tag == f"fid/{features}"]
    stopped = "health/diverged" in events.Tags()["scalars"]
    if stopped and not tags:
        return [], [], True
    if len(tags) != 1:
        known = (
            f"the curves {', '.join(tags)}: give --features"
            if tags
            else "no curve of FID: fit with --evaluate.features"
        )
        raise ValueError(f"{run} has {known}")
    points = events.Scalars(tags[0])
    return [point.step for point in points], [point.value for point in points], stopped


def stability(steps: list[int], values: list[float], stopped: bool) -> dict[str, Any]:
    """Return the final and best of a curve, their ratio, and whether the run was stopped for it or diverged."""
    if not values:
        return {"final": None, "best": None, "best_step": None, "ratio": None, "diverged": True}
    sound = [value for value in values if math.isfinite(value)]
    best = min(sound) if sound else math.inf
    last = values[-max(1, len(values) // 5) :]
    diverged = stopped or len(sound) < len(values) or min(last) > DIVERGED * best
    place = values.index(best) if sound else 0
    return {
        "final": values[-1],
        "best": best,
        "best_step": steps[place],
        "ratio": values[-1] / best,
        "diverged": diverged,
    }


def costs(options: Namespace) -> dict[str, Any]:
    """Print and return what models cost and how they score, in one table."""
    from gans.commands import evaluate

    rows, own = [], own_model(options.model)
    names = {path: held_model(path) for path in options.compare}
    if own is not None and not any(fits(name, own) for name in names.values()):
        raise ValueError(f"model is {options.model}, which none of the checkpoints holds")
    for path in options.compare:
        kind = own if own is not None and fits(names[path], own) else None
        flags: list[str] = [] if kind is None else ["--model", str(options.model)]
        for name in PASSED_ON:
            if options.get(name) is not None:
                flags += [f"--{name}", str(options[name])]
        flags += ["--scores", "fid", "recall", "coverage"]
        if options.seeds:
            flags += ["--seeds", *map(str, options.seeds)]
        given = evaluate.parsed([str(path), *flags])
        if options.get("data") is not None:
            given.data = options.data
        device = chosen_device(options.device)
        print(f"-- {path}")
        scored = evaluate.evaluate(given, [str(path), *flags])
        row = cost(path, device, kind)
        row |= {name: scored["metrics"][name]["value"] for name in ("fid", "recall", "coverage")}
        rows.append(row | {"protocol": scored["protocol"]["name"], "features": scored["extractor"]["name"]})
    columns = {
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
    print(f"{'':22}" + "".join(f"{row['model']:>16}" for row in rows))
    for name, title in columns.items():
        print(f"{title:22}" + "".join(f"{number(row[name]):>16}" for row in rows))
    return {"models": rows, "environment": report.environment(chosen_device(options.device))}


def number(value: float) -> str:
    """Return a number in few characters."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3f}"


def cost(path: Path, device: torch.device, kind: type[L.LightningModule] | None = None) -> dict[str, Any]:
    """Return size, work and speed of a checkpoint's model; training is measured in a process of its own.

    Args:
        path: of the checkpoint.
        device: to measure on.
        kind: class of the model, for one that is not of `gans.models`.
    """
    model = load_model(path, device, model=kind)
    one, block = pretended(model, 1), pretended(model, BLOCK)  # what a model is given that translates
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
        """Note the time."""
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
