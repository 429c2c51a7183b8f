"""The tables of measurements in README files, which stand in the object "tables" of `gans/recipes/results.json`.

A README shows a table between two lines, `<!-- results: KEY -->` and `<!-- /results -->`. The text between them is made
from the file. Cells are strings as they are shown, with their marks and links.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from gans.checks import nearest

FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
MARK = re.compile(r"^<!-- (?:results: (?P<key>[a-z0-9]+(?:-[a-z0-9]+)*)|/results) -->$", re.MULTILINE)


@dataclass(frozen=True)
class Table:
    """A table of measurements.

    Attributes:
        readme: path of the README that shows it, from the root of the repository.
        columns: heading of each column.
        rows: cells of each row, as many as there are columns.
    """

    readme: str
    columns: list[str]
    rows: list[list[str]]

    def rendered(self) -> str:
        """Return the table in Markdown, each line with its end."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "".join(_line(cells, " " * (i != 1)) for i, cells in enumerate(lines))


def _line(cells: list[str], space: str) -> str:
    return "|" + "".join(f"{space}{cell}{space}|" if cell else " |" for cell in cells) + "\n"


def read(path: str | Path) -> dict[str, Table]:
    """Return the tables of a results file by key.

    Raises:
        ValueError: a table has other fields than `Table`.
    """
    found = json.loads(Path(path).read_text(encoding="utf-8"))["tables"]
    wanted = set(Table.__dataclass_fields__)
    for key, table in found.items():
        if set(table) != wanted:
            raise ValueError(f"{path}: table {key!r} has the fields {sorted(table)}, expected {sorted(wanted)}")
    return {key: Table(**table) for key, table in found.items()}


def dumps(tables: dict[str, Table]) -> str:
    """Return the JSON text of the object of tables, with one row in each line."""
    return "{\n" + ",\n".join(_entry(key, table) for key, table in tables.items()) + "\n}"


def _entry(key: str, table: Table) -> str:
    rows = ",\n".join(f"    {_json(row)}" for row in table.rows)
    return (
        f'{_json(key)}: {{\n  "readme": {_json(table.readme)},\n  "columns": {_json(table.columns)},\n'
        f'  "rows": [\n{rows}\n  ]\n}}'
    )


def _json(value: str | list[str]) -> str:
    return json.dumps(value, ensure_ascii=False)


def marked(text: str) -> list[tuple[str, int, int]]:
    """Return key, start and end of the text between the marks of every block of a README.

    Marks inside of code blocks are left out.

    Raises:
        ValueError: a block is not closed, or was not opened.
    """
    hidden = [match.span() for match in FENCE.finditer(text)]
    blocks: list[tuple[str, int, int]] = []
    open_key, start = None, 0
    for mark in MARK.finditer(text):
        if any(begin <= mark.start() < end for begin, end in hidden):
            continue
        line = text.count("\n", 0, mark.start()) + 1
        if mark["key"] is not None and open_key is not None:
            raise ValueError(f"the block {open_key!r} is not closed before line {line}, expected <!-- /results -->")
        if mark["key"] is None and open_key is None:
            raise ValueError(f"line {line} closes a block that is not open, expected <!-- results: KEY --> before it")
        if mark["key"] is None and open_key is not None:
            blocks.append((open_key, start, mark.start()))
        open_key, start = mark["key"], mark.end() + 1
    if open_key is not None:
        raise ValueError(f"the block {open_key!r} is not closed, expected a line <!-- /results --> after it")
    return blocks


def filled(text: str, tables: dict[str, Table]) -> str:
    """Return the text of a README with every marked block made anew from the tables.

    Raises:
        ValueError: a block is not closed, a key is unknown or used twice, or a row has not a cell for each column.
    """
    blocks = marked(text)
    keys = [key for key, _, _ in blocks]
    for key in keys:
        if key not in tables:
            raise ValueError(f"the block {key!r} is not in the results file{nearest(key, list(tables))}")
        if keys.count(key) > 1:
            raise ValueError(f"the block {key!r} is there {keys.count(key)} times, expected once")
        for row in tables[key].rows:
            if len(row) != len(tables[key].columns):
                raise ValueError(
                    f"the table {key!r} has {len(tables[key].columns)} columns, but its row {row} has {len(row)} cells"
                )
    for key, start, end in reversed(blocks):
        text = text[:start] + tables[key].rendered() + text[end:]
    return text
