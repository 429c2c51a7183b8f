"""What numbers were computed with: versions of packages, the machine, and the commit of the code."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from gans import __version__

PACKAGES = ("torch", "torchvision", "torchmetrics", "lightning", "numpy")


def environment(device: torch.device | str) -> dict[str, Any]:
    """Return the versions, the machine and the commits that numbers are computed with, as plain values.

    `commit` is that of this package, if it runs from a checkout; `commit_of_folder` that of the current folder.

    Args:
        device: that computes them.
    """
    kind = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else platform.machine()
    return {
        "python": platform.python_version(),
        "lightning-gans": __version__,
        **{name: version(name) for name in PACKAGES},
        "device": f"{torch.device(device).type} ({kind})",
        "threads": torch.get_num_threads(),
        "commit": commit(Path(__file__).parent),
        "commit_of_folder": commit(Path.cwd()),
    }


def commit(folder: Path) -> str | None:
    """Return the commit of a folder's Git repository, with `-dirty` after it if tracked files differ from it.

    None if the folder is in no repository, or not tracked by the one around it, or Git is not installed.
    """
    if _git(folder, "ls-files", "--cached", "."):
        return _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*")
    return None


def _git(folder: Path, *args: str) -> str | None:
    """Return what a command of Git prints; None if it fails."""
    try:
        done = subprocess.run(["git", "-C", folder, *args], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
