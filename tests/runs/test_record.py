"""The record of a run: what a run writes, what a reader makes of it, and runs of earlier versions."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from gans import __version__
from gans.runs import record

TINY = "--data.size 8 --model.width 4 --grid.samples 4 --trainer.accelerator cpu --trainer.log_every_n_steps 1"
FIT = f"fit dcgan-digits {TINY} --trainer.max_steps"
RUN = Path("runs/dcgan-digits/version_0")


def test_a_run_is_recorded_resumed_and_known_without_its_record(gans, tmp_path):
    scored = "--data.batch_size 16 --evaluate.features random --evaluate.every_n_steps 2 --evaluate.samples 20"
    code, _, err = gans(f"{FIT} 4 {scored}")
    assert code == 0, err
    first = record.read(RUN)
    assert (first.run, first.recipe, first.state, first.reason) == (
        "dcgan-digits/version_0",
        "dcgan-digits",
        "done",
        None,
    )
    assert (first.model, first.data, first.size, first.batch_size) == ("DCGAN", "DigitsDataModule", 8, 16)
    assert (first.steps, first.max_steps, first.images, first.seed, first.processes) == (4, 4, 64, 0, 1)
    assert (first.best.score, first.best.step in (2, 4)) == ("fid_random", True)
    assert first.best.scores["fid_random"] == first.best.value
    assert "recall_random" in first.best.scores
    assert first.checkpoints == {name: RUN / "checkpoints" / f"{name}.ckpt" for name in ("last", "best")}
    assert (first.settings["model.width"], first.settings["data.batch_size"]) == (4, 16)
    assert first.environment["lightning-gans"] == __version__
    assert not (RUN / record.LOCK).exists()

    # What a run of an earlier version leaves.
    kept = (RUN / record.FILE).read_bytes()
    (RUN / record.FILE).unlink()
    before = record.read(RUN)
    for name in ("run", "state", "model", "data", "size", "batch_size", "seed", "steps", "max_steps", "images"):
        assert getattr(before, name) == getattr(first, name), name
    assert (before.best.score, before.best.value, before.best.step) == (
        "fid_random",
        first.best.value,
        first.best.step,
    )
    assert before.checkpoints == first.checkpoints
    (RUN / record.FILE).write_bytes(kept)

    code, _, err = gans(f"{FIT} 5 {scored} --ckpt_path last --evaluate.every_n_steps 100")
    assert code == 0, err
    second = record.read(RUN)
    assert (second.state, second.steps, second.images, second.began) == ("done", 5, 80, first.began)
    assert second.best.value <= first.best.value
    if second.best.value == first.best.value:
        assert second.best == first.best


def test_a_run_that_diverges_says_so(gans):
    code, _, err = gans(f"{FIT} 9 --model.lr 1e30")
    assert code == 1, err
    found = record.read(RUN)
    assert found.state == "diverged"
    assert "training diverged" in found.reason
    (RUN / record.FILE).unlink()
    assert record.read(RUN).state == "diverged"


def test_a_run_that_is_stopped_says_by_which_signal(gans, monkeypatch):
    from gans.engine.checkpoint import Checkpoint

    def stop(self, trainer, *args):
        if trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Checkpoint, "on_train_batch_start", stop, raising=False)
    assert gans(f"{FIT} 90")[0] == 143
    found = record.read(RUN)
    assert (found.state, found.reason, found.steps, found.max_steps) == ("stopped", "SIGTERM", 3, 90)


def test_bad_input_leaves_no_record(gans, tmp_path):
    assert gans(f"{FIT} 9 --trainer.devices 99")[0] == 2
    assert list(tmp_path.rglob(record.FILE)) == []


@pytest.fixture
def folder(tmp_path):
    """The folder of a run that has written its record while it trained."""
    path = tmp_path / "dcgan-digits" / "version_3"
    path.mkdir(parents=True)
    record.write(path, record.Record("", "", "running", steps=7, began=time.time(), size=(8, 16)))
    return path


def test_a_killed_run_is_not_running(folder):
    pid = os.fork()
    if pid == 0:
        record.lock(folder)
        time.sleep(60)
        os._exit(0)
    try:
        until = time.monotonic() + 20
        while record.read(folder).state != "running" and time.monotonic() < until:
            time.sleep(0.01)
        found = record.read(folder)
        assert (found.run, found.state, found.steps, found.size) == ("dcgan-digits/version_3", "running", 7, (8, 16))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    found = record.read(folder)
    assert (found.state, found.reason) == ("stopped", "its process was killed")


def test_a_run_is_trained_by_one_process_at_a_time(folder, monkeypatch):
    monkeypatch.setattr(record, "PATIENCE", 0.1)
    first = record.lock(folder)
    with pytest.raises(ValueError, match="version_3 is in use: another process trains this run"):
        record.lock(folder)
    # The first ends while the second waits.
    monkeypatch.setattr(record, "PATIENCE", 10.0)
    monkeypatch.setattr(record.time, "sleep", lambda seconds: record.unlock(folder, first))
    second = record.lock(folder)
    assert record.locked(folder)
    record.unlock(folder, second)
    assert not record.locked(folder)


def test_where_the_disk_has_no_locks_the_file_is_believed(folder, monkeypatch):
    monkeypatch.setattr(record, "fcntl", None)
    assert record.lock(folder) is None
    assert record.read(folder).state == "running"


def test_a_moved_run_has_its_checkpoints_where_it_is_now(folder, tmp_path):
    paths = {"last": folder / "checkpoints" / "last.ckpt", "best": tmp_path / "kept" / "best.ckpt"}
    record.write(folder, record.Record("", "", "done", checkpoints=paths))
    moved = tmp_path / "elsewhere" / "version_9"
    moved.parent.mkdir()
    folder.rename(moved)
    found = record.read(moved)
    assert (found.run, found.checkpoints["last"]) == ("elsewhere/version_9", moved / "checkpoints" / "last.ckpt")
    assert found.checkpoints["best"] == tmp_path / "kept" / "best.ckpt"


@pytest.mark.parametrize("content", ["", "[]", '{"state": "asleep"}', '{"state": "done", "best": {"x": 1}}'])
def test_a_damaged_record_is_named(folder, content):
    (folder / record.FILE).write_text(content)
    with pytest.raises(ValueError, match=r"version_3/run\.json is damaged"):
        record.read(folder)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no folder of a run"):
        record.read(tmp_path)


def test_curves_without_checkpoints_tell_the_best_score_and_where_a_run_resumed(tmp_path):
    run = tmp_path / "version_0"
    writer = SummaryWriter(str(run))
    for step, value in [(10, 9.0), (20, 4.0), (30, 1.0)]:
        writer.add_scalar("fid/mnist", value, step)
        writer.add_scalar("loss/generator", 1.0, step + 1)
    writer.close()
    resumed = SummaryWriter(str(run), purge_step=25, filename_suffix=".later")
    resumed.add_scalar("fid/mnist", 5.0, 30)
    resumed.close()
    (run / "config.yaml").write_text("model: [")
    found = record.read(run)
    assert (found.state, found.model, found.steps) == ("stopped", None, 21)
    assert found.best == record.Best("fid_mnist", 4.0, 20)


def test_runs_are_found_in_a_folder_of_recipes_of_one_and_in_their_own(tmp_path):
    for name in ("a/version_0", "a/version_10", "a/version_2", "b/version_0", "b/notes"):
        (tmp_path / name).mkdir(parents=True)
        if "version" in name:
            (tmp_path / name / record.FILE).write_text(json.dumps({"state": "done"}))
    names = [path.relative_to(tmp_path).as_posix() for path in record.runs(tmp_path)]
    assert names == ["a/version_0", "a/version_2", "a/version_10", "b/version_0"]
    assert [path.name for path in record.runs(tmp_path / "b")] == ["version_0"]
    assert list(record.runs(tmp_path / "b" / "version_0")) == [tmp_path / "b" / "version_0"]
    assert list(record.runs(tmp_path / "b" / "notes")) == []
