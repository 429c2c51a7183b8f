"""images/s and peak memory of a training run against a plain loop over the same networks.

Both sides train on random images on the device, so that only the step is timed. They alternate in one process. Ours is
a run with everything on: averaged weights, logging, health, progress bar and checkpoints. The other is a bare PyTorch
loop in float32 or bf16, never compiled, or a naive LightningModule.
"""

import argparse
import statistics
from typing import Any

import torch

from gans.benchmarks.loops import bare_loop
from gans.benchmarks.models import ALL, MODELS, Options, batch_of, build, check, round_steps
from gans.benchmarks.models import add_flags as add_model_flags
from gans.benchmarks.naive import NAIVE, naive_fit, naive_loop
from gans.benchmarks.turns import alternate, extras, fit, machine, peak_of, shown
from gans.checks import at_least
from gans.commands.timing import quiet

LIGHTNING = "Lightning"


def built(options: Options) -> Any:
    """Return the model of the options."""
    return build(options.model, options.size, options.channels)


def build_other(options: Options) -> Any:
    """Return the model of the other side, with the memory format of the options."""
    model = built(options)
    return model if options.layout == "same" else model.to(memory_format=torch.contiguous_format)


def step(options: Options) -> dict[str, float]:
    """Return images per second of both sides and their ratio, from alternating rounds. The first round is a warm-up."""
    model = built(options)
    batch, batches = batch_of(model, options.batch_size), (options.rounds + 1) * options.steps
    if options.against == "naive":
        other: Any = naive_loop(build_other(options), batch, batches, options.precision)
    else:
        other = bare_loop(build_other(options), batch, options.bare_precision or options.precision)
    found = alternate(model, batch, other, options.steps, options.rounds, options.precision, *extras(options))
    low, _, high = found.ratio()
    images = options.batch_size * options.steps
    return {
        "images/s, Lightning": images / statistics.median(found.ours),
        f"images/s, {options.against}": images / statistics.median(found.theirs),
        "ratio of these medians": statistics.median(found.theirs) / statistics.median(found.ours),
        "ratio, first quartile": low,
        "ratio, third quartile": high,
        "parameters": float(sum(p.numel() for p in model.parameters() if p.requires_grad)),
    }


def train(options: Options, side: str) -> None:
    """Train one side for a round."""
    model = built(options) if side == LIGHTNING else build_other(options)
    batch = batch_of(model, options.batch_size)
    if side == LIGHTNING:
        fit(model, batch, options.steps, options.precision, *extras(options))
    elif side == "naive":
        naive_fit(model, batch, options.steps, options.precision)
    else:
        bare_loop(model, batch, options.bare_precision or options.precision).round(options.steps)


def memory(options: Options) -> dict[str, float]:
    """Return the peak memory of both sides, each measured in a separate process, and their ratio."""
    ours, theirs = (peak_of(train, options, side) for side in (LIGHTNING, options.against))
    return {"peak MB, Lightning": ours, f"peak MB, {options.against}": theirs, "memory ratio": ours / theirs}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this subcommand."""
    add_model_flags(parser)
    parser.add_argument("--compile", action="store_true", help="compile our networks; the other side is never compiled")
    sides = f"the other side: a bare PyTorch loop, or a naive LightningModule ({', '.join(NAIVE)})"
    parser.add_argument("--against", default="bare", choices=["bare", "naive"], help=sides)
    precisions = "precision of the bare loop; by default that of --precision"
    parser.add_argument("--bare_precision", choices=["32-true", "bf16-mixed"], help=precisions)
    layouts = "memory format of the other side's weights: the model's, or contiguous"
    parser.add_argument("--layout", default="same", choices=["same", "contiguous"], help=layouts)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--steps", type=int, default=0, help="steps of a round; 0: enough")
    parser.add_argument("--no_memory", action="store_true", help="do not measure the peak memory")


def run(options: Options) -> None:
    """Print what a training step costs.

    Raises:
        ValueError: for bad input.
    """
    at_least(2, rounds=options.rounds)
    at_least(0, steps=options.steps)
    check(options)
    if options.against == "naive":
        options.models = [*NAIVE] if options.models == [*MODELS] else options.models
        for name in options.models:
            if name not in NAIVE:
                raise ValueError(f"models has {name}; expected {', '.join(NAIVE)} with --against naive")
    quiet()
    given = options.steps
    for model in options.models:
        options.model = model
        options.steps = round_steps(model, given)
        size = ALL[model][1].get("size", options.size)
        head = f"{options.model} {size}x{size}x{options.channels}, batch {options.batch_size}"
        print(f"{head}, {options.precision}{', compiled' * options.compile}, {machine()}", flush=True)
        print(shown({**step(options), **({} if options.no_memory else memory(options))}), flush=True)
