"""Benchmarks of training: speed, memory, kernel launches, arithmetic, and comparisons with other projects.

A subcommand is a file with two functions: `add_flags(parser)` adds its flags, and `run(options)`
measures and prints. A new one needs a line in `SUBCOMMANDS`.
"""

import argparse
from collections.abc import Sequence
from types import ModuleType

from gans.benchmarks import data, flops, launches, layout, peers, processes, rounding, sampling, step, train
from gans.commands.home import expanded
from gans.commands.script import Parser, interruptible

SUBCOMMANDS: dict[str, ModuleType] = {
    "step": step,
    "launches": launches,
    "flops": flops,
    "layout": layout,
    "peers": peers,
    "processes": processes,
    "rounding": rounding,
    "data": data,
    "sampling": sampling,
    "train": train,
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line; `run` is the function of the subcommand."""
    parser = Parser("benchmark", description=__doc__.partition("\n")[0])
    verbs = parser.add_subparsers(dest="what", required=True, metavar="SUBCOMMAND")
    for name, module in SUBCOMMANDS.items():
        told = module.__doc__ or ""
        verb = verbs.add_parser(name, help=told.partition("\n")[0], description=told, allow_abbrev=False)
        verb.set_defaults(run=module.run)
        module.add_flags(verb)
    options: argparse.Namespace = expanded(parser.parse_args(argv))
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the subcommand and return its exit code: 0, 1 if something failed, 2 for bad input, 130 for Ctrl-C."""

    def run() -> int:
        options = parse(argv)
        return int(options.run(options) or 0)

    return interruptible("benchmark", run)
