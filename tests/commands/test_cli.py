"""The command line: what it says and leaves behind, Ctrl-C, and where it goes on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from gans.callbacks import progress
from gans.checks import nearest
from gans.models import GAN
from gans.recipes.arguments import checked
from gans.runs.recipes import recipes

ROOT = Path(__file__).parents[2]
TINY = "--model.width 4 --data.size 8 --grid.samples 4 --trainer.log_every_n_steps 2 --trainer.accelerator cpu"
GOOD = (ROOT / "gans" / "recipes" / "dcgan-digits.yaml").read_text()


class Breaks(GAN):
    """Fails as a bug would, in its second step."""

    def training_step(self, batch, batch_idx):
        if self.batches_seen > 1:
            raise ValueError("a bug")
        super().training_step(batch, batch_idx)


class Unbuildable(GAN):
    def __init__(self, size: int = 8, channels: int = 1):
        super().__init__(size, channels)
        raise TypeError("a bug")


@pytest.mark.parametrize(("model", "error"), [(Breaks, ValueError), (Unbuildable, TypeError)])
def test_a_bug_keeps_its_traceback(gans, monkeypatch, model, error):
    monkeypatch.setattr("gans.models.Bug", model, raising=False)
    with pytest.raises(error, match="a bug"):
        gans("fit --model gans.models.Bug --data DigitsDataModule --data.size 8 --trainer.max_steps 3")


def test_a_traceback_can_be_asked_for(gans, monkeypatch):
    monkeypatch.setenv("GANS_TRACEBACK", "1")
    with pytest.raises(ValueError, match="size is 0"):
        gans("fit dcgan-digits --data.size 0")


def test_divergence_is_no_success(gans, tmp_path):
    code, _, err = gans(f"fit dcgan-digits {TINY} --trainer.max_steps 20 --model.lr 1e38")
    assert code == 1
    assert "diverged" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert (tmp_path / "runs" / "dcgan-digits" / "version_0" / "config.yaml").exists()


def test_ctrl_c_says_where_the_checkpoint_is(gans, monkeypatch, tmp_path):
    def press(self, trainer, *args):
        if trainer.global_step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(progress.Progress, "on_train_batch_end", press)
    handler = signal.getsignal(signal.SIGINT)
    try:
        line = f"fit dcgan-digits {TINY} --checkpoint.every_n_steps"
        code, _, err = gans(f"{line} 2")
        last = "runs/dcgan-digits/version_0/checkpoints/last.ckpt"
        says = f"gans: stopped at step 3; the last checkpoint is {last}, of step 2: --ckpt_path last resumes"
        assert (code, err.splitlines()[-1]) == (130, says)
        assert torch.load(tmp_path / last, weights_only=True)["global_step"] == 2
        code, _, err = gans(f"{line} 100")
        assert (code, err.splitlines()[-1]) == (130, "gans: stopped at step 3; there is no checkpoint yet")
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning has switched it off


# -- recipes, files and flags ------------------------------------------------------------------------------------------


def test_help_and_recipes(gans):
    code, out, _ = gans("")
    assert (code, gans("--help")[1]) == (0, out)
    assert out.startswith("usage: gans recipes")
    code, out, _ = gans("recipes")
    assert sorted(line.split()[0] for line in out.splitlines() if line.startswith("  ")) == sorted(recipes())
    assert all(len(line) <= 120 for line in out.splitlines())
    assert gans("recipes dcgan-digits") == (0, GOOD, "")
    code, out, _ = gans("fit --help")
    assert code == 0
    assert out.startswith("usage: gans fit RECIPE|FILE.yaml [flags]\n\n")
    out = gans("fit --model.help DCGAN")[1]
    assert out.startswith("Help for --model.help=gans.models.DCGAN")
    out = gans("fit --help")[1]
    assert 0 < out.rindex("  --grid.every_n_steps") < out.rindex("  --trainer.max_steps")  # ours come first


def test_help_lists_models_and_data(gans):
    code, out, _ = gans("fit --model.help")
    assert code == 0
    assert "  DCGAN" in out
    assert "Judged" not in out  # a base that is not for users
    code, out, _ = gans("fit dcgan-digits --data.help")
    assert (code, "  MNISTDataModule" in out) == (0, True)


def test_later_flags_win_wherever_the_file_is(gans, tmp_path):
    (tmp_path / "my.yaml").write_text("trainer: {max_steps: 7}\nmodel: {init_args: {lr: 0.5}}\n")

    def config(line):
        code, out, _ = gans(f"fit {line} --print_config")
        assert code == 0
        found = yaml.safe_load(out)
        return found["trainer"]["max_steps"], found["model"]["init_args"]["lr"]

    assert config("dcgan-digits") == (1500, 0.001)
    assert config("--config dcgan-digits") == (1500, 0.001)
    assert config("dcgan-digits --trainer.max_steps 5") == (5, 0.001)
    assert config("dcgan-digits --config my.yaml") == (7, 0.5)
    assert config("dcgan-digits --config=my.yaml --trainer.max_steps 5") == (5, 0.5)
    assert config("dcgan-digits --trainer.max_steps 5 -c my.yaml --model.lr 2") == (7, 2)


@pytest.mark.parametrize(
    ("args", "name"),
    [
        (["dcgan-digits"], "dcgan-digits"),
        (["--config", "dcgan-digits", "--config=a/my.yaml"], "dcgan-digits"),
        (["a/my.yaml"], "my"),
        (["runs/some/version_3/config.yaml"], "some"),
        (["--model", "GAN"], "run"),
    ],
)
def test_the_name_of_a_run(tmp_path, monkeypatch, args, name):
    monkeypatch.chdir(tmp_path)
    for path in ("a/my.yaml", "runs/some/version_3/config.yaml"):
        Path(path).parent.mkdir(parents=True)
        Path(path).write_text("trainer: {}")
    assert checked("fit", args)[0] == name


def test_nearest():
    assert nearest("lr", ["model.lr", "model.betas"]) == " (did you mean model.lr?)"
    assert nearest("xyz", ["model.lr"]) == ""


# -- a run, what follows it, and the same again from its own description -----------------------------------------------


def test_fit_and_what_follows(gans, tmp_path):
    run = tmp_path / "runs" / "dcgan-digits" / "version_0"

    def step():
        return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]

    code, out, err = gans(f"fit dcgan-digits {TINY} --trainer.max_steps 3")
    assert (code, step()) == (0, 3)
    assert out.splitlines() == [
        "fit          DCGAN (0.01M parameters) on DigitsDataModule, 1 x cpu",
        "data         1,600 images to train on, 197 for validation and tests",
        "classes      10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        "pictures     runs/dcgan-digits/version_0/samples",
        "curves       tensorboard --logdir runs/dcgan-digits",
        "checkpoint   runs/dcgan-digits/version_0/checkpoints/last.ckpt",
        "next         gans sample runs/dcgan-digits/version_0/checkpoints/last.ckpt",
    ]
    assert all(line.startswith("fit ") for line in err.replace("\r", "\n").split("\n") if line.strip()), err
    assert sorted(path.name for path in (run / "samples").iterdir()) == [
        "real.png",
        "step_0000001.png",
        "step_0000003.png",
    ]

    # Going on is the same run: same folder, the clock goes on, config.yaml describes the whole.
    code, out, err = gans(f"fit dcgan-digits {TINY} --trainer.max_steps 6 --ckpt_path last")
    assert (code, step()) == (0, 6)
    assert out.splitlines()[0].endswith("1 x cpu, from runs/dcgan-digits/version_0/checkpoints/last.ckpt")
    assert "Warning" not in err
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["trainer"]["max_steps"], config["ckpt_path"]) == (6, None)
    assert "size" not in config["model"]["init_args"]

    # Nothing is left to do, and nothing is left behind.
    code, out, err = gans(f"fit dcgan-digits {TINY} --trainer.max_steps 6 --ckpt_path {run}/checkpoints/last.ckpt")
    assert (code, out.splitlines()[-1]) == (0, "nothing to do: step 6, trainer.max_steps is 6")
    assert "dirpath" not in err

    before = {name: (run / name).read_bytes() for name in ("config.yaml", "hparams.yaml", "checkpoints/last.ckpt")}
    for verb, shown in [("validate", "val/loss"), ("test", "test/loss"), ("predict", "version_0/predictions")]:
        code, out, err = gans(f"{verb} dcgan-digits {TINY}")
        assert (code, shown in out, "Warning" in err) == (0, True, False), (out, err)
    assert {name: (run / name).read_bytes() for name in before} == before
    assert len(list((run / "predictions").glob("*.png"))) == 197
    assert [path.name for path in run.parent.iterdir()] == ["version_0"]


@pytest.mark.parametrize("where", ["--checkpoint.dirpath kept", "--trainer.logger false"])
def test_last_is_found_where_it_was_put(gans, tmp_path, where):
    for steps, start in [(3, "1 x cpu"), (6, "last.ckpt")]:
        code, out, err = gans(f"fit dcgan-digits {TINY} {where} --trainer.max_steps {steps} --ckpt_path last")
        assert code == 0, err
        assert out.splitlines()[0].endswith(start)
        [path] = tmp_path.rglob("last.ckpt")
        assert torch.load(path, weights_only=True)["global_step"] == steps


def test_a_rehearsal_and_no_checkpoints_leave_none(gans, tmp_path):
    assert gans(f"fit dcgan-digits {TINY} --trainer.fast_dev_run true")[0] == 0
    assert list(tmp_path.iterdir()) == []
    assert gans(f"fit dcgan-digits {TINY} --trainer.max_steps 2 --trainer.enable_checkpointing false")[0] == 0
    assert not list(tmp_path.rglob("*.ckpt"))


def test_validation_by_the_clock(gans):
    code, out, err = gans(f"fit dcgan-digits {TINY} --trainer.max_steps 2 --trainer.val_check_interval 00:00:00:01")
    assert (code, "checkpoint   runs/" in out) == (0, True), err


def test_ctrl_c_during_a_command(gans, monkeypatch):
    def main(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("gans.commands.sample.main", main)
    assert gans("sample dcgan-digits") == (130, "", "gans: stopped\n")


def test_a_run_from_its_own_description(gans, tmp_path):
    code, out, _ = gans(f"fit dcgan-digits {TINY} --trainer.max_steps 2 --print_config")
    assert code == 0
    (tmp_path / "my.yaml").write_text(out)
    assert gans("fit my.yaml")[0] == 0
    assert gans("fit runs/my/version_0/config.yaml --trainer.max_steps 1")[0] == 0
    assert sorted(path.name for path in (tmp_path / "runs" / "my").iterdir()) == ["version_0", "version_1"]
    for n, steps in [(0, 2), (1, 1)]:
        assert torch.load(f"runs/my/version_{n}/checkpoints/last.ckpt", weights_only=True)["global_step"] == steps


def test_an_older_run_whose_model_had_more_arguments(gans, tmp_path):
    small = "--model.width 4 --data.size 16 --data.frames 4 --data.batch_size 8 --trainer.accelerator cpu"
    code, _, err = gans(f"fit sequence-digits {small} --trainer.max_steps 1 --grid.samples 4 --evaluate.features null")
    assert code == 0, err
    file = tmp_path / "runs" / "sequence-digits" / "version_0" / "config.yaml"
    config = yaml.safe_load(file.read_text())
    assert "critic" not in config["model"]["init_args"]
    config["model"]["init_args"] |= {"critic": "mlp", "batch_norm": False}
    file.write_text(yaml.safe_dump(config))
    code, out, err = gans("test sequence-digits --trainer.limit_test_batches 1")
    assert (code, "test/loss" in out) == (0, True), err
    # Only these are left out: another unknown argument is a mistake.
    config["model"]["init_args"]["critics"] = "mlp"
    file.write_text(yaml.safe_dump(config))
    code, _, err = gans("test sequence-digits")
    assert (code, "model.critics" in err) == (2, True), err


# -- processes ---------------------------------------------------------------------------------------------------------


def process(*args, cwd, timeout=120):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout
    )


def test_recipes_need_no_torch(tmp_path):
    door = [str(ROOT / "scripts" / "train.py")]
    for command in (["-X", "importtime", "-m", "gans"], door):
        done = process(*command, "recipes", cwd=tmp_path)
        assert (done.returncode, "dcgan-digits" in done.stdout) == (0, True)
        assert "torch" not in done.stderr
        assert "lightning" not in done.stderr.replace("lightning_gans", "")  # how an editable install is found
    # As a share of the interpreter's own start, so that a busy machine does not matter: 0.5 s where that takes 0.1 s.
    code = "import time; t = time.process_time(); from gans.__main__ import main; main(['recipes'])"
    done = process("-c", f"{code}; print(time.process_time() - t)", cwd=tmp_path)
    assert float(done.stdout.splitlines()[-1]) < 0.5


@pytest.mark.slow  # two processes import Lightning
@pytest.mark.parametrize("wrong", ["gan-mnist --data.root none", "dcgan-digits --data.batch_size 5000"])
def test_two_processes_speak_once(tmp_path, wrong):
    line = f"-m gans fit {wrong} --trainer.accelerator cpu --trainer.devices 2"
    done = process(*line.split(), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("gans: error: ") == 1
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
