"""Measured numbers in README files stand in `gans/recipes/results.json`.

A number counts as measured by its form: it has a point, an exponent, or the unit of a measurement. It is no measurement

- in code: a setting, such as `--model.lr 0.001`;
- as a version, after the name of a package or licence, or in the number of a paper or a section.
"""

import re
import tomllib
from decimal import Decimal

import pytest
import readme_blocks

from gans.commands import results_file, results_page
from gans.commands.results_list import plan
from gans.commands.results_tables import Table, filled, marked, read

ROOT = readme_blocks.ROOT
MADE = re.compile(r"<!-- (recipes|protocols) -->\n.*?<!-- /\1 -->", re.DOTALL)  # by `gans results`, from "runs"
READMES = {path: MADE.sub("", text) for path, text in readme_blocks.readmes().items()}
FILE = ROOT / "gans" / "recipes" / "results.json"
FRONT = "README.md"

NUMBER = r"(?<![\w.,/-])(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:e-?\d+)?(?![\w/]|[.,]\d)"
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
UNITS = {
    "s": r"s|seconds?",
    "min": r"minutes?",
    "h": r"hours?",
    "ms": r"ms|milliseconds?",
    "us": r"microseconds?",
    "dB": r"dB",
    "nats": r"nats",
    "%": r"%|per cent",
    "times": r"times",
    "GFLOP": r"GFLOPs?",
    **{unit: unit for unit in ("kB", "MB", "GB", "MiB", "GiB")},
    "per second": r"(?:images|frames|steps)(?: per second|/s)",
}
UNIT = "|".join(f"(?P<u{i}>{pattern})" for i, pattern in enumerate(UNITS.values()))
MEASURED = re.compile(rf"({NUMBER})((?:(?: to |, | and |/| \+ )(?:{NUMBER}))*)(?:\s?(?:CPU )?(?:{UNIT})(?!\w))?")
IN_WORDS = re.compile(rf"\b({'|'.join(WORDS)}) (?=(?:CPU )?(?:seconds?|minutes?|hours?|[kMG]i?B)\b)")
NO_MEASUREMENT = re.compile(
    r"`[^`]*`|\]\([^)]*\)|<!--.*?-->"
    r"|arXiv [\d.]+(?:, [\d.]+)*|\b\d{4}\.\d{5}\b|\b(?:section|appendix) [\d.]+"
    r"|\b(?:Python|PyTorch|torch|torchvision|torchmetrics|Lightning|Pillow|DiceBear|TensorBoard|CC BY|Apache|ITU-R)[ -]"
    r"\d+(?:\.\d+)*",
    re.DOTALL,
)


def numbers(text, units=()):
    """Return (value, unit) of the measured numbers of a text; `units` are those that its numbers may have silently."""
    found = set()
    text = IN_WORDS.sub(lambda match: f"{WORDS.index(match[1]) + 1} ", NO_MEASUREMENT.sub(" ", text))
    for match in MEASURED.finditer(text):
        own = [unit for unit, i in zip(UNITS, range(len(UNITS)), strict=True) if match[f"u{i}"]]
        for number in re.findall(NUMBER, match[1] + match[2]):
            value = Decimal(number.replace(",", "")).normalize()
            if own or "." in number or "e-" in number or units:
                found |= {(value, unit) for unit in own or units or [None]}
    return found


def cells(table):
    """Return the measured numbers of a table. A unit may stand beside a number, above its column or before its row."""
    found = set()
    for row in table.rows:
        for column, cell in zip(table.columns, row, strict=True):
            silent = [unit for text in (column, row[0]) for unit in units_named(text)]
            found |= numbers(cell, silent) | numbers(cell)
            found |= {(value, None) for value, _ in numbers(cell, silent)}
    return found


def units_named(text):
    """Return the units that a heading names at its start, after a comma, or as CPU time."""
    return [unit for unit, pattern in UNITS.items() if re.search(rf"(?:^|, |CPU )(?:{pattern})(?!\w)", text)]


def tables(path):
    """Return (heading, start, table) of every table of a README outside of code."""
    text = readme_blocks.FENCE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), READMES[path])
    for match in re.finditer(r"^ *\|.*\n *\|[ :|-]+\|\n(?: *\|.*\n)*", text, re.MULTILINE):
        lines = [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))] for line in match[0].splitlines()
        ]
        above = re.findall(r"^(#+) (.*)$", text[: match.start()], re.MULTILINE)
        chapter = next((title for hashes, title in reversed(above) if len(hashes) <= 2), "")
        yield chapter, match.start(), Table(path, lines[0], lines[2:])


def prose(path):
    """Return the text of a README without code and tables, a paragraph or an item in each string."""
    text = re.sub(r"^ *\|.*$", "", readme_blocks.FENCE.sub("", READMES[path]), flags=re.MULTILINE)
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n|\n(?= *- )", text)]


def known(path):
    """Return the measured numbers of the file that a README shows; the front page may name those of the others."""
    shown = [cells(table) for table in read(FILE).values() if path in (FRONT, table.readme)]
    return set().union(*shown)


def test_the_file_is_part_of_the_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert any(FILE.match(pattern) for pattern in settings["tool"]["setuptools"]["package-data"]["gans.recipes"])


def test_the_rows_of_recipes_are_as_the_file_has_them():
    found = plan(ROOT / "scripts" / "results.yaml")
    readme, pictures = (ROOT / found.places[name] for name in ("readme", "pictures"))
    assert found.places["file"] == FILE.relative_to(ROOT)
    runs, text = results_file.merged(FILE, []), readme.read_text(encoding="utf-8")
    names = {row["name"] for row in runs} | {entry.name for entry in found.entries}
    assert results_page.filled(text, found.entries, runs, results_page.links(pictures, readme, names)) == text


@pytest.mark.parametrize("path", READMES)
def test_every_block_is_as_the_file_has_it(path):
    assert filled(READMES[path], read(FILE)) == READMES[path]


def test_every_table_of_the_file_is_shown_once_where_it_says():
    shown = [(key, path) for path, text in READMES.items() for key, _, _ in marked(text)]
    assert sorted(shown) == sorted((key, table.readme) for key, table in read(FILE).items())


@pytest.mark.parametrize("path", READMES)
def test_every_table_of_measurements_is_from_the_file(path):
    blocks = [range(start, end) for _, start, end in marked(READMES[path])]
    outside = []
    for chapter, start, table in tables(path):
        if not any(start in block for block in blocks) and (found := cells(table)):
            outside.append(f"{chapter}: {table.columns} has {min(found, key=str)}")
    assert not outside, "\n".join(outside)


@pytest.mark.parametrize("path", READMES)
def test_every_number_of_prose_is_in_a_table(path):
    there = known(path)
    absent = [f"{text[:90]}: {sorted(map(str, left))}" for text in prose(path) if (left := numbers(text) - there)]
    assert not absent, "\n".join(absent)


def test_every_result_of_the_front_page_is_in_another_readme():
    others = set().union(*(cells(table) for table in read(FILE).values() if table.readme != FRONT))
    results = read(FILE)["front-results"]
    rows = [Table(FRONT, results.columns, [row]) for row in results.rows]
    absent = [f"{row.rows[0][0]}: {left}" for row in rows if (left := cells(row) - others)]
    assert len(rows) > 5
    assert not absent, "\n".join(absent)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("5.17 dB", {("5.17", "dB")}),
        ("it took 2 to 15 minutes, 1,139 CPU s", {("2", "min"), ("15", "min"), ("1139", "s")}),
        ("recall is .02", {("0.02", None)}),
        ("within 4e-6", {("0.000004", None)}),
        ("in four minutes", {("4", "min")}),
        ("12% longer", {("12", "%")}),
        ("2,000 steps of 64 images at 32x32, PyTorch 2.14, arXiv 1511.06434, `lr 0.1`", set()),
    ],
)
def test_a_measured_number_is_known_by_its_form(text, found):
    assert numbers(text) == {(Decimal(value), unit) for value, unit in found}
