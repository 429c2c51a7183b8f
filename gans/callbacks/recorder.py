"""Keeps the record of a run, `run.json` in its folder, from which `gans runs` prints what became of it."""

import contextlib
import json
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L

from gans.callbacks.health import DivergedError
from gans.callbacks.loggers import show_table
from gans.engine.checkpoint import Best, Checkpoint
from gans.engine.stored import stored
from gans.engine.tensorboard import arguments, square
from gans.runs import record
from gans.runs.atomic import UnwrittenError
from gans.runs.environment import environment
from gans.runs.folder import rehearsal, run_folder

Trainer = L.Trainer
Module = L.LightningModule

SHOWN = ("fid_", "recall_")  # scores that are logged for the best step
INTERVAL = 5.0  # seconds between two writes while the run goes on


class Recorder(L.Callback):
    """Writes `run.json` when training begins, every few seconds, at each best score and when the run ends.

    It must come after the callbacks that save checkpoints. See `gans.runs.record` for what the file holds. The folder
    is locked while the process lives, so a run that was killed is not taken for a running one.
    """

    def __init__(self) -> None:
        self.record: record.Record | None = None
        self.lock: int | None = None
        self.written = 0.0
        self.spent = (0.0, 0.0)  # seconds and CPU seconds at which this process would have begun to train all of it

    def on_train_start(self, trainer: Trainer, pl_module: Module) -> None:
        """Lock the folder and write the first record.

        A resumed run keeps the time at which it began, and its best score. The loggers get a table of the arguments
        that have changed.
        """
        if not trainer.is_global_zero or rehearsal(trainer):
            return
        folder = run_folder(trainer)
        folder.mkdir(parents=True, exist_ok=True)
        earlier = known(folder)
        self.lock = record.lock(folder)
        before = (earlier.seconds or 0.0, earlier.cpu_seconds or 0.0) if earlier else (0.0, 0.0)
        self.spent = (time.monotonic() - before[0], time.process_time() - before[1])
        given = arguments(trainer, pl_module)
        self.record = record.Record(
            run=f"{folder.absolute().parent.name}/{folder.name}",
            recipe=folder.absolute().parent.name,
            state="running",
            model=given["model"],
            data=given.get("data"),
            size=given.get("data.size", square(given.get("model.size"))),
            batch_size=given.get("data.batch_size"),
            seed=given.get("seed"),
            processes=trainer.world_size,
            max_steps=trainer.max_steps if trainer.max_steps > 0 else None,
            began=earlier.began if earlier else time.time(),
            best=earlier.best if earlier else None,
            settings=given,
            environment=environment(pl_module.device),
        )
        recorded = (folder / record.FILE).is_file()  # with all arguments; config.yaml is there in a new run too
        if recorded and earlier and (rows := changed(earlier.settings, given)):
            show_table(trainer, "arguments", ["argument", "before", "now"], rows, trainer.global_step)
        self.better(trainer)
        self.write(trainer, "running")

    def on_train_batch_end(self, trainer: Trainer, pl_module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Write the record if there is a new best score, or after an interval."""
        if self.record is not None:
            better = self.better(trainer)
            if better or time.monotonic() - self.written > INTERVAL:
                self.write(trainer, "running")

    def on_fit_end(self, trainer: Trainer, pl_module: Module) -> None:
        """Write that the run is done."""
        self.end(trainer, "done")

    def on_exception(self, trainer: Trainer, pl_module: Module, exception: BaseException) -> None:
        """Write why the run ended."""
        with contextlib.suppress(UnwrittenError):  # the exception, which is another one or this, is reported
            self.end(trainer, "diverged" if isinstance(exception, DivergedError) else "stopped", reason(exception))

    def end(self, trainer: Trainer, state: record.State, why: str | None = None) -> None:
        """Write the last record, and unlock the folder."""
        if self.record is None:
            return
        self.better(trainer)
        self.write(trainer, state, why)
        record.unlock(run_folder(trainer), self.lock)
        self.record = self.lock = None

    def better(self, trainer: Trainer) -> bool:
        """Take the score of `best.ckpt` if it is another than before, and return whether it is."""
        savers = [saver for saver in trainer.checkpoint_callbacks if isinstance(saver, Best)]
        if self.record is None or not savers or savers[0].best_model_score is None:
            return False
        name, value = str(savers[0].monitor).removeprefix("score/"), float(savers[0].best_model_score)
        before = self.record.best
        if before is not None and (before.score, before.value) == (name, value):
            return False
        now = {
            tag.removeprefix("score/"): float(score)
            for tag, score in trainer.callback_metrics.items()
            if tag.startswith("score/")
        }
        # Of a resumed run whose record is older than best.ckpt, or lost, the file tells the step.
        fresh = now.get(name) == value
        step = trainer.global_step if fresh else step_of(savers[0].best_model_path)
        best = record.Best(name, value, step, now if fresh else {})
        self.record = replace(self.record, best=best)
        if fresh:
            shown = {name: score for name, score in now.items() if name.startswith(SHOWN)}
            for logger in trainer.loggers:
                logger.log_metrics(
                    {f"best/{name}": score for name, score in (shown | {"step": trainer.global_step}).items()},
                    trainer.global_step,
                )
        return True

    def write(self, trainer: Trainer, state: record.State, why: str | None = None) -> None:
        """Write the record as it is now."""
        if self.record is None:
            return
        self.written = time.monotonic()
        paths: dict[str, Path] = {}
        for saver in trainer.checkpoint_callbacks:
            if isinstance(saver, Checkpoint) and saver.last_model_path:
                paths["last"] = Path(saver.last_model_path)
            if isinstance(saver, Best) and saver.best_model_path:
                paths["best"] = Path(saver.best_model_path)
        images = getattr(trainer.lightning_module, "images_seen", None)
        self.record = replace(
            self.record,
            state=state,
            reason=why,
            steps=trainer.global_step,
            images=images,
            changed=time.time(),
            seconds=time.monotonic() - self.spent[0],
            cpu_seconds=time.process_time() - self.spent[1],
            checkpoints=paths,
        )
        record.write(run_folder(trainer), self.record)


def known(folder: Path) -> record.Record | None:
    """Return the record of an earlier process of this run, or None if there is none that can be read."""
    try:
        return record.read(folder)
    except ValueError:
        return None


def changed(before: dict[str, Any], now: dict[str, Any]) -> list[list[str]]:
    """Return name and both values, as JSON, of each argument in which a resumed run differs from its last process.

    The table HParams of TensorBoard cannot tell this: it reads only the first arguments of a run.
    """
    told: list[dict[str, str]] = [
        {name: json.dumps(value, default=str) for name, value in given.items()} for given in (before, now)
    ]
    names = [name for name in dict.fromkeys([*told[0], *told[1]]) if told[0].get(name) != told[1].get(name)]
    return [[name, told[0].get(name, ""), told[1].get(name, "")] for name in names]


def step_of(path: str) -> int | None:
    """Return the trainer's step of a checkpoint; None if it cannot be read."""
    try:
        return int(stored(path, mmap=True)["global_step"])
    except Exception:  # a damaged file raises almost anything, and the run goes on
        return None


def reason(error: BaseException) -> str:
    """Return why a run ended, in a few words."""
    if isinstance(error, SystemExit) and isinstance(error.code, int) and error.code > 128:
        return signal.Signals(error.code - 128).name
    return " ".join(str(error).split()) or type(error).__name__
