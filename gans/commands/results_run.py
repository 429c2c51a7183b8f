"""Runs the jobs of `gans results`, several at a time. What a killed process has left is continued by the next one.

In an array of Slurm jobs, task i of n takes every n-th job. A job that another process runs is left to it.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from gans.commands.results_job import ENDED, LOG, Job, Row, line
from gans.commands.results_list import Entry
from gans.runs import atomic
from gans.runs.parent import end_with_parent
from gans.runs.record import lock, locked, unlock

POLL = 0.2  # seconds between two looks at the processes
PATIENCE = 120.0  # seconds that a run has to save after SIGTERM


class Terminated(SystemExit):
    """This process was asked to end by SIGTERM."""


@dataclass
class Running:
    """A job that is being run.

    Args:
        job: which one.
        held: lock of its folder.
        log: what its commands print.
        place: number among the jobs that run at once.
        extra: environment variables of its commands.
        process: of its command.
        verb: of its command.
    """

    job: Job
    held: int | None
    log: IO[bytes]
    place: int
    extra: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    verb: str = ""

    def start(self, given: Mapping[str, str]) -> bool:
        """Start the next command, and return whether there is one."""
        command = self.job.command(given)
        if command is None:
            return False
        self.verb = command[0]
        words = line(command)
        try:
            self.log.write(f"\n$ gans {' '.join(words[3:])}\n".encode())
        except OSError as error:
            raise atomic.UnwrittenError(self.job.folder / LOG, error) from error
        # A session of its own, so that Ctrl-C reaches this process alone, which then ends the others once.
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **self.extra},
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        return True

    def end(self) -> None:
        """Give the folder free."""
        self.log.close()
        unlock(self.job.folder, self.held)


def jobs(entries: list[Entry], out: Path) -> list[Job]:
    """Return all jobs, the first seeds of all entries before the second ones."""
    most = max((len(entry.seeds) for entry in entries), default=0)
    return [Job(entry, entry.seeds[i], out) for i in range(most) for entry in entries if i < len(entry.seeds)]


def share(found: list[Job], environment: Mapping[str, str]) -> list[Job]:
    """Return the jobs of this task of a Slurm array; all outside of one.

    Raises:
        ValueError: if the array has gaps, with which jobs would be left out.
    """
    task = environment.get("SLURM_ARRAY_TASK_ID")
    if task is None:
        return found
    first, last, count = (int(environment[f"SLURM_ARRAY_TASK_{name}"]) for name in ("MIN", "MAX", "COUNT"))
    if last - first + 1 != count:
        raise ValueError(f"the array of Slurm jobs has gaps between {first} and {last}; expected one such as 0-7")
    return found[int(task) - first :: count]


def run(todo: list[Job], given: Mapping[str, str], at_once: int, told: Callable[[str], Any] = print) -> list[str]:
    """Run jobs, and return the names of those that failed.

    Args:
        todo: jobs in their order.
        given: paths by their names.
        at_once: number of jobs at a time.
        told: prints a line.

    Raises:
        ValueError: before any job runs, if the folder of one holds a run of other flags.
        KeyboardInterrupt, Terminated: after all runs have saved, at Ctrl-C and SIGTERM.
    """
    for job in todo:
        job.check()
    waiting = list(reversed(todo))
    running: list[Running] = []
    failed: list[str] = []
    with terminating():
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    job = waiting.pop()
                    free = min(set(range(at_once)) - {one.place for one in running})
                    started = begin(job, given, free, at_once, told)
                    running += [started] if started else []
                for one in list(running):
                    if one.process is None or one.process.poll() is None:
                        continue
                    if not advance(one, given, failed, told):
                        running.remove(one)
                        one.end()
                time.sleep(POLL if running else 0)
        finally:
            stop(running)
    return failed


def part(place: int, at_once: int, environment: Mapping[str, str], gpus: int) -> dict[str, str]:
    """Return the environment variables that give a job its part of the cores and the GPUs.

    Args:
        place: number of the job among those that run at once.
        at_once: their count.
        environment: of this process. A number of threads in it is kept.
        gpus: number of visible GPUs.
    """
    threads = environment.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // at_once)))
    given = environment.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
    visible = given.split(",")[:gpus]
    own = visible[place::at_once] or visible[place % max(1, gpus) :][:1]
    return {"OMP_NUM_THREADS": threads} | ({"CUDA_VISIBLE_DEVICES": ",".join(own)} if at_once > 1 and gpus > 1 else {})


def begin(job: Job, given: Mapping[str, str], place: int, at_once: int, told: Callable[[str], Any]) -> Running | None:
    """Start the first command of a job, unless it is done, waits for a path, or runs elsewhere."""
    missing = [name for name in job.entry.needs if name not in given]
    if missing:
        told(f"{job.name}: left out, it needs --given {' '.join(f'{name}=PATH' for name in missing)}")
        return None
    if job.folder.is_dir() and locked(job.folder):
        told(f"{job.name}: another process runs it")
        return None
    job.begin()
    if job.row is not None:
        return None
    try:
        held = lock(job.folder)
    except ValueError:
        told(f"{job.name}: another process runs it")
        return None
    log = open(job.folder / LOG, "ab", buffering=0)  # noqa: SIM115 - closed by `end`
    one = Running(job, held, log, place, part(place, at_once, os.environ, torch.cuda.device_count()))
    try:
        if one.start(given):
            told(f"{job.name}: {one.verb}")
            return one
        told(summary(job, job.finish()))
    except BaseException:
        stop([one])
        raise
    one.end()
    return None


def advance(one: Running, given: Mapping[str, str], failed: list[str], told: Callable[[str], Any]) -> bool:
    """Look at a command that has ended, start the next one, and return whether there is one."""
    assert one.process is not None
    code, job = one.process.returncode, one.job
    found = job.run
    if code and not (one.verb == "fit" and found and found[1].state in ENDED):
        told(f"{job.name}: {one.verb} failed with exit code {code}: {last_line(job.folder / LOG)}")
        failed.append(job.name)
        return False
    if one.verb == "test":
        job.keep_tested()
    following = job.command(given)
    if following and following[0] == one.verb:  # it has done nothing, and would do so for ever
        told(f"{job.name}: {one.verb} left no result, see {job.folder / LOG}")
        failed.append(job.name)
        return False
    if one.start(given):
        told(f"{job.name}: {one.verb}")
        return True
    told(summary(job, job.finish()))
    return False


def summary(job: Job, row: Row) -> str:
    """Return the line about a job that is done."""
    scores = ", ".join(f"{name} {value:g}" for name, value in list(row["scores"].items())[:3])
    return f"{job.name}: {did(row)}{f': {scores}' if scores else ''}"


def did(row: Row) -> str:
    """Return how a run ended, after which steps and which time."""
    spent = "" if row["cpu_seconds"] is None else f", {row['cpu_seconds']} CPU s"
    return f"{row['state']} after {row['steps']} steps{spent}"


def last_line(path: Path) -> str:
    """Return the last line of a log, and where it is."""
    lines = [text for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if text.strip()]
    return f"{lines[-1].strip()[-200:]} ({path})" if lines else str(path)


@contextmanager
def terminating() -> Iterator[None]:
    """Raise `Terminated` at SIGTERM."""

    def handle(number: int, frame: Any) -> None:
        raise Terminated(128 + number)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def stop(running: list[Running]) -> None:
    """Have all commands save and end, and wait for them."""
    for one in running:
        if one.process and one.process.poll() is None:
            one.process.terminate()
    end = time.monotonic() + PATIENCE
    for one in running:
        if (process := one.process) is not None:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        one.end()
