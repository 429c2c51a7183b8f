"""The file of results: `runs`, a row for each run of `gans results`, and `tables`, those of README files."""

import json
from pathlib import Path
from typing import Any

from gans.commands.results_job import Row, load
from gans.commands.results_tables import Table, dumps, read
from gans.runs import atomic


def merged(path: Path, rows: list[Row]) -> list[Row]:
    """Return the runs of a file with others added. A run of the same name and seed is replaced.

    Raises:
        ValueError: if the file is damaged.
    """
    held: dict[str, Any] = load(path) or {}
    before = held.get("runs", [])
    if not isinstance(before, list) or not all(isinstance(row, dict) and "name" in row for row in before):
        raise ValueError(f"{path} is damaged: runs is no list of results")
    found = {(row["name"], row["seed"]): row for row in before} | {(row["name"], row["seed"]): row for row in rows}
    return [found[key] for key in sorted(found)]


def tables(path: Path) -> dict[str, Table]:
    """Return the tables of a file; none if there is no file, or no tables in it."""
    return read(path) if "tables" in (load(path) or {}) else {}


def write(path: Path, rows: list[Row], kept: dict[str, Table]) -> None:
    """Write the runs, one in each line, and the tables."""
    lines = ",\n".join(f" {json.dumps(row, ensure_ascii=False, allow_nan=False)}" for row in rows)
    text = f'{{\n"runs": [\n{lines}\n],\n"tables": {dumps(kept)}\n}}\n'
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(path, text.encode())
