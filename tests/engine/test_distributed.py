"""The same run on one process and on several: weights, averages, buffers, and what is sent."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest
import torch
from checkpoints import freeze_batch_norm
from lightning.pytorch.loggers import CSVLogger
from models_of_users import Penalised
from torch import distributed

from datamodules import CaptionedDigitsDataModule, DigitsDataModule
from gans.engine import buckets
from gans.engine.checkpoint import Checkpoint
from gans.models import DCGAN, GAN, ContraGAN, ImageTextEncoder, ReACGAN, StyleGAN2, TextToImage
from gans.terms import BCR, R1, R2, ZCR, ApproximateR1, ApproximateR2, LeCam, ModeSeeking, OneCentered, PathLength, TopK

GLOBAL_BATCH = 24
ROOT = Path(__file__).parents[2]


class Recorder(Checkpoint):
    """Saves what every process holds when the checkpoint is written, and counts what was reduced."""

    def __init__(self, folder):
        super().__init__(dirpath=str(folder))
        self.folder, self.sent = folder, []

    def on_train_start(self, trainer, pl_module):
        if trainer.world_size > 1:
            self.reduce, distributed.all_reduce = distributed.all_reduce, self.counted

    def counted(self, tensor, *args, **options):
        self.sent.append(tensor.numel() * tensor.element_size())
        return self.reduce(tensor, *args, **options)

    def on_train_batch_end(self, trainer, pl_module, *args):
        sent = list(self.sent)
        super().on_train_batch_end(trainer, pl_module, *args)
        if trainer.global_step == trainer.max_steps:
            held = {"state": pl_module.state_dict(), "sent": sent}
            torch.save(held, self.folder / f"{trainer.world_size}_{trainer.global_rank}.pt")
            if trainer.world_size > 1:
                distributed.all_reduce = self.reduce


@pytest.fixture
def run(trainer, tmp_path):
    def run(kind, world, accumulate=1, steps=5, precision="64-true", size=8, loop=None, **options):
        torch.manual_seed(0)
        model = kind(**{"size": size, "channels": 1, "latent_dim": 4, "width": 2, "accumulate": accumulate, **options})
        model.seed = 3
        data = DigitsDataModule(size=size, batch_size=GLOBAL_BATCH // world)
        loop = {"limit_val_batches": 0, "log_every_n_steps": 1000, "enable_checkpointing": True, **(loop or {})}
        trainer(steps, world, precision=precision, callbacks=[Recorder(tmp_path)], **loop).fit(model, data)
        return [torch.load(tmp_path / f"{world}_{rank}.pt") for rank in range(world)]

    return run


def difference(one, other):
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


@pytest.mark.parametrize(("kind", "accumulate", "critic_steps"), [(GAN, 1, 2), (Penalised, 1, 1), (Penalised, 4, 1)])
def test_processes_do_not_change_the_run(run, kind, accumulate, critic_steps):
    [alone] = run(kind, 1, critic_steps=critic_steps)
    for world in (2, 3):
        for process in run(kind, world, accumulate, critic_steps=critic_steps):
            assert difference(alone["state"], process["state"]) < 1e-9
    start = kind(size=8, channels=1, latent_dim=4, width=2).state_dict()
    assert difference(start, alone["state"]) > 1e-3


WHOLE = [LeCam(1.0, start=1), TopK(share=0.5, decay=0.5, images=24), PathLength(every=2, decay=0.5)]
ROWS = [R1(1.0), R2(1.0, every=2), OneCentered(1.0), BCR(), ZCR(), ZCR(0.5, player="generator"), ModeSeeking()]
NEAR = [ApproximateR1(1.0), ApproximateR2(1.0, every=2, samples=2)]


@pytest.mark.slow
@pytest.mark.parametrize(("terms", "accumulate"), [(WHOLE, 1), (ROWS, 1), (ROWS, 2), (NEAR, 2)])
def test_terms_do_not_depend_on_processes(run, terms, accumulate):
    [alone] = run(GAN, 1, terms=terms)
    for process in run(GAN, 2, accumulate, terms=terms):
        assert difference(alone["state"], process["state"]) < 1e-9
    [without] = run(GAN, 1)
    shared = without["state"].keys() & alone["state"].keys()
    assert difference({name: without["state"][name] for name in shared}, alone["state"]) > 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ReACGAN, ContraGAN])
def test_images_are_compared_with_those_of_all_processes(run, kind):
    def frozen(**options):
        model = kind(**options, embedding_dim=4, critic_steps=1)
        freeze_batch_norm(model)
        model.configure_optimizers = lambda: [
            torch.optim.SGD(player.parameters(), 0.1) for player in (model.generator, model.discriminator)
        ]  # Adam would hide the length of a gradient
        return model

    [alone] = run(frozen, 1, steps=2, size=16)
    for world in (2, 3):
        for process in run(frozen, world, steps=2, size=16):
            assert difference(alone["state"], process["state"]) < 1e-9
    [without] = run(frozen, 1, steps=2, size=16, class_weight=0.0)
    for player in ("generator.", "discriminator."):
        moved = {name for name, value in alone["state"].items() if difference({name: value}, without["state"]) > 1e-6}
        assert any(name.startswith(player) for name in moved)


@pytest.mark.slow
def test_styles_and_path_lengths_do_not_depend_on_processes(run):
    options = {
        "size": 16,
        "preset": "small",
        "minibatch_std": 4,
        "lazy": 2,
        "path_length": 0.0,
        "terms": [PathLength(every=2)],
    }
    [alone] = run(StyleGAN2, 1, **options)
    for world in (2, 3):
        for process in run(StyleGAN2, world, **options):
            assert difference(alone["state"], process["state"]) < 1e-9
    assert alone["state"]["generator_ema.mean_w"].abs().max() > 1e-4


class ChannelsLast(GAN):
    """A user's model whose critic's weights lie in another layout than PyTorch's own."""

    def __init__(self, **options):
        super().__init__(**options, critic="conv", batch_norm=False)
        self.to(memory_format=torch.channels_last)


def test_gradients_keep_the_layout_of_the_weights(run):
    """Fused Adam reads both as they lie in memory: of another layout, it would take the wrong gradient's element."""
    [alone] = run(ChannelsLast, 1, size=16)
    for process in run(ChannelsLast, 2, size=16):
        assert difference(alone["state"], process["state"]) < 1e-9


def test_processes_share_clock_and_curves(run, tmp_path):
    curves = {}
    for world in (1, 2):
        logger = CSVLogger(tmp_path, str(world), 0)
        loop = {"logger": logger, "log_every_n_steps": 2, "limit_val_batches": 4, "val_check_interval": 2}
        held = run(Penalised, world, loop=loop, gradient_clip=100.0)
        saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["adversarial"]
        with open(tmp_path / str(world) / "version_0" / "metrics.csv") as file:
            rows = list(csv.DictReader(file))
        assert len(held) == world
        assert [(row["step"], row["images_seen"]) for row in rows if row["images_seen"]] == [
            ("2", "48.0"),
            ("4", "96.0"),
        ]
        assert (saved["images_seen"], saved["images_averaged"], saved["batches_seen"]) == (120, 120, 5)
        points = {name: float(values.mean()) for name, values in saved["pending"].items()}
        for row in rows:
            points |= {
                (row["step"], name): float(value) for name, value in row.items() if value and "speed" not in name
            }
        curves[world] = points
    # Records are float32; validation batches are cut differently, and their fakes are drawn by process.
    same = [name for name in curves[1] if "val/" not in name[-1] or "real" in name[-1]]
    assert curves[1].keys() == curves[2].keys()
    assert len(same) > 12
    assert [curves[2][name] for name in same] == pytest.approx([curves[1][name] for name in same], rel=1e-5)


def test_held_out_means_are_those_of_all_images_however_they_are_shared(trainer, tmp_path):
    """25 images are 13 and 12 on two processes, 9, 8 and 8 on three."""

    class Keep(L.Callback):
        def on_validation_end(self, trainer, pl_module):
            torch.save(trainer.callback_metrics, tmp_path / f"{trainer.world_size}_{trainer.global_rank}.pt")

    for world in (1, 2, 3):
        torch.manual_seed(0)
        model = DCGAN(size=8, channels=1, latent_dim=4, width=2, batch_norm=False)
        data = DigitsDataModule(size=8, batch_size=5, val_size=25)
        trainer(1, world, callbacks=[Keep()], precision="64-true").validate(model, data, verbose=False)
    [alone, *shared] = [
        torch.load(tmp_path / f"{world}_{rank}.pt")["val/logits/real"] for world in (1, 2, 3) for rank in range(world)
    ]
    assert alone != 0
    for found in shared:
        assert float(found) == pytest.approx(float(alone), rel=1e-9)


def test_processes_seed_their_own_generators(trainer, tmp_path):
    """What draws from torch's global generator, dropout say, must not draw the same on every process."""

    class Drops(GAN):
        def training_step(self, batch, batch_idx):
            torch.save(torch.rand(3), tmp_path / f"{self.global_rank}.draw")
            super().training_step(batch, batch_idx)

    data = DigitsDataModule(size=8, batch_size=12)
    model = Drops(size=8, latent_dim=4, width=2)
    trainer(2, world=2, limit_val_batches=0).fit(model, data)
    assert not torch.equal(torch.load(tmp_path / "0.draw"), torch.load(tmp_path / "1.draw"))


def sent_for(state, player):
    """Return the bytes of one message with a network's gradients, and a number for each parameter."""
    return sum(
        value.numel() * 4 + 4
        for name, value in state.items()
        if name.startswith(player + ".") and name.endswith(("weight", "bias"))
    )


@pytest.mark.parametrize("accumulate", [1, 4])
def test_an_iteration_sends_each_network_once(run, accumulate):
    steps = 5
    for process in run(Penalised, 2, accumulate, steps=steps, precision="32-true"):
        sizes = [sent_for(process["state"], player) for player in ("discriminator", "generator")]
        assert process["sent"] == sizes * steps


def test_running_statistics_travel_with_the_generators_gradients(run):
    for process in run(DCGAN, 2, size=16, precision="32-true"):
        names = {name: value for name, value in process["state"].items() if not name.startswith("generator_ema")}
        statistics = sum(value.numel() * 4 for name, value in names.items() if "running" in name)
        assert statistics > 0
        sizes = [sent_for(process["state"], player) for player in ("discriminator", "generator")]
        assert process["sent"] == [sizes[0], statistics, sizes[1]] * 5


PENALISED = [R1(1.0, every=2), PathLength(every=2, decay=0.5)]


@pytest.mark.parametrize(("kind", "options"), [(Penalised, {"accumulate": 2}), (GAN, {"terms": PENALISED})])
def test_the_number_of_buckets_does_not_change_the_run(run, monkeypatch, kind, options):
    [alone] = run(kind, 1, **options)
    monkeypatch.setattr(buckets, "FIRST", 64)
    monkeypatch.setattr(buckets, "REST", 512)
    for process in run(kind, 2, **options):
        assert difference(alone["state"], process["state"]) < 1e-9
        assert len(process["sent"]) > 30  # 5 iterations


def test_saved_buffers_are_those_of_every_process(run):
    one, other = (process["state"] for process in run(DCGAN, 2, size=16))
    names = [name for name in one if "running" in name]
    assert {name.split(".")[0] for name in names} == {"generator", "discriminator", "generator_ema"}
    assert difference(one, other) == 0


def test_resume_is_exact_on_two_processes(trainer, tmp_path):
    """BatchNorm and all: a checkpoint in between, or none, makes no difference."""
    states = []
    for stops in ([12], [5, 12]):
        folder = tmp_path / str(len(stops))
        for stop in stops:
            torch.manual_seed(0)
            model = DCGAN(size=16, channels=1, latent_dim=4, width=2)
            model.seed = 3
            saver, path = Checkpoint(dirpath=str(folder)), folder / "last.ckpt"
            options = {"enable_checkpointing": True, "limit_val_batches": 2, "val_check_interval": 4}
            loop = trainer(stop, world=2, callbacks=[saver], **options)
            loop.fit(model, DigitsDataModule(size=16, batch_size=12), ckpt_path=path if path.exists() else None)
        states.append(torch.load(path, weights_only=True))
    assert states[0]["global_step"] == states[1]["global_step"] == 12
    assert difference(states[0]["state_dict"], states[1]["state_dict"]) == 0


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs gloo over loopback")
def test_the_command_line_under_plain_ddp(gans, tmp_path):
    """The recipe's own words, one process and two, launched by Lightning as a user would."""
    for world in (1, 2):
        line = (
            f"fit gan-mnist --data.class_path DigitsDataModule --data.size 8 --data.batch_size {GLOBAL_BATCH // world}"
        )
        line += f" --model.width 2 --trainer.devices {world} --trainer.accelerator cpu --trainer.precision 64-true"
        line += f" --trainer.max_steps 4 --trainer.default_root_dir {tmp_path / str(world)}"
        if world == 1:
            assert gans(line)[0] == 0
        else:
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            command = [sys.executable, "-m", "gans", *line.split()]
            subprocess.run(command, check=True, timeout=120, capture_output=True, env=environment)
    one, two = (torch.load(next((tmp_path / str(world)).rglob("last.ckpt")))["state_dict"] for world in (1, 2))
    assert difference(one, two) < 1e-9


@pytest.mark.parametrize("kind", [ImageTextEncoder, TextToImage])
def test_encoders_drawn_for_the_datas_words_are_those_of_every_process(trained_by, kind):
    """They are built in `setup`, after Lightning has seeded some processes again: every step is equal."""
    options = {} if kind is ImageTextEncoder else {"latent_dim": 4, "text_steps": 2, "encoder_width": 2}
    states = {}
    for world in (1, 2):
        L.seed_everything(3)
        model = kind(size=16, width=2, features=6, text_width=4, **options)
        torch.rand(world)  # what else may have been drawn before the encoders
        data = CaptionedDigitsDataModule(size=16, batch_size=16 // world, num_workers=0)
        states[world] = trained_by(world, model, data, 4)["state_dict"]
    assert {value.dtype for value in states[1].values() if value.is_floating_point()} == {torch.float64}
    assert difference(states[1], states[2]) < 1e-11
