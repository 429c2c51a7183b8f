"""What a recipe and flags make: model, data module, and trainer with the callbacks, folder and checkpoints of a run.

`gans fit` and `gans.recipes.load` both make them here, so a run in Python is the run of the command line.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple, cast

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from gans import callbacks
from gans.callbacks import progress, stopping
from gans.callbacks.compile import Compilation, Compile
from gans.callbacks.evaluate import Evaluate
from gans.callbacks.explore import Explore
from gans.callbacks.recorder import Recorder
from gans.engine import checkpoint
from gans.precision import allow_tf32
from gans.recipes.configuration import LINKED
from gans.recipes.keys import Parser, cause
from gans.recipes.named import RUNS, component, local, trained
from gans.recipes.trainer_checks import check_trainer
from gans.runs import atomic
from gans.runs import folder as runs
from gans.runs.allocator import keep_freed_memory
from gans.runs.memory import Budget

COMPONENTS = ("autoencoder", "encoder")  # arguments of models that name a checkpoint


class SaveConfig(SaveConfigCallback):
    """Writes config.yaml to the folder of the run; Lightning writes it where the first logger does."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write it once."""
        if trainer.is_global_zero and not self.already_saved and not runs.rehearsal(trainer):
            text = self.parser.dump(self.config, skip_none=False)
            atomic.write(runs.run_folder(trainer) / self.config_filename, text.encode())
        self.already_saved = True


class InOrder(L.Callback):
    """Puts the callbacks behind it into order when a run begins, after the trainer and the model have added theirs.

    Scores come after callbacks that may end the run in this batch (Lightning's timer), checkpoints after the scores,
    the last after the best, whose score it holds. The record names both, and a signal ends the run after these.
    """

    kinds: tuple[Any, ...] = (Evaluate, checkpoint.Best, checkpoint.Checkpoint, Recorder, stopping.StopOnSignal)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Order them. The trainer is at this callback in its list, so those before it stay."""
        held: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        after = held.index(self) + 1
        held[after:] = sorted(held[after:], key=self.place)

    def place(self, callback: L.Callback) -> int:
        """Return the place of a callback, -1 if it has none."""
        return next((i for i, kind in enumerate(self.kinds) if isinstance(callback, kind)), -1)


class Experiment(LightningCLI):
    """Model, data module and trainer of a recipe, by LightningCLI. It makes them, and runs nothing.

    Args:
        verb: of the trainer, such as `fit`.
        name: of the run; its folder is `<trainer.default_root_dir>/<name>/version_<n>`.
        args: flags, with the YAML files after `--config`.
        parser: class of the parser.
        own: callbacks besides those that flags describe.
    """

    def __init__(
        self,
        verb: str,
        name: str,
        args: list[str],
        parser: type[LightningArgumentParser] = Parser,
        own: list[L.Callback] | None = None,
    ) -> None:
        self.verb, self.name = verb, name
        super().__init__(
            L.LightningModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            parser_class=parser,
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
                "callbacks": own or [],
            },
            args=[verb, *args],
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Return the verb of this command line alone: a parser of each of Lightning's four takes 30 ms to build."""
        return {self.verb: super().subcommands()[self.verb]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the flags of the callbacks, and let the data set size and channels of the model."""
        parser.add_lightning_class_args(callbacks.ImageGrid, "grid")
        parser.add_lightning_class_args(callbacks.Health, "health")
        parser.add_lightning_class_args(checkpoint.Checkpoint, "checkpoint")
        parser.add_lightning_class_args(callbacks.Evaluate, "evaluate")
        parser.add_lightning_class_args(Explore, "explore")
        parser.add_argument(
            "--init_from",
            type=str | None,
            default=None,
            help="Checkpoint whose weights a new run starts from: those that fit by name and shape, and nothing else.",
        )
        parser.add_argument(
            "--compile",
            type=bool | Compilation,
            default=False,
            help="Compile the networks and the augmentation for training: true, or a mode of torch.compile.",
        )
        parser.add_argument(
            "--tf32",
            type=bool | None,
            default=None,
            help="Use TF32 for float32 products on a GPU, except in gradient penalties; PyTorch's default is to use it "
            "for convolutions only.",
        )
        for name in LINKED:
            parser.link_arguments(f"data.init_args.{name}", f"model.init_args.{name}")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the given arguments; Lightning's version warns that sys.argv holds some too.

        Raises:
            ValueError: if they are wrong, or the seed is out of range.
        """
        self.config = parser.parse_args(args)
        seed = self.config[self.verb].seed_everything
        if type(seed) is int and not 0 <= seed < 2**32:
            raise ValueError(f"seed_everything is {seed}; expected 0 to {2**32 - 1}")

    def _parse_ckpt_path(self) -> None:
        """Keep the model of the recipe; Lightning would replace its arguments by those of a checkpoint silently."""

    def instantiate_classes(self) -> None:
        """Make model, data and trainer, and raise the errors of their constructors unchanged."""
        try:
            with Budget("the model, as large as model.width, model.latent_dim and data.size make it,"):
                super().instantiate_classes()
        except (TypeError, ValueError) as error:
            inner = cause(error)
            # From dict_kwargs, which the parser does not check.
            if unknown := re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(inner)):
                raise ValueError(f"{unknown[1]} has no argument {unknown[2]}: dict_kwargs cannot give it") from error
            raise inner from inner.__cause__

    def before_instantiate_classes(self) -> None:
        """Find the checkpoints that the model's arguments name; config.yaml says which files they were."""
        arguments = self.config[self.subcommand].model.get("init_args") or {}
        for name in COMPONENTS:
            if isinstance(named := arguments.get(name), str):
                arguments[name] = str(component(Path(named), self.folder.parent))

    @property
    def folder(self) -> Path:
        """The folder of all runs of this recipe."""
        return Path(self.config[self.subcommand].trainer.default_root_dir) / self.name

    def instantiate_trainer(self, run_folder: runs.RunFolder | None = None, **kwargs: Any) -> Any:
        """Make the trainer with the folder of the run, a progress bar, and atomic checkpoints.

        Args:
            run_folder: callback with the folder of the run; None is that of a new one.
            kwargs: further options of the trainer.
        """
        options = self.config_init[self.subcommand]
        trainer = options.trainer
        check_trainer(trainer)
        keep_freed_memory()
        folder = run_folder or runs.RunFolder(self.folder)
        kwargs["default_root_dir"] = self.folder
        kwargs["plugins"] = [*as_list(trainer.get("plugins")), checkpoint.AtomicCheckpoints()]
        if trainer.get("logger") in (None, True):
            kwargs["logger"] = runs.Events(folder)
        trainer.callbacks = [InOrder(), folder, *as_list(trainer.get("callbacks"))]
        if options.tf32 is not None:
            allow_tf32(options.tf32)
        if self.subcommand == "fit":
            trainer.callbacks.append(Recorder())
            if trainer.get("enable_progress_bar") is None:
                trainer.callbacks.append(progress.Progress())
            if options.compile:
                trainer.callbacks.append(Compile("default" if options.compile is True else options.compile))
            if options.init_from:
                # A recipe is looked for among the runs beside the new one first.
                beside = local(Path(options.init_from), self.folder.parent) is not None
                start = trained(options.init_from, self.folder.parent if beside else RUNS)
                trainer.callbacks.append(checkpoint.InitFrom(str(start)))
        try:
            return super().instantiate_trainer(**kwargs)
        except (TypeError, ValueError, OSError, MisconfigurationException) as error:
            asked = f"trainer.accelerator is {trainer.accelerator}, trainer.devices is {trainer.devices}: "
            raise ValueError(
                f"{asked if re.search('device|machine|accelerator|backend', str(error)) else ''}{error}"
            ) from error

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[L.Callback]) -> Any:
        """Add the best checkpoint if scores are computed, and remove checkpoints if they are off."""
        folder = self.config[self.subcommand].checkpoint.dirpath
        for scorer in [c for c in callbacks if isinstance(c, Evaluate)]:
            if scorer.extractor is not None:
                protocol = {name: getattr(scorer.protocol, name) for name in ("samples", "reference")}
                score = f"score/fid_{scorer.extractor.name}"
                callbacks.append(
                    checkpoint.Best(score, scorer.every_n_steps, folder, {**protocol, "seed": scorer.seed})
                )
        on = config.get("enable_checkpointing") is not False
        saving = (checkpoint.Checkpoint, checkpoint.Best)
        return super()._instantiate_trainer(config, [c for c in callbacks if on or not isinstance(c, saving)])


class Recipe(NamedTuple):
    """What a recipe makes.

    Args:
        model: the LightningModule, untrained.
        data: the LightningDataModule.
        trainer: arguments of `lightning.Trainer`, with the callbacks, the logger and the plugins of `gans fit`.
    """

    model: L.LightningModule
    data: L.LightningDataModule
    trainer: dict[str, Any]


class Loaded(Experiment):
    """Model, data module and the arguments of the trainer, which is not made."""

    def before_instantiate_classes(self) -> None:
        """Find checkpoints, and keep the arguments of the trainer as they are."""
        super().before_instantiate_classes()
        self.trainer_class = dict  # type: ignore[assignment]  # the parser has read Trainer's signature already

    def recipe(self) -> Recipe:
        """Return what was made."""
        return Recipe(self.model, self.datamodule, cast(dict[str, Any], self.trainer))

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing: that is for the trainer that the caller makes."""


def own_callbacks(trainer: Any) -> tuple[Any, list[L.Callback]]:
    """Return the trainer's arguments for `load` without callbacks that are objects, and these objects."""
    if not isinstance(trainer, dict) or "callbacks" not in trainer:
        return trainer, []
    held = trainer["callbacks"]
    every = list(held) if isinstance(held, list | tuple) else as_list(held)
    own = [part for part in every if isinstance(part, L.Callback)]
    described = [part for part in every if not isinstance(part, L.Callback)]
    return {**trainer, "callbacks": described or None}, own


def as_list(value: Any) -> list[Any]:
    """Return the value of a flag that takes none, one or several, as a list."""
    return [] if value is None else value if isinstance(value, list) else [value]
