"""Flags of the trainer that do not work with two optimizers, run folders, or the processes of this machine."""

import os
import re
from typing import Any

import lightning as L
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

# Flags that Lightning does not check, with their smallest valid number.
LEAST = {"log_every_n_steps": 1, "check_val_every_n_epoch": 1, "num_sanity_val_steps": -1}
# Flags that Lightning refuses under manual optimization: their allowed values, and the model's flag to use instead.
INSTEAD = {"gradient_clip_val": ((None, 0), "gradient_clip"), "accumulate_grad_batches": ((1,), "accumulate")}

PROFILERS = ("simple", "advanced", "pytorch", "xla")  # names that Lightning knows


def check_trainer(trainer: Any) -> None:
    """Check the parsed flags of the trainer.

    Raises:
        ValueError: if one is out of range, or does not work with two optimizers or a run folder.
    """
    if trainer.barebones:
        instead = "--trainer.logger false --trainer.enable_checkpointing false --trainer.enable_progress_bar false"
        raise ValueError(f"trainer.barebones is true, but a run has curves and checkpoints: give {instead}")
    for name, (allowed, ours) in INSTEAD.items():
        if trainer[name] not in allowed:
            raise ValueError(f"trainer.{name} does not work with two optimizers: give --model.{ours} {trainer[name]}")
    for name, least in LEAST.items():
        if trainer[name] is not None and trainer[name] < least:
            raise ValueError(f"trainer.{name} is {trainer[name]}; expected at least {least}")
    interval = trainer.val_check_interval  # a time such as 00:10:00:00 is checked by Lightning
    if isinstance(interval, int | float) and not interval > 0:
        raise ValueError(f"trainer.val_check_interval is {trainer.val_check_interval}; expected a number above 0")
    if isinstance(trainer.profiler, str) and trainer.profiler not in PROFILERS:
        names = f"{', '.join(PROFILERS[:-1])} or {PROFILERS[-1]}"
        raise ValueError(f"trainer.profiler is {trainer.profiler}; expected {names}, or the import path of a class")
    check_strategy(trainer.strategy, r"(auto|ddp|single_device)(?!.*spawn)")


def check_launched(trainer: Any) -> None:
    """Check that the parsed strategy starts each process as a command, which a notebook cannot do.

    Raises:
        ValueError: if not.
    """
    check_strategy(trainer.strategy, r"(?!.*(spawn|fork|notebook))")


def check_strategy(strategy: Any, allowed: str) -> None:
    """Check that the name of a strategy matches a regular expression. Objects are checked when they are used.

    Raises:
        ValueError: if not.
    """
    if isinstance(strategy, str) and not re.match(allowed, strategy):
        raise ValueError(f"trainer.strategy is {strategy}; expected ddp, or auto for one device")


def check_processes(trainer: L.Trainer) -> None:
    """Check that the processes of a trainer are launched one by one, each with a CPU core if it trains on CPUs.

    Raises:
        ValueError: if not.
    """
    launcher, count = trainer.strategy.launcher, trainer.num_devices
    if launcher is not None and not isinstance(launcher, _SubprocessScriptLauncher):
        raise ValueError("trainer.strategy forks or spawns its processes; expected ddp")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    launches = launcher is not None and not launcher.cluster_environment.creates_processes_externally
    if launches and isinstance(trainer.accelerator, CPUAccelerator) and count > cores:
        raise ValueError(f"trainer.devices is {count}; expected at most {cores}, the CPU cores of this machine")
