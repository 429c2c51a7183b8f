"""What the framework costs on the host in a step: calls of Python functions, and waiting for the device."""

import csv
import sys
from contextlib import suppress

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

from gans.callbacks.health import Health
from gans.callbacks.progress import Progress
from gans.engine.checkpoint import AtomicCheckpoints, Checkpoint
from gans.models import GAN

ROUND = 20  # steps between two points of the curves


def model(kind=GAN, **options):
    torch.manual_seed(0)
    return kind(**{"size": 8, "channels": 1, "latent_dim": 4, "width": 4, **options})


def loader(steps):
    data = torch.rand(4 * steps, 1, 8, 8) * 2 - 1
    return DataLoader(TensorDataset(data), batch_size=4)


def fit(trainer, folder, model, steps, *callbacks):
    """Fit with the callbacks of recipes: logging, health, progress bar, checkpoints."""
    run = trainer(
        steps,
        logger=TensorBoardLogger(folder),
        callbacks=[*callbacks, Progress(), Health(), Checkpoint()],
        plugins=[AtomicCheckpoints()],
        enable_checkpointing=True,
        enable_progress_bar=True,
        log_every_n_steps=ROUND,
    )
    run.fit(model, loader(steps))
    return run


class Calls(L.Callback):
    """Counts the calls of functions of Python, and of C from Python, in the second round of steps."""

    def __init__(self):
        self.count = 0

    def note(self, frame, event, argument):
        self.count += event in ("call", "c_call")

    def on_train_batch_end(self, trainer, *rest):
        if trainer.global_step == ROUND:
            sys.setprofile(self.note)
        elif trainer.global_step == 2 * ROUND:
            sys.setprofile(None)


def test_a_step_calls_few_functions(trainer, tmp_path):
    calls = Calls()
    fit(trainer, tmp_path, model(), 2 * ROUND + 1, calls)
    assert 1_000 < calls.count / ROUND < 4_000


class Waits(TorchDispatchMode):
    """Counts operations that wait for the device: numbers and shapes that depend on values."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name
        if name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::is_nonzero"):
            self.found.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("options", [{}, {"critic": "conv", "augment": "ada", "r1": 1.0, "lazy": 4, "lecam": 0.1}])
def test_a_step_waits_for_nothing_between_two_points_of_the_curves(trainer, tmp_path, options):
    waits = Waits()

    class Watch(L.Callback):
        def on_train_batch_start(self, run, module, batch, index):
            if index == 2:
                waits.__enter__()

        def on_train_batch_end(self, run, module, outputs, batch, index):
            if index == ROUND - 2:
                waits.__exit__(None, None, None)

    fit(trainer, tmp_path, model(**options), ROUND + 1, Watch())
    assert waits.found == []


def test_points_of_the_curves_reach_callbacks_and_the_bar(trainer, tmp_path):
    run = fit(trainer, tmp_path, model(), ROUND)
    assert {"loss/generator", "loss/discriminator", "speed/images_per_second"} == run.progress_bar_metrics.keys()
    assert all(isinstance(value, float) for value in run.progress_bar_metrics.values())
    assert run.progress_bar_metrics.keys() < run.callback_metrics.keys()
    assert all(value.shape == () for value in run.callback_metrics.values())  # as Lightning's checkpoints monitor them


def test_a_toggled_player_leaves_frozen_parameters_frozen(trainer):
    class Frozen(GAN):
        def training_step(self, batch, batch_idx):
            first = self.discriminator.layers[0].weight.requires_grad_(False)
            optimizer_g, optimizer_d = self.player_optimizers()
            with suppress(ZeroDivisionError), self.toggled_optimizer(optimizer_g):
                assert not any(p.requires_grad for p in self.discriminator.parameters())
                assert all(p.requires_grad for p in self.generator.parameters())
                raise ZeroDivisionError
            with self.toggled_optimizer(optimizer_d):
                assert not any(p.requires_grad for p in self.generator.parameters())
                assert not first.requires_grad
            assert all(p.requires_grad for p in self.parameters() if p is not first and p not in averaged)
            assert not first.requires_grad
            seen.append(True)
            super().training_step(batch, batch_idx)

    seen, averaged = [], set()
    net = model(Frozen)
    averaged |= set(net.generator_ema.parameters())
    trainer(2).fit(net, loader(2))
    assert seen == [True, True]


def test_attributes_are_set_as_in_every_module():
    class Watched(GAN):
        @property
        def doubled(self):
            return 2 * self.half

        @doubled.setter
        def doubled(self, value):
            self.half = value / 2

    net = model(Watched)
    net.doubled = 6
    net.half = 4
    assert net.doubled == 8
    net.extra = 1
    net.extra = nn.Linear(1, 1)
    assert "extra.weight" in net.state_dict()
    net.extra = None
    assert net.extra is None
    assert "extra.weight" not in net.state_dict()
    net.register_parameter("gain", nn.Parameter(torch.ones(1)))
    with pytest.raises(TypeError):
        net.gain = 1.0


class Noted(GAN):
    """A user's model with metrics of its own."""

    def training_step(self, batch, batch_idx):
        super().training_step(batch, batch_idx)
        self.log("own/step", float(batch_idx), prog_bar=True)
        self.log("own/epoch", torch.tensor(float(batch_idx)), on_step=False, on_epoch=True)


def test_lightnings_callbacks_see_the_curves_and_a_users_metrics(trainer, tmp_path):
    best = ModelCheckpoint(tmp_path, "{step}", monitor="loss/generator", every_n_train_steps=5, save_top_k=2)
    stop = EarlyStopping("images_seen", patience=1, check_on_train_epoch_end=True)  # they do not fall: two epochs
    loggers = [CSVLogger(tmp_path, name) for name in ("first", "second")]
    run = trainer(
        30,
        logger=loggers,
        callbacks=[best, stop, LearningRateMonitor("step")],
        enable_checkpointing=True,
        log_every_n_steps=5,
    )
    run.fit(model(Noted), loader(10))
    assert {"own/step", "own/epoch", "loss/generator", "lr-Adam"} <= run.callback_metrics.keys()
    assert "own/step" in run.progress_bar_metrics
    assert run.global_step == 20
    for logger in loggers:
        with open(logger.experiment.metrics_file_path) as file:
            losses = {int(row["step"]): float(row["loss/generator"] or "nan") for row in csv.DictReader(file)}
        losses = {step: loss for step, loss in losses.items() if loss == loss}
        assert list(losses) == [5, 10, 15, 20]
        assert sorted(map(float, best.best_k_models.values())) == pytest.approx(sorted(losses.values())[:2])
