"""`gans evaluate --runs`: the final and best FID of several runs, their spread, and the share that diverged."""

import math
import statistics
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

DIVERGED = 3  # a run has diverged if the last fifth of its FIDs are over this many times its best
PREFIXES = ("score/fid_", "fid/")  # of the tags of FID, and of those of earlier versions


def over_runs(runs: list[Path], features: str | None) -> dict[str, Any]:
    """Print and return the final and best FID of run folders, their spread, and the share that diverged.

    Raises:
        ValueError: if a folder has no curve of FID, or several without a choice.
    """
    found = {str(run): stability(*curve(run, features)) for run in runs}
    print(f"{'run':40} {'final':>10} {'best':>10} {'at step':>9} {'final/best':>11}  diverged")
    for name, row in found.items():
        numbers = f"{'-':>10} {'-':>10} {'-':>9} {'-':>11}"
        if row["final"] is not None:
            numbers = f"{row['final']:10.3f} {row['best']:10.3f} {row['best_step']:9} {row['ratio']:11.3f}"
        print(f"{name[-40:]:40} {numbers}  {'yes' if row['diverged'] else 'no'}")
    summary: dict[str, Any] = {"runs": len(found)}
    for name in ("final", "best", "ratio"):
        values = [row[name] for row in found.values() if row[name] is not None]
        if not values:  # all diverged before their first score
            continue
        summary[name] = {"mean": statistics.fmean(values)}
        if len(values) > 1:
            summary[name]["std"] = statistics.stdev(values)
        spread = f" ± {summary[name]['std']:.3f}" if len(values) > 1 else ""
        print(f"{name:12} {summary[name]['mean']:.3f}{spread}")
    summary["diverged"] = statistics.fmean(float(row["diverged"]) for row in found.values())
    print(f"{'diverged':12} {summary['diverged']:.0%}")
    return {"summary": summary, "apart": found}


def curve(run: Path, features: str | None) -> tuple[list[int], list[float], bool]:
    """Return steps and values of a run's curve `score/fid_<features>`, and whether it stopped for NaN or infinity.

    Raises:
        ValueError: if there is none, or several without a choice.
    """
    if not run.is_dir():
        raise ValueError(f"there is no run folder {run}")
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    tags: list[str] = []
    for prefix in PREFIXES:
        there = [tag for tag in events.Tags()["scalars"] if tag.startswith(prefix)]
        tags = tags or [tag for tag in there if features is None or tag == f"{prefix}{features}"]
    stopped = "health/diverged" in events.Tags()["scalars"]
    if stopped and not tags:
        return [], [], True
    if len(tags) != 1:
        known = (
            f"the curves {', '.join(tags)}: give --features"
            if tags
            else "no curve of FID: fit with --evaluate.features"
        )
        raise ValueError(f"{run} has {known}")
    points = events.Scalars(tags[0])
    return [point.step for point in points], [point.value for point in points], stopped


def stability(steps: list[int], values: list[float], stopped: bool) -> dict[str, Any]:
    """Return the final and best value of a curve, their ratio, and whether the run diverged or was stopped for it."""
    if not values:
        return {"final": None, "best": None, "best_step": None, "ratio": None, "diverged": True}
    sound = [value for value in values if math.isfinite(value)]
    best = min(sound) if sound else math.inf
    last = values[-max(1, len(values) // 5) :]
    diverged = stopped or len(sound) < len(values) or min(last) > DIVERGED * best
    place = values.index(best) if sound else 0
    return {
        "final": values[-1],
        "best": best,
        "best_step": steps[place],
        "ratio": values[-1] / best,
        "diverged": diverged,
    }
