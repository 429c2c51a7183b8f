"""The record of a run, `run.json` in its folder: what it trained on, how far it came, its best score and its state."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from gans.runs import atomic, unrecorded

try:
    import fcntl
except ImportError:  # Windows, where the state in the file is believed
    fcntl = None  # type: ignore[assignment]

FILE, LOCK = "run.json", ".running"  # in the folder of a run
PATIENCE = 30.0  # seconds for which a new process of a run waits until the last one and its workers have ended
State = Literal["running", "done", "stopped", "diverged"]


@dataclass(frozen=True)
class Best:
    """The best score of a run.

    Args:
        score: its name and features, such as `fid_mnist`.
        value: the score.
        step: at which it was computed; None if that is not known.
        scores: all scores of that step by their names, if they are known.
    """

    score: str
    value: float
    step: int | None = None
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """What is known of a run. A field is None if nothing in the folder says it.

    Args:
        run: recipe and version, such as `dcgan-mnist/version_0`.
        recipe: name of the recipe.
        state: `running`; `done`, when it reached its end; `stopped`, by a signal or an error; or `diverged`.
        model: class of the model.
        data: class of the data.
        size: of the images: one side, or (height, width).
        batch_size: images of a batch, of one process.
        seed: of the run.
        processes: that train together.
        steps: trainer steps done.
        max_steps: trainer steps asked for; None if epochs or time end the run.
        images: seen in training.
        best: the best score.
        reason: why it stopped.
        began: seconds since 1970, of its first process.
        changed: seconds since 1970, of the last sign of life.
        seconds: of training so far, by the clock, without pauses between its processes.
        cpu_seconds: of training so far, those of the first process, without data workers.
        checkpoints: paths by their names, `last` and `best`.
        settings: hyper-parameters of model and data by their keys, such as `model.lr`.
        environment: versions, device and commits of its last process, see `gans.runs.environment`.
    """

    run: str
    recipe: str
    state: State
    model: str | None = None
    data: str | None = None
    size: int | tuple[int, int] | None = None
    batch_size: int | None = None
    seed: int | None = None
    processes: int | None = None
    steps: int | None = None
    max_steps: int | None = None
    images: int | None = None
    best: Best | None = None
    reason: str | None = None
    began: float | None = None
    changed: float | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    checkpoints: dict[str, Path] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)


def read(folder: str | Path) -> Record:
    """Return the record of a run. For runs of earlier versions it is made from config, checkpoints and events.

    Args:
        folder: of the run, `<recipe>/version_<n>`.

    Raises:
        ValueError: if it is no folder of a run, or `run.json` is damaged.
    """
    folder = Path(folder)
    whole = folder.absolute()
    named: dict[str, Any] = {"run": f"{whole.parent.name}/{whole.name}", "recipe": whole.parent.name}
    path = folder / FILE
    if not path.is_file():
        found = unrecorded.fields(folder)
        if not found:
            raise ValueError(f"{folder} is no folder of a run: it holds no {FILE}, config.yaml or checkpoint")
        best = found.pop("best", None)
        return Record(**named, **found, best=Best(**best) if best else None)
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["state"] not in get_args(State):
            raise ValueError(held["state"])
        known = {part.name: held[part.name] for part in fields(Record) if part.name in held} | named
        known["best"] = Best(**known["best"]) if known.get("best") else None
        known["size"] = tuple(known["size"]) if isinstance(known.get("size"), list) else known.get("size")
        # Relative paths are below the folder, which may have been moved.
        known["checkpoints"] = {name: folder / where for name, where in known.get("checkpoints", {}).items()}
        if known["state"] == "running" and locked(folder) is False:
            known |= {"state": "stopped", "reason": "its process was killed"}
        return Record(**known)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error})") from error


def write(folder: Path, record: Record) -> None:
    """Write the record of a run atomically. Checkpoints below the folder are written relative to it."""
    held = asdict(record)
    for name, path in record.checkpoints.items():
        whole, home = Path(path).absolute(), folder.absolute()
        held["checkpoints"][name] = str(whole.relative_to(home) if whole.is_relative_to(home) else whole)
    text = json.dumps(held, indent=1, default=str) + "\n"
    atomic.write(folder / FILE, text.encode(), durable=record.state != "running")


def runs(folder: str | Path) -> Iterator[Path]:
    """Yield the folders of all runs in a folder: of runs, of a recipe or of one run."""
    folder = Path(folder)
    for depth in ("", "version_*", "*/version_*"):
        found = [folder] if not depth else [path for path in folder.glob(depth) if path.is_dir()]
        found = [path for path in found if (path / FILE).is_file() or unrecorded.is_run(path)]
        if found:
            yield from sorted(found, key=lambda path: (path.parent.name, len(path.name), path.name))
            return


# -- whether the process of a run is alive -----------------------------------------------------------------------------


def lock(folder: Path) -> int | None:
    """Lock the folder of a run until this process ends, or until `unlock`. None if the disk has no locks.

    Raises:
        ValueError: if another process of this run does not end within a time.
    """
    end = time.monotonic() + PATIENCE
    while fcntl is not None:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:  # `unlock` of another process may have removed the file
                return descriptor
        except BlockingIOError:  # a reader, which holds its lock for microseconds, or another process of this run
            pass
        except OSError:
            os.close(descriptor)
            return None
        os.close(descriptor)
        if time.monotonic() > end:
            raise ValueError(f"{folder} is in use: another process trains this run")
        time.sleep(0.05)
    return None


def unlock(folder: Path, descriptor: int | None) -> None:
    """Remove the lock of a run that has ended."""
    if descriptor is not None:
        (folder / LOCK).unlink(missing_ok=True)
        os.close(descriptor)


def locked(folder: Path) -> bool | None:
    """Return whether a process has locked the folder of a run; None if the disk has no locks."""
    if fcntl is None:
        return None
    try:
        with contextlib.closing(open(folder / LOCK, "rb")) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return False
