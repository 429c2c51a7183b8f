"""images/s of trained models: samples of generators, translations of image-to-image models.

They come from the averaged weights, as `gans sample` and `gans predict` make them. Images stay on the device.
"""

import argparse
import statistics
import time
from typing import Any

import torch

from gans.benchmarks.models import Options, batch_of, build, check
from gans.benchmarks.models import add_flags as add_model_flags
from gans.benchmarks.turns import machine
from gans.checks import at_least
from gans.commands.timing import quiet, wait
from gans.engine.interface import made

WITHOUT = {"imagetextencoder"}  # it makes no images


def speeds(model: Any, batch: tuple[torch.Tensor, ...], count: int, rounds: int, precision: str) -> list[float]:
    """Return the images per second of each round, after one that warms up."""
    found, device = [], batch[0].device
    for seed in range(rounds + 1):
        wait(device)
        start = time.perf_counter()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16-mixed"):
            images = made(model, batch, count, seed)
        wait(device)
        found.append(len(images) / (time.perf_counter() - start))
    return found[1:]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this subcommand."""
    add_model_flags(parser)
    parser.add_argument("--rounds", type=int, default=10)


def run(options: Options) -> None:
    """Print the speed of each model.

    Raises:
        ValueError: for bad input.
    """
    at_least(2, rounds=options.rounds)
    check(options)
    quiet()
    print(f"batch {options.batch_size}, {options.precision}, {machine()}", flush=True)
    for name in options.models:
        if name in WITHOUT:
            continue
        model = build(name, options.size, options.channels).eval()
        batch = batch_of(model, options.batch_size)
        found = speeds(model, batch, options.batch_size, options.rounds, options.precision)
        low, middle, high = statistics.quantiles(found, n=4)
        size = "x".join(map(str, model.image_shape))
        print(f"  {name:20} {size:10} {middle:12,.0f} images/s, quartiles {low:,.0f} and {high:,.0f}", flush=True)
