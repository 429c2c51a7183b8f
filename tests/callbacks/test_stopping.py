"""Signals: a run that is stopped saves, says so, ends all of its processes, and goes on as if nothing had been."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import lightning as L
import pytest
import torch
from checkpoints import PARTS, assert_equal

from datamodules import DigitsDataModule
from gans.callbacks import progress
from gans.callbacks.evaluate import Evaluate
from gans.callbacks.stopping import StopOnSignal
from gans.engine.checkpoint import Checkpoint
from gans.models import DCGAN
from gans.runs import parent

ROOT = Path(__file__).parents[2]
TINY = "--model.width 4 --data.size 8 --grid.samples 4 --trainer.log_every_n_steps 2 --trainer.accelerator cpu"
RUN = Path("runs/dcgan-digits/version_0")
LAST = RUN / "checkpoints" / "last.ckpt"


def saved(step):
    return f"the last checkpoint is {LAST}, of step {step}: --ckpt_path last resumes"


def send(number):
    os.kill(os.getpid(), number)


def press(*numbers):
    """Return a hook that sends a signal in each of some steps."""

    def hook(self, trainer, *args):
        due = dict(numbers).get(trainer.global_step)
        if due:
            send(due)

    return hook


def last():
    return torch.load(LAST, weights_only=True)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_saves_at_the_end_of_the_batch(gans, monkeypatch, name):
    number = getattr(signal, name)
    monkeypatch.setattr(progress.Progress, "on_train_batch_end", press((3, number)))
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    code, _, err = gans(f"fit dcgan-digits {TINY}")
    assert (code, err.splitlines()[-1]) == (128 + number, f"gans: stopped at step 3; {saved(3)}")
    assert "Traceback" not in err
    assert last()["global_step"] == 3
    assert before == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]


def test_a_stopped_run_that_goes_on_is_the_run_that_never_stopped(gans, monkeypatch, tmp_path):
    line = f"fit dcgan-digits {TINY} --trainer.max_steps 30 --checkpoint.every_n_steps 10 --model.critic_steps 2"
    assert gans(line)[0] == 0
    whole = last()
    LAST.parents[1].rename(tmp_path / "whole")
    monkeypatch.setattr(progress.Progress, "on_train_batch_start", press((17, signal.SIGTERM)), raising=False)
    code, _, err = gans(line)
    assert (code, err.splitlines()[-1]) == (143, f"gans: stopped at step 18; {saved(18)}")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert last()["global_step"] == 18
    assert gans(f"{line} --ckpt_path last")[0] == 0
    for part in PARTS[:-1]:
        assert_equal(whole[part], last()[part], part)


def test_a_second_ctrl_c_stops_at_once(gans, monkeypatch):
    def twice(self, trainer, *args):
        if trainer.global_step == 3:
            send(signal.SIGINT)
            time.sleep(0.6)
            send(signal.SIGINT)

    monkeypatch.setattr(progress.Progress, "on_train_batch_start", twice, raising=False)
    code, _, err = gans(f"fit dcgan-digits {TINY}")
    assert (code, err.splitlines()[-1]) == (130, "gans: stopped at step 3; there is no checkpoint yet")


def test_one_ctrl_c_that_is_delivered_twice_is_one(gans, monkeypatch):
    def twice(self, trainer, *args):
        if trainer.global_step == 3:
            send(signal.SIGINT)
            send(signal.SIGINT)

    monkeypatch.setattr(progress.Progress, "on_train_batch_start", twice, raising=False)
    code, _, err = gans(f"fit dcgan-digits {TINY}")
    assert (code, err.splitlines()[-1]) == (130, f"gans: stopped at step 4; {saved(4)}")


def test_before_training_a_signal_stops_at_once_and_leaves_nothing(gans, monkeypatch, tmp_path):
    monkeypatch.setattr(Evaluate, "on_train_start", lambda *args: send(signal.SIGTERM))
    code, _, err = gans(f"fit dcgan-digits {TINY}")
    assert (code, err.splitlines()[-1]) == (143, "gans: stopped at step 0; there is no checkpoint yet")
    assert not (tmp_path / RUN).exists()


def test_a_run_that_is_complete_is_no_stopped_one(gans, monkeypatch):
    monkeypatch.setattr(progress.Progress, "on_train_batch_end", press((3, signal.SIGTERM)))
    assert gans(f"fit dcgan-digits {TINY} --trainer.max_steps 3")[0] == 0
    assert last()["global_step"] == 3


def test_validation_stops_at_once(gans, monkeypatch):
    assert gans(f"fit dcgan-digits {TINY} --trainer.max_steps 1")[0] == 0
    monkeypatch.setattr(DCGAN, "on_validation_start", lambda self: send(signal.SIGTERM))
    code, _, err = gans(f"validate dcgan-digits {TINY}")
    assert (code, err.splitlines()[-1]) == (143, "gans: stopped")


@pytest.mark.parametrize("where", ["--trainer.max_epochs 1", "--trainer.max_epochs=1", "--config epochs.yaml"])
def test_epochs_that_are_asked_for_are_trained(gans, tmp_path, where):
    """Whoever asks for 50 epochs does not mean the recipe's number of steps."""
    (tmp_path / "epochs.yaml").write_text("trainer: {max_epochs: 1}")
    (tmp_path / "short.yaml").write_text((ROOT / "gans/recipes/dcgan-digits.yaml").read_text())
    text = (tmp_path / "short.yaml").read_text()
    (tmp_path / "short.yaml").write_text(re.sub("max_steps: .*", "max_steps: 3", text))
    code, _, err = gans(f"fit short.yaml {TINY} --data.batch_size 256 {where}")
    assert (code, err.splitlines()[0]) == (0, "gans: trainer.max_epochs is 1: max_steps of short, 3, is lifted")
    path = tmp_path / "runs" / "short" / "version_0" / "checkpoints" / "last.ckpt"
    assert torch.load(path, weights_only=True)["global_step"] > 3


def test_both_limits_hold_where_both_are_given(gans, tmp_path):
    for line in ("--trainer.max_epochs 1 --trainer.max_steps 3", "--trainer.max_epochs -1 --trainer.max_steps 3"):
        code, _, err = gans(f"fit dcgan-digits {TINY} {line}")
        assert (code, "lifted" in err) == (0, False)
    assert last()["global_step"] == 3


@pytest.mark.parametrize(
    "callback",
    ["EarlyStopping --trainer.callbacks.monitor val_loss", "ModelCheckpoint --trainer.callbacks.monitor val_loss"],
)
def test_a_metric_that_nothing_logs_is_bad_input(gans, callback):
    flags = f"{TINY} --data.batch_size 256 --trainer.max_epochs 2 --trainer.callbacks {callback}"
    code, _, err = gans(f"fit dcgan-digits {flags}")
    says = "gans: error: monitor is val_loss (did you mean val/loss"
    [line] = [line for line in err.splitlines() if line.startswith("gans: error")]
    assert (code, line[: len(says)]) == (2, says), err
    assert "; expected a metric that this run logs: " in line
    assert "Traceback" not in err


def test_the_trainers_own_words_are_not_repeated(refused, monkeypatch):
    flags = "--trainer.logger false --trainer.enable_checkpointing false --trainer.enable_progress_bar false"
    says = refused(f"fit dcgan-digits {TINY} --trainer.barebones true")
    assert says == f"trainer.barebones is true, but a run has curves and checkpoints: give {flags}"
    monkeypatch.setattr("lightning.pytorch.callbacks.device_stats_monitor._PSUTIL_AVAILABLE", False)
    says = refused(f"fit dcgan-digits {TINY} --trainer.callbacks DeviceStatsMonitor")
    assert "`psutil` is not installed" in says


# -- Slurm -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Be the one task of job 77, in a cluster whose `scontrol` notes how it was called."""
    task = {"JOB_ID": "77", "JOB_NAME": "gans", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in task.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "scontrol"
    command.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path / "asked"


def test_slurm_requeues_a_run_that_goes_on_in_its_own_folder(gans, monkeypatch, tmp_path, slurm):
    with monkeypatch.context() as patch:
        patch.setattr(progress.Progress, "on_train_batch_end", press((3, signal.SIGUSR1)))
        code, _, err = gans(f"fit dcgan-digits {TINY} --ckpt_path last")
    assert (code, err.splitlines()[-1]) == (138, f"gans: stopped at step 3; {saved(3)}")
    assert slurm.read_text() == "requeue 77\n"
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.ckpt")] == [str(LAST)]
    code, out, _ = gans(f"fit dcgan-digits {TINY} --trainer.max_steps 5 --ckpt_path last")
    assert (code, out.splitlines()[0].endswith(f"from {LAST}")) == (0, True)
    assert last()["global_step"] == 5


def test_a_new_run_takes_up_nothing_of_an_old_one(gans, tmp_path, slurm):
    assert gans(f"fit dcgan-digits {TINY} --trainer.max_steps 3")[0] == 0
    (tmp_path / LAST).rename(tmp_path / RUN.parent / "hpc_ckpt_1.ckpt")
    new = f"fit dcgan-digits {TINY} --trainer.max_steps 2 --seed_everything 5"
    assert gans(new)[0] == 0
    exceptional = "--trainer.callbacks OnExceptionCheckpoint --trainer.callbacks.dirpath kept"
    (tmp_path / "kept").mkdir()
    (tmp_path / RUN.parent / "hpc_ckpt_1.ckpt").rename(tmp_path / "kept" / "on_exception.ckpt")
    assert gans(f"{new} {exceptional}")[0] == 0
    for version in (1, 2):
        path = tmp_path / RUN.parent / f"version_{version}" / "checkpoints" / "last.ckpt"
        held = torch.load(path, weights_only=True)
        assert (held["global_step"], held["adversarial"]["seed"]) == (2, 5)


# -- several processes -------------------------------------------------------------------------------------------------


class Sends(L.Callback):
    """Sends a signal to one of the processes; until then nothing but gradients may be sent."""

    def __init__(self, rank, step):
        self.rank, self.step, self.sent = rank, step, []

    def on_train_batch_start(self, trainer, *args):
        if trainer.global_step == 1:
            broadcast = torch.distributed.broadcast
            torch.distributed.broadcast = lambda *args, **options: self.sent.append(1) or broadcast(*args, **options)
        if trainer.global_step == self.step:
            assert not self.sent, "a step waits for a flag of Lightning's"
            if trainer.global_rank == self.rank:
                send(signal.SIGTERM)


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_processes_stop_after_the_same_batch(trainer, tmp_path, rank):
    """Whichever was asked; and on two processes too the run goes on as if it had not stopped."""

    def run(folder, steps, *callbacks):
        torch.manual_seed(0)
        model = DCGAN(size=8, channels=1, latent_dim=4, width=2, critic_steps=2)
        model.seed = 3
        path = tmp_path / folder / "last.ckpt"
        loop = trainer(
            steps,
            world=2,
            callbacks=[Checkpoint(1000, str(path.parent)), *callbacks],
            enable_checkpointing=True,
            limit_val_batches=0,
        )
        for stop in callbacks[1:]:
            stop.replace_lightning(loop)
        loop.fit(model, DigitsDataModule(size=8, batch_size=12), ckpt_path=path if path.exists() else None)
        return torch.load(path, weights_only=True)

    with pytest.raises(torch.multiprocessing.ProcessExitedException) as stopped, StopOnSignal() as stop:
        run("stopped", 300, Sends(rank, 3), stop)
    assert stopped.value.exit_code == 143
    step = torch.load(tmp_path / "stopped" / "last.ckpt", weights_only=True)["global_step"]
    assert 3 < step < 300
    resumed, whole = run("stopped", step + 4), run("whole", step + 4)
    for part in PARTS[:-1]:
        assert_equal(whole[part], resumed[part], part)


@pytest.mark.parametrize("flag", ["--trainer.devices 99", "--trainer.devices 99 --trainer.strategy ddp"])
def test_more_processes_than_cores_are_refused(refused, flag):
    cores = len(os.sched_getaffinity(0))
    says = f"trainer.devices is 99; expected at most {cores}, the CPU cores of this machine"
    assert refused(f"fit dcgan-digits {TINY} {flag}") == says


@pytest.mark.parametrize("strategy", ["ddp_fork", "ddp_spawn", "ddp_notebook"])
def test_processes_that_would_train_without_the_command_line_are_refused(refused, strategy):
    says = refused(f"fit dcgan-digits {TINY} --trainer.strategy {strategy} --trainer.devices 2")
    assert says == f"trainer.strategy is {strategy}; expected ddp, or auto for one device"


CHILD = """
import ctypes, os, subprocess, sys, threading, time
from gans.runs.parent import end_with_launcher
START
end_with_launcher()
if os.environ.get("LOCAL_RANK", "0") == "0":
    child = subprocess.Popen([sys.executable, *sys.argv], env={**os.environ, "LOCAL_RANK": "1"})
    print(child.pid, flush=True)
else:
    print("there", flush=True)
time.sleep(60)
"""


def gone(pid, seconds=20.0):
    """Whether a process ends, or is a zombie that nobody waits for, within some time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@needs_proc
@pytest.mark.parametrize(
    "start",
    [
        "",
        pytest.param("time.sleep(1)", marks=pytest.mark.slow),
        "del ctypes.CDLL",
        "threading.Thread.start = lambda thread: None",
    ],
)
def test_a_launched_process_ends_with_its_launcher(tmp_path, start):
    """Also one that was still starting when the launcher died, where the kernel sends no signal, or no thread runs."""
    script = tmp_path / "launched.py"
    script.write_text(CHILD.replace("START", start))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    environment.pop("LOCAL_RANK", None)
    with subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True) as launcher:
        child = int(launcher.stdout.readline())
        if "sleep" not in start:
            assert launcher.stdout.readline() == "there\n"
        launcher.kill()
        assert gone(child)


@pytest.mark.parametrize("rank", ["LOCAL_RANK", "SLURM_LOCALID"])
def test_a_process_of_torchrun_or_slurm_is_launched_by_nobody_here(monkeypatch, rank):
    """It ends at SIGTERM like a run of one process: no launcher of ours would pass the signal on."""
    for name in ("LOCAL_RANK", "SLURM_LOCALID", parent.LAUNCHER):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv(rank, "1")
    parent.end_with_launcher()
    assert parent.launched_by() is None
    with StopOnSignal(), pytest.raises(SystemExit, match="143"):
        send(signal.SIGTERM)


def test_a_signal_to_all_processes_leaves_loaders_their_workers():
    """Slurm and systemd send SIGTERM to every process of a run, which may need another batch before it has saved."""
    data = DigitsDataModule(size=8, batch_size=8, num_workers=1)
    data.setup()
    batches = iter(data.train_dataloader())
    next(batches)
    [worker] = batches._workers
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM):
        os.kill(worker.pid, number)
    worker.join(1)
    assert worker.is_alive()
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's raises wherever this process is
    try:
        os.kill(worker.pid, signal.SIGTERM)
        worker.join(20)
    finally:
        signal.signal(signal.SIGCHLD, handler)
    assert not worker.is_alive()


# -- real processes ----------------------------------------------------------------------------------------------------


def descendants(pid):
    """Return the processes below one, those of the first generation first."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            above = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        found += [int(path.parent.name)] if above == pid else []
    return found + [below for child in found for below in descendants(child)]


# The command, in this process, which the kernel kills when the test is killed. Its launched process goes with it.
DIES_WITH_TEST = f"""
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl({parent.PR_SET_PDEATHSIG}, signal.SIGKILL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.fixture
def real(tmp_path):
    """Start the command, send a signal when its time has come; return exit code, stderr and processes."""
    started = []

    def run(flags, number, when, to):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        for name in ("LOCAL_RANK", parent.LAUNCHER):
            environment.pop(name, None)
        line = f"-m gans fit dcgan-digits {TINY} --trainer.max_steps 100000 --trainer.enable_progress_bar false {flags}"
        with open(tmp_path / "stderr", "w+") as stderr:
            command = [sys.executable, "-c", DIES_WITH_TEST, *line.split()]
            run = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=stderr, start_new_session=True)
            started.append(run)
            until = time.monotonic() + 240
            while not when(run.pid):
                assert run.poll() is None, (tmp_path / "stderr").read_text()
                assert time.monotonic() < until
                time.sleep(0.05)
            everyone = [run.pid, *descendants(run.pid)]
            for pid in to(everyone):
                os.kill(pid, number)
            code = run.wait(120)
            stderr.seek(0)
            return code, stderr.read(), everyone

    yield run
    for run in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()


def is_rank(pid):
    """Whether a process is one that a launcher started as a rank of its run."""
    try:
        return b"LOCAL_RANK=1" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def is_training(tmp_path):
    return lambda pid: list((tmp_path / RUN).glob("samples/step_*.png"))


def stopped(err):
    """Return the step of the one line that a stopped run prints."""
    [line] = [line for line in err.splitlines() if line.strip()]
    kept = re.escape(saved("STEP")).replace("STEP", r"\1")  # the checkpoint is of the step at which it stopped
    found = re.fullmatch(rf"gans: stopped at step (\d+); {kept}", line)
    assert found, err
    return int(found[1])


@needs_proc
@pytest.mark.slow
def test_sigterm_to_one_process_ends_all(real, tmp_path):
    code, err, everyone = real("--trainer.devices 2", signal.SIGTERM, is_training(tmp_path), lambda them: them[1:2])
    assert code == 143
    assert torch.load(tmp_path / LAST, weights_only=True)["global_step"] == stopped(err)
    assert len(everyone) == 2
    assert all(map(gone, everyone))


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("to", [slice(0, 1), slice(None)])
def test_signals_to_the_launcher_or_to_all(real, tmp_path, number, to):
    flags = "--trainer.devices 2 --data.num_workers 1"
    code, err, everyone = real(flags, number, is_training(tmp_path), lambda them: them[to])
    assert code == 128 + number
    assert torch.load(tmp_path / LAST, weights_only=True)["global_step"] == stopped(err)
    assert all(map(gone, everyone))


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("later", [0.5, 5])
def test_no_process_outlives_a_launcher_that_dies_while_it_starts(real, tmp_path, number, later):
    def launched(pid):
        found = [child for child in descendants(pid) if is_rank(child)]  # and no helper of an import
        time.sleep(later if found else 0)
        return found

    code, err, everyone = real("--trainer.devices 2", number, launched, lambda them: them[:1])
    assert code == (-number if number == signal.SIGKILL else 128 + number)
    assert "Traceback" not in err
    assert len(everyone) == 2
    assert all(map(gone, everyone))


@needs_proc
@pytest.mark.slow
def test_a_failure_of_the_first_process_alone_ends_all(tmp_path):
    """Of two, only the first writes checkpoints. The other would wait in a barrier for half an hour."""
    flags = f"{TINY} --trainer.devices 2 --checkpoint.every_n_steps 3 --trainer.max_steps 9 --ckpt_path last"
    line = f"ulimit -f 40; exec {sys.executable} -m gans fit dcgan-digits {flags} --trainer.enable_progress_bar false"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for name in ("LOCAL_RANK", parent.LAUNCHER):
        environment.pop(name, None)
    run = subprocess.Popen(
        ["bash", "-c", line], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        err = run.communicate(timeout=120)[1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == 1, err
    anew, says = err.splitlines()
    assert anew == "no checkpoint of dcgan-digits under runs/dcgan-digits: starting anew"
    assert says.startswith(f"gans: error: cannot write {LAST}: File too large")
