"""The curves of a run, from TensorBoard's events or from the `metrics.csv` of a CSVLogger."""

import csv
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from gans.runs.unrecorded import scalars

Curve = Sequence[tuple[float, float]]  # (step, value) in the order of steps
PER_BUCKET = 2  # points that `thinned` keeps of a part of a curve


def curves(folder: Path) -> dict[str, Curve]:
    """Return the curves of a run by their tags, such as `loss/generator`. There are none if no logger wrote a file.

    Args:
        folder: of the run. Files of a CSVLogger may also be in a folder below it.

    Raises:
        ValueError: if `metrics.csv` is damaged.
    """
    found: dict[str, Curve] = {tag: sorted(points.items()) for tag, points in scalars(folder).items()}
    if found:
        return found
    held: dict[str, dict[int, float]] = {}
    for path in sorted([*folder.glob("metrics.csv"), *folder.glob("*/metrics.csv")]):
        try:
            with path.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    for tag, text in row.items():
                        if tag not in ("step", "epoch") and text:
                            held.setdefault(tag, {})[int(row["step"])] = float(text)
        except (ValueError, TypeError, KeyError, csv.Error) as error:
            raise ValueError(f"{path} is not a table of metrics by step ({type(error).__name__}: {error})") from error
    return {tag: sorted(points.items()) for tag, points in held.items()}


def thinned(curve: Curve, most: int) -> Curve:
    """Return a curve of at most `most` points, which keeps the minimum and the maximum of each part, and both ends."""
    if len(curve) <= most:
        return curve
    inner, count = curve[1:-1], max(1, (most - 2) // PER_BUCKET)
    edges = [round(i * len(inner) / count) for i in range(count + 1)]
    kept = [curve[0]]
    for low, high in itertools.pairwise(edges):
        part = inner[low:high]
        sound = [point for point in part if math.isfinite(point[1])] or part
        kept += sorted({min(sound, key=lambda point: point[1]), max(sound, key=lambda point: point[1])})
    return [*kept, curve[-1]]
