"""LightningCLI with this project's callbacks, run folders and error messages.

A run lives in `runs/<recipe>/version_<n>` (`--trainer.default_root_dir` replaces `runs`): config.yaml, TensorBoard's
events, `checkpoints/last.ckpt`, `samples/*.png`.
"""

import contextlib
import os
import re
import shutil
import sys
import traceback
from collections.abc import Collection, Iterator
from math import prod
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.trainer.states import TrainerFn

from datamodules.files import BrokenDataError
from gans import callbacks
from gans.callbacks import progress, stopping
from gans.callbacks.evaluate import Evaluate
from gans.callbacks.explore import Explore
from gans.checks import nearest
from gans.commands.parser import BAD_INPUT, Parser, as_list, check_writable, quiet, trained
from gans.commands.words import HERE, expanded, located
from gans.engine import checkpoint
from gans.engine.interface import makes_images
from gans.engine.module import AdversarialModule
from gans.recipes.catalogue import LINKED, recipes
from gans.runs import atomic
from gans.runs import folder as runs
from gans.runs.memory import Budget, check_fits, ran_out
from gans.runs.parent import main_process

# Trainer's flags that Lightning takes as they are, with the smallest number that has a meaning.
LEAST = {"log_every_n_steps": 1, "check_val_every_n_epoch": 1, "num_sanity_val_steps": -1}


# Trainer's flags that Lightning refuses under manual optimization: what they may be, and the model's flag instead.
INSTEAD = {"gradient_clip_val": ((None, 0), "gradient_clip"), "accumulate_grad_batches": ((1,), "accumulate")}


class Watch(L.Callback):
    """Knows how far a run came.

    Whether it has begun to train, whether a batch is through (what fails later is no bad input), what it has written.
    """

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self.started = self.training = False
        self.interrupted: str | None = None
        self.folder: runs.RunFolder | None = None

    def forget(self) -> None:
        """Remove the run's folders that were made, unless a batch was through or somebody else's run is in them."""
        new = [] if self.started or self.folder is None else self.folder.new
        for path in new:
            if path is new[0]:
                shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                path.rmdir()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Say which data are used, once they have been read."""
        describe = getattr(getattr(trainer, "datamodule", None), "describe", None)
        if trainer.is_global_zero and callable(describe):
            for key, words in describe().items():
                print(f"{key:13}{words}", flush=True)

    def on_train_start(self, *args: Any, **kwargs: Any) -> None:
        """Note that what follows trains."""
        self.training = True

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Note that a batch is through."""
        self.started = True

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Note the same, and for the two that follow."""
        self.started = True

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Note what a signal left."""
        if isinstance(exception, stopping.Stopped | KeyboardInterrupt) and trainer.state.fn == TrainerFn.FITTING:
            last = last_checkpoint(trainer)
            kept = f"the last checkpoint is {last}: --ckpt_path last resumes" if last else "there is no checkpoint yet"
            self.interrupted = f"stopped at step {trainer.global_step}; {kept}"


class SaveConfig(SaveConfigCallback):
    """Writes config.yaml to the folder of the run; Lightning's goes where the first logger writes."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write it once."""
        if trainer.is_global_zero and not self.already_saved:
            text = self.parser.dump(self.config, skip_none=False)
            atomic.write(runs.run_folder(trainer) / self.config_filename, text.encode())
        self.already_saved = True


class CLI(LightningCLI):
    """The trainer's verbs on a recipe."""

    def __init__(self, verb: str, name: str, args: list[str], watch: Watch, stop: stopping.StopOnSignal) -> None:
        self.verb, self.name = verb, name
        self.watch, self.stop, self.args = watch, stop, args
        super().__init__(
            L.LightningModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            parser_class=Parser,
            parser_kwargs={"prog": "gans"},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # models have plain arguments: they are their own description
            save_config_callback=SaveConfig if verb == "fit" else None,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={
                "default_root_dir": "runs",
                "max_epochs": -1,
                "num_sanity_val_steps": 0,
                "enable_model_summary": False,
                "callbacks": [watch, stop],
            },
            args=[verb, *args],
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Return the verb of this command line alone: a parser of each of Lightning's four takes 30 ms to build."""
        return {self.verb: super().subcommands()[self.verb]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the callbacks' flags, and let size and channels of the data decide the model's."""
        parser.add_lightning_class_args(callbacks.ImageGrid, "grid")
        parser.add_lightning_class_args(callbacks.Health, "health")
        parser.add_lightning_class_args(checkpoint.Checkpoint, "checkpoint")
        parser.add_lightning_class_args(callbacks.Evaluate, "evaluate")
        parser.add_lightning_class_args(Explore, "explore")
        parser.add_argument(
            "--init_from",
            type=str | None,
            default=None,
            help="Checkpoint whose weights, and nothing else, a new run starts from; those that fit by name and shape.",
        )
        for name in LINKED:
            parser.link_arguments(f"data.init_args.{name}", f"model.init_args.{name}")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the given arguments; Lightning's version warns that sys.argv holds some too."""
        self.config = parser.parse_args(self.with_arguments_of_run(args))
        self.watch.config = dict(self.config[args[0]].items())

    def with_arguments_of_run(self, args: list[str]) -> list[str]:
        """Return the command line with the arguments of the run whose checkpoint is looked at, before the given flags.

        A recipe alone does not say what `fit` was told besides. A file of the user's own does: it may have changed.
        """
        verb, *rest = args
        if verb == "fit" or rest[:1] != ["--config"] or rest[1] != str(recipes().get(self.name)):
            return args
        parent = Path(expanded(given(rest, "trainer.default_root_dir") or "runs")) / self.name
        path = given(rest, "ckpt_path")
        places = checkpoints(parent, expanded(given(rest, "checkpoint.dirpath")))
        found = runs.newest(places) if path in (None, "last") else Path(expanded(path))
        home = runs.home(found, parent) if found is not None and found.is_file() else None
        config = home / "config.yaml" if home else None
        return [verb, *rest[:2], "--config", str(config), *rest[2:]] if config and config.is_file() else args

    def _parse_ckpt_path(self) -> None:
        """Leave the model as the recipe says: Lightning would let a checkpoint replace it in silence."""

    def instantiate_classes(self) -> None:
        """Make model, data and trainer, and let what a constructor raises through as it is."""
        try:
            with Budget("the model, as large as model.width, model.latent_dim and data.size make it,"):
                super().instantiate_classes()
        except (TypeError, ValueError) as error:
            inner: BaseException = error
            while str(inner).startswith("Does not validate") and inner.__cause__:
                inner = inner.__cause__  # jsonargparse reports on the types that it tried
            # Of dict_kwargs, which nothing checks before.
            if unknown := re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(inner)):
                raise ValueError(f"{unknown[1]} has no argument {unknown[2]}: dict_kwargs cannot give it") from error
            raise inner from inner.__cause__

    @property
    def folder(self) -> Path:
        """The folder of all runs of this recipe."""
        return Path(self.config[self.subcommand].trainer.default_root_dir) / self.name

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Make the trainer: run folder, bar, and checkpoints that a kill cannot spoil."""
        options = self.config_init[self.subcommand]
        resumes = options.get("ckpt_path") == "last" or self.subcommand != "fit"
        options.ckpt_path = start = self.find_checkpoint(options.get("ckpt_path"))
        if resumes:
            self.config[self.subcommand].ckpt_path = None  # config.yaml says what the run is, not how often it stopped
        trainer = options.trainer
        check_trainer(trainer)
        check_writable(self.folder)
        if options.checkpoint.dirpath:
            check_writable(Path(options.checkpoint.dirpath))
        # A run that goes on does so in its own folder.
        home = runs.home(Path(start), self.folder) if start and resumes else None
        self.watch.folder = folder = runs.RunFolder(self.folder, home, start)
        kwargs["default_root_dir"] = self.folder
        kwargs["plugins"] = [*as_list(trainer.get("plugins")), checkpoint.AtomicCheckpoints()]
        if trainer.get("logger") in (None, True):
            kwargs["logger"] = runs.Events(folder)
        trainer.callbacks = [*as_list(trainer.get("callbacks")), folder]
        if trainer.get("enable_progress_bar") is None and self.subcommand == "fit":
            trainer.callbacks.append(progress.Progress())
        if self.subcommand == "predict":
            trainer.callbacks.append(progress.SaveSamples())
        if options.init_from and self.subcommand == "fit":
            if start and not resumes:
                told = f"init_from is {options.init_from}, ckpt_path {start}"
                raise ValueError(f"{told}; expected one of them: a run goes on, or begins with weights")
            if not start:  # what was queued again goes on
                trainer.callbacks.append(checkpoint.InitFrom(str(trained(Path(options.init_from)))))
        try:
            made = super().instantiate_trainer(**kwargs)
        except (TypeError, *BAD_INPUT) as error:
            asked = f"trainer.accelerator is {trainer.accelerator}, trainer.devices is {trainer.devices}: "
            raise ValueError(
                f"{asked if re.search('device|machine|accelerator|backend', str(error)) else ''}{error}"
            ) from error
        check_processes(made)
        return made

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[L.Callback]) -> L.Trainer:
        """Keep the best checkpoint where scores are computed, and none where that is switched off."""
        folder = self.config[self.subcommand].checkpoint.dirpath
        for scorer in [c for c in callbacks if isinstance(c, Evaluate)]:
            if scorer.extractor is not None:
                protocol = {name: getattr(scorer.protocol, name) for name in ("samples", "reference")}
                score = f"fid/{scorer.extractor.name}"
                callbacks.append(
                    checkpoint.Best(score, scorer.every_n_steps, folder, {**protocol, "seed": scorer.seed})
                )
        on = config.get("enable_checkpointing") is not False
        saving = (checkpoint.Checkpoint, checkpoint.Best)
        trainer: Any = super()._instantiate_trainer(config, [c for c in callbacks if on or not isinstance(c, saving)])
        self.stop.replace_lightning(trainer)
        # The others ask for the folder of the run. Scores after what may end the run in this batch (Lightning's timer),
        # checkpoints after the scores, the last after the best, whose score it holds; a signal may end the run after
        # these.
        order: list[Any] = [Evaluate, checkpoint.Best, checkpoint.Checkpoint, stopping.StopOnSignal]
        trainer.callbacks.sort(key=lambda c: next((i for i, kind in enumerate(order) if isinstance(c, kind)), -1))
        trainer.callbacks.sort(key=lambda c: not isinstance(c, runs.RunFolder))
        return trainer  # type: ignore[no-any-return]

    def find_checkpoint(self, given: str | None) -> str | None:
        """Return the path of the checkpoint to start from: the one given, or the newest of this recipe for `last`.

        Raises:
            ValueError: if it does not exist, except for `fit --ckpt_path last`, which then starts anew, as a job that
                is queued again and again has to.
        """
        if given is not None and given != "last":
            if not Path(given).is_file():
                raise ValueError(f"there is no checkpoint {given}")
            return given
        if given is None and self.subcommand == "fit":
            return None
        options = self.config_init[self.subcommand]
        kept = options.checkpoint.dirpath
        places = checkpoints(self.folder, kept)
        savers = [saver for saver in as_list(options.trainer.get("callbacks")) if isinstance(saver, ModelCheckpoint)]
        found = runs.newest([*places, *(Path(saver.dirpath) for saver in savers if saver.dirpath and saver.save_last)])
        if found is not None:
            return str(found)
        where = kept or self.folder
        if self.subcommand == "fit":
            if main_process():
                print(f"no checkpoint of {self.name} under {where}: starting anew", file=sys.stderr)
            return None
        raise ValueError(f"there is no checkpoint of {self.name} under {where}: fit it, or give --ckpt_path")

    def after_instantiate_classes(self) -> None:
        """Look into the checkpoint, and at the size of a batch, before a run folder is made."""
        shape, rows = getattr(self.datamodule, "image_shape", None), getattr(self.datamodule, "batch_size", None)
        if shape and rows:
            what = f"a batch of data.batch_size {rows} images of shape {tuple(shape)}"
            check_fits(rows * prod(shape) * torch.get_default_dtype().itemsize, what)
        path = self.config_init[self.subcommand].ckpt_path
        if not path:
            return
        try:
            held = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # unpickling what is no checkpoint raises almost anything
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
        """Keep the seed of the run that is resumed, also in config.yaml. The seed in a shipped recipe is a default.

        Raises:
            ValueError: if the command line, or a file of the user's own, gives another.
        """
        if given(self.args, "seed_everything", skip={str(path) for path in recipes().values()}) is not None:
            checkpoint.check_seed(held, self.config.fit.seed_everything)
        elif (began := checkpoint.seed_of(held)) is not None:
            self.config.fit.seed_everything = began

    def _run_subcommand(self, subcommand: str) -> None:
        """Run the trainer's verb; what Lightning raises while it restores a checkpoint is about that checkpoint."""
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
        """Make the run folder, and say in a line what is going to run."""
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
        """Say where everything is."""
        if not self.watch.started:
            self.watch.forget()
            print(f"nothing to do: step {self.trainer.global_step}, trainer.max_steps is {self.trainer.max_steps}")
        elif self.trainer.is_global_zero:
            print("\n".join(result(self.trainer)))

    def after_predict(self) -> None:
        """Say where the pictures are."""
        if self.trainer.is_global_zero:
            print(f"pictures     {runs.run_folder(self.trainer) / 'predictions'}")


def last_checkpoint(trainer: L.Trainer) -> Path | None:
    """Return the path of the run's last checkpoint, if it has written one."""
    savers = [saver for saver in trainer.checkpoint_callbacks if isinstance(saver, checkpoint.Checkpoint)]
    found = [near(saver.last_model_path) for saver in savers if saver.last_model_path]
    return found[0] if found and found[0].is_file() else None


def near(path: str) -> Path:
    """Return a path, relative if it is below the current folder."""
    here = Path.cwd()
    return Path(path).relative_to(here) if Path(path).is_relative_to(here) else Path(path)


def result(trainer: L.Trainer) -> Iterator[str]:
    """Yield a line for each thing that a run has left, with its place, and one with what to do next."""
    if runs.rehearsal(trainer):
        yield "rehearsal    passed: trainer.fast_dev_run keeps no pictures, curves and checkpoints"
        return
    pictures, last, chosen = runs.run_folder(trainer) / "samples", last_checkpoint(trainer), None
    if pictures.is_dir():
        yield f"pictures     {pictures}"
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            yield f"curves       tensorboard --logdir {logger.root_dir}"
        elif isinstance(logger, CSVLogger):
            yield f"curves       {Path(logger.log_dir) / logger.experiment.NAME_METRICS_FILE}"
    yield f"checkpoint   {last or 'none: trainer.enable_checkpointing is false'}"
    for saver in trainer.checkpoint_callbacks:
        if isinstance(saver, checkpoint.Best) and saver.best_model_score is not None:
            chosen = near(saver.best_model_path)
            yield f"best         {chosen} ({saver.monitor} {float(saver.best_model_score):.3f})"
    if (chosen or last) and makes_images(trainer.lightning_module):
        usage = getattr(trainer.lightning_module, "usage", "`gans sample CKPT`")
        yield f"next         {usage.strip('`').replace('CKPT', str(chosen or last))}"


def checkpoints(parent: Path, kept: str | None) -> list[Path]:
    """Return the folders of checkpoints of the runs below `parent`; `kept`, their `checkpoint.dirpath`, if given."""
    return [Path(kept)] if kept else list(parent.glob("version_*/checkpoints"))


def given(args: list[str], key: str, skip: Collection[str] = ()) -> str | None:
    """Return what a command line, and the YAML files that it names but for `skip`, say of a key before parsing."""
    value = None
    for flag, following in zip(args, [*args[1:], ""], strict=True):
        name, equals, held = flag.partition("=")
        if name == f"--{key}":
            value = held if equals else following
        elif name == "--config" and following not in skip:
            inner: Any = yaml.safe_load(Path(following).read_text(encoding="utf-8"))
            for part in key.split("."):
                inner = inner.get(part) if isinstance(inner, dict) else None
            value = value if inner is None else str(inner)
    return value


def check_trainer(trainer: Any) -> None:
    """Raise a ValueError for flags of the trainer that do not go with two optimizers, or with a run folder."""
    if trainer.barebones:
        instead = "--trainer.logger false --trainer.enable_checkpointing false --trainer.enable_progress_bar false"
        raise ValueError(f"trainer.barebones is true, but a run has curves and checkpoints: give {instead}")
    for name, (allowed, ours) in INSTEAD.items():
        if trainer[name] not in allowed:
            raise ValueError(f"trainer.{name} does not work with two optimizers: give --model.{ours} {trainer[name]}")
    for name, least in LEAST.items():
        if trainer[name] is not None and trainer[name] < least:
            raise ValueError(f"trainer.{name} is {trainer[name]}; expected at least {least}")
    interval = trainer.val_check_interval  # a time such as 00:10:00:00 is Lightning's to check
    if isinstance(interval, int | float) and not interval > 0:
        raise ValueError(f"trainer.val_check_interval is {trainer.val_check_interval}; expected a number above 0")
    strategy = trainer.strategy if isinstance(trainer.strategy, str) else "auto"
    if not re.match(r"(auto|ddp|single_device)(?!.*(spawn|fork|notebook))", strategy):
        raise ValueError(f"trainer.strategy is {trainer.strategy}; expected ddp, or auto for one device")


def check_processes(trainer: L.Trainer) -> None:
    """Raise a ValueError for processes that this machine has no cores for, or that are not launched one by one."""
    launcher, count = trainer.strategy.launcher, trainer.num_devices
    if launcher is not None and not isinstance(launcher, _SubprocessScriptLauncher):
        raise ValueError("trainer.strategy forks or spawns its processes; expected ddp")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    launches = launcher is not None and not launcher.cluster_environment.creates_processes_externally
    if launches and isinstance(trainer.accelerator, CPUAccelerator) and count > cores:
        raise ValueError(f"trainer.devices is {count}; expected at most {cores}, the CPU cores of this machine")


def run(verb: str, name: str, args: list[str]) -> int:
    """Run a verb of the trainer as the run `name`, and return the exit code.

    0 is success, 1 a run that failed, 2 bad input, 128 + n the end by signal n.
    """
    quiet()
    watch = Watch()
    with stopping.StopOnSignal(watch.forget) as stop:
        code = attempt(verb, name, args, watch, stop)
        # After a failure of this process alone, the others wait for it until a collective times out.
        stop.part(seconds=None if code == 0 else 10)
    return code


def attempt(verb: str, name: str, args: list[str], watch: Watch, stop: stopping.StopOnSignal) -> int:
    """Do what `run` does, on one process."""
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
    except (RuntimeError, MemoryError, ModuleNotFoundError, *BAD_INPUT) as error:
        watch.forget()
        told = complaint(error, watch)
        if os.environ.get("GANS_TRACEBACK") or told is None:
            raise
        if told:
            print(f"gans: error: {told}", file=sys.stderr)
        failed = watch.started and missing_metric(str(error)) is None
        return 1 if failed or isinstance(error, callbacks.DivergedError) or atomic.full(error) else 2
    return 0


def complaint(error: BaseException, watch: Watch) -> str | None:
    """Return the sentence about an error of a run: nothing if another process says it, None if it is a bug."""
    text = " ".join(str(error).replace(HERE, "").split()).rstrip(".")
    lost = isinstance(error, torch.distributed.DistError) or re.search("gloo|NCCL", text) is not None
    alone = False  # whether the first process may have met nothing
    if memory := ran_out(error):
        cuts = ", or cut each batch with --model.accumulate 2" if "model.init_args.accumulate" in watch.config else ""
        told = f"{memory}: lower data.batch_size{cuts}" if watch.training else memory
        alone = True  # of a GPU
    elif absent := missing_metric(text):
        told = absent
    elif isinstance(error, BrokenDataError):
        told = text.rpartition("BrokenDataError: ")[2]  # behind the traceback of a worker process
        alone = watch.started  # each process reads other files
    elif isinstance(error, atomic.UnwrittenError | callbacks.DivergedError):
        told = text
    elif atomic.full(error):  # of the curves
        told = f"the disk of {watch.folder.path if watch.folder else Path.cwd()} is full: {text}"
    elif watch.started:
        return None
    elif lost and not main_process():
        return ""  # when another process gives up, the connection to it breaks here: that one says why
    # An import that failed has a name; without one, somebody looked for a package and says what it is for.
    elif isinstance(error, BAD_INPUT) or (isinstance(error, ModuleNotFoundError) and not error.name):
        told = located(text, watch.config)
    else:
        return None
    return told if alone or main_process() else ""


def missing_metric(message: str) -> str | None:
    """Return what is wrong with a callback that monitors what nothing logs, from Lightning's words; None for others."""
    found = re.search(r"(?:conditioned on metric `|\(monitor=')([^`']+).*?(?:following|metrics): (.*)", message)
    if found is None:
        return None
    names = [name for name in re.findall(r"[`']([^`', ]+)[`']", found[2].split(" HINT")[0]) if "/" in name]
    like = [name for name in names if name.startswith(found[1].replace("_", "/"))]  # val/loss/... for val_loss
    near = f" (did you mean {like[0]}?)" if like else nearest(found[1], names)
    return f"monitor is {found[1]}{near}; expected a metric that this run logs: {', '.join(names)}"
