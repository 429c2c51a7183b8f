"""Small runs for the tests of the engine, and the command line in a folder of its own."""

import importlib
import os
import shutil
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch, and for the processes that tests start

import pytest

from gans.__main__ import main

# torch and lightning are imported in fixtures: pytest-xdist's first process reads this file and runs no test.


@pytest.fixture(scope="session", autouse=True)
def autograd():
    """Start autograd before an export to ONNX registers another device: with one, it would not work after a fork."""
    import torch

    torch.zeros(1, requires_grad=True).sum().backward()


@pytest.fixture(autouse=True)
def one_thread():
    """Keep tests from fighting over two cores."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def trainer(tmp_path):
    """Return a function that makes a silent CPU trainer for a number of steps, on one process or on several."""
    import lightning as L

    def make(steps, world=1, **options):
        quiet = {
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
        fixed = {"max_steps": steps, "max_epochs": -1, "accelerator": "cpu", "default_root_dir": tmp_path}
        fixed |= {"devices": world, "strategy": "ddp_fork" if world > 1 else "auto"}
        return L.Trainer(**{**fixed, "num_sanity_val_steps": 0, **quiet, **options})

    return make


@pytest.fixture
def graphs(monkeypatch):
    """Return a function that makes `Compile` use a backend without a compiler, and one that counts graphs."""
    import torch
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    compiles = torch.nn.Module.compile

    def backend(name):
        monkeypatch.setattr("gans.callbacks.compile.check_compiler", lambda device: None)
        monkeypatch.setattr(
            torch.nn.Module, "compile", lambda self, mode, dynamic: compiles(self, backend=name, dynamic=dynamic)
        )

    yield backend, lambda: counters["stats"]["unique_graphs"]
    assert dict(counters["graph_break"]) == {}
    torch.compiler.reset()


@pytest.fixture
def trained_by(trainer, tmp_path):
    """Return a function that trains a model on some processes, in double precision, and returns its checkpoint."""
    import torch

    from gans.engine.checkpoint import Checkpoint

    def train(world, model, data, steps):
        folder = tempfile.mkdtemp(dir=tmp_path)
        options = {"precision": "64-true", "enable_checkpointing": True, "limit_val_batches": 0}
        trainer(steps, world, callbacks=[Checkpoint(steps, folder)], **options).fit(model, data)
        return torch.load(Path(folder, "last.ckpt"), weights_only=True)

    return train


@pytest.fixture
def saved(trainer):
    """Return a function that writes a model's checkpoint where a run would, without a run, and returns its path."""

    def save(model, folder):
        run = trainer(1)
        run.strategy.connect(model)
        model.trainer = run
        path = folder / "checkpoints" / "last.ckpt"
        run.save_checkpoint(path, weights_only=True)
        return path

    return save


@pytest.fixture
def gans(tmp_path, monkeypatch, capfd):
    """Run a command in a folder of its own; return exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    for name in ("LOCAL_RANK", "SLURM_LOCALID", "GANS_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # which the command line replaces

    def run(line, *more):
        capfd.readouterr()
        with warnings.catch_warnings(record=True) as caught:
            warnings.resetwarnings()
            for hidden in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
                warnings.simplefilter("ignore", hidden)  # as Python does where no test runs
            code = main([*line.split(), *more])
        out, err = capfd.readouterr()
        return code, out, err + "".join(f"\nWarning: {note.message}" for note in caught)

    return run


@pytest.fixture
def browser():
    """Return a headless Chromium, the system's."""
    pytest.importorskip("playwright", reason="a browser is driven by playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no chromium")
    with importlib.import_module("playwright.sync_api").sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def refused(gans, tmp_path):
    """Run a command that must be refused: one sentence, exit code 2, nothing written. Return the sentence."""

    def run(line, *more):
        before = sorted(tmp_path.rglob("*"))
        code, _, err = gans(line, *more)
        assert (code, sorted(tmp_path.rglob("*"))) == (2, before), err
        assert err.startswith("gans: error: "), err
        assert err.count("\n") == 1, err
        assert "Traceback" not in err
        assert "\0" not in err
        return err.removeprefix("gans: error: ").strip()

    return run
