"""A process that `gans` launched for a run ends with the one that launched it, so that no kill leaves orphans.

The standard library only: it watches from the first moment, before torch is imported.
"""

import contextlib
import ctypes
import os
import signal
import threading
import time

LAUNCHER = "GANS_LAUNCHER"  # in the environment of launched processes: the process that launched them
PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def main_process() -> bool:
    """Return whether this is the process of its machine that speaks, cleans up and launches the others."""
    return os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) == "0"


def launched_by() -> int | None:
    """Return the process that launched this one as one rank of its run; None for one that a user or scheduler began."""
    given = os.environ.get(LAUNCHER)
    return int(given) if given and os.environ.get("LOCAL_RANK", "0") != "0" else None


def end_with_launcher() -> None:
    """Let this process end when its launcher ends, however that happens; a launcher tells its processes to do so."""
    parent = launched_by()
    if parent is None:
        if main_process():  # others are torchrun's or Slurm's: nobody here launched them, and they launch nobody
            os.environ[LAUNCHER] = str(os.getpid())
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the launcher too, which decides
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(parent, number))
    with contextlib.suppress(OSError, AttributeError):  # at once on Linux, unless the launcher is gone already
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
