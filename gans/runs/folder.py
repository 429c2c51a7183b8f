"""The folder of a run, `<recipe>/version_<n>`: claimed by one process, known to all, the same whatever the logger."""

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

VERSION = re.compile(r"version_(\d+)")


def claim(parent: Path) -> Path:
    """Make and return a new folder `version_<n>` below `parent`, which no other process gets."""
    while True:
        parent.mkdir(parents=True, exist_ok=True)
        taken = [int(found[1]) for path in parent.iterdir() if (found := VERSION.fullmatch(path.name))]
        folder = parent / f"version_{max(taken, default=-1) + 1}"
        # Taken in between, or the parent was removed by another run that came to nothing: try again.
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            folder.mkdir()
            return folder


class RunFolder(L.Callback):
    """Holds the folder of a run, which all processes have from the first one, and puts checkpoints there.

    Args:
        parent: folder of all runs of a recipe.
        path: folder of a run that goes on; None is a new one, which `begin` claims.
        start: checkpoint that the run starts from, on which all processes have to agree.
    """

    def __init__(self, parent: Path, path: Path | None = None, start: str | None = None) -> None:
        self.parent, self.path, self.start = parent, path, start
        self.new: list[Path] = []  # folders that were made, the deepest first

    def begin(self) -> None:
        """Claim a folder unless there is one; for the first of all processes."""
        if self.path is None:
            missing = [folder for folder in (self.parent, *self.parent.absolute().parents) if not folder.exists()]
            self.path = claim(self.parent)
            self.new = [self.path, *missing]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give all processes the folder, and the callbacks that save checkpoints anywhere their place in it.

        Raises:
            ValueError: if the processes found different checkpoints to start from.
        """
        if rehearsal(trainer):
            return
        path, start = trainer.strategy.broadcast((str(self.path), self.start))
        if not trainer.strategy.reduce_boolean_decision(start == self.start, all=True):
            raise ValueError("another run changes the last checkpoint at the same time: give --ckpt_path FILE")
        self.path = Path(path)
        setattr(trainer, "_default_root_dir", path)  # noqa: B010  what callbacks of the user's own ask for
        for saver in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(saver, ModelCheckpoint) and saver.dirpath is None:
                saver.dirpath = str(self.path / "checkpoints")

    def state_dict(self) -> dict[str, Any]:
        """Return the name of the folder, by which `home` finds it from a checkpoint that is saved elsewhere."""
        return {"version": self.path.name if self.path else None}


class Events(TensorBoardLogger):
    """TensorBoard's events in the folder of a run.

    Args:
        folder: of the run.
        options: of Lightning's `TensorBoardLogger`.
    """

    def __init__(self, folder: RunFolder, **options: Any) -> None:
        super().__init__(folder.parent.parent, folder.parent.name, default_hp_metric=False, **options)
        self.folder = folder

    @property
    def version(self) -> str:
        """The name of the folder; of a process that does not know it yet, one that nothing is written to."""
        return self.folder.path.name if self.folder.path else "version"


def rehearsal(trainer: L.Trainer) -> bool:
    """Return whether this is a `fast_dev_run`, which leaves nothing behind."""
    return bool(getattr(trainer, "fast_dev_run", False))


def run_folder(trainer: L.Trainer) -> Path:
    """Return the folder of the run; unlike `trainer.log_dir`, one process may ask alone: nothing is broadcast."""
    for callback in getattr(trainer, "callbacks", ()):
        if isinstance(callback, RunFolder) and callback.path is not None:
            return callback.path
    return Path(getattr(trainer.logger, "log_dir", None) or trainer.default_root_dir)


def newest(folders: Iterable[Path]) -> Path | None:
    """Return the newest `last.ckpt` of these folders, None if there is none.

    `last-v1.ckpt` is one too: so Lightning calls that of a second `ModelCheckpoint` of one folder.
    """
    found = [
        path for folder in folders for path in folder.glob("last*.ckpt") if re.fullmatch(r"last(-v\d+)?", path.stem)
    ]
    return max(found, key=lambda path: (path.stat().st_mtime_ns, number(path)), default=None)


def trained(named: Path) -> Path | None:
    """Return the checkpoint that is named by its file, by a folder of runs or of one run, or by a recipe; else None.

    Of a folder it is the newest `last.ckpt`; the runs of a recipe are looked for below `runs`.
    """
    if named.is_file():
        return named
    folder = named if named.is_dir() else Path("runs") / named
    return newest([folder, folder / "checkpoints", *folder.glob("version_*/checkpoints")])


def number(path: Path) -> int:
    """Return the number of the run that a checkpoint is of, -1 for one that is elsewhere."""
    found = VERSION.fullmatch(path.absolute().parent.parent.name)
    return int(found[1]) if found else -1


def home(checkpoint: Path, parent: Path) -> Path | None:
    """Return the folder below `parent` of the run that wrote a checkpoint, wherever it saved it; None if it is gone."""
    folder = checkpoint.absolute().parent.parent
    if folder.parent == parent.absolute() and VERSION.fullmatch(folder.name):
        return parent / folder.name
    try:
        held = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        version = held["callbacks"][RunFolder.__qualname__]["version"]
    except Exception:  # of a file that is no checkpoint, or older than this note in it
        return None
    return parent / version if isinstance(version, str) and (parent / version).is_dir() else None


def of_checkpoint(checkpoint: Path) -> Path:
    """Return the folder of the run that a checkpoint lies in: the one above `checkpoints`, else the file's own."""
    folder = checkpoint.absolute().parent
    return folder.parent if folder.name == "checkpoints" else checkpoint.parent
