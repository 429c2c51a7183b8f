"""A run that stops and goes on is the run that never stopped, bit for bit."""

import json
import multiprocessing
import os
import random
import re
import signal
import time
import warnings
from collections import Counter

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from checkpoints import PARTS, assert_equal
from lightning.pytorch.loggers import TensorBoardLogger
from models_of_users import Penalised
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from datamodules import DegradedDigitsDataModule, DigitsDataModule
from gans.__main__ import main
from gans.callbacks.evaluate import Evaluate
from gans.callbacks.explore import Explore
from gans.callbacks.grid import ImageGrid
from gans.callbacks.health import Health
from gans.engine.checkpoint import AtomicCheckpoints, Checkpoint
from gans.models import (
    CUT,
    DCGAN,
    GAN,
    R3GAN,
    WGAN,
    Autoencoder,
    BigGAN,
    CycleGAN,
    GridAutoencoder,
    ManifoldGAN,
    Pix2Pix,
    StyleGAN2,
)
from gans.terms import PathLength

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
    def fit(kind, steps, name, resume=None, workers=0, seed=0, precision="32-true", **options):
        L.seed_everything(seed)
        pairs = kind in (Pix2Pix, CycleGAN, CUT)
        latents = (
            {"blocks": 1} if kind in (CycleGAN, CUT) else {} if pairs or kind is GridAutoencoder else {"latent_dim": 4}
        )
        model = kind(**{"size": 16, "channels": 1, "width": 2, **latents, **options})
        source = DegradedDigitsDataModule if pairs else DigitsDataModule
        data = source(size=model.image_shape[-1], batch_size=64, num_workers=workers)
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
            precision=precision,
        )
        loop.fit(model, data, ckpt_path=resume)
        path = tmp_path / name / "last.ckpt"
        return path, {**torch.load(path, weights_only=True), "rng": stop.rng, "points": curves.points}

    return fit


@pytest.mark.parametrize(
    ("kind", "stop", "workers", "options"),
    [
        (DCGAN, 17, 0, {}),  # mid-epoch, mid-interval of the curves
        pytest.param(DCGAN, EPOCH, 0, {}, marks=pytest.mark.slow),  # at the end of an epoch
        (DCGAN, EPOCH + 3, 2, {}),
        (Penalised, 13, 0, {"critic_steps": 3}),  # 39 batches
        (Pix2Pix, 7, 0, {}),  # with dropout, and noise of the data's own
        (CycleGAN, 3, 0, {}),  # with pools
        pytest.param(CUT, 3, 0, {"patches": 20, "patch_dim": 4}, marks=pytest.mark.slow),
        (DCGAN, 3, 0, {"precision": "64-true"}),  # Lightning loads before it converts
        (DCGAN, 3, 0, {"precision": "bf16-mixed", "lr_decay_images": 400, "r1": 1.0, "lazy": 2, "batch_norm": False}),
        (R3GAN, 2, 0, {"width": 16, "schedule_images": 200}),
        (StyleGAN2, 3, 0, {"preset": "small", "width": 2, "lazy": 2, "terms": [PathLength(every=2)]}),
        (
            GridAutoencoder,
            2,
            0,
            {"kl": 0.1, "adversarial_weight": 0.5, "adversarial_start": 1},
        ),  # the critic starts first
        pytest.param(BigGAN, 3, 0, {"size": 32, "latent_dim": 8, "num_classes": 10}, marks=pytest.mark.slow),
    ],
)
def test_resume_is_exact(fit, kind, stop, workers, options):
    _, whole = fit(kind, 2 * stop, "whole", workers=workers, **options)
    path, _ = fit(kind, stop, "half", workers=workers, **options)
    # Another seed: the run's own comes from the checkpoint.
    _, resumed = fit(kind, 2 * stop, "half", path, workers, seed=9, **options)
    for part in (*PARTS, *(name for name in ("pools",) if name in whole)):
        assert_equal(whole[part], resumed[part], part)
    later = {step: point for step, point in whole["points"].items() if step > stop}
    assert later
    for step, point in later.items():
        assert_equal(point, resumed["points"][step], f"points/{step}")


def rates(saved):
    return [(group["lr"], group.get("betas")) for state in saved["optimizer_states"] for group in state["param_groups"]]


@pytest.mark.parametrize(
    ("kind", "before", "now", "expected"),
    [
        (DCGAN, {}, {"lr": 1e-5}, [(1e-5, (0.5, 0.999))] * 2),
        (DCGAN, {"lr": 1e-3}, {"lr": 1e-3, "betas": (0.0, 0.9)}, [(1e-3, (0.0, 0.9))] * 2),
        (DCGAN, {}, {"discriminator_lr": 1e-5}, [(2e-4, (0.5, 0.999)), (1e-5, (0.5, 0.999))]),
        (WGAN, {}, {"lr": 1e-4}, [(1e-4, None)] * 2),
        (Pix2Pix, {}, {"lr": 1e-5}, [(1e-5, (0.5, 0.999))] * 2),
        # A schedule begins with the new rate, and leaves the rate alone where it is switched off.
        (DCGAN, {"lr_decay_images": 400}, {"lr_decay_images": 2560, "lr": 1e-3}, [(9e-4, (0.5, 0.999))] * 2),
        (DCGAN, {"lr_decay_images": 400}, {}, [(2e-4, (0.5, 0.999))] * 2),
        (DCGAN, {}, {"lr_decay_images": 2560}, [(1.8e-4, (0.5, 0.999))] * 2),
    ],
)
def test_what_a_resumed_run_is_given_holds(fit, kind, before, now, expected):
    path, _ = fit(kind, 2, "half", **before)
    _, resumed = fit(kind, 4, "half", path, **now)
    found = rates(resumed)
    assert [betas for _, betas in found] == [betas for _, betas in expected]
    steps = 1 if kind is not WGAN else 5
    assert resumed["adversarial"]["images_seen"] == 4 * 64 * steps
    assert [rate for rate, _ in found] == pytest.approx([rate for rate, _ in expected])
    assert {name: resumed["hyper_parameters"][name] for name in now} == now


def lr(saved):
    return rates(saved)[0][0]


@pytest.mark.parametrize("options", [{}, {"critic_steps": 2}])
def test_a_schedule_of_the_run_is_that_of_its_images(fit, options):
    run = {"lr": 1e-3, "lr_hold_images": "50%", "lr_decay_images": "run", **options}
    whole = 8 * 64 * options.get("critic_steps", 1)
    images = {**run, "lr_hold_images": whole // 2, "lr_decay_images": whole}
    _, one = fit(DCGAN, 8, "run", **run)
    _, other = fit(DCGAN, 8, "images", **images)
    assert_equal(one["state_dict"], other["state_dict"])
    path, half = fit(DCGAN, 6, "half", **run)
    assert lr(half) == 0  # at the end, 3 steps after it began to fall
    with pytest.warns(UserWarning, match="max_steps was 6 and is 8: lr_decay_images and lr_hold_images follow the new"):
        _, longer = fit(DCGAN, 8, "half", path, **run)
    assert lr(longer) == 0


def test_epochs_say_how_long_a_run_is_too(trainer):
    seen = []

    class Spy(GAN):
        def schedule(self):
            seen.append(self.run_share())

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.rand(8, 1, 8, 8) * 2 - 1), batch_size=2)
    trainer(-1, max_epochs=2).fit(Spy(size=8, latent_dim=4, width=2), data)
    assert seen == [(1 + batch) / 8 for batch in range(8)]
    with pytest.raises(ValueError, match=r"lr_decay_images is run, but the run has no end: give trainer\.max"):
        trainer(-1, max_epochs=-1).fit(GAN(size=8, latent_dim=4, width=2, lr_decay_images="run"), data)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lr_decay_images": 16}, "lr_decay_images is 16: learning rates are 0 after 25% of the run, which sees 64"),
        ({"lr_decay_images": 640}, "lr_decay_images is 640, but the run ends after 10% of that: `run` is its length"),
        ({"instance_noise": 1.0, "instance_noise_images": 128}, "instance_noise_images is 128, but the run ends after"),
        ({"lr_decay_images": 60}, None),
        ({"lr_decay_images": "run", "instance_noise": 1.0, "instance_noise_images": 8}, None),
    ],
)
def test_a_run_that_does_not_fit_its_schedules_is_warned_of(trainer, options, says):
    """Eight batches of 8: as of a recipe for one process whose batch size is multiplied by many."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer(8).fit(GAN(size=8, latent_dim=4, width=2, **options), DigitsDataModule(size=8, batch_size=8))
    told = [str(note.message) for note in caught if "_images is" in str(note.message)]
    assert len(told) == (says is not None)
    assert all(text.startswith(says) for text in told)


def test_a_rate_that_a_model_has_moved_by_itself_goes_on(fit):
    """Only what is given anew is set: a resumed run does not undo what happened since its start."""

    class Slower(DCGAN):
        def on_train_batch_start(self, batch, batch_idx):
            super().on_train_batch_start(batch, batch_idx)
            if self.batches_seen == 2:
                for optimizer in self.trainer.optimizers:
                    optimizer.param_groups[0]["lr"] /= 2

    path, _ = fit(Slower, 3, "half")
    _, resumed = fit(Slower, 4, "half", path)
    assert [rate for rate, _ in rates(resumed)] == [1e-4, 1e-4]


def test_a_rate_under_a_scheduler_of_lightnings_is_not_changed_in_silence(fit):
    class Scheduled(DCGAN):
        def configure_optimizers(self):
            optimizers = super().configure_optimizers()
            return optimizers, [torch.optim.lr_scheduler.StepLR(each, 10) for each in optimizers]

    path, _ = fit(Scheduled, 2, "half")
    fit(Scheduled, 3, "half", path)
    with pytest.raises(ValueError, match="lr is 1e-05; expected the same as before: the checkpoint's scheduler began"):
        fit(Scheduled, 4, "half", path, lr=1e-5)


def test_regularisers_can_be_switched_on_and_off(fit):
    ada = {"augment": "ada", "augment_options": {"probability": 0.5, "target": None}}
    path, before = fit(DCGAN, 2, "half")
    path, on = fit(DCGAN, 3, "half", path, **ada, lecam=0.1)
    assert on["state_dict"]["augment.probability"] == 0.5
    assert on["state_dict"]["terms.lecam.averages"].shape == (2,)
    # Its own probability, moved since, is the checkpoint's; another one to start from is the run's.
    on["state_dict"]["augment.probability"].fill_(0.25)
    torch.save({name: on[name] for name in on if name not in ("rng", "points")}, path)
    same, same_saved = fit(DCGAN, 4, "same", path, **ada, lecam=0.1)
    assert same_saved["state_dict"]["augment.probability"] == 0.25
    ada["augment_options"]["probability"] = 0.75
    _, other = fit(DCGAN, 4, "other", path, **ada, lecam=0.1)
    assert other["state_dict"]["augment.probability"] == 0.75
    _, off = fit(DCGAN, 5, "off", same)
    assert off["state_dict"].keys() == before["state_dict"].keys()


def test_parts_of_a_network_are_neither_added_nor_dropped(fit):
    path, saved = fit(DCGAN, 1, "half")
    saved["state_dict"]["generator.more"] = torch.zeros(1)
    torch.save({name: saved[name] for name in saved if name not in ("rng", "points")}, path)
    with pytest.raises(ValueError, match=r"the checkpoint's generator\.more has no place in the model"):
        fit(DCGAN, 2, "half", path)


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


class Killed(BaseException):
    """What a process is ended by."""


class Kill(L.Callback):
    """Ends a run after a step, before anything else can be done about it."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, *args):
        if trainer.global_step == self.step:
            raise Killed


def points(folder):
    """Return how often the curves and pictures of a run have each point (tag, step), as TensorBoard shows them."""
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()
    scalars = [(tag, point.step) for tag in found.Tags()["scalars"] for point in found.Scalars(tag)]
    return Counter(scalars + [(tag, picture.step) for tag in found.Tags()["images"] for picture in found.Images(tag)])


def test_an_interrupted_run_has_the_curves_and_pictures_of_the_other(trainer, tmp_path):
    """Killed at step 13 behind the checkpoint of step 10, at which much was due, and at 20 behind that of 18."""

    def run(name, *kill, resume=None):
        L.seed_everything(0)
        time.sleep(1 - time.time() % 1)  # TensorBoard sorts files by the second, then by a count as text: 10 before 9
        folder = tmp_path / name
        logger = TensorBoardLogger(tmp_path, name, "", default_hp_metric=False)
        score = Evaluate("mnist", 5, samples=10, reference=10)
        watch = [ImageGrid(4, 4), Health(3), score, Explore(100), Checkpoint(10 if not resume else 6)]
        options = {"logger": logger, "callbacks": [*watch, *kill], "enable_checkpointing": True}
        options |= {"log_every_n_steps": 2, "val_check_interval": 5, "limit_val_batches": 1}
        model = GAN(size=8, channels=1, latent_dim=4, width=2, lr=1e-3 if resume else 2e-4)
        loop = trainer(21, **options)
        try:
            loop.fit(model, DigitsDataModule(size=8, batch_size=8), ckpt_path=resume)
        except Killed:
            logger.finalize("failed")
        return folder, folder / "checkpoints" / "last.ckpt"

    whole, _ = run("whole")
    cut, last = run("cut", Kill(13))
    run("cut", Kill(20), resume=last)
    assert torch.load(last, weights_only=True)["global_step"] == 18
    run("cut", resume=last)
    expected = points(whole)
    assert {count for count in expected.values()} == {1}
    tags = {tag for tag, _ in expected}
    assert {"loss/generator", "health/diversity", "score/fid_mnist", "val/logits/real", "images/samples"} <= tags
    assert {"images/real", "images/traversal", "lr/generator"} <= tags
    assert points(cut) == expected
    pictures = [sorted(path.name for path in (folder / "samples").iterdir()) for folder in (whole, cut)]
    assert pictures[0] == pictures[1]
    # What the folder says of the run is what it goes on with.
    assert "lr: 0.001" in (cut / "hparams.yaml").read_text()


def run_in_fork(flags):
    process = multiprocessing.get_context("fork").Process(target=main, args=(flags,))
    process.start()
    return process


@pytest.mark.slow
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


SMALL = (
    "fit dcgan-digits --data.size 8 --model.width 2 --model.latent_dim 4 --trainer.limit_val_batches 0 --grid.samples 4"
)
LAST = "runs/dcgan-digits/version_0/checkpoints/last.ckpt"


def test_the_last_checkpoint_knows_the_best_score(gans, tmp_path):
    """Of the same step; and scores of another protocol do not compare with it."""
    line = f"{SMALL} --evaluate.features mnist --evaluate.every_n_steps 2 --evaluate.samples 10 --evaluate.reference 20"
    key = "Best(fid/mnist)"
    assert gans(f"{line} --trainer.max_steps 2")[0] == 0
    saved = torch.load(tmp_path / LAST, weights_only=True)["callbacks"][key]
    score, best = saved["best_model_score"], tmp_path / LAST.replace("last", "best")
    assert float(score) > 0
    held = torch.load(best, weights_only=True)
    held["callbacks"][key]["best_model_score"] = saved["best_model_score"] = torch.tensor(0.0)  # none will be better
    held["callbacks"][key]["best_k_models"] = {name: torch.tensor(0.0) for name in saved["best_k_models"]}
    torch.save(held, best)
    whole = torch.load(tmp_path / LAST, weights_only=True)
    whole["callbacks"][key] = {**saved, "best_k_models": {name: torch.tensor(0.0) for name in saved["best_k_models"]}}
    torch.save(whole, tmp_path / LAST)
    again = f"{line} --trainer.max_steps 4 --ckpt_path {LAST} --checkpoint.dirpath {best.parent}"
    code, _, err = gans(again)
    assert (code, torch.load(best, weights_only=True)["global_step"]) == (0, 2), err
    torch.save(whole, tmp_path / LAST)
    code, _, err = gans(f"{again} --evaluate.samples 12")
    assert "score/fid_mnist was computed with samples 10, now 12: best.ckpt follows the new scores alone" in err
    assert (code, torch.load(best, weights_only=True)["global_step"]) == (0, 4)


def test_a_best_checkpoint_newer_than_the_last_one_is_known(gans, tmp_path):
    """As after a kill between the two: best.ckpt, run.json and later scores agree."""
    line = f"{SMALL} --evaluate.features mnist --evaluate.every_n_steps 2 --evaluate.samples 10 --evaluate.reference 20"
    assert gans(f"{line} --trainer.max_steps 2")[0] == 0
    last, best = tmp_path / LAST, tmp_path / LAST.replace("last", "best")
    older = torch.load(last, weights_only=True)
    held = torch.load(best, weights_only=True)
    held["global_step"] = 7
    state = held["callbacks"]["Best(fid/mnist)"]
    state["best_model_score"] = torch.tensor(0.125)  # none will be better
    state["best_k_models"] = {name: torch.tensor(0.125) for name in state["best_k_models"]}
    torch.save(held, best)
    before = older["callbacks"]["Best(fid/mnist)"]
    for known in (before, {**before, "best_model_path": "", "best_model_score": None, "best_k_models": {}}):
        older["callbacks"]["Best(fid/mnist)"] = known
        torch.save(older, last)
        code, _, err = gans(f"{line} --trainer.max_steps 4 --ckpt_path last")
        assert code == 0, err
        assert torch.load(best, weights_only=True)["global_step"] == 7
        told = json.loads((last.parents[1] / "run.json").read_text())["best"]
        assert (told["value"], told["step"]) == (0.125, 7)


def test_another_seed_or_another_start_is_refused(gans, refused, fit, tmp_path):
    """Both are read when a run begins: later they would be on record without an effect."""
    assert gans(f"{SMALL} --trainer.max_steps 1 --seed_everything 3")[0] == 0
    told = refused(f"{SMALL} --trainer.max_steps 2 --seed_everything 4 --ckpt_path last")
    assert told == f"{LAST}: seed_everything is 4; expected 3, with which the checkpoint's run began"
    assert gans(f"{SMALL} --trainer.max_steps 2 --seed_everything 3 --ckpt_path last")[0] == 0
    assert gans(f"{SMALL} --trainer.max_steps 3 --ckpt_path last")[0] == 0  # the recipe's seed, 0, is a default
    config = yaml.safe_load((tmp_path / LAST).parents[1].joinpath("config.yaml").read_text())
    assert config["seed_everything"] == torch.load(LAST, weights_only=True)["adversarial"]["seed"] == 3
    codes, _ = fit(Autoencoder, 1, "codes")
    path, _ = fit(ManifoldGAN, 1, "manifold", autoencoder=str(codes), latent_width=4)
    fit(ManifoldGAN, 2, "manifold", path, autoencoder=str(codes), latent_width=4)
    with pytest.raises(
        ValueError, match=r"autoencoder is other.ckpt; expected .*last.ckpt, with which the checkpoint's"
    ):
        fit(ManifoldGAN, 3, "manifold", path, autoencoder="other.ckpt", latent_width=4)


def test_warnings_are_not_given_twice(trainer, tmp_path):
    path = tmp_path / "last.ckpt"
    for steps, resume in ((2, None), (4, path)):
        health = Health(1, collapse=1e9)
        loop = trainer(steps, callbacks=[health, Checkpoint(1, str(tmp_path))], enable_checkpointing=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loop.fit(GAN(size=8, latent_dim=4, width=2), DigitsDataModule(size=8, batch_size=8), ckpt_path=resume)
        assert sum("collapsed" in str(note.message) for note in caught) == (resume is None)


def test_arguments_that_a_resumed_run_changes_are_a_table(gans, tmp_path):
    line = f"{SMALL} --trainer.max_steps"
    assert gans(f"{line} 1")[0] == 0
    assert gans(f"{line} 2 --ckpt_path last")[0] == 0
    events = EventAccumulator(str((tmp_path / LAST).parents[1]))
    assert "arguments/text_summary" not in events.Reload().Tags()["tensors"]
    assert gans(f"{line} 3 --ckpt_path last --model.lr 0.003")[0] == 0
    (table,) = events.Reload().Tensors("arguments/text_summary")
    text = table.tensor_proto.string_val[0].decode()
    assert table.step == 2
    assert "DigitsDataModule" not in text  # it is the same
    assert re.search(r"^\| model\.lr \| 0\.\d+ \| 0\.003 \|$", text, re.MULTILINE), text
