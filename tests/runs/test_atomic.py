"""Files are whole or not there: full disks, kills, folders that cannot be written to."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gans import hub
from gans.engine.checkpoint import AtomicCheckpoints
from gans.explore import codes, directions
from gans.metrics import cache, report
from gans.models import DCGAN
from gans.pictures import film, plot
from gans.pictures.images import save_grid
from gans.runs import atomic
from gans.runs import folder as runs

ROOT = Path(__file__).parents[2]
LIMIT = 20_000  # bytes of a file, in the tests of full disks


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def full(monkeypatch):
    """Let a file hold no more than `LIMIT` bytes, as a disk does that has no more room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)  # of this process: capturing its output takes less
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_is_replaced_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "a.bin"
    assert atomic.write(path, b"old") == path
    with atomic.opened(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert (path.read_bytes(), names(path.parent)) == (b"new", ["a.bin"])
    with pytest.raises(TypeError), atomic.opened(path) as file:
        file.write("no bytes")
    assert (path.read_bytes(), names(path.parent)) == (b"new", ["a.bin"])
    with atomic.replacing(path) as partial:
        assert (partial.parent, partial.suffix) == (path.parent, ".bin")
        partial.write_bytes(b"third")
    assert (path.read_bytes(), names(path.parent)) == (b"third", ["a.bin"])


def test_a_folder_made_for_a_file_goes_with_it(tmp_path):
    with pytest.raises(KeyError), atomic.opened(tmp_path / "new" / "deeper" / "a"):
        raise KeyError
    assert names(tmp_path) == []


WRITERS = {
    "last.ckpt": lambda path, n: AtomicCheckpoints().save_checkpoint({"weights": torch.rand(n)}, path),
    "report.json": lambda path, n: report.write(path, {"values": torch.rand(n).tolist()}),
    "reference-key.pt": lambda path, n: cache.write(path, {"mean": torch.rand(n)}),
    "codes.safetensors": lambda path, n: codes.save(path, torch.rand(n, 1), ["name"] * n),
    "directions.safetensors": lambda path, n: directions.save(path, {"way": torch.rand(n)}),
    "table.csv": lambda path, n: plot.save_table({"step": torch.rand(n).tolist()}, path),
    "grid.png": lambda path, n: save_grid(torch.rand(n, 1, 1, 1) * 2 - 1, path),
    "walk.gif": lambda path, n: film.save_film(torch.rand(2, 3, 8, min(n // 8, 128)) * 2 - 1, path),
    "generator.safetensors": lambda path, n: hub.save_generator(DCGAN(8, 1, width=max(1, n // 200)), path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path, full, name):
    path, big = tmp_path / name, 1 << 14
    old = b""
    if name != "directions.safetensors":  # which reads the file that is there
        WRITERS[name](path, 64)
        old = path.read_bytes()
        assert 0 < len(old) < LIMIT
    with pytest.raises(atomic.UnwrittenError, match="File too large") as caught:
        WRITERS[name](path, big)
    says = str(caught.value)
    assert says.startswith(f"cannot write {path}: File too large (it needs "), says
    assert f"free on the disk of {tmp_path})" in says
    assert "\n" not in says
    assert (says.endswith(f"; the existing {name} is unchanged"), atomic.full(caught.value)) == (bool(old), True)
    assert names(tmp_path) == ([name] if old else [])
    assert not old or path.read_bytes() == old


def test_the_needed_size_is_that_of_the_whole_file(tmp_path, full):
    with pytest.raises(atomic.UnwrittenError) as caught:
        AtomicCheckpoints().save_checkpoint({"weights": torch.rand(100_000)}, tmp_path / "last.ckpt")
    assert "(it needs 402 kB, and " in str(caught.value)


def test_a_library_that_does_not_give_the_reason(tmp_path, full):
    """As those in C++ do."""

    def save(path):
        path.write_bytes(bytes(LIMIT))
        raise RuntimeError("unexpected pos")

    with pytest.raises(atomic.UnwrittenError, match="File too large"), atomic.replacing(tmp_path / "a.pt") as partial:
        save(partial)
    assert names(tmp_path) == []
    with pytest.raises(RuntimeError, match="a bug"), atomic.replacing(tmp_path / "a.pt"):
        raise RuntimeError("a bug")


def test_a_flush_that_fails(tmp_path, monkeypatch):
    """Quotas and network disks report only then that nothing was stored."""
    path = atomic.write(tmp_path / "a", b"old")

    def refuse(descriptor):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(atomic.UnwrittenError, match="quota exceeded"):
        atomic.write(path, b"new")
    assert (path.read_bytes(), names(tmp_path)) == (b"old", ["a"])


def test_what_cannot_be_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for wrong in ("folder", "file/below"):
        with pytest.raises(atomic.UnwrittenError, match=rf"^cannot write {tmp_path / wrong}: [^\n]+$") as caught:
            atomic.write(tmp_path / wrong, b"new")
        assert not atomic.full(caught.value)
    assert names(tmp_path) == ["file", "folder"]
    atomic.write("/dev/null", b"new")
    assert Path("/dev/null").is_char_device()


def test_partial_files_of_killed_processes_are_removed(tmp_path):
    code = f"""
import os, signal
from gans.runs import atomic
with atomic.opened({str(tmp_path / "a")!r}) as file:
    file.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=False, timeout=60)
    [left] = names(tmp_path)
    assert left.startswith(".partial-")
    with atomic.opened(tmp_path / "b") as file:  # another process writes at the same time
        atomic._swept.clear()
        atomic.write(tmp_path / "a", b"whole")
        file.write(b"whole")
    assert names(tmp_path) == ["a", "b"]


def test_errors_that_cause_each_other():
    errors = [ValueError(), ValueError()]
    errors[0].__context__, errors[1].__context__ = errors[1], errors[0]
    assert not atomic.full(errors[0])


def test_home_is_meant_by_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    hub.save_generator(DCGAN(8, 1, width=2), "~/g.safetensors")
    assert load_file(tmp_path / "g.safetensors")
    assert hub.from_pretrained("~/g.safetensors").sample(1, seed=0).shape == (1, 1, 8, 8)


# -- a run, and a command ----------------------------------------------------------------------------------------------

TINY = "--data.size 8 --grid.samples 4 --trainer.accelerator cpu --checkpoint.every_n_steps 2"


def test_a_run_on_a_full_disk_keeps_its_checkpoint(gans, tmp_path, monkeypatch):
    save, saves = torch.save, []

    def fill(content, file, *args, **kwargs):
        saves.append(file)
        if len(saves) > 1:
            file.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(content, file, *args, **kwargs)

    monkeypatch.setattr(torch, "save", fill)
    code, _, err = gans(f"fit dcgan-digits {TINY} --model.width 4 --trainer.max_steps 8")
    path = Path("runs/dcgan-digits/version_0/checkpoints/last.ckpt")
    assert code == 1
    assert "Traceback" not in err
    says = err.splitlines()[-1]
    assert says.startswith(f"gans: error: cannot write {path}: No space left on device (it needs "), err
    assert says.endswith("; the existing last.ckpt is unchanged")
    assert names(path.parent) == ["last.ckpt"]
    assert torch.load(path, weights_only=True)["global_step"] == 2


def test_curves_on_a_full_disk(gans, monkeypatch):
    def fill(self, *args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(runs.Events, "log_metrics", fill)
    code, _, err = gans(f"fit dcgan-digits {TINY} --model.width 4 --trainer.max_steps 8 --trainer.log_every_n_steps 1")
    says = "gans: error: the disk of runs/dcgan-digits/version_0 is full: [Errno 28] No space left on device"
    assert (code, err.splitlines()[-1], "Traceback" in err) == (1, says, False), err


def test_a_command_on_a_full_disk(gans, saved, tmp_path, request):
    path = saved(DCGAN(16, 1, width=4), tmp_path)
    request.getfixturevalue("full")
    code, _, err = gans(f"sample {path} --num 400 --out {tmp_path / 'grid.png'}")
    assert code == 1, err
    assert err.startswith(f"gans: error: cannot write {tmp_path / 'grid.png'}: File too large"), err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob(".*"))
