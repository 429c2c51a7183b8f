"""images/s and peak memory of a training run against a bare PyTorch loop over the same networks.

Both sides train on random images on the device, so that only the step is timed. They alternate in one process: the
ratio of two neighbouring rounds is meaningful even if absolute times drift.
"""

import argparse
import multiprocessing
import statistics
import tempfile
from typing import Any

import torch

from gans.checks import at_least
from gans.commands.benchmark_loops import bare_loop
from gans.commands.benchmark_models import MODELS, Options, batch_of, build, check
from gans.commands.benchmark_models import add_flags as add_model_flags
from gans.commands.benchmark_turns import Turns, trainer_of
from gans.commands.timing import Repeat, peak_memory, quiet


def built(options: Options) -> Any:
    """Return the model of the options."""
    return build(options.model, options.size, options.channels)


def build_bare(options: Options) -> Any:
    """Return the model for the bare loop, with the memory format of the options."""
    model = built(options)
    return model if options.layout == "same" else model.to(memory_format=torch.contiguous_format)


def step(options: Options) -> dict[str, float]:
    """Return images per second of both sides and their ratio, from alternating rounds. The first round is a warm-up."""
    model = built(options)
    batch = batch_of(model, options.batch_size)
    bare = bare_loop(build_bare(options), batch, options.precision)
    turns = Turns(options.steps, bare.round)
    with tempfile.TemporaryDirectory() as folder:
        total = (options.rounds + 1) * options.steps
        trainer_of(options, total, folder, turns).fit(model, Repeat(batch, total))
    ratios = [b / a for a, b in zip(turns.seconds[1:], bare.seconds[1:], strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)  # over neighbouring rounds, to show the noise of the machine
    images = options.batch_size * options.steps
    return {
        "images/s, Lightning": images / statistics.median(turns.seconds[1:]),
        "images/s, bare loop": images / statistics.median(bare.seconds[1:]),
        "ratio of these medians": statistics.median(bare.seconds[1:]) / statistics.median(turns.seconds[1:]),
        "ratio, first quartile": low,
        "ratio, third quartile": high,
        "parameters": float(sum(p.numel() for p in model.parameters() if p.requires_grad)),
    }


def peak(options: Options, side: str) -> float:
    """Return the peak memory in MB of one side. Call it in a new process."""
    quiet()
    model = build_bare(options) if side == "bare" else built(options)
    batch = batch_of(model, options.batch_size)
    if side == "bare":
        bare_loop(model, batch, options.precision).round(options.steps)
    else:
        with tempfile.TemporaryDirectory() as folder:
            trainer_of(options, options.steps, folder).fit(model, Repeat(batch, options.steps))
    return peak_memory()


def memory(options: Options) -> dict[str, float]:
    """Return the peak memory of both sides, each measured in a separate process, and their ratio."""
    peaks = {}
    for side in ("Lightning", "bare"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks[side] = pool.apply(peak, (options, side))
    return {
        "peak MB, Lightning": peaks["Lightning"],
        "peak MB, bare loop": peaks["bare"],
        "memory ratio": peaks["Lightning"] / peaks["bare"],
    }


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this subcommand."""
    add_model_flags(parser)
    layouts = "memory format of the bare loop's weights: the model's, or contiguous"
    parser.add_argument("--layout", default="same", choices=["same", "contiguous"], help=layouts)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--steps", type=int, default=0, help="steps of a round; 0: enough")


def run(options: Options) -> None:
    """Print what a training step costs."""
    at_least(2, rounds=options.rounds)
    at_least(0, steps=options.steps)
    check(options)
    quiet()
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    given = options.steps
    for model in options.models:
        options.model = model
        options.steps = given or (50 if torch.cuda.is_available() else MODELS[model][2])
        head = f"{options.model} {options.size}x{options.size}x{options.channels}, batch {options.batch_size}"
        print(f"{head}, {options.precision}, {name}, torch {torch.__version__}")
        for key, value in {**step(options), **memory(options)}.items():
            print(f"  {key:24} {value:14,.3f}" if value < 100 else f"  {key:24} {value:14,.0f}")
