"""Pictures, health, progress and checkpoints, on our models and on a module that is none of ours."""

import os
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from datamodules import DigitsDataModule
from gans.callbacks.grid import ImageGrid
from gans.callbacks.health import DivergedError, Health
from gans.callbacks.progress import Progress, SaveSamples
from gans.engine.checkpoint import AtomicCheckpoints, Checkpoint
from gans.losses import NonSaturating, Objective, objective
from gans.models import GAN, ConditionalGAN


class Foreign(L.LightningModule):
    """An autoencoder of somebody else's, with automatic optimization and a `sample(n)`."""

    def __init__(self, channels=1):
        super().__init__()
        self.net = nn.Conv2d(channels, channels, 3, padding=1)
        self.channels = channels
        self.calls = []

    def training_step(self, batch, batch_idx):
        return (self.net(batch[0]) - batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-3)

    def sample(self, n):
        self.calls.append(torch.randn(n, self.channels, 8, 8, device=self.device))
        return self.calls[-1]


def batches(n=32, channels=1):
    pictures = torch.rand(n, channels, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return DataLoader(TensorDataset(pictures, torch.zeros(n)), batch_size=8)


@pytest.fixture
def logger(tmp_path):
    return TensorBoardLogger(tmp_path, "run", 0, default_hp_metric=False)


def events(logger):
    logger.finalize("success")
    return EventAccumulator(logger.log_dir, size_guidance={"images": 0}).Reload()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grids_of_any_module(trainer, tmp_path, logger, channels):
    model = Foreign(channels)
    run = trainer(7, logger=logger, callbacks=[ImageGrid(every_n_steps=3, samples=9)])
    run.fit(model, batches(channels=channels))
    folder = tmp_path / "run" / "version_0" / "samples"
    names = [f"step_{step:07d}.png" for step in (1, 3, 6, 7)]
    assert sorted(os.listdir(folder)) == ["real.png", *names]
    # One latent grid throughout: the same random numbers at every call.
    assert len(model.calls) == 4
    assert all(torch.equal(call, model.calls[0]) for call in model.calls)
    picture = Image.open(folder / names[0])
    assert picture.size == (3 * 10 + 2, 3 * 10 + 2)
    assert picture.mode == ("RGBA" if channels == 4 else "RGB")
    pixel = ((model.calls[0][0, 0, 0, 0].clamp(-1, 1) + 1) * 127.5).round()
    assert np.asarray(picture)[2, 2, 0] == int(pixel)
    shown = events(logger)
    assert [image.step for image in shown.Images("images/samples")] == [1, 3, 6, 7]
    assert [image.step for image in shown.Images("images/real")] == [1]


def test_grids_leave_the_generators_of_random_numbers_alone(trainer):
    class Spy(ImageGrid):
        def on_train_batch_end(self, *args):
            before = torch.get_rng_state()
            super().on_train_batch_end(*args)
            assert torch.equal(torch.get_rng_state(), before)

    trainer(2, callbacks=[Spy(every_n_steps=1)]).fit(Foreign(), batches())


def test_pictures_do_not_train_somebody_elses_batch_norm(trainer):
    class Normed(Foreign):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(1)

        def sample(self, n):
            return torch.tanh(self.norm(super().sample(n)))

        def training_step(self, batch, batch_idx):
            return self.norm(self.net(batch[0])).square().mean()

    model = Normed()
    model.net.eval()
    trainer(4, callbacks=[ImageGrid(1), Health(1, collapse=0)]).fit(model, batches())
    assert int(model.norm.num_batches_tracked) == 4
    assert model.norm.training
    assert not model.net.training


def test_steps_that_skip_numbers_get_their_grids(trainer, tmp_path, logger):
    class Twice(Foreign):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            for _ in range(3):
                self.optimizers().step()

    trainer(18, logger=logger, callbacks=[ImageGrid(every_n_steps=5)]).fit(Twice(), batches())
    assert [image.step for image in events(logger).Images("images/samples")] == [3, 6, 12, 15, 18]


def test_a_rehearsal_leaves_nothing(trainer, tmp_path):
    saver = Checkpoint(2)
    run = trainer(1, callbacks=[ImageGrid(), Health(), saver], enable_checkpointing=True, fast_dev_run=3)
    run.fit(GAN(size=8, latent_dim=4, width=2), batches())
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_stopped_saves_its_last_step(trainer, tmp_path):
    class Enough(L.Callback):
        def on_train_batch_end(self, run, *args):
            run.should_stop = run.global_step >= 7

    run = trainer(100, callbacks=[Enough(), Checkpoint(5, str(tmp_path))], enable_checkpointing=True)
    run.fit(GAN(size=8, latent_dim=4, width=2), batches())
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 7


def test_curves_and_hyper_parameters(trainer, logger):
    model = GAN(size=8, latent_dim=4, width=2)
    data = DigitsDataModule(size=8, batch_size=64)
    trainer(20, logger=logger, log_every_n_steps=5, val_check_interval=10, callbacks=[Health(10)]).fit(model, data)
    shown = events(logger)
    each_five = {"loss/discriminator", "loss/generator", "logits/real", "logits/fake", "accuracy/discriminator"}
    each_five |= {"grad_norm/generator", "grad_norm/discriminator", "lr/generator", "lr/discriminator"}
    each_five |= {"speed/images_per_second"}
    for name in each_five:
        assert [point.step for point in shown.Scalars(name)] == [5, 10, 15, 20], name
    assert [point.value for point in shown.Scalars("images_seen")] == [0, 320, 640, 960, 1280]
    assert [point.step for point in shown.Scalars("val/logits/real")] == [10, 20]
    assert [point.step for point in shown.Scalars("health/diversity")] == [10, 20]
    assert "_hparams_/session_start_info" in shown.summary_metadata


def test_divergence_stops_before_it_is_saved(trainer, tmp_path):
    class Diverging(GAN):
        def descend(self, loss, optimizer):
            super().descend(loss, optimizer)
            if self.trainer.global_step == 5:
                with torch.no_grad():
                    next(self.generator.parameters()).fill_(float("nan"))

    run = trainer(
        20, callbacks=[Health(), Checkpoint(2, str(tmp_path))], enable_checkpointing=True, log_every_n_steps=100
    )
    with pytest.raises(DivergedError, match=r"not finite at step 6: training diverged, not saved"):
        run.fit(Diverging(size=8, latent_dim=4, width=2), batches())
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 4
    assert all(torch.isfinite(value).all() for value in saved["state_dict"].values())


def test_a_loss_that_is_not_finite_stops(trainer):
    class Diverging(GAN):
        def record(self, name, value):
            super().record(name, value * float("inf") if name == "loss/generator" else value)

    with pytest.raises(DivergedError, match="loss/generator is inf at step 2"):
        trainer(20, callbacks=[Health()], log_every_n_steps=2).fit(Diverging(size=8, latent_dim=4, width=2), batches())


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        ({"grad_norm/generator": 1e-9}, "gradient has vanished"),
        ({"accuracy/discriminator": 0.999}, "discriminator is too strong"),
        ({"grad_norm/generator": 1.0, "accuracy/discriminator": 0.8}, None),
    ],
)
def test_health_warns_once_until_it_is_well_again(trainer, metrics, says):
    health, run = Health(patience=0), trainer(1)
    ill = {name: torch.tensor(value) for name, value in metrics.items()}
    well = {name: torch.tensor(0.5) for name in metrics}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for state in (ill, ill, well, ill):
            health.check(run, state)
    messages = [str(w.message) for w in caught if "step" in str(w.message)]
    assert len(messages) == (2 if says else 0)
    assert all(says in message for message in messages)


def test_a_discriminator_that_wins_for_a_moment_is_nothing():
    """The accuracy of every batch of 50 steps; ours in the first steps of DCGAN on natural images."""

    def warned(curve):
        health = Health(patience=200)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for number, accuracy in enumerate(curve, 1):
                run = SimpleNamespace(global_step=50 * number)
                health.check(run, {"accuracy/discriminator": torch.tensor(accuracy)})
        return [str(w.message).split(":")[0] for w in caught]

    assert warned([0.906, 1.0, 1.0, 0.974, 1.0, 1.0, 0.9]) == []
    assert warned([0.9, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]) == ["step 300"]


def told_of(points, loss, patience=200, every=50):
    """Return the warnings of Health on curves of a run, a point each `every` steps, with `loss` as the objective."""
    health = Health(patience=patience)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number, point in enumerate(points, 1):
            run = SimpleNamespace(global_step=every * number, lightning_module=SimpleNamespace(loss=loss))
            health.check(run, {name: torch.tensor(value) for name, value in point.items()})
    return [str(w.message) for w in caught]


@pytest.mark.parametrize("name", get_args(Objective))
@pytest.mark.parametrize(("gap", "wins"), [(0.0, False), (0.6, False), (2.0, False), (8.0, True)])
def test_a_discriminator_wins_by_its_loss_although_some_images_are_mistaken(name, gap, wins):
    """Logits of unit spread, at a distance in their spreads, 2 % of them mistaken.

    The Wasserstein loss has no least value: it says nothing.
    """
    loss = objective(name)
    spread = torch.linspace(-1.7, 1.7, 100)
    scale, middle = (0.125, 0.5) if name == "least_squares" else (1.0, 0.0)
    real, fake = (middle + scale * (spread + side * gap / 2) for side in (1, -1))
    real[:2], fake[:2] = middle - 0.1, middle + 0.1
    fake = fake.flip(0)  # pairs are of any two
    point = {"loss/discriminator": float(loss.discriminator(real, fake)), "accuracy/discriminator": 0.97}
    said = told_of([point] * 8, loss)
    assert bool(said) == (wins and name != "wasserstein")


# The discriminator's loss at each 50th step of the first 450 to 700. On faces both learning rates are 2e-4 and samples
# are noise; on MNIST the runs are those of the recipes, and digits become readable.
LOST = [0.24, 0.051, 0.459, 0.25, 0.127, 0.538, 0.137, 0.218, 0.39]
WELL = {
    "nonsaturating": [1.374, 0.882, 0.716, 0.83, 0.9, 0.945, 1.088, 1.045, 1.049, 1.092, 1.092, 1.027, 1.035, 1.023],
    "hinge": [1.661, 0.438, 0.496, 0.682, 0.9, 1.067, 1.411, 1.431, 1.348, 1.407, 1.414, 1.356, 1.356, 1.269],
    "least_squares": [0.171, 0.115, 0.104, 0.132, 0.137, 0.149, 0.18, 0.178, 0.183, 0.173, 0.169, 0.165, 0.161, 0.153],
    "relativistic": [0.369, 0.149, 0.164, 0.31, 0.357, 0.295, 0.316, 0.312, 0.294, 0.268, 0.263, 0.23, 0.207, 0.192],
    "wasserstein": [-4.9, -14.1, -15.6, -13.3, -10.6, -9.64, -8.37, -6.61, -3.66, -1.41, -0.94, -0.76, -0.09, -0.7],
}


@pytest.mark.parametrize("every", [1, 7, 30, 50, 300])
def test_a_discriminator_wins_whatever_the_interval_of_the_curves(every):
    points = [{"loss/discriminator": 0.1, "accuracy/discriminator": 0.97}] * (1 + -(-200 // every))
    assert len(told_of(points, NonSaturating(), every=every)) == 1
    assert told_of(points[:-1], NonSaturating(), every=every) == []


def test_health_says_what_to_try_if_the_discriminator_wins():
    said = told_of(
        [{"loss/discriminator": value, "accuracy/discriminator": 0.97} for value in LOST], NonSaturating(), 400
    )
    assert said == [
        "step 450: the discriminator is too strong (accuracy 0.970, its loss 19 % of that of one that cannot tell): "
        "lower discriminator_lr, add the term R1 or an augmentation, or start from the recipe `folder`"
    ]


@pytest.mark.parametrize("name", WELL)
def test_health_is_quiet_in_runs_that_go_well(name):
    points = [{"loss/discriminator": value, "accuracy/discriminator": 0.97} for value in WELL[name]]
    assert told_of(points, objective(name), patience=400) == []


def test_losses_that_health_averages_survive_a_resume():
    first, second = Health(patience=100), Health(patience=100)
    metrics = {"loss/discriminator": torch.tensor(0.1), "accuracy/discriminator": torch.tensor(0.97)}
    module = SimpleNamespace(loss=NonSaturating())
    for step in (50, 100):
        first.check(SimpleNamespace(global_step=step, lightning_module=module), metrics)
    second.load_state_dict(first.state_dict())
    with pytest.warns(UserWarning, match="step 150: the discriminator is too strong"):
        second.check(SimpleNamespace(global_step=150, lightning_module=module), metrics)


def test_health_leaves_a_generator_alone_that_has_not_begun(trainer, logger):
    class Model(Foreign):
        clock = 2  # the steps of a third player count

        def sample(self, n):
            return torch.zeros(n, 1, 8, 8)

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*collapsed")
        trainer(2, callbacks=[Health(2)], logger=logger).fit(Model(), batches())


@pytest.mark.parametrize(("spread", "warned"), [(0.01, True), (1.0, False)])
def test_health_sees_collapse(trainer, logger, spread, warned):
    class Model(Foreign):
        def sample(self, n):
            return torch.tanh(spread * torch.randn(n, 1, 8, 8))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer(2, callbacks=[Health(2)], logger=logger).fit(Model(), batches())
    assert any("samples have collapsed" in str(w.message) for w in caught) == warned
    [point] = events(logger).Scalars("health/diversity")
    assert (point.value < 0.3) == warned


def test_the_columns_of_a_conditional_models_grid_are_its_classes(trainer, logger):
    model = ConditionalGAN(size=8, latent_dim=4, width=2)
    pictures = DataLoader(TensorDataset(torch.zeros(8, 1, 8, 8), torch.arange(8)), batch_size=8)
    trainer(1, callbacks=[ImageGrid(1, samples=20)], logger=logger).fit(model, pictures)
    with Image.open(os.path.join(logger.log_dir, "samples", "step_0000001.png")) as picture:
        assert picture.size == (10 * 10 + 2, 2 * 10 + 2)


def test_the_bar_counts_generator_steps(trainer, capsys):
    bar = Progress()
    run = trainer(6, callbacks=[bar], enable_progress_bar=True, log_every_n_steps=2)
    run.fit(GAN(size=8, latent_dim=4, width=2, critic_steps=2), batches())
    shown = capsys.readouterr().err
    assert "6/6" in shown
    assert " images/s" in shown
    assert bar.bar is None


def test_the_last_step_is_saved(trainer, tmp_path):
    for steps, options in [(5, {}), (8, {"max_steps": -1, "max_epochs": 2})]:
        folder = tmp_path / str(steps)
        saver = Checkpoint(3, str(folder))
        run = trainer(steps, callbacks=[saver], enable_checkpointing=True, **options)
        run.fit(GAN(size=8, latent_dim=4, width=2), batches())
        assert os.listdir(folder) == ["last.ckpt"]
        assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == steps


def test_an_interrupted_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    writer, path = AtomicCheckpoints(), tmp_path / "last.ckpt"
    writer.save_checkpoint({"step": 1}, path)

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        writer.save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    monkeypatch.undo()
    writer.save_checkpoint({"step": 3}, path)
    assert torch.load(path, weights_only=True) == {"step": 3}
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_predictions_become_files(trainer, logger):
    model = GAN(size=8, latent_dim=4, width=2)
    run = trainer(1, logger=logger, callbacks=[SaveSamples()])
    run.predict(model, DigitsDataModule(size=8, batch_size=64, val_size=70))
    folder = os.path.join(logger.log_dir, "predictions")
    assert len(os.listdir(folder)) == 70
    picture = np.asarray(Image.open(os.path.join(folder, "0_000000.png")))
    assert picture.shape == (8, 8)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ImageGrid(0),
        lambda: ImageGrid(1, 0),
        lambda: Health(0),
        lambda: Health(patience=-1),
        lambda: Checkpoint(0),
    ],
)
def test_too_few_steps_are_refused(make):
    with pytest.raises(ValueError, match=r"is (0|-1); expected at least"):
        make()


class Clips(Foreign):
    """Clips of three frames, of brightness -1, 0 and 1, and a picture of its own."""

    def sample(self, n):
        return torch.linspace(-1, 1, 3).view(1, 1, 3, 1, 1).expand(n, 1, 3, 4, 4)

    def training_step(self, batch, batch_idx):
        return self.net(batch[0][:, :, 0]).square().mean()

    def pictures(self, batch):
        assert not self.training
        return {"mean": (batch[0].mean(2), 2)}


def test_clips_are_a_film_strip_and_an_animation(trainer, logger):
    clips = DataLoader(TensorDataset(torch.ones(2, 1, 3, 4, 4)), batch_size=2)
    trainer(1, logger=logger, callbacks=[ImageGrid(samples=2)]).fit(Clips(), clips)
    folder = Path(logger.log_dir) / "samples"
    names = ["mean_0000001.png", "real.gif", "real.png", "step_0000001.gif", "step_0000001.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    strip = np.array(Image.open(folder / "step_0000001.png").convert("L"))
    assert strip.shape == (2 * 6 + 2, 3 * 6 + 2)  # two rows of three frames, framed by 2 pixels
    assert [strip[4, column] for column in (4, 10, 16)] == [0, 128, 255]
    moving = Image.open(folder / "step_0000001.gif")
    assert (moving.n_frames, moving.info["duration"]) == (3, 120)  # GIF counts hundredths of a second
    shown = events(logger)
    assert set(shown.Tags()["images"]) == {f"images/{name}" for name in ("real", "samples", "mean")} | {
        "clips/real",
        "clips/samples",
    }
    assert shown.Images("clips/samples")[0].encoded_image_string == (folder / "step_0000001.gif").read_bytes()


def test_clips_are_predicted_as_animations(trainer, logger):
    writer = SaveSamples()
    writer.write_on_batch_end(trainer(1, logger=logger), Clips(), Clips().sample(2), [], None, 0, 0)
    written = sorted((Path(logger.log_dir) / "predictions").iterdir())
    assert [path.name for path in written] == ["0_000000.gif", "0_000001.gif"]
    assert Image.open(written[0]).n_frames == 3
