"""One run of `gans results`: its folder, the commands that are left to run, and the row of results that they give."""

import json
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gans.commands.results_list import Entry, filled
from gans.metrics.report import protocol
from gans.recipes.arguments import name_of
from gans.runs import atomic
from gans.runs.curves import curves
from gans.runs.record import Record, read, runs

JOB, LOG, RESULT = "job.json", "log.txt", "result.json"  # files in the folder of a run
SCORES, TESTED = "scores.json", "tested.json"  # those of `gans evaluate` and of `gans test`
ENDED = ("done", "diverged")  # states after which a run is not continued
TEST = "test/"  # before the names of the curves that `gans test` writes

Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """An entry of the list with one of its seeds.

    Args:
        entry: of the list.
        seed: of the run.
        out: folder of all runs.
    """

    entry: Entry
    seed: int
    out: Path

    @property
    def name(self) -> str:
        """Return how it is called in what is printed."""
        return f"{self.entry.name}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Return the folder that holds the run and its scores."""
        return self.out / self.entry.name / f"seed_{self.seed}"

    @property
    def row(self) -> Row | None:
        """Return the result, if the job is done."""
        return load(self.folder / RESULT)

    @property
    def run(self) -> tuple[Path, Record] | None:
        """Return the newest run in the folder with its record; None if none has begun."""
        found = list(runs(self.folder / name_of(Path(self.entry.recipe)))) if self.folder.is_dir() else []
        return (found[-1], read(found[-1])) if found else None

    @property
    def settings(self) -> dict[str, Row]:
        """Return what the run and its scores depend on."""
        trains = {"recipe": self.entry.recipe, "steps": self.entry.steps, "fit": self.entry.fit}
        scores = {"evaluate": self.entry.evaluate, "test": self.entry.test}
        trains["settings"] = self.entry.settings
        held: dict[str, Row] = json.loads(json.dumps({"trains": trains, "scores": scores}, default=str))  # as stored
        return held

    def check(self) -> None:
        """Raise a ValueError if the folder holds a run of other flags."""
        before = (load(self.folder / JOB) or {}).get("trains", {})
        for key, value in self.settings["trains"].items():
            if before.get(key, value) != value:
                told = f"with {key} {before[key]}, the list has {value}"
                if key == "settings":
                    told = f"of {self.entry.recipe} as it was before it changed"
                raise ValueError(
                    f"{self.folder} holds a run {told}: remove the folder, or give the entry another `name`"
                )

    def begin(self) -> None:
        """Make the folder, and note what runs in it. If only the scores are others than before, they are made anew."""
        before = load(self.folder / JOB)
        if before and before["scores"] != self.settings["scores"]:
            for name in (SCORES, TESTED, RESULT):
                (self.folder / name).unlink(missing_ok=True)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise atomic.UnwrittenError(self.folder, error) from error
        atomic.write(self.folder / JOB, json.dumps(self.settings, indent=1).encode())

    def command(self, given: Mapping[str, str]) -> tuple[str, list[str]] | None:
        """Return the verb and the words of the next command; None if all have run.

        Args:
            given: paths by their names.
        """
        found = self.run
        root = f"--trainer.default_root_dir={self.folder.absolute()}"
        if found is None or found[1].state not in ENDED:
            steps = [f"--trainer.max_steps={self.entry.steps}"] if self.entry.steps else []
            words = [self.entry.recipe, root, f"--seed_everything={self.seed}", "--ckpt_path=last", *steps]
            return "fit", [*words, *filled(self.entry.fit, given)]
        folder, record = found
        if record.state == "diverged":
            return None
        checkpoint = str((folder / "checkpoints" / "last.ckpt").absolute())
        if self.entry.evaluate is not None and not (self.folder / SCORES).is_file():
            out = f"--out={(self.folder / SCORES).absolute()}"
            return "evaluate", [checkpoint, out, *filled(self.entry.evaluate, given)]
        if self.entry.test is not None and not (self.folder / TESTED).is_file():
            flags = [root, f"--ckpt_path={checkpoint}", *filled(self.entry.test, given)]
            return "test", [self.entry.recipe, *flags]
        return None

    def keep_tested(self) -> None:
        """Write a file of the scores that `gans test` has just written to the curves of the run, if there are any."""
        found = {
            tag.removeprefix(TEST): float(points[-1][1])
            for tag, points in (curves(self.run[0]) if self.run else {}).items()
            if tag.startswith(TEST) and points
        }
        if found:
            atomic.write(self.folder / TESTED, json.dumps(found, indent=1).encode())

    def finish(self) -> Row:
        """Write the result of a job whose commands have all run, and return it."""
        found = self.run
        assert found is not None
        _, record = found
        report = load(self.folder / SCORES) or {}
        scores = {name: held["value"] for name, held in report.get("metrics", {}).items()}
        real = {name: held["value"] for name, held in report.get("baseline_real", {}).items()}
        tested: dict[str, float] = load(self.folder / TESTED) or {}
        protocols = [protocol(report)] if report else []
        if tested:
            flags = " ".join(filled(self.entry.test or {}, {}))
            protocols.append(f"gans test {self.entry.recipe} {flags}".strip())
        environment, threads = record.environment, record.environment.get("threads")
        row: Row = {
            "name": self.entry.name,
            "recipe": self.entry.recipe,
            "seed": self.seed,
            "state": record.state,
            "steps": record.steps,
            "recipe_steps": self.entry.whole,
            "images": record.images,
            "seconds": rounded(record.seconds),
            "cpu_seconds": rounded(record.cpu_seconds),
            "fit": self.entry.fit,
            "scores": {name: short(value) for name, value in (scores | tested).items() if math.isfinite(value)},
            "real": {name: short(value) for name, value in real.items()},
            "protocol": "; ".join(protocols),
            "machine": f"{environment.get('device')}, {os.cpu_count()} cores, {threads} thread{'s' * (threads != 1)}",
            "versions": {name: environment.get(name) for name in ("torch", "lightning", "lightning-gans")},
            "commit": environment.get("commit"),
            "date": datetime.fromtimestamp(record.changed or 0, UTC).date().isoformat(),
        }
        atomic.write(self.folder / RESULT, f"{json.dumps(row, indent=1)}\n".encode())
        return row


def load(path: Path) -> Row | None:
    """Return what a JSON file holds; None if there is none.

    Raises:
        ValueError: if it is damaged.
    """
    if not path.is_file():
        return None
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(held, dict):
        raise ValueError(f"{path} is damaged: expected an object with keys")
    return held


def rounded(seconds: float | None) -> int | None:
    """Return seconds without a fraction."""
    return None if seconds is None else round(seconds)


def short(value: float) -> float:
    """Return a score with five digits."""
    return float(f"{value:.5g}")


def line(command: tuple[str, list[str]]) -> list[str]:
    """Return a command of `gans` as words for this interpreter."""
    verb, words = command
    return [sys.executable, "-m", "gans", verb, *words]
