"""Resuming a run: the optimizers' settings come from this run's arguments, and TensorBoard's curves continue."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from torch import Tensor

Groups = list[list[dict[str, Any]]]  # by optimizer and parameter group


def settings(optimizers: list[torch.optim.Optimizer]) -> Groups:
    """Return the settings of optimizers, such as learning rates and betas, without the parameters."""
    return without([optimizer.param_groups for optimizer in optimizers], "params")


def without(groups: Groups, *names: str) -> Groups:
    """Return settings without the given names."""
    return [[{name: group[name] for name in group if name not in names} for group in some] for some in groups]


def apply_settings(trainer: L.Trainer, given: Groups, before: Groups) -> None:
    """Override restored optimizer settings by those that this run's arguments have changed.

    Settings that are the same in both runs keep their restored values, so that an unchanged run resumes bit for bit.

    Args:
        trainer: trainer that has restored its optimizers.
        given: settings of this run's optimizers before they were restored.
        before: the same settings of the checkpoint's run. Missing ones count as changed.

    Raises:
        ValueError: if a learning rate has changed that one of Lightning's schedulers controls.
    """
    scheduled = {id(config.scheduler.optimizer) for config in trainer.lr_scheduler_configs}
    for optimizer, new_groups, old_groups in zip(trainer.optimizers, given, before, strict=False):
        for group, new, old in zip(optimizer.param_groups, new_groups, old_groups, strict=False):
            changed = {name: value for name, value in new.items() if name not in old or old[name] != value}
            if id(optimizer) in scheduled and old and changed.keys() & {"lr", "initial_lr"}:
                began = f"the checkpoint's scheduler began with {old.get('initial_lr', old.get('lr'))}"
                raise ValueError(f"lr is {new.get('initial_lr', new['lr'])}; expected the same as before: {began}")
            group.update(changed)
    follow_parameters(trainer.optimizers)


def follow_parameters(optimizers: list[torch.optim.Optimizer]) -> None:
    """Convert restored optimizer states to the device and memory format of their weights.

    Fused Adam reads weights, gradients and moments in storage order, and checks neither strides nor shapes. It needs
    the step count on the weight's device. Other implementations keep it on the CPU.

    Raises:
        ValueError: if a state is neither a scalar nor of the shape of its weight.
    """
    for optimizer in optimizers:
        on_device = any(group.get("fused") or group.get("capturable") for group in optimizer.param_groups)
        for parameter, state in optimizer.state.items():
            for name, value in state.items():
                if name == "step" and on_device and isinstance(value, Tensor):
                    state[name] = value.to(parameter.device)
                if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                    shapes = f"{tuple(value.shape)} for a weight of {tuple(parameter.shape)}"
                    raise ValueError(f"the checkpoint's optimizer does not fit: {name} is {shapes}")
                same_shape = isinstance(value, Tensor) and value.shape == parameter.shape
                if same_shape and value.stride() != parameter.stride():
                    state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def continue_curves(trainer: L.Trainer) -> None:
    """Make TensorBoard discard points after the step at which a run resumes, and write this run's arguments.

    The steps between the checkpoint and the end of the earlier process are computed and logged again.
    """
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
            writer = logger.experiment._get_file_writer()
            writer.add_event(Event(session_log=SessionLog(status=SessionLog.START)), step=trainer.global_step + 1)
            # The logger never overwrites this file.
            (Path(logger.log_dir) / logger.NAME_HPARAMS_FILE).unlink(missing_ok=True)
            logger.save()
