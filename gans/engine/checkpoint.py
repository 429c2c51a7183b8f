"""Checkpoints that a crash cannot spoil, that end with the last step, and that know what they hold."""

import inspect
from pathlib import Path
from types import NoneType
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from gans.checks import article, at_least, named_in, nearest
from gans.engine.interface import makes_images, translates
from gans.engine.stored import stored
from gans.runs import atomic

PROGRESS = {"seed": int | NoneType, "batches_seen": int, "images_seen": int, "images_averaged": int, "pending": dict}
LATER = {"classes": list, "settings": list, "length": list, "origin": dict}  # which older checkpoints lack
RESUMABLE = {"epoch": int, "global_step": int, "loops": dict, "optimizer_states": list, "lr_schedulers": list}
RESUMABLE |= {"callbacks": dict, "pytorch-lightning_version": str}
RENAMED = {"logit_averages": "terms.lecam.averages"}  # what older checkpoints call otherwise
# Arguments that classes once took of their bases without reading them: older checkpoints hold their defaults.
UNREAD = {"critic", "batch_norm", "objective", "prior", "betas", "discriminator_lr", "critic_steps", "generator_batch"}
UNREAD |= {"r1", "r2", "lazy", "lecam", "lecam_start", "augment", "augment_options", "ema_halflife"}
UNREAD |= {"instance_noise", "instance_noise_images", "lr_decay_images", "lr_hold_images"}
UNREAD |= {"feature_weight", "source_channels"}
MAKER = "lightning.pytorch.cli.instantiate_module"  # what Lightning may note in a checkpoint, and calls
SHOWN = 4  # weights that were not taken, in the line of a run

Trainer = L.Trainer
Module = L.LightningModule


def complete(trainer: Trainer) -> bool:
    """Return whether the batch that has just been trained on is the last that was asked for."""
    epochs = trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
    return trainer.global_step == trainer.max_steps or epochs


def ends(trainer: Trainer) -> bool:
    """Return whether the batch that has just been trained on is the last of the run."""
    # should_stop: early stopping, --trainer.max_time
    return complete(trainer) or trainer.should_stop


class Checkpoint(ModelCheckpoint):
    """Writes `checkpoints/last.ckpt` every so many steps, and with the very last one.

    Args:
        every_n_steps: trainer steps between two writes.
        dirpath: folder of the checkpoint; None is `checkpoints` in the run folder.
    """

    def __init__(self, every_n_steps: int = 500, dirpath: str | None = None) -> None:
        at_least(1, every_n_steps=every_n_steps)
        # save_top_k=0: one file. No version counter: a resumed run overwrites the file that it came from.
        super().__init__(
            dirpath=dirpath,
            every_n_train_steps=every_n_steps,
            save_last=True,
            save_top_k=0,
            enable_version_counter=False,
        )

    @property
    def state_key(self) -> str:
        """The name of this callback's state in a checkpoint: a resumed run may save at another interval."""
        return type(self).__qualname__

    def on_train_batch_end(self, trainer: Trainer, pl_module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save when due, and at the end of training, where a longer run can resume in mid-epoch."""
        if ends(trainer):
            self.save(trainer)
        else:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def save(self, trainer: Trainer) -> None:
        """Save at the end of a batch, unless this step has been saved."""
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: Module) -> None:
        """Save nothing more: here a trainer's progress already is that of the next epoch."""


class Best(ModelCheckpoint):
    """Writes `checkpoints/best.ckpt` whenever a score is better than all before.

    Args:
        monitor: the score, such as `score/fid_mnist`; the smaller the better.
        every_n_steps: trainer steps between two scores.
        dirpath: folder of the checkpoint; None is `checkpoints` in the run folder.
        protocol: how the score is computed; a resumed run with another protocol forgets earlier scores.
    """

    def __init__(
        self, monitor: str, every_n_steps: int, dirpath: str | None = None, protocol: dict[str, int] | None = None
    ) -> None:
        super().__init__(
            dirpath=dirpath,
            filename="best",
            monitor=monitor,
            every_n_train_steps=every_n_steps,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )
        self.protocol = protocol or {}

    @property
    def state_key(self) -> str:
        """The name of this callback's state in a checkpoint: a resumed run may evaluate at another interval."""
        score = str(self.monitor).removeprefix("score/").replace("_", "/", 1)  # as earlier versions called the score
        return f"{type(self).__qualname__}({score})"

    def state_dict(self) -> dict[str, Any]:
        """Return the best score, and how it was computed."""
        return {**super().state_dict(), "protocol": self.protocol}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Know the best score again, also where the run's folder has been moved, if the next ones compare with it.

        It is the one that `best.ckpt` holds, which may have been written after the checkpoint from which a run resumes.
        """
        path = Path(self.dirpath or "") / "best.ckpt"
        state_dict = best_state(path, self.state_key) or state_dict
        before = state_dict.get("protocol", self.protocol)
        if before != self.protocol:
            changed = [(name, before.get(name), now) for name, now in self.protocol.items() if before.get(name) != now]
            told = ", ".join(f"{name} {then}, now {now}" for name, then, now in changed)
            rank_zero_warn(f"{self.monitor} was computed with {told}: best.ckpt follows the new scores alone")
            return
        if path.is_file() and state_dict.get("best_model_path"):
            score = state_dict["best_model_score"]
            here = {"dirpath": self.dirpath, "best_model_path": str(path), "kth_best_model_path": str(path)}
            state_dict = {**state_dict, **here, "best_k_models": {str(path): score}}
        super().load_state_dict(state_dict)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save when due, and with the last step, which has a score of its own."""
        if self.monitor not in trainer.callback_metrics:
            return
        if ends(trainer) and not self._should_skip_saving_checkpoint(trainer):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))
        else:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_train_end(self, trainer: Trainer, pl_module: Module) -> None:
        """Save nothing more."""


def best_state(path: Path, key: str) -> dict[str, Any] | None:
    """Return what `best.ckpt` holds of its own score; None if there is no such file, or it is of another score."""
    try:
        state = stored(path, mmap=True)["callbacks"][key]
    except Exception:  # the file is damaged, or of an earlier version: the score is that of the resumed checkpoint
        return None
    return state if isinstance(state, dict) and state.get("best_model_score") is not None else None


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints written beside their name, flushed to the disk, then renamed: a kill leaves the old or the new one.

    For `Trainer(plugins=...)`. Lightning's own writer goes through a temporary folder that may be on another disk, from
    where the last move is a copy.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint` to the local file `path`.

        Raises:
            UnwrittenError: if it cannot be written, as to a full disk; the file that was there is unchanged.
        """
        with atomic.opened(path) as file:
            torch.save(checkpoint, file)

    def load_checkpoint(self, path: Any, *args: Any, **options: Any) -> dict[str, Any]:
        """Return what a checkpoint holds, as Lightning does, or the files of `save_pretrained`."""
        saved = Path(path).suffix == ".safetensors"
        held: dict[str, Any] = stored(path) if saved else super().load_checkpoint(path, *args, **options)
        held.setdefault("pytorch-lightning_version", L.__version__)  # which those of weights alone do not have
        return held


def class_path(kind: type) -> str:
    """Return the dotted path from which `kind` can be imported."""
    return f"{kind.__module__}.{kind.__qualname__}"


def not_finite(weights: dict[str, Any]) -> str | None:
    """Return the name of the first tensor that holds NaN or infinity, if there is one."""
    for name, tensor in weights.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or not tensor.numel():
            continue
        # The extremes, which NaN makes NaN: isfinite would take several times the memory of the tensor.
        if not all(map(torch.isfinite, tensor.aminmax())):
            return name
    return None


def check_checkpoint(model: Module, checkpoint: Any) -> None:
    """Check that a loaded checkpoint belongs to this class of model, built with these sizes.

    Raises:
        ValueError: if it does not, saying what it holds, or if its weights are not finite.
    """
    held = model_name(checkpoint)
    if held is None or not fits(held, type(model)):
        held = held or "no model of this framework"
        raise ValueError(f"the checkpoint holds {held}; expected {class_path(type(model))}")
    state = checkpoint["adversarial"]
    check_fields("the checkpoint", checkpoint, {"state_dict": dict})
    later = {name: kind for name, kind in LATER.items() if state.get(name) is not None}
    check_fields("the checkpoint's adversarial", state, {**PROGRESS, **later})
    rows = [row for group in state.get("settings") or () for row in (group if isinstance(group, list) else (group,))]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("the checkpoint's adversarial is damaged: settings holds no settings of optimizers")
    saved, expected = checkpoint["state_dict"], model.state_dict()
    for name, value in expected.items():
        if regulariser(name, model):
            continue
        if name not in saved:
            others = [f", but {other}" for other in saved if other not in expected][:1]
            raise ValueError(
                f"the checkpoint has no {name}{''.join(others)}: it was trained with another architecture, or by "
                "another version of lightning-gans"
            )
        shape = getattr(saved[name], "shape", None)
        if shape != value.shape:
            told = type(saved[name]).__name__ if shape is None else tuple(shape)
            raise ValueError(
                f"the checkpoint's {name} is {told}, the model's is {tuple(value.shape)}: it was trained with "
                "another size, channels, width or architecture"
            )
    if broken := not_finite(saved):
        raise ValueError(f"the checkpoint's {broken} is not finite: its run diverged")


def check_resumable(checkpoint: dict[str, Any]) -> None:
    """Check that a loaded checkpoint has what a run needs to resume.

    Raises:
        ValueError: if something is missing, as in a file of weights alone.
    """
    for name in RESUMABLE:
        if name not in checkpoint:
            raise ValueError(
                f"the checkpoint has no {name}, so no run can resume from it: --init_from takes its weights"
            )
    check_fields("the checkpoint", checkpoint, RESUMABLE)
    check_fields("the checkpoint's loops", checkpoint["loops"], {"fit_loop": dict})
    if "seed" in checkpoint.get("adversarial", {}):  # None if the model never trained
        check_fields("the checkpoint's adversarial", checkpoint["adversarial"], {"seed": int})


def seed_of(checkpoint: dict[str, Any]) -> int | None:
    """Return the seed that a checkpoint's run was given; None if there is none, or it was drawn."""
    began = checkpoint.get("adversarial", {}).get("seed")
    # Larger ones were drawn, not given: a command line takes 32 bits.
    return began if isinstance(began, int) and began < 2**32 else None


def check_seed(checkpoint: dict[str, Any], asked: bool | int) -> None:
    """Check that a run is not given another seed than its checkpoint's run began with, which it keeps.

    Raises:
        ValueError: if it is.
    """
    began = seed_of(checkpoint)
    if type(asked) is int and began is not None and asked != began:
        raise ValueError(f"seed_everything is {asked}; expected {began}, with which the checkpoint's run began")


def check_fields(where: str, fields: dict[str, Any], kinds: dict[str, Any]) -> None:
    """Check that `fields` has each name of `kinds`, with a value of that type; numbers are not negative.

    Raises:
        ValueError: if not.
    """
    for name, kind in kinds.items():
        value = fields.get(name)
        if not isinstance(value, kind) or isinstance(value, bool) or (isinstance(value, int) and value < 0):
            told = f"is {value!r}" if isinstance(value, int | float | str) else f"is {article(type(value))}"
            raise ValueError(f"{where} is damaged: {name} {told if name in fields else 'is missing'}")


def adapt(model: Module, checkpoint: dict[str, Any]) -> None:
    """Give a loaded checkpoint the state of those regularisers that this model has, and the checkpoint's model had not.

    Augmentations and terms keep a state of their own. A resumed run may switch them on and off, or start ADA from
    another probability.

    Raises:
        ValueError: if the checkpoint holds parts of a network that this model lacks.
    """
    own, held = model.state_dict(), checkpoint["state_dict"]
    for before, now in RENAMED.items():
        if before in held:
            held[now] = held.pop(before)
    starts = [
        (given.get("augment"), (given.get("augment_options") or {}).get("probability"))
        for given in ({**model.hparams, **checkpoint.get("hyper_parameters", {})}, model.hparams)
    ]
    for name in [name for name in (*held, *own) if regulariser(name, model)]:
        anew = name.startswith("augment.") and starts[0] != starts[1]
        if name not in own:
            held.pop(name, None)
        elif anew or getattr(held.get(name), "shape", None) != own[name].shape:
            held[name] = own[name].clone()
    if surplus := [name for name in held if name not in own]:
        raise ValueError(f"the checkpoint's {surplus[0]} has no place in the model: it was trained with other options")


def regulariser(name: str, model: Module) -> bool:
    """Return whether the tensor `name` is the state of a regulariser, and not of a network."""
    return name.startswith(("augment.", "terms.")) or name in RENAMED or name in model._buffers


def check_begun(model: Module, checkpoint: dict[str, Any], name: str) -> None:
    """Check that a resumed run has the same argument `name`, which only the start of a run reads.

    Raises:
        ValueError: if it does not.
    """
    before = checkpoint.get("hyper_parameters", {}).get(name, model.hparams[name])
    fits = model._trainer is not None and model.trainer.state.fn == "fit"
    if fits and before != model.hparams[name]:
        raise ValueError(f"{name} is {model.hparams[name]}; expected {before}, with which the checkpoint's run began")


class InitFrom(L.Callback):
    """Starts a new run, of any module, from the weights of a checkpoint, and says in a line what was not taken.

    Args:
        path: of the checkpoint, see `init_from`.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        weights(path)

    def on_fit_start(self, trainer: Trainer, pl_module: Module) -> None:
        """Take the weights, once the model has all of its parts."""
        left = init_from(pl_module, self.path)
        if trainer.is_global_zero:
            more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
            told = f"; not taken: {', '.join(left[:SHOWN])}{more}" if left else ""
            print(f"weights      {self.path}{told}", flush=True)
            if licence := getattr(pl_module, "origin", {}).get("licence"):
                print(f"licence      {licence}", flush=True)


def init_from(model: Module, path: str | Path) -> list[str]:
    """Copy the weights of a checkpoint to a model, by their names, and return what was not taken, a phrase for each.

    Networks and their averages are copied; a network without an average in the file gets one equal to itself. Clock,
    moments, schedules, the state of regularisers and frozen modules are not: the new run has its own. What has another
    shape here, as the layers that know of classes where their number differs, stays as it is, and so do encoders of
    sentences with another vocabulary. Of an imported checkpoint the origin is copied too, and networks that were not
    published are not taken. An argument with which its networks were imported, and that is another here, is told like
    a weight.

    Args:
        model: of any class; for `TextToImage`, one that has a vocabulary.
        path: of a checkpoint of any Lightning module.

    Raises:
        ValueError: if the file is no checkpoint, nothing in it fits, or a weight is not finite.
    """
    held = weights(path)
    found, words = held["state_dict"], held.get("hyper_parameters", {}).get("vocabulary")
    if name := not_finite(found):
        raise ValueError(f"{path}: {name} is not finite: its run diverged")
    origin = origin_of(held)
    absent = tuple(f"{part}." for part in origin.get("missing", ()))
    frozen = tuple(f"{part}." for part in getattr(model, "frozen", ()))
    own, left, taken = model.state_dict(), [], set()
    foreign = "matcher." if words is not None and words != model.hparams.get("vocabulary") else "\0"
    for name, tensor in own.items():
        there = getattr(found.get(name), "shape", None)
        if regulariser(name, model) or name.startswith((*absent, *frozen)):
            continue
        if there == tensor.shape and not name.startswith(foreign):
            tensor.copy_(found[name])
            taken.add(name)
        elif there != tensor.shape:
            shape = "missing there" if there is None else f"{tuple(there)}, here {tuple(tensor.shape)}"
            left.append(f"{name} ({shape})")
        else:
            left.append(f"{name} (of other words)")
    averaged = {name.partition(".")[0] for name in own} & {"generator_ema"}
    if averaged and not any(name.startswith("generator_ema.") for name in found):
        model.generator_ema.load_state_dict(model.generator.state_dict())  # type: ignore[union-attr]
        left = [text for text in left if not text.startswith("generator_ema.")]
    if not taken:
        raise ValueError(f"{path} holds no weight of {article(type(model))}, by name and shape")
    other = [f"{part[:-1]} (not published)" for part in absent]
    for name, given in origin.get("arguments", {}).items():
        if pair(here := model.hparams.get(name, given)) != pair(given):
            other.append(f"{name} (there {given}, here {here})")
    if origin:
        model.origin = origin | {"missing": []}  # type: ignore[assignment]  # the new run trains every network
    return (
        other
        + left
        + [f"{name} (not in this model)" for name in found if name not in own and not regulariser(name, model)]
    )


def pair(value: Any) -> tuple[Any, ...]:
    """Return a tuple or list as a tuple; a single value, such as the side of a square, as a pair of it."""
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


def origin_of(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return where the weights of a loaded checkpoint are from, if they were imported; else nothing."""
    state = checkpoint.get("adversarial")
    origin = state.get("origin") if isinstance(state, dict) else None
    return origin if isinstance(origin, dict) else {}


def weights(path: str | Path) -> dict[str, Any]:
    """Return what a checkpoint of any Lightning module holds, nothing of which is executed.

    Raises:
        ValueError: if the file is none.
    """
    try:
        held = stored(path, mmap=True)
        if not all(isinstance(part, dict) for part in (held["state_dict"], held.get("hyper_parameters", {}))):
            raise TypeError
    except OSError as error:
        raise ValueError(f"init_from is {path}, which cannot be read: {error.strerror or error}") from error
    except Exception as error:  # unpickling what is no checkpoint raises almost anything
        raise ValueError(f"init_from is {path}; expected a checkpoint with a state_dict") from error
    return held


def model_name(checkpoint: Any) -> str | None:
    """Return the dotted path of the class that a loaded checkpoint says it holds a model of; None if it says none."""
    state = checkpoint.get("adversarial") if isinstance(checkpoint, dict) else None
    name = state.get("model") if isinstance(state, dict) else None
    return name if isinstance(name, str) else None


def fits(name: str, kind: type) -> bool:
    """Return whether a class, or one that it is derived from, is the one that a file names by a dotted path.

    By the bare name: a class that was trained as a script's moves from __main__ to its file.
    """
    return name.rpartition(".")[2] in {base.__name__ for base in kind.__mro__}


def model_class(name: str, path: str | Path, model: type[Module] | None = None) -> type[Module]:
    """Return the class that the file `path` says it holds a model of.

    Args:
        name: dotted path of the class, from the file.
        path: of the file.
        model: class that the user says it holds a model of; None takes one of `gans.models`, or one that has been
            imported already.

    Raises:
        ValueError: if it is none of these, or no LightningModule.
    """
    if model is None:
        found: type[Module] = named_in(path, name, "gans.models", Module, "--model")
        return found
    if not fits(name, model):
        raise ValueError(f"{path} holds a {name}; model is {class_path(model)}")
    return model


def held_model(path: str | Path) -> str:
    """Return the dotted path of the class that a checkpoint says it holds a model of.

    Raises:
        ValueError: if the file is no checkpoint of this framework, or wants something else called than the class.
    """
    try:
        held = stored(path, mmap=True)
        maker = held.get("hyper_parameters", {}).get("_instantiator", MAKER)
    except OSError as error:
        close = nearest(str(path), [str(other) for other in Path(path).parent.glob("*.ckpt")])
        raise ValueError(f"there is no checkpoint {path}{close}: {error.strerror or error}") from error
    except Exception as error:  # unpickling what is no checkpoint raises almost anything
        raise ValueError(f"{path} is not a checkpoint of this framework ({type(error).__name__})") from error
    name = model_name(held)
    if name is None:
        raise ValueError(f"{path} is not a checkpoint of this framework: it does not say of which class")
    if not isinstance(maker, str) or maker != MAKER:
        raise ValueError(f"{path} wants {maker} to be called, which no checkpoint of this framework does")
    return name


def load_model(path: str | Path, device: torch.device | str = "cpu", *, model: type[Module] | None = None) -> Module:
    """Return the model that a checkpoint of this framework holds, in evaluation mode.

    Nothing in the file is executed: it may hold tensors and plain values only, and its class is one of `gans.models`,
    the one given, or one that has been imported already.

    Args:
        path: of the checkpoint.
        device: device of the model.
        model: class of the model, for one that is not of `gans.models`.

    Raises:
        ValueError: if the file is no such checkpoint, does not fit its class, or the class is not known.
    """
    name = held_model(path)
    kind = model_class(name, path, model)
    try:
        held = stored(path, device)
        found = kind(**arguments(kind, held.get("hyper_parameters", {}))).to(device)
        found.on_load_checkpoint(held)
        found.load_state_dict(held["state_dict"])
    except Exception as error:  # of another version of the class, or damaged: a constructor raises almost anything
        raise ValueError(f"{path} does not fit {name}: {' '.join(str(error).split())}") from error
    return found.eval()


def arguments(kind: type, held: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a class that a file holds, without those that the class cannot take.

    A constructor that passes options on refuses unknown ones itself, but for those in `UNREAD`. `earlier` of the class
    holds the arguments that earlier versions did not have, with the values by which the class does what they did.
    """
    taken = inspect.signature(kind).parameters
    own = inspect.signature(vars(kind).get("__init__", kind.__init__)).parameters.values()  # type: ignore[misc]
    passes_on = any(part.kind is inspect.Parameter.VAR_KEYWORD for part in own)
    public = {name: value for name, value in held.items() if name[0] != "_"}
    public = {**getattr(kind, "earlier", {}), **public}
    return {name: value for name, value in public.items() if name in taken or (passes_on and name not in UNREAD)}


def load_generator(
    path: str | Path, device: torch.device | str = "cpu", *, model: type[Module] | None = None
) -> Module:
    """Return the model of a checkpoint, as `load_model` does, if it makes its images of latents.

    Raises:
        ValueError: as `load_model` does, and for a model that makes images of images.
    """
    found = load_model(path, device, model=model)
    check_draws(found, path)
    return found


def check_draws(model: Module, path: str | Path) -> None:
    """Check that the model of the checkpoint `path` makes its images of latents.

    Raises:
        ValueError: if it does not.
    """
    kind = type(model).__name__
    if not makes_images(model):
        raise ValueError(f"{path} holds {article(kind)}, which makes no images")
    if translates(model):
        raise ValueError(f"{path} holds {article(kind)}, which makes images of what it is given: use {model.usage}")
