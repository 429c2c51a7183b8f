"""What was trained, by the name that a user gives it: a checkpoint, a run, a recipe, or a model on the Hub.

The names are those of the table "Name what was trained" in gans/commands/README.md.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from gans import hub
from gans.checks import nearest
from gans.engine.stored import WEIGHTS
from gans.runs.folder import newest
from gans.runs.parent import main_process
from gans.runs.recipes import recipes

RUNS = Path("runs")
BEST = "best.ckpt"
CHOICE = re.compile(r"(.+):(best|last)")
REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")
FILES = (".ckpt", ".pt", ".safetensors", ".yaml", ".yml")  # no repository ends so


def trained(named: str | Path, root: Path = RUNS) -> Path:
    """Return the file with the weights of what was trained. Print its path if it is not the name.

    Args:
        named: see the README of the commands.
        root: folder of the runs of all recipes.

    Raises:
        ValueError: if there is none.
    """
    named = Path(named)
    found = local(named, root) or from_hub(named, root)
    if found is None:
        raise ValueError(absent(named, root))
    if found != named and main_process():
        print(f"checkpoint   {found}", file=sys.stderr)
    return found


def local(named: Path, root: Path = RUNS) -> Path | None:
    """Return the file that a name stands for, if it is on this machine, else None."""
    base, choice = split(named)
    if base.is_file() and not is_recipe(base) and not choice:
        return base
    for folder in places(base, root):
        if found := chosen([folder, folder / "checkpoints", *folder.glob("version_*/checkpoints")], choice):
            return found
    saved = base / WEIGHTS
    return saved if saved.is_file() and not choice else None


def component(named: Path, root: Path = RUNS) -> Path:
    """Return the file of a trained part of a model, such as its autoencoder.

    A missing file, and a folder or repository without our weights, are returned as they are: their readers judge them.

    Raises:
        ValueError: if there is nothing of another name.
    """
    base, choice = split(named)
    others = named.suffix in FILES or (named.is_dir() and not choice) or is_repository(base, root)
    return named if others and local(named, root) is None else trained(named, root)


def split(named: Path) -> tuple[Path, str]:
    """Return a name without `:best` or `:last`, and which of the two it had, or an empty string."""
    found = None if named.exists() else CHOICE.fullmatch(str(named))
    return (Path(found[1]), found[2]) if found else (named, "")


def is_recipe(path: Path) -> bool:
    """Return whether a file is the YAML file of a recipe or a run."""
    return path.suffix in (".yaml", ".yml")


def places(base: Path, root: Path) -> list[Path]:
    """Return the folders that a name without a suffix may stand for, those that exist."""
    if is_recipe(base):
        folders = [base.parent if base.stem == "config" else root / base.stem]
    elif base.is_file():
        folders = [base.parent]
    else:
        folders = [base, root / base]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def chosen(folders: Iterable[Path], choice: str = "last") -> Path | None:
    """Return `last.ckpt` or `best.ckpt` of the newest run whose checkpoints are in one of the folders, or None.

    Args:
        folders: of checkpoints.
        choice: `best`, or anything else for the last.
    """
    folders = list(folders)
    last = newest(folders)
    if choice != "best":
        return last
    best = [folder / BEST for folder in ([last.parent] if last else folders) if (folder / BEST).is_file()]
    return max(best, key=lambda path: path.stat().st_mtime_ns, default=None)


def from_hub(named: Path, root: Path) -> Path | None:
    """Return the file of a repository `user/name` of the Hub, or None for a name that is none.

    Raises:
        ValueError: if the Hub cannot be reached, or has no such model.
    """
    base, choice = split(named)
    if not is_repository(base, root):
        return None
    if choice:
        raise ValueError(f"{named} names one checkpoint of a run; expected {base}, for a repository holds one model")
    try:
        hub.fetched(str(base), folder=root / base)
    except ValueError as error:
        raise ValueError(f"there is no run or folder {base}{near(base, root)}, and {error}") from error
    path = root / base / WEIGHTS
    if not path.is_file():
        raise ValueError(f"{base} on the Hub holds no {WEIGHTS}; expected a model that push_to_hub wrote")
    return path


def is_repository(name: Path, root: Path) -> bool:
    """Return whether a name is `user/name`. A path into a folder that exists here, or to a run, is none."""
    owner = name.parent
    here = name.exists() or owner.exists() or str(owner) in recipes() or any((root / owner).glob("version_*"))
    return REPOSITORY.fullmatch(str(name)) is not None and name.suffix not in FILES and not here


def absent(named: Path, root: Path) -> str:
    """Return the sentence about a name that stands for nothing, with what is nearest to it."""
    base, choice = split(named)
    known, folders = recipes(), places(base, root)
    last = next(filter(None, map(local, folders)), None)
    if choice and last is not None:
        kept = ", ".join(sorted(path.name for path in last.parent.glob("*.ckpt"))) or last.name
        return f"{named} has no {choice}.ckpt: {last.parent} holds {kept}"
    if folders and any((folder / BEST).is_file() for folder in [*folders, *(each / "checkpoints" for each in folders)]):
        return f"{named} holds no last.ckpt, but {BEST}: give {base}:best"
    if str(base) in known:
        return f"there is no checkpoint of {base} under {root / base}: fit it, or give a file"
    if base.is_dir():
        return f"{base} holds no last.ckpt; expected a checkpoint, the folder of a run, or a recipe"
    return f"there is no checkpoint {named}{near(base, root)}"


def near(base: Path, root: Path) -> str:
    """Return the nearest name of a recipe, a run, or a file in the same folder, as ` (did you mean X?)`."""
    runs = [str(path.relative_to(root)) for path in (root / base.parent).glob("*/")]
    files = [str(path) for path in base.parent.glob("*") if path != base]
    return nearest(str(base), [*recipes(), *runs, *files])
