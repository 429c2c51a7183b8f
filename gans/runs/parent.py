"""Processes that `gans` launched for a run end with their launcher, so that killing it leaves no orphans.

This module needs only the standard library, because it must work before torch is imported.
"""

import contextlib
import ctypes
import os
import signal
import threading
import time

LAUNCHER = "GANS_LAUNCHER"  # environment variable with the process id of the launcher
PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def main_process() -> bool:
    """Return whether this is the first process of its machine, which prints, cleans up and launches the others."""
    return os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) == "0"


def launched_by() -> int | None:
    """Return the process id of the launcher, or None if a user or a scheduler started this process."""
    given = os.environ.get(LAUNCHER)
    return int(given) if given and os.environ.get("LOCAL_RANK", "0") != "0" else None


def end_with_launcher() -> None:
    """End this process when its launcher ends, however that happens. In a launcher, register it as such."""
    parent = launched_by()
    if parent is None:
        if main_process():  # other ranks here were started by torchrun or Slurm, and do not launch processes
            os.environ[LAUNCHER] = str(os.getpid())
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher receives Ctrl-C too, and handles it
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(parent, number))
    with contextlib.suppress(OSError, AttributeError):  # immediate, but Linux only, and only if the launcher still runs
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()


def end_with_parent() -> None:
    """Have this process receive SIGTERM when the one that started it ends. On other systems than Linux, do nothing.

    It is for `preexec_fn` of a process that is started from the main thread.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
