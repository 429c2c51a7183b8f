"""The engine: whose step moves what, the clock, clipping, accumulation, records, precision, refusals."""

import copy
import re
import warnings

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from models_of_users import Penalised
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gans.models import DCGAN, GAN
from gans.penalties import zero_centered


def images(n=48, channels=1, size=8):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def loader(n=48, batch_size=8, channels=1, size=8):
    return DataLoader(TensorDataset(images(n, channels, size), torch.zeros(n, dtype=torch.long)), batch_size=batch_size)


def tiny(kind=GAN, **options):
    torch.manual_seed(0)
    return kind(**{"size": 8, "channels": 1, "latent_dim": 4, "width": 4, **options})


def state(network):
    return copy.deepcopy(network.state_dict())


def moved(before, network):
    return any(not torch.equal(before[name], value) for name, value in network.named_parameters())


@pytest.mark.parametrize("kind", [GAN, DCGAN, Penalised])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_each_player_moves_in_its_own_step_alone(trainer, kind, precision):
    seen = []

    class Spy(kind):
        def descend(self, loss, optimizer):
            before = state(self.generator), state(self.discriminator)
            super().descend(loss, optimizer)
            mine = self.player_optimizers().index(optimizer)
            seen.append((mine, moved(before[0], self.generator), moved(before[1], self.discriminator)))
            others = (self.discriminator, self.generator)[mine]
            assert all(p.grad is None or not p.requires_grad for p in others.parameters())

    trainer(3, precision=precision).fit(tiny(Spy), loader())
    assert seen == [(1, False, True), (0, True, False)] * 3


@pytest.mark.parametrize(("critic_steps", "steps"), [(1, 4), (3, 4)])
def test_the_clock_counts_generator_updates(trainer, critic_steps, steps):
    model = tiny(critic_steps=critic_steps)
    run = trainer(steps)
    run.fit(model, loader())
    assert run.global_step == steps
    assert model.batches_seen == steps * critic_steps
    assert model.images_seen == 8 * steps * critic_steps


def test_checkpoints_and_curves_share_the_clock(trainer, tmp_path):
    class Spy(L.pytorch.loggers.CSVLogger):
        steps: list[int] = []  # noqa: RUF012

        def log_metrics(self, metrics, step=None):
            self.steps.append(step)

    saver = L.pytorch.callbacks.ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=2, save_top_k=-1)
    run = trainer(6, logger=Spy(tmp_path), callbacks=[saver], enable_checkpointing=True, log_every_n_steps=3)
    run.fit(tiny(critic_steps=2), loader())
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == [f"step={step}.ckpt" for step in (2, 4, 6)]
    assert Spy.steps == [3, 6]


def fitted(trainer, model, steps=4, batch_size=8, **options):
    trainer(steps, **options).fit(model, loader(batch_size=batch_size))
    return model


def difference(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


@pytest.mark.parametrize("accumulate", [2, 3, 4])
@pytest.mark.parametrize("kind", [GAN, Penalised])
def test_accumulation_is_the_whole_batch(trainer, kind, accumulate):
    whole = fitted(trainer, tiny(kind), precision="64-true")
    pieces = fitted(trainer, tiny(kind, accumulate=accumulate), precision="64-true")
    assert difference(whole, pieces) < 1e-12
    assert whole.batches_seen == pieces.batches_seen == 4


def test_the_run_is_a_function_of_its_seed(trainer):
    def run(seed, disturb):
        L.seed_everything(seed)
        model = tiny()
        L.seed_everything(seed)
        if disturb:
            torch.rand(7 * disturb)
            model.seed = seed
        return fitted(trainer, model)

    assert difference(run(1, 0), run(1, 0)) == 0
    assert difference(run(1, 0), run(1, 3)) == 0
    assert difference(run(1, 0), run(2, 0)) > 0


def test_players_get_fresh_latents_and_pieces_their_rows():
    model = tiny()
    model.seed = 5
    whole = [model.latent(8), model.latent(8)]
    assert not torch.equal(*whole)
    model._draws.count = 0
    parts = []
    model.accumulate = 3
    for piece in model.pieces(torch.zeros(8, 1)):
        parts.append((model.latent(len(piece)), model.latent(len(piece))))
    for index in range(2):
        assert torch.equal(torch.cat([part[index] for part in parts]), whole[index])


@pytest.mark.parametrize("scaled", [False, True])
def test_clipping_sees_unscaled_gradients(trainer, scaled):
    norms = []

    class Spy(GAN):
        def on_before_optimizer_step(self, optimizer):
            super().on_before_optimizer_step(optimizer)
            norms.append(float(nn.utils.get_total_norm([p.grad for p in optimizer.param_groups[0]["params"]])))

    model = tiny(Spy, gradient_clip=1e-3)
    plugins = [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=256.0))] if scaled else []
    trainer(3, plugins=plugins).fit(model, loader())
    assert len(norms) == 6
    assert norms == pytest.approx([1e-3] * 6, rel=1e-2)


def test_average_follows_the_formula(trainer):
    history = []

    class Spy(GAN):
        def descend(self, loss, optimizer):
            super().descend(loss, optimizer)
            if optimizer is self.player_optimizers()[0]:
                history.append(state(self.generator))

    model = tiny(Spy, ema_halflife=20, ema_rampup=0)
    expected = state(model.generator)
    fitted(trainer, model, steps=3)
    for weights in history:
        expected = {k: torch.lerp(expected[k], weights[k], 1 - 0.5 ** (8 / 20)) for k in expected}
    for name, value in model.generator_ema.state_dict().items():
        assert torch.allclose(value, expected[name], atol=1e-6)


@pytest.mark.parametrize("start", [16, "50%"])
def test_until_averaging_begins_the_average_is_the_generator(trainer, start):
    after = []

    class Spy(GAN):
        def _tick(self):
            super()._tick()
            after.append((state(self.generator), state(self.generator_ema)))

    model = tiny(Spy, ema_halflife=8, ema_rampup=0, ema_start_images=start)  # 8 images a step
    fitted(trainer, model, steps=4)
    (first, copied), (second, begun), (third, moved), _ = after
    for name in first:
        assert torch.equal(copied[name], first[name])
        assert torch.allclose(begun[name], (first[name] + second[name]) / 2, atol=1e-6)
        assert torch.allclose(moved[name], (begun[name] + third[name]) / 2, atol=1e-6)


def test_average_stays_in_evaluation_mode():
    model = tiny(DCGAN).train()
    assert model.generator.training
    assert not model.generator_ema.training


def test_samples(trainer):
    model = tiny(DCGAN)
    before = torch.get_rng_state()
    first, again, other = model.sample(5, seed=1), model.sample(5, seed=1), model.sample(5, seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.shape == (5, 1, 8, 8)
    assert float(first.abs().max()) <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(model.sample(5), model.sample(5))
    assert not torch.equal(model.sample(5, seed=1, truncation=0.5), first)
    assert torch.equal(model(torch.ones(2, 4)), model.generator_ema(torch.ones(2, 4)))
    with pytest.raises(ValueError, match="takes no labels"):
        model.sample(2, labels=torch.zeros(2))
    with pytest.raises(ValueError, match="normal prior"):
        tiny(prior="uniform").sample(2, truncation=0.5)


def test_penalty_backward_is_full_precision_under_autocast(trainer):
    """R1's gradient in a bf16-mixed run equals that of float32: its double backward runs outside autocast."""
    grads = {}
    for precision in ("32-true", "bf16-mixed"):

        class Spy(GAN):
            def training_step(self, batch, batch_idx):
                _, optimizer_d = self.player_optimizers()
                with self.toggled_optimizer(optimizer_d):
                    optimizer_d.zero_grad()
                    self.descend(zero_centered(self.discriminator, batch[0]), optimizer_d)
                    found = [p.grad for p in self.discriminator.parameters() if p.grad is not None]
                    grads[self.precision_name] = [gradient.clone() for gradient in found]
                super().training_step(batch, batch_idx)

        model = tiny(Spy, width=16)
        model.precision_name = precision
        fitted(trainer, model, steps=1, precision=precision)
    for a, b in zip(*grads.values(), strict=True):
        assert float((a - b).norm()) <= 1e-6 * float(a.norm())


def test_bf16_step_is_near_the_float32_step(trainer):
    full, half = (fitted(trainer, tiny(width=16), steps=1, precision=p) for p in ("32-true", "bf16-mixed"))
    start = tiny(width=16)
    apart = [a - b for a, b in zip(full.generator.parameters(), half.generator.parameters(), strict=True)]
    step = [a - b for a, b in zip(full.generator.parameters(), start.generator.parameters(), strict=True)]
    # Adam's first step is the sign of the gradient: what differs are signs of tiny gradients.
    assert float(nn.utils.get_total_norm(apart)) < 0.3 * float(nn.utils.get_total_norm(step))
    assert all(torch.isfinite(p).all() for p in half.parameters())


def test_records_are_means_since_the_last_point(trainer):
    class Spy(GAN):
        def record(self, name, value):
            super().record(
                name, torch.tensor([1.0, 3.0]) * self.batches_seen if name == "loss/discriminator" else value
            )

    run = trainer(4, log_every_n_steps=2)
    run.fit(tiny(Spy), loader())
    assert float(run.callback_metrics["loss/discriminator"]) == pytest.approx(2 * (3 + 4) / 2)
    names = {"loss/generator", "logits/real", "logits/fake", "accuracy/discriminator", "speed/images_per_second"}
    names |= {"grad_norm/generator", "grad_norm/discriminator", "lr/generator", "lr/discriminator", "images_seen"}
    assert names <= run.callback_metrics.keys()


def test_integer_betas_are_taken():
    optimizers = tiny(betas=[0, 0.99]).configure_optimizers()
    assert optimizers[0].param_groups[0]["betas"] == (0.0, 0.99)


@pytest.mark.parametrize("option", ["latent_dim", "critic_steps", "accumulate"])
def test_options_below_one_are_refused(option):
    with pytest.raises(ValueError, match=f"{option} is 0; expected at least 1"):
        tiny(**{option: 0})


def test_wrong_images_are_refused(trainer):
    with pytest.raises(ValueError, match=r"\(3, 8, 8\).*built for \(1, 8, 8\)"):
        trainer(1).fit(tiny(), loader(channels=3))
    raw = DataLoader(TensorDataset(torch.zeros(8, 1, 8, 8, dtype=torch.int32)), batch_size=8)
    with pytest.raises(ValueError, match=r"int32; expected floats in \[-1, 1\]"):
        trainer(1).fit(tiny(), raw)


def test_checkpoint_round_trip(trainer, tmp_path):
    model = tiny(DCGAN, accumulate=2)
    run = trainer(2)
    run.fit(model, loader())
    run.save_checkpoint(tmp_path / "a.ckpt")
    torch.load(tmp_path / "a.ckpt", weights_only=True)
    again = DCGAN.load_from_checkpoint(tmp_path / "a.ckpt")
    assert torch.equal(again.sample(3, seed=0), model.sample(3, seed=0))
    assert (again.images_seen, again.batches_seen, again.accumulate) == (16, 2, 2)
    with pytest.raises(ValueError, match=r"holds gans\.models\.dcgan\.DCGAN; expected gans\.models\.gan\.GAN"):
        GAN.load_from_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="another size, channels, width or architecture"):
        DCGAN.load_from_checkpoint(tmp_path / "a.ckpt", width=8)


def test_unsupported_strategies_are_refused(trainer):
    model = tiny()
    model.trainer = trainer(1)
    model.trainer.strategy.__class__ = L.pytorch.strategies.DeepSpeedStrategy
    with pytest.raises(ValueError, match="strategy is DeepSpeedStrategy; expected ddp or a single device"):
        model.setup("fit")


@pytest.mark.parametrize(
    ("batch", "says"),
    [({"img": torch.zeros(8, 1, 8, 8)}, "a batch is a dict with the keys img; expected"), ("abc", "a batch is a str;")],
)
def test_a_batch_without_images_is_refused(trainer, batch, says):
    with pytest.raises(ValueError, match=says):
        trainer(1).fit(tiny(), DataLoader([batch], batch_size=None))


def test_pieces_are_drawn_row_by_row():
    model = tiny(accumulate=3)
    for piece in model.pieces(torch.zeros(8, 1)):
        with pytest.raises(ValueError, match=f"17 rows were requested in a piece of {len(piece)}"):
            model.latent(17)
        assert model.latent(2 * len(piece)).unique(dim=0).shape[0] == 2 * len(piece)


class Third(GAN):
    """A second critic, with an optimizer of its own."""

    players = ("generator", "discriminator", "second")

    def __init__(self, **options):
        super().__init__(**options)
        self.second = nn.Linear(64, 1)

    def configure_optimizers(self):
        return [*super().configure_optimizers(), self.adam(self.second, 1e-3, (0.0, 0.9))]

    def training_step(self, batch, batch_idx):
        optimizer_g, optimizer_d, optimizer_second = self.player_optimizers()
        real = batch[0]
        with self.toggled_optimizer(optimizer_d):
            fake = self.generator(self.latent(len(real))).detach()
            loss = self.loss.discriminator(self.discriminator(real), self.discriminator(fake))
            self.descend(loss, optimizer_d)
        with self.toggled_optimizer(optimizer_second):
            self.descend(self.second(fake.flatten(1)).mean() - self.second(real.flatten(1)).mean(), optimizer_second)
        with self.toggled_optimizer(optimizer_g):
            fake = self.generator(self.latent(len(real)))
            loss = self.loss.generator(None, self.discriminator(fake)) - self.second(fake.flatten(1)).mean()
            self.record("loss/generator", loss)
            self.descend(loss, optimizer_g)


def test_three_players(trainer):
    run = trainer(4, log_every_n_steps=2)
    run.fit(Third(size=8, channels=1, latent_dim=4, width=4, gradient_clip=1.0), loader())
    assert run.global_step == 4
    assert {"lr/second", "grad_norm/second"} <= run.callback_metrics.keys()
    Third.players, names = GAN.players, Third.players
    try:
        with pytest.raises(ValueError, match="expected a name for each of the 3 optimizers"):
            trainer(1).fit(Third(size=8, channels=1, latent_dim=4, width=4), loader())
    finally:
        Third.players = names


@pytest.mark.parametrize("hook", ["setup", "on_fit_start", "on_train_batch_start", "on_before_optimizer_step"])
def test_a_hook_without_super_is_found(trainer, hook):
    broken = type("Broken", (GAN,), {hook: lambda self, *args, **options: None})
    with pytest.raises(RuntimeError, match=f"overridden `{hook}` must call super()"):
        trainer(1).fit(tiny(broken), loader())


def test_two_fits_of_one_model_go_on(trainer):
    model = tiny()
    trainer(3).fit(model, loader())
    trainer(3).fit(model, loader(batch_size=16))
    assert (model.batches_seen, model.images_seen, model.images_averaged) == (6, 72, 72)


def test_the_average_counts_the_images_since_its_last_step(trainer, monkeypatch):
    seen = []
    monkeypatch.setattr("gans.engine.ema.decay", lambda images, *rest: seen.append(images) or 0.5)
    model = tiny(critic_steps=2)
    trainer(2).fit(model, loader())
    trainer(2).fit(model, loader(batch_size=16))
    assert seen == [16, 16, 32, 32]


def test_testing_twice_gives_the_same(trainer):
    model = fitted(trainer, tiny())
    results = [trainer(1).test(model, loader(), verbose=False) for _ in range(2)]
    assert results[0] == results[1]
    assert results[0][0]["step"] == 4


def test_a_class_may_move_to_another_file(trainer, tmp_path):
    # A name of its own: two classes called GAN would make the command line's short name ambiguous for other tests.
    there, here = (
        type("Homemade", (GAN,), {"__module__": place, "__qualname__": "Homemade"}) for place in ("__main__", "file")
    )
    run = trainer(1)
    run.fit(tiny(there), loader())
    run.save_checkpoint(tmp_path / "a.ckpt")
    assert here.load_from_checkpoint(tmp_path / "a.ckpt").batches_seen == 1


@pytest.mark.parametrize(
    ("scale", "shift", "says"),
    [
        (1, 0, r"\[0, 1\]; expected \[-1, 1\]: normalize them with mean 0.5 and standard deviation 0.5"),
        (255, 0, r"\[0, 255\]; expected \[-1, 1\]: divide them by 127.5 and subtract 1"),
        (4, -2, r"\[-2, 2\]; expected \[-1, 1\]$"),
        (2, -1, None),
        (0, 1, None),  # all white
    ],
)
@pytest.mark.parametrize("steps", [2, 5])  # before the first point of the curves, and after
def test_images_of_another_range_are_warned_of_once(trainer, scale, shift, says, steps):
    pictures = torch.linspace(0, 1, 8 * 64).reshape(8, 1, 8, 8) * scale + shift
    loader = DataLoader(TensorDataset(pictures), batch_size=4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer(steps, log_every_n_steps=2).fit(DCGAN(size=8, channels=1, width=4), loader)
    told = [str(one.message) for one in caught if "expected [-1, 1]" in str(one.message)]
    assert len(told) == (says is not None)
    assert says is None or re.search(says, told[0])
