"""`gans report`: one HTML file about one run, or about several that are compared, to read without a network.

It shows curves, grids through training, scores with their protocol, configurations with what differs, the nearest
training images of generated ones, power spectra, and the environment.
"""

import shlex
from collections import Counter
from datetime import datetime
from pathlib import Path

from gans.checks import at_least
from gans.commands.device import chosen_device
from gans.commands.parser import Parser, add_own_model, check_writable
from gans.commands.report_page import page
from gans.commands.report_run import shown
from gans.recipes.named import trained
from gans.runs import atomic
from gans.runs.environment import environment
from gans.runs.folder import of_checkpoint
from gans.runs.record import runs as runs_in

PICTURES = 2_500_000  # bytes of all grids, as text


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    flags = Parser(prog="gans report", description=__doc__)
    flags.add_argument("runs", nargs="+", type=Path, help="folders of runs, checkpoints in them, or recipes")
    flags.add_argument("--out", type=Path, help="file.html; by default report.html of the run, or here for several")
    flags.add_argument(
        "--no_explore", action="store_true", help="leave out neighbours and spectra, which need the data"
    )
    flags.add_argument("--reference", type=int, default=2000, help="training images in which neighbours are sought")
    flags.add_argument(
        "--device", type=str, default="auto", help="auto, cpu, cuda or cuda:1: of neighbours and spectra"
    )
    add_own_model(flags)
    options = flags.parse_args(args)
    at_least(1, reference=options.reference)
    chosen_device(options.device)
    folders = list(dict.fromkeys(folder_of(named) for named in options.runs))
    out: Path = options.out or (folders[0] if len(folders) == 1 else Path()) / "report.html"
    if out.suffix not in (".html", ".htm"):
        raise ValueError(f"out is {out}; expected a name that ends with .html")
    check_writable(out.parent)
    explore = None if options.no_explore else options.reference
    runs = [
        shown(folder, name, PICTURES // len(folders), explore, options.model, options.device)
        for folder, name in zip(folders, names(folders), strict=True)
    ]
    now = environment("cpu")
    made_by = {
        "command": shlex.join(["gans", "report", *args]),
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "version": f"lightning-gans {now['lightning-gans']}" + (f", commit {now['commit']}" if now["commit"] else ""),
    }
    text = page(runs, made_by).encode()
    for run in runs:
        left_out = run.explored if isinstance(run.explored, str) and not options.no_explore else ""
        if left_out:
            print(f"{run.name}: neighbours and spectrum: {left_out}")
    print(f"report       {atomic.write(out, text)} ({atomic.readable(len(text))})")


def folder_of(named: Path) -> Path:
    """Return the folder of the run that a folder, a checkpoint or a recipe names.

    Raises:
        ValueError: if there is no such run.
    """
    if named.is_dir() and next(runs_in(named), None) == named:
        return named
    return of_checkpoint(trained(named))


def names(folders: list[Path]) -> list[str]:
    """Return the names of runs: recipe and version, or the whole paths of those that have the same."""
    short = [f"{folder.absolute().parent.name}/{folder.absolute().name}" for folder in folders]
    count = Counter(short)
    return [name if count[name] == 1 else str(folder) for name, folder in zip(short, folders, strict=True)]
