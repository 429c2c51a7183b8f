"""What the folder of a run tells without a record: runs of earlier versions have config.yaml, checkpoints, events."""

import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Found = dict[str, Any]
LARGEST = 4096  # bytes of an event that holds a number, not a picture


def is_run(folder: Path) -> bool:
    """Return whether a folder is that of a run: it has a configuration, checkpoints or curves."""
    return (folder / "config.yaml").is_file() or bool(list(folder.glob("checkpoints/*.ckpt")))


def fields(folder: Path) -> Found:
    """Return the fields of `gans.runs.record.Record` that are known; nothing if it is no folder of a run.

    The state is `done` if the last checkpoint is that of the last step, `diverged` if the curves say so, else
    `stopped`.
    """
    if not is_run(folder):
        return {}
    found = of_config(folder / "config.yaml")
    paths = {path.stem: path for path in sorted(folder.glob("checkpoints/*.ckpt")) if path.stem in ("last", "best")}
    epochs = found.pop("max_epochs", None)
    done = False
    if "last" in paths:
        known = of_checkpoint(paths["last"])
        done = known.pop("epochs", 0) == epochs or known.get("steps") == found.get("max_steps")
        found |= known
    curves = of_events(folder)
    if "best" not in found and curves.get("best"):
        found["best"] = curves["best"]
    if found.get("best") and found["best"].get("step") is None and "best" in paths:
        found["best"]["step"] = of_checkpoint(paths["best"]).get("steps")
    if found.get("steps") is None:
        found["steps"] = curves.get("steps")
    files = [path for path in (*paths.values(), *folder.glob("events.*"), folder / "config.yaml") if path.is_file()]
    times = [path.stat().st_mtime for path in files]
    state = "diverged" if curves.get("diverged") else "done" if done else "stopped"
    return {**found, "state": state, "checkpoints": paths, "began": min(times), "changed": max(times)}


def of_config(path: Path) -> Found:
    """Return what config.yaml says of model, data and length; nothing if it cannot be read."""
    import yaml

    try:
        held = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        model, data, trainer = held["model"], held["data"], held["trainer"]
        sections = {"model": model.get("init_args") or {}, "data": data.get("init_args") or {}}
        size = sections["data"].get("size", sections["model"].get("size"))
        steps, epochs = trainer.get("max_steps"), trainer.get("max_epochs")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        return {}
    seed = held.get("seed_everything")
    return {
        "model": model["class_path"].rpartition(".")[2],
        "data": data["class_path"].rpartition(".")[2],
        "size": tuple(size) if isinstance(size, list) else size,
        "batch_size": sections["data"].get("batch_size"),
        "seed": seed if type(seed) is int else None,
        "max_steps": steps if steps and steps > 0 else None,
        "max_epochs": epochs if epochs and epochs > 0 else None,
        "settings": {f"{part}.{name}": value for part, given in sections.items() for name, value in given.items()},
    }


def of_checkpoint(path: Path) -> Found:
    """Return steps, images, epochs and the best score that a checkpoint holds; nothing if it cannot be read."""
    import torch

    try:
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        state, loops = held.get("adversarial", {}), held["loops"]["fit_loop"]
        found: Found = {"steps": held["global_step"], "images": state.get("images_seen")}
        found["epochs"] = loops["epoch_progress"]["current"]["completed"]
        if isinstance(state.get("seed"), int) and state["seed"] < 2**32:
            found["seed"] = state["seed"]
        for name, kept in held["callbacks"].items():
            value = kept.get("best_model_score") if name.startswith("Best(") else None
            if value is not None:
                score = str(kept["monitor"]).removeprefix("score/").replace("/", "_")
                found["best"] = {"score": score, "value": float(value), "step": None}
    except Exception:  # unpickling a damaged file raises almost anything
        return {}
    return found


def of_events(folder: Path) -> Found:
    """Return the last step of the curves, the best FID with its step, and whether the run diverged."""
    curves = scalars(folder)
    found: Found = {"diverged": "health/diverged" in curves}
    found["steps"] = max((max(points) for tag, points in curves.items() if tag.startswith("loss/")), default=None)
    for tag, points in curves.items():
        sound = {step: value for step, value in points.items() if math.isfinite(value)}
        if tag.startswith(("score/fid_", "fid/")) and sound:  # `fid/` by earlier versions
            step = min(sound, key=lambda step: sound[step])
            score = tag.removeprefix("score/").replace("/", "_")
            found["best"] = {"score": score, "value": sound[step], "step": step}
            break
    return found


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Return the curves of a run's events, as values by step, by their tags."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    curves: dict[str, dict[int, float]] = {}
    for path in sorted(folder.glob("events.*")):
        for record in small_records(path):
            event = Event.FromString(record)
            if event.session_log.status == SessionLog.START:  # a resumed run computes these steps again
                for points in curves.values():
                    for step in [step for step in points if step >= event.step]:
                        del points[step]
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    curves.setdefault(value.tag, {})[event.step] = value.simple_value
    return {tag: points for tag, points in curves.items() if points}


def small_records(path: Path) -> Iterator[bytes]:
    """Yield the events of a file, without those that hold pictures.

    A record of this format is its length, a checksum, the bytes, a checksum. TensorBoard's reader computes checksums
    in Python, which takes seconds for the pictures of a run. The last record of a run that still writes may be cut.
    """
    with path.open("rb") as file:
        while len(head := file.read(12)) == 12:
            (length,) = struct.unpack("<Q", head[:8])
            if length > LARGEST:
                file.seek(length + 4, os.SEEK_CUR)
                continue
            record = file.read(length)
            if len(record) < length:
                return
            file.seek(4, os.SEEK_CUR)
            yield record
