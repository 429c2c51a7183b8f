"""LightningCLI with this project's callbacks, run folders and error messages.

A run lives in `runs/<recipe>/version_<n>` (`--trainer.default_root_dir` replaces `runs`): config.yaml, TensorBoard's
events, `checkpoints/last.ckpt`, `samples/*.png`.
"""

import inspect
import logging
import os
import re
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

import datamodules
import gans.models
from gans.__main__ import find, nearest
from gans.callbacks import (
    AtomicCheckpoints,
    Checkpoint,
    DivergedError,
    Health,
    ImageGrid,
    Progress,
    SaveSamples,
    run_folder,
)
from gans.module import AdversarialModule, check_checkpoint

# Asking for every model and datamodule makes their short names known to the parser.
KINDS = {
    part: [getattr(module, name) for name in module.__all__]
    for part, module in (("model", gans.models), ("data", datamodules))
}
BAD_INPUT = (ValueError, OSError, MisconfigurationException)
# Trainer's flags that Lightning refuses under manual optimization: what they may be, and the model's flag instead.
INSTEAD = {"gradient_clip_val": ((None, 0), "gradient_clip"), "accumulate_grad_batches": ((1,), "accumulate")}
HERE = "\0"  # stands before a key in the complaint of a parser that does not know below which key it was called


class Parser(LightningArgumentParser):
    """A parser whose errors are one sentence, and whose flags have one name each."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.allow_abbrev = False  # --trainer.max_epoch would be taken for max_epochs

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what is wrong as one sentence, without the usage of hundreds of flags."""
        verbs = self._subcommands_action.choices.values() if self._subcommands_action else ()
        flags = {flag.lstrip("-") for parser in (self, *verbs) for flag in parser._option_string_actions}
        raise ValueError(sentence(str(message), flags | (arguments() if "trainer" in flags else set()))) from ex


class Watch(L.Callback):
    """Knows how far a run came: whether a batch is through (what fails later is no bad input), what it has written."""

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self.started = False
        self.interrupted: str | None = None
        self.new: Path | None = None
        self.kept: Path | None = None

    def claim(self, folder: Path) -> None:
        """Remember `folder` if it is new, and the nearest one above it that is not."""
        if main_process() and not folder.exists():
            self.new = folder.absolute()
            self.kept = next(parent for parent in self.new.parents if parent.exists())

    def forget(self) -> None:
        """Remove the new folder, and those above it that it left empty, unless a batch was through."""
        if self.new is None or self.started:
            return
        shutil.rmtree(self.new, ignore_errors=True)
        for parent in self.new.parents:
            if parent == self.kept or (parent.exists() and any(parent.iterdir())):
                return
            if parent.exists():
                parent.rmdir()

    def on_train_batch_end(self, *args: Any) -> None:
        """Note that a batch is through."""
        self.started = True

    on_validation_batch_end = on_test_batch_end = on_predict_batch_end = on_train_batch_end

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Note what Ctrl-C left, before Lightning makes an exit of it."""
        if isinstance(exception, KeyboardInterrupt):
            last = last_checkpoint(trainer)
            kept = f"the last checkpoint is {last}: --ckpt_path last goes on" if last else "there is no checkpoint yet"
            self.interrupted = f"stopped at step {trainer.global_step}; {kept}"


class CLI(LightningCLI):
    """The trainer's verbs on a recipe."""

    def __init__(self, verb: str, args: list[str], watch: Watch) -> None:
        self.name = name_of(args)
        self.watch = watch
        super().__init__(
            L.LightningModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            parser_class=Parser,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # models have plain arguments: they are their own description
            save_config_callback=SaveConfigCallback if verb == "fit" else None,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={
                "default_root_dir": "runs",
                "max_epochs": -1,
                "num_sanity_val_steps": 0,
                "use_distributed_sampler": False,
                "callbacks": [watch],
            },
            args=[verb, *args],
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the callbacks' flags, and let size and channels of the data decide the model's."""
        parser.add_lightning_class_args(ImageGrid, "grid")
        parser.add_lightning_class_args(Health, "health")
        parser.add_lightning_class_args(Checkpoint, "checkpoint")
        for name in ("size", "channels"):
            parser.link_arguments(f"data.init_args.{name}", f"model.init_args.{name}")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the given arguments; Lightning's version warns that sys.argv holds some too."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Leave the model as the recipe says: Lightning would let a checkpoint replace it in silence."""

    @property
    def folder(self) -> Path:
        """The folder of all runs of this recipe."""
        return Path(self.config[self.subcommand].trainer.default_root_dir) / self.name

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Make the trainer: run folder, bar, and checkpoints that a kill cannot spoil."""
        options = self.config_init[self.subcommand]
        resumes = options.get("ckpt_path") == "last" or self.subcommand != "fit"
        options.ckpt_path = self.find_checkpoint(options.get("ckpt_path"))
        trainer = options.trainer
        check_writable(self.folder)
        kwargs["plugins"] = [*as_list(trainer.get("plugins")), AtomicCheckpoints()]
        if trainer.get("logger") in (None, True):
            # A run that goes on does so in its own folder.
            version = Path(options.ckpt_path).parent.parent.name if resumes and options.ckpt_path else None
            logger = TensorBoardLogger(self.folder.parent, self.name, version, default_hp_metric=False)
            self.watch.claim(Path(logger.log_dir))
            kwargs["logger"] = logger
        if trainer.get("enable_progress_bar") is None and self.subcommand == "fit":
            trainer.callbacks = [*as_list(trainer.get("callbacks")), Progress()]
        if self.subcommand == "predict":
            trainer.callbacks = [*as_list(trainer.get("callbacks")), SaveSamples()]
        return super().instantiate_trainer(**kwargs)

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
        found = sorted(self.folder.glob("version_*/checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime)
        if found:
            return str(found[-1])
        if self.subcommand == "fit":
            print(f"no checkpoint of {self.name} under {self.folder}: starting anew", file=sys.stderr)
            return None
        raise ValueError(
            f"there is no checkpoint of {self.name} under {self.folder}: give --ckpt_path, or fit it first"
        )

    def after_instantiate_classes(self) -> None:
        """Look into the checkpoint before a run folder is made for it."""
        path = self.config_init[self.subcommand].ckpt_path
        if not path or not isinstance(self.model, AdversarialModule):
            return
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:
            raise ValueError(f"{path} is not a readable checkpoint ({type(error).__name__})") from error
        try:
            check_checkpoint(self.model, checkpoint)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def after_fit(self) -> None:
        """Say where everything is."""
        if self.trainer.is_global_zero:
            run = run_folder(self.trainer)
            print(f"pictures     {run / 'samples'}")
            print(f"curves       tensorboard --logdir {self.folder}")
            print(f"checkpoint   {run / 'checkpoints' / 'last.ckpt'}")

    def after_predict(self) -> None:
        """Say where the pictures are."""
        if self.trainer.is_global_zero:
            print(f"pictures     {run_folder(self.trainer) / 'predictions'}")


def as_list(value: Any) -> list[Any]:
    """Return what a flag holds, none, one or several, as a list."""
    return [] if value is None else value if isinstance(value, list) else [value]


def check_writable(folder: Path) -> None:
    """Raise a ValueError unless `folder` could be made, without making it."""
    there = next(parent for parent in [folder, *folder.absolute().parents] if parent.exists())
    try:
        with tempfile.TemporaryDirectory(dir=there):
            pass
    except OSError as error:
        raise ValueError(f"cannot write runs under {folder}: {error.strerror} ({there})") from error


UNKNOWN_KEY = (
    r"[Oo]ption '([^']+)' is not accepted",
    r"does not accept option '([^']+)'",
    r"Key '([^']+)' is not expected",
    r"[Uu]nrecognized arguments: (\S+)",
)


def sentence(message: str, flags: list[str]) -> str:
    """Return jsonargparse's nested report as its innermost complaint, with the nearest valid name."""
    owner = re.search(r'Parser key "(model|data)', message)
    prefix = f"{owner[1]}." if owner else ""
    for pattern in UNKNOWN_KEY:
        if found := re.search(pattern, message):
            name = found[1].lstrip("-").split("=")[0]
            key = (name if "." in name or name in flags else prefix + name).replace("init_args.", "")
            return f"there is no key {key}{nearest(key, [*flags, *arguments()])}"
    if found := re.search(r'Parser key "([^"]+)": Expected an? (?:typing\.)?(.+?)\.?\s+Got value: (.*)', message):
        key = found[1] if "." in found[1] or found[1] + "." == prefix else prefix + found[1]
        expected = re.sub(r"<class '(\w+)'>", r"\1", found[2]).replace("Literal", "one of ")
        return f"{key} is {found[3]}; expected {expected}"
    if found := re.search(r"(?:Expected a dot import path string:|has no attribute) '?([\w.]+)", message):
        kinds = [kind.__name__ for kinds in KINDS.values() for kind in kinds]
        close = nearest(found[1], kinds)
        return f"{prefix.rstrip('.')} is {found[1]}{close}; expected one of {', '.join(kinds)} or an import path"
    bullets = [line.strip(" -") for line in message.splitlines() if line.strip().startswith("- ")]
    told = [line for line in bullets if "NoneType" not in line]
    return told[0] if told else message.strip().splitlines()[0]


def arguments() -> set[str]:
    """Return the flags of all models and datamodules, as `model.lr`."""
    found = set()
    for part, kinds in KINDS.items():
        for base in {base for kind in kinds for base in kind.__mro__}:
            found |= {f"{part}.{word}" for word in inspect.signature(base.__init__).parameters if word != "self"}
    return found


def quiet() -> None:
    """Silence other people's notes that a user of this command can do nothing about."""
    for message in (
        r".*isinstance\(treespec, LeafSpec\).*",  # Lightning's own use of torch
        r".*Checkpoint directory .* exists and is not empty.*",  # that is what --ckpt_path last is for
    ):
        warnings.filterwarnings("ignore", message=message)
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).addFilter(lambda record: "Tip:" not in record.getMessage())


def name_of(args: list[str]) -> str:
    """Return the name of a run: that of the first configuration file.

    Raises:
        ValueError: for flags that name what the data decides.
    """
    for flag in args:
        if found := re.match(r"--model\.(?:init_args\.)?(size|channels)\b", flag):
            raise ValueError(f"model.{found[1]} follows data.{found[1]}: give --data.{found[1]}")
    position = next((i for i, flag in enumerate(args[:-1]) if flag in ("--config", "-c")), None)
    return "run" if position is None else Path(args[position + 1]).stem


def run(verb: str, args: list[str]) -> int:
    """Run a verb of the trainer and return the exit code: 0, 1 for a run that failed, 2 for bad input."""
    quiet()
    watch = Watch()
    try:
        CLI(verb, args, watch)
    except (DivergedError, *BAD_INPUT) as error:
        watch.forget()
        diverged = isinstance(error, DivergedError)
        if os.environ.get("GANS_TRACEBACK") or (watch.started and not diverged):
            raise
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print(f"gans: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1 if diverged else 2
    return 0
