"""images/s and peak memory of a training run against another project's own step, on the same networks.

Give the folder of a project that you have fetched; none of its code is part of this one. Ours is a run with everything
on: averaged weights, logging, health, progress bar and checkpoints. The peer's side is its step alone. Both alternate
in one process.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch
from torch.profiler import profile

from gans.benchmarks import peers_mimicry, peers_pix2pix, peers_r3gan
from gans.benchmarks.models import Options, batch_of
from gans.benchmarks.peer import Match, parameters
from gans.benchmarks.turns import alternate, extras, fit, machine, peak_of, shown
from gans.checks import at_least
from gans.commands.timing import quiet

# The flag of a project, and what it is compared on.
PROJECTS: dict[str, dict[str, Match]] = {
    "mimicry": peers_mimicry.MATCHES,
    "r3gan": peers_r3gan.MATCHES,
    "pix2pix": peers_pix2pix.MATCHES,
}
NAMES = [name for matches in PROJECTS.values() for name in matches]
OURS = "ours"


def sides(options: Options) -> tuple[Any, tuple[torch.Tensor, ...], Any]:
    """Return our model, a batch, and the peer's step."""
    match = PROJECTS[options.project][options.name]
    model = match.ours(options.full).to("cuda" if torch.cuda.is_available() else "cpu")
    batch = batch_of(model, options.batch_size or match.batch_sizes[options.full])
    return model, batch, match.theirs(options.path, model, batch, options.precision)


def train(options: Options, side: str) -> None:
    """Train one side for a round."""
    model, batch, peer = sides(options)
    if side == OURS:
        del peer
        fit(model, batch, options.batches, options.precision, *extras(options))
    else:
        del model
        peer.round(options.batches)


def compared(options: Options) -> dict[str, float]:
    """Return what both sides do, from alternating rounds. The first round is a warm-up."""
    model, batch, peer = sides(options)
    ours = [getattr(model, part) for part in ("generator", "discriminator")]
    counts = sum(map(parameters, ours)), sum(map(parameters, peer.networks))
    found = alternate(model, batch, peer, options.batches, options.rounds, options.precision, *extras(options))
    low, middle, high = found.ratio()
    images = len(batch[0]) * options.batches
    return {
        "parameters, ours": float(counts[0]),
        "parameters, theirs": float(counts[1]),
        "images/s, ours": images / statistics.median(found.ours),
        "images/s, theirs": images / statistics.median(found.theirs),
        "ratio, first quartile": low,
        "ratio, median": middle,
        "ratio, third quartile": high,
    }


def memory(options: Options) -> dict[str, float]:
    """Return the peak memory of both sides, each measured in a separate process, and their ratio."""
    ours, theirs = (peak_of(train, options, side) for side in (OURS, options.project))
    return {"peak MB, ours": ours, "peak MB, theirs": theirs, "memory ratio": ours / theirs}


def operations(options: Options) -> str:
    """Return the operations of PyTorch in which each side spends most of its time."""
    told = []
    for side in (OURS, options.project):
        with profile() as found:
            train(options, side)
        order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = found.key_averages().table(sort_by=order, row_limit=options.operations, max_name_column_width=50)
        told.append(f"{side}\n{table}")
    return "\n".join(told)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this subcommand."""
    for name, matches in PROJECTS.items():
        parser.add_argument(
            f"--{name}", type=Path, metavar="FOLDER", help=f"the project's folder: {', '.join(matches)}"
        )
    parser.add_argument("--models", nargs="+", default=NAMES, choices=NAMES, metavar="MODEL", help="default: all")
    parser.add_argument("--full", action="store_true", help="the sizes of the papers, for a GPU, instead of small ones")
    parser.add_argument("--batch_size", type=int, default=0, help="images of a batch; 0: enough")
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"])
    parser.add_argument("--compile", action="store_true", help="compile our networks")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=1, help="generator updates of a round")
    parser.add_argument(
        "--operations", type=int, default=0, help="also print that many operations of each side, by time"
    )
    parser.add_argument("--no_memory", action="store_true", help="do not measure the peak memory")


def run(options: Options) -> None:
    """Print the comparisons with all projects whose folder is given.

    Raises:
        ValueError: for bad input.
    """
    at_least(2, rounds=options.rounds)
    at_least(1, steps=options.steps)
    at_least(0, batch_size=options.batch_size, operations=options.operations)
    given = {name: getattr(options, name) for name in PROJECTS if getattr(options, name) is not None}
    if not given:
        raise ValueError(f"no project is given; expected {' or '.join(f'--{name} FOLDER' for name in PROJECTS)}")
    quiet()
    for project, path in given.items():
        for name, match in PROJECTS[project].items():
            if name not in options.models:
                continue
            one = argparse.Namespace(**vars(options))
            one.project, one.path, one.name, one.batches = project, path, name, options.steps * match.batches
            found = compared(one)
            size = one.batch_size or match.batch_sizes[one.full]
            print(
                f"{name} against {project}, batch {size}, {one.precision}{', compiled' * one.compile}, {machine()}",
                flush=True,
            )
            print(shown({**found, **({} if one.no_memory else memory(one))}), flush=True)
            if one.operations:
                print(operations(one), flush=True)
