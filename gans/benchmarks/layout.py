"""Time of a training step with the weights of convolutions in one memory format and the other.

The same bare loop runs three times, in turns: with the networks as they are, with all weights contiguous, and with all
in `channels_last`. On a CPU it is the time of all its threads, which other processes change little.
"""

import argparse
import statistics
import time
from typing import Any

import torch

from gans.benchmarks.loops import bare_loop
from gans.benchmarks.models import ALL, Options, batch_of, build, check, round_steps
from gans.benchmarks.models import add_flags as add_model_flags
from gans.benchmarks.turns import machine
from gans.checks import at_least
from gans.commands.timing import quiet, wait

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def formatted(model: Any, name: str) -> Any:
    """Return the model with all weights of its convolutions in the named format, or as it is for another name."""
    for parameter in model.parameters():
        if parameter.ndim == 4 and name in FORMATS:
            parameter.data = parameter.data.contiguous(memory_format=FORMATS[name])
    return model


def seconds(loop: Any, steps: int) -> float:
    """Return how long some steps of a loop take: time of all threads on a CPU, and of the device on a GPU."""
    wait(loop.device)
    clock = time.process_time if loop.device.type == "cpu" else time.perf_counter
    start = clock()
    for _ in range(steps):
        loop.step()
    wait(loop.device)
    return clock() - start


def layout(options: Options) -> dict[str, list[float]]:
    """Return the quartiles of the time in a format over that of the networks as they are, by format."""
    loops = {}
    for name in ("as they are", *FORMATS):
        torch.manual_seed(0)
        model = formatted(build(options.model, options.size, options.channels), name)
        loops[name] = bare_loop(model, batch_of(model, options.batch_size), options.precision)
        seconds(loops[name], 1)  # the first step is slower
    rounds = [{name: seconds(loop, options.steps) for name, loop in loops.items()} for _ in range(options.rounds)]
    return {name: statistics.quantiles([each[name] / each["as they are"] for each in rounds], n=4) for name in FORMATS}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this subcommand."""
    add_model_flags(parser)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--steps", type=int, default=0, help="steps of a round; 0: enough")


def run(options: Options) -> None:
    """Print the ratios.

    Raises:
        ValueError: for bad input.
    """
    at_least(2, rounds=options.rounds)
    at_least(0, steps=options.steps)
    check(options)
    quiet()
    given = options.steps
    print(f"time over that of the networks as they are: median and quartiles, {machine()}")
    for model in options.models:
        options.model, options.steps = model, round_steps(model, given)
        found = (
            f"{name} {middle:.3f} ({low:.2f}, {high:.2f})" for name, (low, middle, high) in layout(options).items()
        )
        size = ALL[model][1].get("size", options.size)
        print(f"  {model} {size}x{size}, batch {options.batch_size}: {', '.join(found)}", flush=True)
