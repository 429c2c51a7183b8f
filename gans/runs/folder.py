"""The folder of a run, `<recipe>/version_<n>`. It is claimed by one process and does not depend on the logger."""

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

VERSION = re.compile(r"version_(\d+)")


def claim(parent: Path) -> Path:
    """Create a new folder `version_<n>` in `parent` atomically, so that no other process gets it, and return it."""
    while True:
        parent.mkdir(parents=True, exist_ok=True)
        taken = [int(found[1]) for path in parent.iterdir() if (found := VERSION.fullmatch(path.name))]
        folder = parent / f"version_{max(taken, default=-1) + 1}"
        # If another process took the name, or an aborted run removed the parent, try again.
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            folder.mkdir()
            return folder


class RunFolder(L.Callback):
    """Callback that gives all processes the folder of the first one and saves checkpoints there.

    Args:
        parent: folder of all runs of a recipe.
        path: folder of the run that is resumed; None for a new run, whose folder `begin` claims.
        start: checkpoint from which the run starts. All processes must have the same one.
    """

    def __init__(self, parent: Path, path: Path | None = None, start: str | None = None) -> None:
        self.parent, self.path, self.start = parent, path, start
        self.new: list[Path] = []  # folders that were created, the deepest first

    def begin(self) -> None:
        """Claim a folder if there is none. Only the first process calls it."""
        if self.path is None:
            missing = [folder for folder in (self.parent, *self.parent.absolute().parents) if not folder.exists()]
            self.path = claim(self.parent)
            self.new = [self.path, *missing]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Broadcast the folder, and set `dirpath` of `ModelCheckpoint` callbacks that have none.

        Raises:
            ValueError: if the processes found different checkpoints to start from.
        """
        if rehearsal(trainer):
            return
        if trainer.is_global_zero:
            self.begin()
        path, start = trainer.strategy.broadcast((str(self.path), self.start))
        if not trainer.strategy.reduce_boolean_decision(start == self.start, all=True):
            raise ValueError("another run changes the last checkpoint at the same time: give --ckpt_path FILE")
        self.path = Path(path)
        setattr(trainer, "_default_root_dir", path)  # noqa: B010  users' callbacks read `trainer.default_root_dir`
        for saver in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(saver, ModelCheckpoint) and saver.dirpath is None:
                saver.dirpath = str(self.path / "checkpoints")

    def state_dict(self) -> dict[str, Any]:
        """Return the name of the folder, with which `home` finds it from a checkpoint that is saved elsewhere."""
        return {"version": self.path.name if self.path else None}


class Events(TensorBoardLogger):
    """TensorBoard logger that writes to the folder of a run.

    Args:
        folder: folder of the run.
        options: options of Lightning's `TensorBoardLogger`.
    """

    def __init__(self, folder: RunFolder, **options: Any) -> None:
        super().__init__(folder.parent.parent, folder.parent.name, default_hp_metric=False, **options)
        self.folder = folder

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer of the events. The trainer asks for it before any callback: the folder is claimed here."""
        self.folder.begin()
        return super().experiment

    @property
    def version(self) -> str:
        """Name of the folder, or `version` in a process that does not know it yet, which writes no files."""
        return self.folder.path.name if self.folder.path else "version"


def rehearsal(trainer: L.Trainer) -> bool:
    """Return whether this is a `fast_dev_run`, which writes no files."""
    return bool(getattr(trainer, "fast_dev_run", False))


def run_folder(trainer: L.Trainer) -> Path:
    """Return the folder of the run. Unlike `trainer.log_dir` this does not broadcast, so one process may call it."""
    for callback in getattr(trainer, "callbacks", ()):
        if isinstance(callback, RunFolder) and callback.path is not None:
            return callback.path
    return Path(getattr(trainer.logger, "log_dir", None) or trainer.default_root_dir)


def newest(folders: Iterable[Path]) -> Path | None:
    """Return the newest `last.ckpt` in these folders, or None.

    This includes `last-v1.ckpt`, Lightning's name for the file of a second `ModelCheckpoint` in one folder.
    """
    found = [
        path for folder in folders for path in folder.glob("last*.ckpt") if re.fullmatch(r"last(-v\d+)?", path.stem)
    ]
    return max(found, key=lambda path: (path.stat().st_mtime_ns, number(path)), default=None)


def number(path: Path) -> int:
    """Return the version number of the run whose folder contains a checkpoint, or -1."""
    found = VERSION.fullmatch(path.absolute().parent.parent.name)
    return int(found[1]) if found else -1


def home(checkpoint: Path, parent: Path) -> Path | None:
    """Return the folder in `parent` of the run that wrote a checkpoint, or None if it no longer exists.

    The checkpoint may have been saved elsewhere.
    """
    folder = checkpoint.absolute().parent.parent
    if folder.parent == parent.absolute() and VERSION.fullmatch(folder.name):
        return parent / folder.name
    try:
        held = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        version = held["callbacks"][RunFolder.__qualname__]["version"]
    except Exception:  # the file is not a checkpoint, or an older one without this entry
        return None
    return parent / version if isinstance(version, str) and (parent / version).is_dir() else None


def of_checkpoint(checkpoint: Path) -> Path:
    """Return the run folder that contains a checkpoint: the parent of `checkpoints`, else the file's own folder."""
    folder = checkpoint.parent if checkpoint.parent.name else checkpoint.absolute().parent
    return folder.parent if folder.name == "checkpoints" else checkpoint.parent
