"""A run that stops and goes on is the run that never stopped, bit for bit."""

import multiprocessing
import os
import random
import signal
import time

import lightning as L
import numpy as np
import pytest
import torch
from models_of_users import Penalised

from datamodules import DegradedDigitsDataModule, DigitsDataModule
from gans.__main__ import main
from gans.checkpoint import AtomicCheckpoints, Checkpoint
from gans.models import CUT, DCGAN, CycleGAN, Pix2Pix

EPOCH = 25  # batches of 64 digits


class Curves(L.pytorch.loggers.CSVLogger):
    """Keeps the points of all curves but the speed, which no two runs share."""

    def __init__(self, folder):
        super().__init__(folder)
        self.points = {}

    def log_metrics(self, metrics, step=None):
        self.points[step] = {**self.points.get(step, {}), **metrics}
        self.points[step].pop("speed/images_per_second", None)


class Stop(L.Callback):
    """Notes the generators of random numbers after the last batch."""

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.rng = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


@pytest.fixture
def fit(trainer, tmp_path):
    def fit(kind, steps, name, resume=None, workers=0, seed=0, **options):
        L.seed_everything(seed)
        pairs = kind in (Pix2Pix, CycleGAN, CUT)
        latents = {"blocks": 1} if kind in (CycleGAN, CUT) else {} if pairs else {"latent_dim": 4}
        model = kind(size=16, channels=1, width=2, **latents, **options)
        source = DegradedDigitsDataModule if pairs else DigitsDataModule
        data = source(size=16, batch_size=64, num_workers=workers)
        curves, stop = Curves(tmp_path / name), Stop()
        loop = trainer(
            steps,
            logger=curves,
            callbacks=[Checkpoint(steps, str(tmp_path / name)), stop],
            enable_checkpointing=True,
            plugins=[AtomicCheckpoints()],
            log_every_n_steps=4,
            val_check_interval=10,
            limit_val_batches=1,
        )
        loop.fit(model, data, ckpt_path=resume)
        path = tmp_path / name / "last.ckpt"
        return path, {**torch.load(path, weights_only=True), "rng": stop.rng, "points": curves.points}

    return fit


def assert_equal(one, other, path=""):
    """Compare nested dictionaries, lists and tensors, to the bit."""
    assert type(one) is type(other), path
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for name in one:
            assert_equal(one[name], other[name], f"{path}/{name}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, f"{path}/{index}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), path
    else:
        assert one == other, path


PARTS = ("state_dict", "optimizer_states", "adversarial", "global_step", "rng")


@pytest.mark.parametrize(
    ("kind", "stop", "workers", "critic_steps"),
    [
        (DCGAN, 17, 0, 1),  # mid-epoch, mid-interval of the curves
        (DCGAN, EPOCH, 0, 1),  # at the end of an epoch
        (DCGAN, EPOCH + 3, 2, 1),
        (Penalised, 13, 0, 3),  # 39 batches
        (Pix2Pix, 17, 0, 1),  # with dropout, and noise of the data's own
        (CycleGAN, 3, 0, 1),  # with pools
        (CUT, 3, 0, 1),
    ],
)
def test_resume_is_exact(fit, kind, stop, workers, critic_steps):
    _, whole = fit(kind, 2 * stop, "whole", workers=workers, critic_steps=critic_steps)
    path, _ = fit(kind, stop, "half", workers=workers, critic_steps=critic_steps)
    # Another seed: the run's own comes from the checkpoint.
    _, resumed = fit(kind, 2 * stop, "half", path, workers, seed=9, critic_steps=critic_steps)
    for part in (*PARTS, *(name for name in ("pools",) if name in whole)):
        assert_equal(whole[part], resumed[part], part)
    later = {step: point for step, point in whole["points"].items() if step > stop}
    assert later
    for step, point in later.items():
        assert_equal(point, resumed["points"][step], f"points/{step}")


class Contiguous(DCGAN):
    """In PyTorch's own layout, as checkpoints were that were written before networks had one of theirs."""

    def __init__(self, **options):
        super().__init__(**options)
        self.to(memory_format=torch.contiguous_format)


def test_a_run_goes_on_in_another_layout(fit):
    """Adam's moments were saved as the weights lay then; fused Adam would take another weight's."""
    path, _ = fit(DCGAN, 3, "half")
    _, whole = fit(DCGAN, 6, "whole")
    saved = torch.load(path, weights_only=True)
    saved["adversarial"]["model"] = f"{Contiguous.__module__}.Contiguous"
    torch.save(saved, path)
    _, resumed = fit(Contiguous, 6, "half", path)
    for name, value in whole["state_dict"].items():
        torch.testing.assert_close(resumed["state_dict"][name], value, rtol=1e-3, atol=1e-5)


def run_in_fork(flags):
    process = multiprocessing.get_context("fork").Process(target=main, args=(flags,))
    process.start()
    return process


def test_killed_runs_end_as_if_they_had_not_been(tmp_path, monkeypatch):
    """Five kills at random moments, each followed by the same command again."""
    monkeypatch.chdir(tmp_path)
    steps = 220

    def flags(root):
        options = "--data.size 8 --model.width 2 --model.latent_dim 4 --checkpoint.every_n_steps 3"
        options += f" --trainer.max_steps {steps} --trainer.enable_model_summary false --trainer.limit_val_batches 1"
        return ["fit", "dcgan-digits", *options.split(), "--trainer.default_root_dir", root, "--ckpt_path", "last"]

    chance = random.Random(0)
    killed = 0
    path = tmp_path / "killed" / "dcgan-digits" / "version_0" / "checkpoints" / "last.ckpt"
    while killed < 5:
        before = path.stat().st_mtime_ns if path.exists() else 0
        process = run_in_fork(flags("killed"))
        while process.is_alive() and (not path.exists() or path.stat().st_mtime_ns == before):
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.25))
        assert process.is_alive(), "the run was over before it could be killed: lengthen it"
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        killed += 1
        assert torch.load(path, weights_only=True)["global_step"] < steps
    for root in ("killed", "whole"):
        process = run_in_fork(flags(root))
        process.join(120)
        assert process.exitcode == 0
    whole = torch.load(tmp_path / "whole" / path.relative_to(tmp_path / "killed"), weights_only=True)
    assert whole["global_step"] == steps
    for part in PARTS[:-1]:
        assert_equal(whole[part], torch.load(path, weights_only=True)[part], part)
    assert not list(path.parent.glob("*-v*"))
