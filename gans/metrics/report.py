"""What an evaluation says: a table to read, and a JSON file that holds all it takes to repeat the numbers."""

import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from gans.metrics.interface import Extractor
from gans.metrics.suite import Score
from gans.runs import atomic

# In the order of the table: what is better, and what the number is.
MEANING = {
    "fid": ("lower", "Fréchet distance between the features' Gaussians"),
    "fid_infinity": ("lower", "the same, extrapolated to infinitely many samples"),
    "frame_fid": ("lower", "the same between single frames of clips, which are blind to motion"),
    "motion": ("1", "how much clips change from frame to frame, over that of real ones"),
    "class_fid": ("lower", "the same within each class, averaged"),
    "class_accuracy": ("higher", "share of samples that the extractor takes for the class that was asked for"),
    "kid": ("lower", "kernel distance, unbiased (x 1000)"),
    "inception_score": ("higher", "exp of the information that a sample gives on its class"),
    "precision": ("higher", "share of samples near a real image"),
    "recall": ("higher", "share of real images near a sample"),
    "density": ("higher", "how many real neighbourhoods a sample is in; 1 is that of real images"),
    "coverage": ("higher", "share of real images with a sample in their neighbourhood"),
    "vendi": ("higher", "effective number of different samples"),
    "authenticity": ("higher", "% of samples that are no copy of a real image; near 0 is memorised"),
    "one_nn_accuracy": ("0.5", "how well a nearest neighbour tells real from fake; far under 0.5 are copies"),
    "modes": ("higher", "classes that occur"),
    "mode_kl": ("lower", "divergence of the classes from those of the real images"),
}


def table(scores: dict[str, Score], baseline: dict[str, Score]) -> str:
    """Return the scores, those of real images beside them, and what they mean, as lines to print."""
    lines = [f"{'score':16} {'model':>16} {'real images':>16}  better  meaning"]
    for name, (better, meaning) in MEANING.items():
        if name in scores:
            cells = [cell(name, held.get(name)) for held in (scores, baseline)]
            lines.append(f"{name:16} {cells[0]:>16} {cells[1]:>16}  {better:6}  {meaning}")
    return "\n".join(lines)


def cell(name: str, score: Score | None) -> str:
    """Return a number with its deviation in few characters."""
    if score is None:
        return "-"
    unit = 1000 if name == "kid" else 1
    value, digits = score.value * unit, 1 if name in ("authenticity", "modes") else 3
    return f"{value:.{digits}f}" + (f" ± {score.std * unit:.{digits}f}" if score.std is not None else "")


def about(extractor: Extractor) -> dict[str, Any]:
    """Return what identifies an extractor."""
    return {"name": extractor.name, "sha256": extractor.sha256, "resize": extractor.resize, "dtype": "float32"}


def environment(device: torch.device | str) -> dict[str, Any]:
    """Return the versions and the machine that numbers were computed with."""
    names = ("lightning-gans", "torch", "torchvision", "torchmetrics", "lightning", "numpy")
    kind = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else platform.machine()
    return {
        "python": platform.python_version(),
        **{name: installed(name) for name in names},
        "device": f"{torch.device(device).type} ({kind})",
        "threads": torch.get_num_threads(),
    }


def installed(name: str) -> str:
    """Return the version of a package, or that it runs from a checkout."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def sha256(path: Path) -> str:
    """Return the hash of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(path: Path, report: dict[str, Any]) -> None:
    """Write a report, whole or not at all.

    Raises:
        ValueError: if a number in it is not finite.
        UnwrittenError: if the file cannot be written.
    """
    try:
        text = json.dumps(report, indent=2, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"a score is not finite, nothing was written to {path}") from error
    atomic.write(path, f"{text}\n".encode())
