"""fit, validate, test and predict: LightningCLI with this project's callbacks, run folders and error messages.

A run lives in `runs/<recipe>/version_<n>` (`--trainer.default_root_dir` replaces `runs`): config.yaml, TensorBoard's
events, `checkpoints/last.ckpt`, `samples/*.png`.
"""

import os
import sys
import traceback
from math import prod
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser

from gans import callbacks
from gans.callbacks import progress, stopping
from gans.checks import imported
from gans.commands.classes import asked, lines
from gans.commands.home import expanded
from gans.commands.outcome import quiet
from gans.commands.parser import Parser, check_writable
from gans.commands.trainer_report import Watch, complaint, missing_metric, result
from gans.engine import checkpoint
from gans.engine.module import AdversarialModule
from gans.engine.stored import stored
from gans.recipes import configuration
from gans.recipes.arguments import given
from gans.recipes.experiment import Experiment, as_list
from gans.recipes.named import BEST, absent, chosen, local, split, trained
from gans.recipes.trainer_checks import check_launched, check_processes
from gans.runs import atomic
from gans.runs import folder as runs
from gans.runs.memory import check_fits
from gans.runs.parent import main_process
from gans.runs.recipes import recipes

NEWEST = ("last", "best")  # values of --ckpt_path for a checkpoint of the recipe's newest run


class CLI(Experiment):
    """The trainer's verbs on a recipe."""

    def __init__(self, verb: str, name: str, args: list[str], watch: Watch, stop: stopping.StopOnSignal) -> None:
        self.watch, self.stop, self.args = watch, stop, args
        super().__init__(verb, name, args, Parser, [watch, stop])

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the given arguments, after those of the run whose checkpoint a verb is for."""
        super().parse_arguments(parser, self.with_arguments_of_run(args))
        self.watch.config = dict(self.config[args[0]].items())

    def with_arguments_of_run(self, args: list[str]) -> list[str]:
        """Return the command line with the config.yaml of the checkpoint's run, before the flags that were given.

        It has the flags that `fit` was given besides the recipe. It is not added to a user's own file, which may have
        changed on purpose.
        """
        verb, *rest = args
        if verb == "fit" or rest[:1] != ["--config"] or rest[1] != str(recipes().get(self.name)):
            return args
        root, path = Path(expanded(given(rest, "trainer.default_root_dir") or "runs")), given(rest, "ckpt_path")
        if path in (None, *NEWEST):
            places = checkpoints(root / self.name, expanded(given(rest, "checkpoint.dirpath")))
            found = chosen(places, path or "last")
        else:
            named = Path(expanded(path))
            found = local(named, root)
            if found is None and split(named)[1]:
                raise ValueError(absent(named, root))  # before the recipe's data, which may not be those of the run
        home = runs.home(found, root / self.name) if found is not None else None
        config = home / "config.yaml" if home else None
        return [verb, *rest[:2], "--config", description(config), *rest[2:]] if config and config.is_file() else args

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:  # type: ignore[override]
        """Make the trainer of a run that starts anew, resumes, or starts from weights."""
        options = self.config_init[self.subcommand]
        resumes = options.get("ckpt_path") == "last" or self.subcommand != "fit"
        options.ckpt_path = start = self.find_checkpoint(options.get("ckpt_path"))
        if resumes:
            self.config[self.subcommand].ckpt_path = None  # config.yaml says what the run is, not how often it stopped
        check_launched(options.trainer)
        check_writable(self.folder)
        if options.checkpoint.dirpath:
            check_writable(Path(options.checkpoint.dirpath))
        # A resumed run continues in its own folder.
        home = runs.home(Path(start), self.folder) if start and resumes else None
        self.watch.folder = folder = runs.RunFolder(self.folder, home, start)
        if self.subcommand == "predict":
            options.trainer.callbacks = [*as_list(options.trainer.get("callbacks")), progress.SaveSamples()]
        if options.init_from and self.subcommand == "fit":
            if start and not resumes:
                told = f"init_from is {options.init_from}, ckpt_path {start}"
                raise ValueError(f"{told}; expected one of them: a run resumes, or starts from weights")
            options.init_from = None if start else options.init_from  # a requeued run resumes
        made: L.Trainer = super().instantiate_trainer(folder, **kwargs)
        self.stop.replace_lightning(made)
        check_processes(made)
        return made

    def find_checkpoint(self, named: str | None) -> str | None:
        """Return the path of the checkpoint to start from; without a name `fit` has none, and other verbs the last.

        Args:
            named: `last` or `best` of the newest run of this recipe, or what `gans.recipes.named` finds.

        Raises:
            ValueError: if it does not exist. `fit --ckpt_path last` starts a new run instead, so that a requeued job
                needs no other command for its first run.
        """
        if named is not None and named not in NEWEST:
            return str(trained(named, self.folder.parent))
        if named is None and self.subcommand == "fit":
            return None
        options = self.config_init[self.subcommand]
        kept = options.checkpoint.dirpath
        savers = [saver for saver in as_list(options.trainer.get("callbacks")) if isinstance(saver, ModelCheckpoint)]
        others = [Path(saver.dirpath) for saver in savers if saver.dirpath and saver.save_last]
        found = chosen([*checkpoints(self.folder, kept), *others], named or "last")
        if found is not None:
            return str(found)
        where = kept or self.folder
        if named == "best":
            raise ValueError(f"the newest run of {self.name} under {where} has no {BEST}: evaluate.features makes one")
        if self.subcommand == "fit":
            if main_process():
                print(f"no checkpoint of {self.name} under {where}: starting anew", file=sys.stderr)
            return None
        raise ValueError(f"there is no checkpoint of {self.name} under {where}: fit it, or give --ckpt_path")

    def after_instantiate_classes(self) -> None:
        """Check the checkpoint and the size of a batch before a run folder is made."""
        shape, rows = getattr(self.datamodule, "image_shape", None), getattr(self.datamodule, "batch_size", None)
        if shape and rows:
            what = f"a batch of data.batch_size {rows} images of shape {tuple(shape)}"
            check_fits(rows * prod(shape) * torch.get_default_dtype().itemsize, what)
        path = self.config_init[self.subcommand].ckpt_path
        if not path:
            return
        try:
            held = stored(path, mmap=True)
        except Exception as error:  # unpickling another file raises almost anything
            raise ValueError(f"{path} is not a readable checkpoint ({type(error).__name__})") from error
        try:
            if isinstance(self.model, AdversarialModule):
                checkpoint.check_checkpoint(self.model, held)
            if self.subcommand == "fit":
                checkpoint.check_resumable(held)
                self.keep_seed(held)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def keep_seed(self, held: dict[str, Any]) -> None:
        """Keep the seed of the resumed run, also in config.yaml. The seed of a recipe of this package is a default.

        Raises:
            ValueError: if the command line, or a user's own file, gives another.
        """
        if given(self.args, "seed_everything", skip={str(path) for path in recipes().values()}) is not None:
            checkpoint.check_seed(held, self.config.fit.seed_everything)
        elif (began := checkpoint.seed_of(held)) is not None:
            self.config.fit.seed_everything = began

    def _run_subcommand(self, subcommand: str) -> None:
        """Run the trainer's verb. An error while Lightning restores a checkpoint becomes one about that checkpoint."""
        try:
            super()._run_subcommand(subcommand)
        except (ValueError, OSError):
            raise
        except Exception as error:  # a damaged state raises almost anything
            files = {Path(frame.filename).name for frame in traceback.extract_tb(error.__traceback__)}
            path = self.config_init[self.subcommand].ckpt_path
            if not path or self.watch.started or "checkpoint_connector.py" not in files:
                raise
            told = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise ValueError(f"{path} cannot be restored: {told}") from error

    def before_fit(self) -> None:
        """Make the folder of the run, and print what runs."""
        if self.trainer.is_global_zero:
            if self.watch.folder and not runs.rehearsal(self.trainer):
                self.watch.folder.begin()
            millions = sum(p.numel() for p in self.model.parameters() if p.requires_grad) / 1e6
            where = f"{self.trainer.world_size} x {self.trainer.strategy.root_device.type}"
            start = self.config_init[self.subcommand].ckpt_path
            what = f"{type(self.model).__name__} ({millions:.2f}M parameters) on {type(self.datamodule).__name__}"
            print(f"{self.subcommand:13}{what}, {where}{f', from {start}' if start else ''}", flush=True)

    before_validate = before_test = before_predict = before_fit

    def after_fit(self) -> None:
        """Print where everything is."""
        if not self.watch.started:
            self.watch.forget()
            print(f"nothing to do: step {self.trainer.global_step}, trainer.max_steps is {self.trainer.max_steps}")
        elif self.trainer.is_global_zero:
            print("\n".join(result(self.trainer)))

    def after_predict(self) -> None:
        """Print where the pictures are."""
        if self.trainer.is_global_zero:
            print(f"pictures     {runs.run_folder(self.trainer) / 'predictions'}")


def checkpoints(parent: Path, kept: str | None) -> list[Path]:
    """Return the folders of checkpoints of the runs below `parent`, or `kept`, their `checkpoint.dirpath`."""
    return [Path(kept)] if kept else list(parent.glob("version_*/checkpoints"))


def description(config: Path) -> str:
    """Return the value of `--config` for the config.yaml of a run: its path.

    If the run is older, and its model no longer has some of its arguments, it is the content without them.
    """
    held = configuration.read(config)
    model = held.get("model")
    given, path = (model.get("init_args"), model.get("class_path")) if isinstance(model, dict) else (None, None)
    if not isinstance(given, dict) or not str(path).startswith("gans.models."):
        return str(config)
    lost = checkpoint.UNREAD & (given.keys() - checkpoint.arguments(imported(str(path)), given))
    for name in lost:
        del given[name]
    return yaml.safe_dump(held) if lost else str(config)


def run(verb: str, name: str, args: list[str]) -> int:
    """Run a verb of the trainer as the run `name`, and return the exit code.

    0 is success, 1 a run that failed, 2 bad input, 128 + n the end by signal n.
    """
    quiet()
    if part := asked(args):
        print("\n".join(lines(part, verb)))
        return 0
    watch = Watch()
    with stopping.StopOnSignal(watch.forget) as stop:
        code = attempt(verb, name, args, watch, stop)
        # After a failure of this process alone, the others wait for it until a collective times out.
        stop.part(seconds=None if code == 0 else 10)
    return code


def attempt(verb: str, name: str, args: list[str], watch: Watch, stop: stopping.StopOnSignal) -> int:
    """Run the verb on this process, report errors, and return the exit code."""
    try:
        CLI(verb, name, args, watch, stop)
    except SystemExit as end:  # of a signal, or of --help and --print_config
        stopped = isinstance(end, stopping.Stopped)
        if not stopped and not watch.interrupted:
            return int(end.code or 0)
        watch.forget()
        if main_process():
            print(f"gans: {watch.interrupted or 'stopped'}", file=sys.stderr)
        return int(end.code or 0) if stopped else 130
    except BrokenPipeError:  # the reader of a pipe has left
        watch.forget()
        raise
    except Exception as error:  # the service of a logger raises almost anything
        watch.forget()
        told = complaint(error, watch)
        if os.environ.get("GANS_TRACEBACK") or told is None:
            raise
        if told:
            print(f"gans: error: {told}", file=sys.stderr)
        failed = watch.started and missing_metric(str(error)) is None
        return 1 if failed or isinstance(error, callbacks.DivergedError) or atomic.full(error) else 2
    return 0
