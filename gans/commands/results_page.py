"""What a README shows of results: a row for each recipe, and below the tables what the numbers depend on.

The rows stand between `<!-- recipes -->` and `<!-- /recipes -->`. Their first two cells, the name and what is said of
it, are a writer's, the last two are made here. `<!-- protocols -->` and `<!-- /protocols -->` enclose the protocols.
"""

import math
import os
import re
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path

from gans.checks import nearest
from gans.commands.results_job import Row
from gans.commands.results_list import Entry

BLOCK = re.compile(r"(<!-- (recipes|protocols) -->\n)(.*?)(<!-- /\2 -->)", re.DOTALL)
COLUMNS = ("recipe", "what it is", "samples", "result")
NAME = re.compile(r"`([\w.-]+)`")
SHOWN = ("fid", "recall", "coverage", "psnr", "ssim")  # scores that are shown by default, if there are such
MOST = 3  # scores of a row
ALIKE = ("recipe", "fit", "steps", "protocol")  # seeds whose scores are averaged have these in common
WORDS = {"fid": "FID", "kid": "KID", "psnr": "PSNR", "ssim": "SSIM", "inception_score": "IS"}
NEW = "# Results\n\n<!-- recipes -->\n<!-- /recipes -->\n\n<!-- protocols -->\n<!-- /protocols -->\n"
NOT_RUN, ELSEWHERE = "not run", "see the section"  # of a recipe without runs; with a link to a section of the README


def filled(text: str, entries: Iterable[Entry], rows: list[Row], pictures: Mapping[str, str]) -> str:
    """Return the text of a README with its blocks made anew.

    Args:
        text: of the README. In a single block of recipes, entries without a row get one below the others.
        entries: of the list.
        rows: results.
        pictures: links to the strips of samples by the names of the entries.
    """
    known = {entry.name: entry for entry in entries}
    alone = single(text)
    runs: dict[str, list[Row]] = {}
    for row in rows:
        runs.setdefault(row["name"], []).append(row)
    legend = Legend()

    def block(found: re.Match[str]) -> str:
        if found[2] == "protocols":
            return found[0]
        cells = {name_of(row[0]): row for row in written(found[3])}
        if alone:
            cells = cells | {name: [f"`{name}`", entry.recipe] for name, entry in known.items() if name not in cells}
        lines = [COLUMNS, ("---",) * len(COLUMNS)]
        for name, (name_cell, about) in cells.items():
            strip = f"![samples]({pictures[name]})" if name in pictures else ""
            absent = ELSEWHERE if "](#" in about else NOT_RUN
            made = result(runs[name], known.get(name), legend) if name in runs else absent
            lines.append((name_cell, about, strip, made))
        return found[1] + "".join(f"| {' | '.join(line)} |\n" for line in lines) + found[4]

    text = BLOCK.sub(block, text)
    return BLOCK.sub(lambda found: found[1] + legend.text() + found[4] if found[2] == "protocols" else found[0], text)


def single(text: str) -> bool:
    """Return whether the text of a README has a single block of recipes."""
    return [found[2] for found in BLOCK.finditer(text)].count("recipes") == 1


def names(text: str, entries: Iterable[Entry]) -> set[str]:
    """Return the names that have a row in the text of a README, and those that `filled` adds."""
    blocks = [found[3] for found in BLOCK.finditer(text) if found[2] == "recipes"]
    there = {name_of(row[0]) for block in blocks for row in written(block)}
    return there | ({entry.name for entry in entries} if single(text) else set())


def written(block: str) -> list[list[str]]:
    """Return the first two cells of each row of a block, without its head."""
    rows = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in block.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in [*row, ""][:2]] for row in rows[2:]]


def name_of(cell: str) -> str:
    """Return the name of an entry in the first cell of its row."""
    return match[1] if (match := NAME.search(cell)) else cell


class Legend:
    """Numbers of protocols, and letters of machines, in the order in which they occur."""

    def __init__(self) -> None:
        self.protocols: list[str] = []
        self.machines: list[str] = []

    def number(self, protocol: str) -> int:
        """Return the number of a protocol."""
        if protocol not in self.protocols:
            self.protocols.append(protocol)
        return self.protocols.index(protocol) + 1

    def letter(self, machine: str) -> str:
        """Return the letter of a machine."""
        if machine not in self.machines:
            self.machines.append(machine)
        return chr(ord("A") + self.machines.index(machine))

    def text(self) -> str:
        """Return the protocols and machines as lists."""
        lines = [f"{i}. {each}" for i, each in enumerate(self.protocols, 1)]
        machines = [f"- Machine {self.letter(each)}: {each}" for each in self.machines]
        return "\n".join([*lines, *([""] if lines and machines else []), *machines, ""]).lstrip("\n")


def result(rows: list[Row], entry: Entry | None, legend: Legend) -> str:
    """Return the last cell of a recipe: scores, what the runs were, and what the scores depend on."""
    lost = [row for row in rows if row["state"] != "done"]
    scored = [row for row in rows if row["state"] == "done"] or rows
    newest = max(scored, key=lambda row: (row["date"], row["commit"] or ""))
    alike = [row for row in scored if all(row[key] == newest[key] for key in ALIKE)]
    scores = [described(name, alike) for name in shown(alike, entry)]
    count = f"{len(alike)} seeds" if len(alike) > 1 else f"seed {newest['seed']}"
    whole = newest["recipe_steps"]
    part = f" of {whole:,}" if whole and whole > newest["steps"] else ""
    seconds = statistics.fmean(row["cpu_seconds"] or 0 for row in alike)
    commits = ", ".join(f"`{each}`" for each in sorted({(row["commit"] or "unknown")[:7] for row in alike}))
    facts = [f"{count}, {newest['steps']:,}{part} steps, {seconds:,.0f} CPU s"]
    if lost:
        facts.append(f"{len(lost)} diverged")
    known = f"protocol {legend.number(newest['protocol'])}, " if newest["protocol"] else ""
    facts.append(f"{known}{legend.letter(machine(newest))}, {commits}")
    return "<br>".join([*([", ".join(scores)] if scores else []), *facts])


def machine(row: Row) -> str:
    """Return the kind of the machine of a run, with the version of PyTorch."""
    return f"{row['machine']}, torch {row['versions']['torch']}"


def shown(rows: list[Row], entry: Entry | None) -> list[str]:
    """Return the names of the scores that are shown.

    Raises:
        ValueError: if an entry shows a score that none of its runs has.
    """
    there = [name for name in rows[0]["scores"] if all(name in row["scores"] for row in rows)] if rows else []
    if entry is not None and entry.show:
        every = sorted({name for row in rows for name in row["scores"]})
        for name in entry.show if every else ():
            if name not in every:
                told = f"{entry.name}: show is {name}{nearest(name, every)}"
                raise ValueError(f"{told}, which no run has; expected {', '.join(every)}")
        return [name for name in entry.show if name in there]
    first = [name for word in SHOWN for name in there if name.split("/")[0] == word and name.count("/") < 2]
    others = [name for name in there if not name.startswith("baseline/")]
    return list(dict.fromkeys([*first, *([] if first else others)]))[:MOST]


def described(name: str, rows: list[Row]) -> str:
    """Return a score with its mean over the seeds, its deviation, and that of real or of unchanged images."""
    values = [row["scores"][name] for row in rows]
    spread = f" ± {digits(statistics.stdev(values), statistics.fmean(values))}" if len(values) > 1 else ""
    word, _, rest = name.partition("/")
    text = f"{WORDS.get(word, word.replace('_', ' '))}{f' ({rest})' if rest else ''}"
    text = f"{text} {digits(statistics.fmean(values))}{spread}"
    for key, group in (("real", name), ("scores", f"baseline/{name}")):
        there = [row[key][group] for row in rows if group in row[key]]
        if there:
            text += f" ({'real' if key == 'real' else 'input'} {digits(statistics.fmean(there))})"
    return text


def digits(value: float, like: float | None = None) -> str:
    """Return a number with three digits, or as many as another number is shown with."""
    scale = abs(value if like is None else like)
    places = max(0, 2 - math.floor(math.log10(scale))) if scale else 2
    return f"{value:,.{min(places, 4)}f}"


def links(folder: Path, readme: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the links from a README to the pictures in a folder, by the names of those that are there."""
    found = {name: folder / f"{name}.jpg" for name in names}
    return {
        name: os.path.relpath(path, readme.parent).replace(os.sep, "/")
        for name, path in found.items()
        if path.is_file()
    }
