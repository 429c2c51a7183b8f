"""`gans results`: runs a list of recipes with several seeds, and writes their results to a file and a README.

- `gans results run LIST.yaml --out FOLDER --given mnist=data` runs what is not done yet.
- `gans results show LIST.yaml --out FOLDER` prints what is done.
- `gans results write LIST.yaml --out FOLDER` writes the file of results, tables and pictures.
"""

import os
from pathlib import Path

from gans.commands.results_job import Job
from gans.commands.results_list import chosen, paths, plan, unused
from gans.commands.results_run import jobs, run, share
from gans.commands.script import Parser, least

VERBS = ("run", "show", "write")


def parser() -> Parser:
    """Return the parser of the flags."""
    flags = Parser(prog="gans results", description=__doc__)
    flags.add_argument("verb", choices=VERBS)
    flags.add_argument("list", type=Path, help="YAML file, see scripts/README.md")
    flags.add_argument("--out", type=Path, default=Path("results"), help="folder of the runs")
    flags.add_argument("--given", nargs="+", default=[], metavar="NAME=PATH", help="paths of data that the list names")
    flags.add_argument("--only", nargs="+", metavar="NAME", help="entries of the list; by default all")
    flags.add_argument("--jobs", type=least(1), default=1, help="runs at a time")
    return flags


def main(args: list[str]) -> int:
    """Run the command and return its exit code: 1 if a run failed.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    options = parser().parse_args(args)
    found = plan(options.list)
    given = paths(options.given)
    for complaint in unused(found.entries, given):
        raise ValueError(complaint)
    todo = jobs(chosen(found.entries, options.only), options.out)
    if options.verb == "show":
        show(todo)
        return 0
    if options.verb == "write":
        return 0
    failed = run(share(todo, os.environ), given, options.jobs, lambda text: print(text, flush=True))
    for name in failed:
        print(f"failed: {name}")
    return int(bool(failed))


def show(todo: list[Job]) -> None:
    """Print a line for each job."""
    for job in todo:
        row, begun = job.row, job.run
        if row is not None:
            told = f"{row['state']}, {row['steps']} steps, {row['cpu_seconds']} CPU s"
        elif begun is not None:
            told = f"{begun[1].state} at step {begun[1].steps}"
        else:
            told = "not begun"
        print(f"{job.name:40} {told}")
