"""`gans results`: runs a list of recipes with several seeds, and writes their results to a file and a README.

- `gans results run LIST.yaml --out FOLDER --given mnist=data` runs what is not done yet.
- `gans results show LIST.yaml --out FOLDER` prints what is done.
- `gans results write LIST.yaml --out FOLDER` writes the file of results, tables and pictures.
"""

import os
from pathlib import Path

from gans.commands import results_file as file
from gans.commands import results_page as page
from gans.commands import results_pictures, results_tables
from gans.commands.results_job import Job
from gans.commands.results_list import Plan, chosen, paths, plan, unused
from gans.commands.results_run import did, jobs, run, share
from gans.commands.script import Parser, least
from gans.runs import atomic

VERBS = ("run", "show", "write")


def parser() -> Parser:
    """Return the parser of the flags."""
    flags = Parser(prog="gans results", description=__doc__)
    flags.add_argument("verb", choices=VERBS)
    flags.add_argument("list", type=Path, help="YAML file, see scripts/README.md")
    flags.add_argument("--out", type=Path, default=Path("results"), help="folder of the runs")
    flags.add_argument("--given", nargs="+", default=[], metavar="NAME=PATH", help="paths of data that the list names")
    flags.add_argument("--only", nargs="+", metavar="NAME", help="entries of the list; by default all")
    flags.add_argument("--jobs", type=least(1), default=1, help="of `run`: runs at a time")
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
        write(found, todo, options.out)
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
            told = did(row)
        elif begun is not None:
            told = f"{begun[1].state} at step {begun[1].steps}"
        else:
            told = "not begun"
        print(f"{job.name:40} {told}")


def write(found: Plan, todo: list[Job], out: Path) -> None:
    """Write the file of results, the strips of samples, and every README that shows something of the file.

    Args:
        found: the list. It says where the files are; by default in the folder of the runs.
        todo: jobs whose results are added to the file.
        out: folder of the runs.
    """
    path, readme, pictures = (
        found.places.get(name, out / default)
        for name, default in (("file", "results.json"), ("readme", "README.md"), ("pictures", "pictures"))
    )
    rows = file.merged(path, [row for job in todo if (row := job.row) is not None])
    tables = file.tables(path)
    file.write(path, rows, tables)
    text = readme.read_text(encoding="utf-8") if readme.is_file() else page.NEW
    names = page.names(text, found.entries)
    drawn: dict[str, list[Path]] = {}
    for job in todo:
        if job.entry.name not in drawn and job.row is not None and (run := job.run) is not None:
            strip = pictures / f"{job.entry.name}.jpg" if job.entry.name in names else None
            drawn[job.entry.name] = results_pictures.of_entry(job.entry, run[0], run[1].size, strip)
    text = page.filled(text, found.entries, rows, page.links(pictures, readme, names))
    texts = {readme: text}
    for shown in {Path(table.readme) for table in tables.values()} - {readme}:
        texts[shown] = shown.read_text(encoding="utf-8")
    for where, text in texts.items():
        here = results_tables.filled(text, tables)
        if not where.is_file() or here != where.read_text(encoding="utf-8"):
            atomic.write(where, here.encode())
            print(f"written      {where}")
    print(f"written      {path}: {len(rows)} runs")
    print(f"pictures     {sum(map(len, drawn.values()))}")
