"""What the trainer's verbs print about a run: the data it uses, what it left, and what went wrong."""

import contextlib
import re
import shlex
import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn

from datamodules.reader import BrokenDataError
from gans import callbacks
from gans.callbacks import stopping
from gans.checks import nearest
from gans.commands.outcome import BAD_INPUT
from gans.commands.words import HERE, located
from gans.engine import checkpoint
from gans.engine.interface import makes_images
from gans.engine.stored import stored
from gans.runs import atomic
from gans.runs import folder as runs
from gans.runs.memory import ran_out
from gans.runs.parent import main_process

SERVICES = {  # extras with loggers, and how a run begins with them
    "mlflow": "--trainer.logger.tracking_uri sqlite:///mlflow.db keeps runs in a file",
    "wandb": "run `wandb login`; --trainer.logger.offline true needs no login",
}


class Watch(L.Callback):
    """Watches how far a run comes: whether it trains, whether a batch has passed, and what it has written.

    An error after the first batch is not bad input.
    """

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self.started = self.training = False
        self.interrupted: str | None = None
        self.folder: runs.RunFolder | None = None

    def forget(self) -> None:
        """Remove the folders that the run has made, unless a batch has passed or another run is in them."""
        new = [] if self.started or self.folder is None else self.folder.new
        for path in new:
            if path is new[0]:
                shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                path.rmdir()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Print which data are used, once they have been read."""
        describe = getattr(getattr(trainer, "datamodule", None), "describe", None)
        if trainer.is_global_zero and callable(describe):
            for key, words in describe().items():
                print(f"{key:13}{words}", flush=True)

    def on_train_start(self, *args: Any, **kwargs: Any) -> None:
        """Note that training has begun."""
        self.training = True

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Note that a batch has passed."""
        self.started = True

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Note that a batch has passed, here and in the two hooks below."""
        self.started = True

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Note what a signal has left."""
        if isinstance(exception, stopping.Stopped | KeyboardInterrupt) and trainer.state.fn == TrainerFn.FITTING:
            last = last_checkpoint(trainer)
            told = f"the last checkpoint is {last}, of step {step_of(last)}: --ckpt_path last resumes" if last else ""
            self.interrupted = f"stopped at step {trainer.global_step}; {told or 'there is no checkpoint yet'}"


def last_checkpoint(trainer: L.Trainer) -> Path | None:
    """Return the path of the run's last checkpoint, if it has written one."""
    savers = [saver for saver in trainer.checkpoint_callbacks if isinstance(saver, checkpoint.Checkpoint)]
    found = [near(saver.last_model_path) for saver in savers if saver.last_model_path]
    return found[0] if found and found[0].is_file() else None


def step_of(path: Path) -> Any:
    """Return the trainer's step of a checkpoint; None if it says none."""
    return stored(path, mmap=True).get("global_step")


def near(path: str) -> Path:
    """Return a path, relative if it is below the current folder."""
    here = Path.cwd()
    return Path(path).relative_to(here) if Path(path).is_relative_to(here) else Path(path)


def result(trainer: L.Trainer) -> Iterator[str]:
    """Yield a line with the path of each result of a run, and one with the next command."""
    if runs.rehearsal(trainer):
        yield "rehearsal    passed: trainer.fast_dev_run keeps no pictures, curves and checkpoints"
        return
    pictures, last, chosen = runs.run_folder(trainer) / "samples", last_checkpoint(trainer), None
    if pictures.is_dir():
        yield f"pictures     {pictures}"
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            yield f"curves       tensorboard --logdir {shlex.quote(str(logger.root_dir))}"
        elif isinstance(logger, CSVLogger):
            yield f"curves       {Path(logger.log_dir) / logger.experiment.NAME_METRICS_FILE}"
    yield f"checkpoint   {last or 'none: trainer.enable_checkpointing is false'}"
    for saver in trainer.checkpoint_callbacks:
        if isinstance(saver, checkpoint.Best) and saver.best_model_score is not None:
            chosen = near(saver.best_model_path)
            yield f"best         {chosen}"
            score = str(saver.monitor).removeprefix("score/")
            yield f"score        {score} {float(saver.best_model_score):.3f}, the best, at step {step_of(chosen)}"
    if (chosen or last) and makes_images(trainer.lightning_module):
        usage = getattr(trainer.lightning_module, "usage", "`gans sample CKPT`")
        yield f"next         {usage.strip('`').replace('CKPT', shlex.quote(str(chosen or last)))}"


def complaint(error: BaseException, watch: Watch) -> str | None:
    """Return the sentence about an error of a run; empty if another process prints it, None if it is a bug."""
    text = " ".join(str(error).replace(HERE, "").split()).rstrip(".")
    lost = isinstance(error, torch.distributed.DistError) or re.search("gloo|NCCL", text) is not None
    alone = False  # whether only this process may have the error
    if memory := ran_out(error):
        cuts = ", or cut each batch with --model.accumulate 2" if "model.init_args.accumulate" in watch.config else ""
        told = f"{memory}: lower data.batch_size{cuts}" if watch.training else memory
        alone = True  # the memory of one GPU
    elif absent := missing_metric(text) or missing_package(text):
        told = absent
    elif isinstance(error, BrokenDataError):
        told = text.rpartition("BrokenDataError: ")[2]  # after the traceback of a worker process
        alone = watch.started  # each process reads other files
    elif isinstance(error, atomic.UnwrittenError | callbacks.DivergedError):
        told = text
    elif atomic.full(error):  # while curves were written
        told = f"the disk of {watch.folder.path if watch.folder else Path.cwd()} is full: {text}"
    elif watch.started:
        return None
    elif of_logger := refused(error):
        told = of_logger
    elif lost and not main_process():
        return ""  # the connection to a process that has failed is broken: that process prints the reason
    # A failed import has a name. Without one, the error says which package is missing, and for what.
    elif isinstance(error, BAD_INPUT) or (isinstance(error, ModuleNotFoundError) and not error.name):
        told = located(text, watch.config)
    else:
        return None
    return told if alone or main_process() else ""


def missing_metric(message: str) -> str | None:
    """Return the sentence about a callback that monitors a metric that is not logged; None for other messages."""
    found = re.search(r"(?:conditioned on metric `|\(monitor=')([^`']+).*?(?:following|metrics): (.*)", message)
    if found is None:
        return None
    names = [name for name in re.findall(r"[`']([^`', ]+)[`']", found[2].split(" HINT")[0]) if "/" in name]
    like = [name for name in names if name.startswith(found[1].replace("_", "/"))]  # val/loss/... for val_loss
    near = f" (did you mean {like[0]}?)" if like else nearest(found[1], names)
    return f"monitor is {found[1]}{near}; expected a metric that this run logs: {', '.join(names)}"


def missing_package(message: str) -> str | None:
    """Return the sentence about a logger whose package is not installed; None for other messages."""
    found = re.search(r"\bloggers\.(\w+)'.*Requirement '([\w-]+).*not met", message)
    if found is None:
        return None
    package = f"lightning-gans[{found[2]}]" if found[2] in SERVICES else found[2]
    return f'trainer.logger is {found[1]}, whose package is not installed: pip install "{package}"'


def refused(error: BaseException) -> str | None:
    """Return the sentence about one of Lightning's loggers that cannot begin, as without a login; None for others."""
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    name = next((file.stem for file in files if file.parts[-3:-1] == ("pytorch", "loggers")), None)
    if name is None:
        return None
    told = re.split(r"\.(?:\s|$)", " ".join(str(error).split()))[0]
    return f"the logger {name} cannot begin: {told}" + (f" ({SERVICES[name]})" if name in SERVICES else "")
