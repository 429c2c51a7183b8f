"""`gans runs [FOLDER]`: a table of the runs in a folder: what they train on, how far they came, their best score.

Nothing here imports torch or Lightning, unless a run is of an earlier version and has no record.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from gans.checks import nearest
from gans.runs.record import Record, read, runs

COLUMNS = ("run", "model", "data", "size", "steps", "images", "best", "at step", "state")
SORTS = ("run", "model", "data", "state", "best", "steps", "images", "changed")
LARGEST_FIRST = ("steps", "images", "changed")


class Flags(argparse.ArgumentParser):
    """A parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        """Raise a ValueError."""
        raise ValueError(message)


def parser() -> Flags:
    """Return the parser of the flags."""
    flags = Flags(prog="gans runs", description="Table of the runs in a folder.")
    flags.add_argument("folder", nargs="?", type=Path, default=Path("runs"), help="of runs, of a recipe, or of a run")
    flags.add_argument("--sort", default="run", help=f"order of the rows: {', '.join(SORTS)}")
    flags.add_argument("--json", action="store_true", help="all that is known of the runs, as JSON")
    return flags


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: if the folder holds no runs, or the order is unknown.
    """
    options = parser().parse_args(args)
    if options.sort not in SORTS:
        raise ValueError(f"sort is {options.sort}{nearest(options.sort, list(SORTS))}; expected {', '.join(SORTS)}")
    found: list[tuple[Path, Record]] = []
    for folder in runs(options.folder):
        try:
            found.append((folder, read(folder)))
        except ValueError as error:  # the others are still of interest
            print(f"gans: warning: {error}", file=sys.stderr)
    if not found:
        told = "holds no runs" if options.folder.is_dir() else "is no folder"
        raise ValueError(f"folder is {options.folder}, which {told}; expected runs of `gans fit`")
    found = arranged(found, options.sort)
    if options.json:
        print(json.dumps([described(folder, record) for folder, record in found], indent=1, default=str))
    else:
        print("\n".join(lines([COLUMNS, *(row(record) for _, record in found)])))


def arranged(found: list[tuple[Path, Record]], by: str) -> list[tuple[Path, Record]]:
    """Return runs in the order of a field, which is stable; runs without a value come last."""
    if by == "run":
        return found

    def value(record: Record) -> Any:
        return record.best and record.best.value if by == "best" else getattr(record, by)

    known = [pair for pair in found if value(pair[1]) is not None]
    unknown = [pair for pair in found if value(pair[1]) is None]
    return sorted(known, key=lambda pair: value(pair[1]), reverse=by in LARGEST_FIRST) + unknown


def row(record: Record) -> tuple[str, ...]:
    """Return the cells of a run."""
    size = "x".join(map(str, record.size)) if isinstance(record.size, tuple) else record.size
    steps = None if record.steps is None else f"{record.steps:,}"
    if steps and record.max_steps and record.steps != record.max_steps:
        steps += f" of {record.max_steps:,}"
    images = None if record.images is None else f"{record.images:,}"
    best = f"{record.best.score} {record.best.value:.4g}" if record.best else None
    at = f"{record.best.step:,}" if record.best and record.best.step is not None else None
    cells = (record.run, record.model, record.data, size, steps, images, best, at, record.state)
    return tuple("-" if cell is None else str(cell) for cell in cells)


def lines(rows: list[tuple[str, ...]]) -> list[str]:
    """Return rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in rows]


def described(folder: Path, record: Record) -> dict[str, Any]:
    """Return a run as plain values."""
    return {"folder": str(folder), **asdict(record)}
