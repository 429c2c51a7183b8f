"""A run that goes on: what it takes from its checkpoint, what its own arguments say, and its curves from there."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from torch import Tensor

Groups = list[list[dict[str, Any]]]  # by optimizer and parameter group


def settings(optimizers: list[torch.optim.Optimizer]) -> Groups:
    """Return the settings of optimizers: learning rates, betas and so on, everything but the parameters."""
    return without([optimizer.param_groups for optimizer in optimizers], "params")


def without(groups: Groups, *names: str) -> Groups:
    """Return settings without those of some names."""
    return [[{name: group[name] for name in group if name not in names} for group in some] for some in groups]


def apply_settings(trainer: L.Trainer, given: Groups, before: Groups) -> None:
    """Set what this run gives its optimizers and the checkpoint's run did not, over what was restored.

    What both gave alike stays as it was restored, so that an unchanged run is equal bit for bit.

    Args:
        trainer: of a run that has restored its optimizers.
        given: settings of this run's optimizers before they were restored.
        before: the same of the checkpoint's run; what it lacks, this run's hold for.

    Raises:
        ValueError: if one of Lightning's schedulers moves a learning rate that was given anew.
    """
    scheduled = {id(config.scheduler.optimizer) for config in trainer.lr_scheduler_configs}
    for optimizer, new_groups, old_groups in zip(trainer.optimizers, given, before, strict=False):
        for group, new, old in zip(optimizer.param_groups, new_groups, old_groups, strict=False):
            changed = {name: value for name, value in new.items() if name not in old or old[name] != value}
            if id(optimizer) in scheduled and old and changed.keys() & {"lr", "initial_lr"}:
                told = f"the checkpoint's scheduler began with {old.get('initial_lr', old.get('lr'))}"
                raise ValueError(f"lr is {new.get('initial_lr', new['lr'])}; expected the same as before: {told}")
            group.update(changed)
    follow_parameters(trainer.optimizers)


def follow_parameters(optimizers: list[torch.optim.Optimizer]) -> None:
    """Give what optimizers keep of each weight the device and the memory layout of the weight, whatever was saved.

    Fused Adam reads weights, gradients and moments in the order of their storage, and checks neither layout nor shape.
    It needs its step count on the weight's device, where other implementations keep it on the CPU.

    Raises:
        ValueError: if something kept is neither a number nor of the shape of its weight.
    """
    for optimizer in optimizers:
        beside = any(group.get("fused") or group.get("capturable") for group in optimizer.param_groups)
        for parameter, state in optimizer.state.items():
            for name, value in state.items():
                if name == "step" and beside and isinstance(value, Tensor):
                    state[name] = value.to(parameter.device)
                if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                    shapes = f"{tuple(value.shape)} for a weight of {tuple(parameter.shape)}"
                    raise ValueError(f"the checkpoint's optimizer does not fit: {name} is {shapes}")
                alike = isinstance(value, Tensor) and value.shape == parameter.shape
                if alike and value.stride() != parameter.stride():
                    state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def continue_curves(trainer: L.Trainer) -> None:
    """Tell TensorBoard to forget points after the step that a run goes on from, and note this run's arguments.

    What was written between the checkpoint and the end of the earlier process is written again.
    """
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
            writer = logger.experiment._get_file_writer()
            writer.add_event(Event(session_log=SessionLog(status=SessionLog.START)), step=trainer.global_step + 1)
            (Path(logger.log_dir) / logger.NAME_HPARAMS_FILE).unlink(missing_ok=True)  # it is never overwritten
            logger.save()
