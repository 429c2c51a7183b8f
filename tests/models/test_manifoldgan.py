"""ManifoldGAN: its stages, what moves in which, where it starts, how it goes on; and the controls beside its scores."""

import json
import os

import lightning as L
import pytest
import torch
from checkpoints import assert_equal, assert_near, freeze_batch_norm

from datamodules import DigitsDataModule
from gans.commands.controls import Sampler
from gans.engine.checkpoint import AtomicCheckpoints, Checkpoint, load_model
from gans.models import GAN, Autoencoder, ManifoldGAN
from gans.models.manifoldgan import STAGES, stage_at

SIZE = 16
SMALL = {"size": SIZE, "channels": 1, "latent_dim": 6, "width": 4, "latent_width": 16}
STEPS = {"autoencoder_steps": 4, "latent_steps": 5, "image_steps": 3}


def make(**options):
    torch.manual_seed(0)
    model = ManifoldGAN(**{**SMALL, **STEPS, **options})
    model.seed = 0
    return model


def digits():
    return DigitsDataModule(size=SIZE, batch_size=32)


def copied(part):
    return {name: value.clone() for name, value in part.state_dict().items()}


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


class Watch(L.Callback):
    """Keeps the parts' states at every step, and what the optimizers hold."""

    def __init__(self):
        self.states, self.rates = [], []

    def look(self, trainer, model):
        parts = ("encoder", "latent_critic", "discriminator", "generator_ema")
        state = {name: copied(getattr(model, name)) for name in parts}
        state |= {f"generator.{name}": copied(part) for name, part in model.generator.named_children()}
        self.states.append(state)
        self.rates.append({p: o.param_groups[0]["lr"] for p, o in zip(model.players, trainer.optimizers, strict=True)})
        self.held = {p: len(o.state) for p, o in zip(model.players, trainer.optimizers, strict=True)}

    def on_train_batch_start(self, trainer, model, *args):
        if not self.states:
            self.look(trainer, model)

    def on_train_batch_end(self, trainer, model, *args):
        self.look(trainer, model)


def moved(watch, name, first, last):
    """Whether a part moved in each of the steps `first` to `last - 1`."""
    return [not same(watch.states[i][name], watch.states[i + 1][name]) for i in range(first, last)]


def test_stages_are_a_function_of_the_clock():
    assert [stage_at(step, (2, 3, 1)) for step in range(8)] == [
        *((0, 0), (0, 1), (1, 0), (1, 1), (1, 2)),
        *((2, 0), (2, 1), (2, 2)),  # the last goes on
    ]
    assert [stage_at(step, (0, 2, 2))[0] for step in range(5)] == [1, 1, 2, 2, 2]
    assert [stage_at(step, (2, 2, 0))[0] for step in range(5)] == [0, 0, 1, 1, 1]
    assert stage_at(9, (2, 0, 0)) == (0, 9)


@pytest.mark.parametrize("finetune", [False, True])
def test_each_stage_moves_its_players_alone(trainer, finetune):
    model, watch = make(finetune=finetune), Watch()
    run = trainer(12, callbacks=[watch], limit_val_batches=0)
    run.fit(model, digits())
    first, second, third = (0, 4), (4, 9), (9, 12)
    for name in ("encoder", "generator.decoder", "generator.codes"):
        assert all(moved(watch, name, *first))
        assert not any(moved(watch, name, *second))
    for name in ("encoder", "generator.codes"):
        assert not any(moved(watch, name, *third))
    assert moved(watch, "generator.decoder", *third) == 3 * [finetune]
    for name in ("generator.latent", "latent_critic"):
        assert not any(moved(watch, name, *first))
        assert all(moved(watch, name, *second) + moved(watch, name, *third))
    assert moved(watch, "discriminator", 0, 9) == 9 * [False]
    assert all(moved(watch, "discriminator", *third))
    assert run.global_step == model.batches_seen == 12
    assert model.players == (*ManifoldGAN.players, *(["decoder"] if finetune else []))


def test_a_player_that_rests_keeps_no_state(trainer):
    watch = Watch()
    trainer(4, callbacks=[watch], limit_val_batches=0).fit(make(), digits())
    assert {name for name, held in watch.held.items() if held} == {"autoencoder"}


def test_rates_fall_to_their_share_within_each_stage(trainer):
    watch = Watch()
    model = make(lr=1e-2, latent_lr=1e-3, image_lr=1e-4, discriminator_lr=4e-4, final_lr=0.5)
    trainer(14, callbacks=[watch], limit_val_batches=0).fit(model, digits())
    rates = watch.rates[1:]
    assert [round(at["autoencoder"], 6) for at in rates[:4]] == [0.01, 0.00875, 0.0075, 0.00625]
    assert [round(at["generator"], 7) for at in rates[4:9]] == [0.001, 0.0009, 0.0008, 0.0007, 0.0006]
    assert rates[4]["latent_critic"] == 1e-3
    assert rates[9]["generator"] == rates[9]["latent_critic"] == 1e-4
    assert rates[9]["discriminator"] == 4e-4
    assert rates[12]["discriminator"] == rates[13]["discriminator"] == pytest.approx(2e-4)


def test_the_second_stage_begins_as_the_gaussian_control(trainer):
    gaussian = Autoencoder(**{name: value for name, value in SMALL.items() if name != "latent_width"})
    model = make()
    trainer(4, limit_val_batches=0).fit(model, digits())  # the first stage alone
    gaussian.encoder.load_state_dict(model.encoder.state_dict())
    for name in ("decoder", "codes"):
        getattr(gaussian.generator_ema, name).load_state_dict(getattr(model.generator, name).state_dict())
    assert torch.equal(model.eval().sample(20, seed=3), gaussian.eval().sample(20, seed=3))


def test_averages_fit_the_encoder_in_the_first_stage_and_then_lag(trainer):
    watch = Watch()
    trainer(12, callbacks=[watch], limit_val_batches=0).fit(make(ema_halflife=500.0, finetune=True), digits())

    def lags(step, part):
        state = watch.states[step]
        now = {f"{part}.{name}": value for name, value in state[f"generator.{part}"].items()}
        return any(not torch.equal(value, state["generator_ema"][name]) for name, value in now.items())

    assert not any(lags(step, "decoder") for step in range(1, 10))
    assert all(lags(step, "latent") for step in range(5, 13))
    assert all(lags(step, "decoder") for step in range(10, 13))


def fitted(trainer, folder, model, steps, **options):
    saver = Checkpoint(steps, str(folder))
    run = trainer(
        steps, callbacks=[saver], enable_checkpointing=True, plugins=[AtomicCheckpoints()], limit_val_batches=0
    )
    run.fit(model, digits(), **options)
    return folder / "last.ckpt"


def test_an_autoencoder_from_a_file_is_that_of_the_first_stage(trainer, tmp_path, capsys):
    torch.manual_seed(0)
    plain = {name: value for name, value in SMALL.items() if name != "latent_width"}
    autoencoder = Autoencoder(**plain)
    autoencoder.seed = 0
    path = fitted(trainer, tmp_path / "autoencoder", autoencoder, 4)
    whole = make(final_lr=1.0)
    trainer(4, limit_val_batches=0).fit(whole, digits())
    taken = make(autoencoder=str(path))
    last = fitted(trainer, tmp_path / "gan", taken, 1)
    begun = make(autoencoder=str(path))
    begun.take(str(path))
    assert torch.equal(whole.eval().sample(9, seed=1), begun.eval().sample(9, seed=1))
    assert same(copied(whole.encoder), copied(taken.encoder))
    assert same(copied(whole.generator.decoder), copied(taken.generator.decoder))
    assert taken.stage == 1
    assert "autoencoder" not in capsys.readouterr().out.splitlines()[-1]
    os.remove(path)
    again = load_model(last)
    assert torch.equal(again.sample(5, seed=2), taken.eval().sample(5, seed=2))
    resumed = make(autoencoder=str(path))
    trainer(3, limit_val_batches=0).fit(resumed, digits(), ckpt_path=str(last))
    assert resumed.batches_seen == 3
    with pytest.raises(ValueError, match="there is no checkpoint"):
        trainer(1).fit(make(autoencoder=str(path)), digits())


def test_stopping_within_any_stage_changes_nothing(trainer, tmp_path):
    options = {"finetune": True, "scaling": "standard"}
    whole = torch.load(fitted(trainer, tmp_path / "whole", make(**options), 12), weights_only=True)
    for stop in (2, 4, 7, 10):
        path = fitted(trainer, tmp_path / str(stop), make(**options), stop)
        model = make(**options)
        model.seed = 9  # the run's own comes from the checkpoint
        fitted(trainer, tmp_path / str(stop), model, 12, ckpt_path=str(path))
        resumed = torch.load(path, weights_only=True)
        for part in ("state_dict", "optimizer_states", "adversarial", "global_step"):
            assert_equal(whole[part], resumed[part], f"{stop}/{part}")
        before = torch.load(tmp_path / "whole" / "last.ckpt", weights_only=True)["seconds"]
        assert resumed["seconds"].keys() == before.keys() == set(STAGES)
        assert min(resumed["seconds"].values()) > 0


def test_two_processes_are_one_in_every_stage(trained_by):
    states = []
    for world in (1, 2):
        model = make(autoencoder_steps=2, latent_steps=2, image_steps=2, finetune=True, scaling="standard")
        freeze_batch_norm(model)
        states.append(trained_by(world, model, DigitsDataModule(size=SIZE, batch_size=16 // world), 6)["state_dict"])
    assert_near(*states, atol=1e-8)


def test_how_long_the_stages_took_is_said(trainer, tmp_path, capsys):
    points = {}

    class Points(L.pytorch.loggers.CSVLogger):
        def log_metrics(self, metrics, step=None):
            points.update({name: (step, value) for name, value in metrics.items()})

    logger = Points(tmp_path)
    trainer(12, limit_val_batches=0, logger=logger, log_every_n_steps=1).fit(make(), digits())
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("stages")]
    assert [line.count(stage) for stage in STAGES] == [1, 1, 1]
    assert all(points[f"time/{stage}"][1] > 0 for stage in STAGES)
    assert points["stage"] == (12, 3.0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"latent_dim": 300}, "latent_dim is 300; expected at most 256, as many numbers as a 1x16x16 image has"),
        ({"latent_steps": -1}, "latent_steps is -1; expected at least 0"),
        ({"image_steps": -2}, "image_steps is -2; expected at least 0"),
        ({"autoencoder_steps": 0}, "autoencoder_steps is 0; expected at least 1"),
        ({"autoencoder": "x.ckpt", "latent_steps": 0, "image_steps": 0}, "latent_steps is 0, image_steps too; .*"),
        ({"final_lr": 2.0}, "final_lr is 2.0; expected a share from 0 to 1"),
        ({"image_lr": 0.0}, "image_lr is 0.0; expected a number above 0"),
        ({"r1": -1.0}, "r1 is -1.0; expected at least 0"),
        ({"lr_decay_images": 10}, "ManifoldGAN has no argument lr_decay_images"),
    ],
)
def test_bad_options_are_refused(options, says):
    with pytest.raises(ValueError, match=f"^{says}$"):
        make(**options)


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        (GAN, {"size": SIZE, "width": 1}, "which holds a GAN; expected an Autoencoder"),
        (Autoencoder, {"size": 8, "width": 4, "latent_dim": 6}, "whose image_shape is (1, 8, 8); expected (1, 16, 16)"),
        (Autoencoder, {"size": SIZE, "width": 4, "latent_dim": 5}, "whose latent_dim is 5; expected 6"),
        (Autoencoder, {"size": SIZE, "width": 2, "latent_dim": 6}, "whose width is 2; expected 4"),
    ],
)
def test_another_autoencoder_is_refused(trainer, refused, tmp_path, kind, options, says):
    saver = Checkpoint(1, str(tmp_path))
    data = DigitsDataModule(size=options["size"], batch_size=16)
    run = trainer(1, callbacks=[saver], enable_checkpointing=True, limit_val_batches=0)
    run.fit(kind(channels=1, **options), data)
    flags = f"--model ManifoldGAN --model.latent_dim 6 --model.width 4 --data.size {SIZE}"
    more = "--trainer.accelerator cpu --trainer.max_steps 1"
    told = refused(f"fit dcgan-digits {flags} --model.autoencoder {tmp_path}/last.ckpt {more}")
    assert says in told


# -- controls ----------------------------------------------------------------------------------------------------------


def test_a_mixture_has_the_codes_moments(trainer):
    model = make()
    codes = torch.cat([torch.randn(300, 6) * 0.1 + 4, torch.randn(100, 6) * 0.1 - 4])
    decoded = []
    model.decode = lambda drawn: decoded.append(drawn) or drawn
    for components, between in ((1, True), (2, False)):
        torch.manual_seed(0)
        Sampler(model, codes, components).sample(4000)
        drawn = decoded.pop()
        assert torch.allclose(drawn.mean(0), codes.mean(0), atol=0.3)
        assert torch.allclose(drawn.T.cov(), codes.T.cov(), atol=0.7)
        assert bool((drawn[:, 0].abs() < 2).float().mean() > 0.1) is between
        if components == 2:
            assert abs(float((drawn[:, 0] > 0).float().mean()) - 0.75) < 0.05


@pytest.mark.parametrize("name", ["Autoencoder", "ManifoldGAN"])
def test_scores_stand_beside_their_controls(gans, tmp_path, monkeypatch, name):
    monkeypatch.setenv("GANS_CACHE", str(tmp_path / "cache"))
    flags = "--data.size 16 --data.batch_size 32 --model.latent_dim 4 --model.width 4 --trainer.accelerator cpu"
    steps = "--model.autoencoder_steps 8 --model.latent_steps 2 --model.image_steps 2" if name == "ManifoldGAN" else ""
    code, _, err = gans(f"fit dcgan-digits --model {name} {flags} {steps} --trainer.max_steps 12")
    assert code == 0, err
    path = tmp_path / "runs" / "dcgan-digits" / "version_0" / "checkpoints" / "last.ckpt"
    code, out, err = gans(f"evaluate {path} --samples 60 --reference 200 --out {tmp_path}/report.json")
    assert code == 0, err
    report = json.loads((tmp_path / "report.json").read_text())
    found = report["on_the_manifold"]
    assert set(found) == {"samples", "ceiling", "gaussian", "mixture"}
    for row in ("ceiling", "gaussian", "mixture"):
        assert found[row]["fid"]["value"] > 0
        assert found[row]["coverage"]["n_fake"] == 60
        assert f"\n{row} " in out
    for row in ("samples", "gaussian", "mixture"):
        assert 0 < found[row]["cycle_error"]["value"] < 1
    assert f"the {name}" in out
