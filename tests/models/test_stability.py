"""The options that keep a game stable, each against what it says it does."""

import math

import lightning as L
import pytest
import torch
from checkpoints import assert_near, freeze_batch_norm
from torch.utils.data import DataLoader, TensorDataset

from datamodules import DigitsDataModule
from gans.engine.checkpoint import Checkpoint
from gans.losses import invariant_information
from gans.models import (
    ACGAN,
    DCGAN,
    GAN,
    R3GAN,
    SAGAN,
    SNGAN,
    VAEGAN,
    WGAN,
    WGANGP,
    ConditionalGAN,
    InfoGAN,
    ProjectionGAN,
)
from gans.penalties import gamma_heuristic, input_gradient, zero_centered
from gans.terms import LeCam, Step


def make(kind=GAN, **options):
    torch.manual_seed(0)
    model = kind(**{"size": 8, "channels": 1, "latent_dim": 4, "width": 2, **options})
    model.seed = 1
    return model


def loader(n=32):
    images = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return DataLoader(TensorDataset(images, torch.arange(n) % 10), batch_size=8)


class Losses:
    """Keeps what each player's steps minimised."""

    def __init_subclass__(cls):
        cls.seen = None

    def descend(self, loss, optimizer):
        self.seen = [*(self.seen or []), (self.player_optimizers().index(optimizer), float(loss))]
        super().descend(loss, optimizer)


def losses(trainer, steps=2, kind=GAN, **options):
    """Return what the discriminator minimised in each step."""
    spy = type("Spy", (Losses, kind), {})
    model = make(spy, **options)
    trainer(steps).fit(model, loader())
    return [loss for player, loss in model.seen if player == 1], model


@pytest.mark.parametrize("which", ["r1", "r2"])
def test_gradient_penalties_are_added_with_their_weight(trainer, which):
    [plain], _ = losses(trainer, 1)
    [once], _ = losses(trainer, 1, **{which: 1.0})
    [thrice], _ = losses(trainer, 1, **{which: 3.0})
    assert once > plain
    assert thrice - plain == pytest.approx(3 * (once - plain), rel=1e-3)
    if which == "r1":
        fresh = make()
        expected = float(zero_centered(fresh.discriminator, next(iter(loader()))[0]))
        assert once - plain == pytest.approx(expected, rel=1e-3)


def test_a_lazy_penalty_is_taken_rarely_and_harder(trainer):
    plain, _ = losses(trainer, 4)
    model = make(r1=1.0, lazy=4, lr=1e-3)
    optimizer = model.configure_optimizers()[1]
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * 4 / 5)
    assert optimizer.param_groups[0]["betas"] == pytest.approx((0.5**0.8, 0.999**0.8))
    assert model.configure_optimizers()[0].param_groups[0]["lr"] == 1e-3
    spy = type("Spy", (Losses, GAN), {})
    model = make(spy, r1=1.0, lazy=4, discriminator_lr=2e-4 * 5 / 4, betas=(0.5, 0.999))
    run = trainer(4)
    run.fit(model, loader())
    *lazy, penalty = [loss for player, loss in model.seen if player == 1]
    assert len(lazy) == 4
    assert lazy == pytest.approx(plain, rel=1e-3)  # the penalty has a step of its own
    assert penalty == pytest.approx(4 * losses(trainer, 4, r1=1.0)[0][3] - 4 * plain[3], rel=0.1)


def test_the_heuristic_knows_pixels_and_batch(trainer):
    [plain], _ = losses(trainer, 1)
    [by_number], _ = losses(trainer, 1, r1=gamma_heuristic((8, 8), 8))
    [by_rule], _ = losses(trainer, 1, r1="heuristic")
    assert by_rule == by_number > plain


def test_smooth_labels_move_the_discriminators_target(trainer):
    [plain], _ = losses(trainer, 1)
    [smooth], _ = losses(trainer, 1, label_smoothing=0.1)
    fresh = make()
    with torch.no_grad():
        logits = fresh.discriminator(next(iter(loader()))[0])
    assert smooth - plain == pytest.approx(0.1 * float(logits.mean()), abs=1e-6)
    with pytest.raises(ValueError, match="smoothing"):
        make(objective="hinge", label_smoothing=0.1)


def test_lecam_follows_the_logits(trainer):
    curve, model = losses(trainer, 3, lecam=1.0, lecam_start=0)
    assert model.state_dict()["terms.lecam.averages"].abs().sum() > 0
    assert curve[1] != losses(trainer, 3)[0][1]
    with pytest.raises(ValueError, match=r"lecam is 1\.0; expected 0 with accumulate"):
        make(lecam=1.0, accumulate=2)


def test_lecam_begins_as_the_authors_do():
    """Until update 3 averages are the last batch's means; from then on they move first, and the penalty reads them."""
    term, model, average = LeCam(1.0, start=3), make(), None
    model.trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    for batch in range(1, 6):
        model.batches_seen = batch
        real, fake = torch.tensor([1.0 * batch, 3.0]), torch.tensor([-1.0, -2.0 * batch])
        value = term(Step("discriminator", model, real, real, (), real, fake, (), fake, 2))
        now = torch.stack([real.mean(), fake.mean()])
        average = now if batch < 3 else 0.99 * average + 0.01 * now
        expected = (real - average[1]).relu().square().mean() + (average[0] - fake).relu().square().mean()
        assert float(0 if value is None else value) == pytest.approx(float(expected) if batch > 3 else 0.0)
        if batch > 1:
            torch.testing.assert_close(term.averages, average)


def test_lecam_that_begins_in_a_resumed_run_begins_with_its_first_batch(trainer, tmp_path):
    saver = Checkpoint(2, str(tmp_path))
    trainer(2, callbacks=[saver], enable_checkpointing=True).fit(make(), loader())
    seen = []

    class Spy(LeCam):
        def forward(self, step):
            value = super().forward(step)
            seen.append(
                (torch.stack([step.real_logits.mean(), step.fake_logits.mean()]).detach(), self.averages.clone())
            )
            return value

    trainer(4).fit(make(terms=[Spy(1.0, 0)]), loader(), ckpt_path=tmp_path / "last.ckpt")
    (first, averages), (second, moved) = seen
    assert torch.equal(averages, first)
    torch.testing.assert_close(moved, 0.99 * first + 0.01 * second)


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_lecam_runs_in_every_precision(trainer, precision):
    model = make(lecam=1.0, lecam_start=0)
    trainer(2, precision=precision).fit(model, loader())
    averages = model.state_dict()["terms.lecam.averages"]
    assert averages.isfinite().all()
    assert averages.dtype == (torch.float64 if precision == "64-true" else torch.float32)


# -- a generator batch of a multiple -----------------------------------------------------------------------------------

MANY = {"WGAN": WGAN, "WGANGP": WGANGP, "ACGAN": ACGAN, "InfoGAN": InfoGAN, "ConditionalGAN": ConditionalGAN}


@pytest.mark.parametrize("kind", [GAN, SNGAN, *MANY.values()])
def test_the_generator_takes_a_multiple_of_the_batch(trainer, kind):
    seen = []

    class Spy(kind):
        def discriminate(self, images, *labels):
            seen.append((len(images), *(part.tolist() for part in labels)))
            return super().discriminate(images, *labels)

    labels = next(iter(loader()))[1]
    changed = {"augment": "diffaugment", "instance_noise": 0.1}  # drawn for each of the rows
    model = make(Spy, critic_steps=1, generator_batch=3, **changed)
    trainer(1).fit(model, loader())
    sizes = [rows for rows, *_ in seen]
    together = model.one_pass and kind is not InfoGAN  # whose fake images have conditions, and real ones none
    assert sizes[0] == 16 if together else sizes[:2] == [8, 8]  # real and fake
    assert sizes[-1] == 24
    if kind is ConditionalGAN:
        assert seen[0][1] == labels.tolist() * (2 if together else 1)
        assert seen[-1][1] == labels.tolist() * 3


def test_a_multiple_of_the_batch_is_the_same_on_two_processes_and_in_pieces(trained_by):
    states = []
    for world in (1, 2):
        options = {"generator_batch": 2, "instance_noise": 0.1, "accumulate": world}
        model = make(ConditionalGAN, batch_norm=False, **options)
        freeze_batch_norm(model.generator)
        states.append(trained_by(world, model, DigitsDataModule(size=8, batch_size=12 // world), 2)["state_dict"])
    assert_near(*states)


def test_instance_noise_fades(trainer):
    levels = []

    class Spy(GAN):
        def noise_like(self, images):
            levels.append(self.images_seen)
            return torch.zeros_like(images)

    model = make(Spy, instance_noise=0.5, instance_noise_images=16)
    trainer(4).fit(model, loader())
    assert levels == [8, 8, 8, 16, 16, 16, 24, 24, 24, 32, 32, 32][: len(levels)]
    model = make(instance_noise=0.5, instance_noise_images=16)
    model._trainer = None
    still = torch.zeros(64, 1, 8, 8)
    seen = []
    model.discriminator = torch.nn.Module()
    model.discriminator.forward = lambda images: seen.append(float(images.std())) or images.mean()
    for model.images_seen in (0, 8, 16):
        model.critic(still)
    assert seen == pytest.approx([0.5, 0.25, 0.0], abs=0.02)


@pytest.mark.parametrize(("held", "until", "share"), [(0, 64, 0.5), (16, 80, 0.75), (32, 64, 1.0), (8, 32, 0.0)])
def test_rates_are_held_and_fall_with_the_images_seen(trainer, held, until, share):
    model = make(lr=1e-3, discriminator_lr=2e-3, lr_hold_images=held, lr_decay_images=until)
    run = trainer(4)
    run.fit(model, loader())
    assert model.images_seen == 32
    rates = [optimizer.param_groups[0]["lr"] for optimizer in run.optimizers]
    assert rates == pytest.approx([share * 1e-3, share * 2e-3], abs=1e-12)


@pytest.mark.parametrize("name", ["diffaugment", "ada"])
def test_augmentation_is_for_both_players_and_in_the_checkpoint(trainer, tmp_path, name):
    options = {"augment_options": {"probability": 1.0, "interval": 1, "images": 100}} if name == "ada" else {}
    model = make(DCGAN, augment=name, batch_norm=False, **options)
    calls = []
    model.augment.register_forward_hook(lambda module, given, out: calls.append(not torch.equal(given[0], out)))
    saver = Checkpoint(1, str(tmp_path))
    trainer(2, callbacks=[saver], enable_checkpointing=True).fit(model, loader())
    assert calls == [True] * 4  # real and fake together, and the generator's fake, twice
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert ("augment.probability" in saved) == (name == "ada")


def test_ada_counts_about_the_boundary_of_the_objective(trainer):
    """Logits of 0.4 are real for the hinge and fake for least squares."""
    for objective, sign in (("hinge", 1), ("least_squares", -1)):
        model = make(objective=objective, augment="ada", augment_options={"interval": 100})
        model.discriminator.forward = lambda images: images.mean((1, 2, 3)) * 0 + 0.4
        model.trainer = trainer(1)
        model.record_critic(torch.zeros(()), model.discriminator(torch.zeros(8, 1, 8, 8)), torch.zeros(8))
        assert model.augment.observed.tolist() == [8 * sign, 8]
    for kind in (WGANGP, WGAN):  # a probability that stays
        make(kind, augment="ada", augment_options={"target": None, "probability": 0.3})


def test_ada_adapts_the_same_on_two_processes(trained_by):
    values = []
    for world in (1, 2):
        ada = {"probability": 0.2, "interval": 1, "images": 200}
        model = make(augment="ada", augment_options=ada)
        values.append(trained_by(world, model, DigitsDataModule(size=8, batch_size=24 // world), 3)["state_dict"])
    assert values[0]["augment.probability"] != 0.2
    assert torch.equal(values[0]["augment.probability"], values[1]["augment.probability"])
    assert_near(*values)


def test_wgan_clips_after_each_step(trainer):
    model = make(WGAN, clip=0.01)
    trainer(1).fit(model, loader(64))
    assert max(float(p.abs().max()) for p in model.discriminator.parameters()) <= 0.01
    assert max(float(p.abs().max()) for p in model.generator.parameters()) > 0.01
    with pytest.raises(ValueError, match="clip is 0"):
        make(WGAN, clip=0)


def test_wgan_gp_penalises_between_real_and_fake(trainer):
    [light], _ = losses(trainer, 1, WGANGP, critic_steps=1, penalty_weight=1.0)
    [heavy], _ = losses(trainer, 1, WGANGP, critic_steps=1, penalty_weight=10.0)
    assert heavy > light + 1
    with pytest.raises(ValueError, match="architecture is vgg"):
        make(WGANGP, architecture="vgg")


def test_r3gan_follows_its_cosines(trainer):
    model = make(R3GAN, width=16, lr=(1e-2, 1e-3), betas2=(0.9, 0.99), schedule_images=32, halflives=(0, 100))
    run = trainer(4)
    run.fit(model, loader())
    # Four batches of 8 are 16 images for each player: half of the way, in the paper's counting.
    for optimizer in run.optimizers:
        assert optimizer.param_groups[0]["lr"] == pytest.approx((1e-2 + 1e-3) / 2)
        assert optimizer.param_groups[0]["betas"] == pytest.approx((0.0, 0.945))
    assert model.ema_halflife == pytest.approx(2 * 50)  # the average counts the images of both
    model.images_seen = 64
    assert model.scheduled("gamma") == 0.005
    paper = make(R3GAN, width=16)
    assert (paper.hparams["schedule_images"], paper.hparams["halflives"]) == (20_000_000, (0, 5_000_000))
    paper.images_seen = 2 * 10_000_000
    assert paper.scheduled("halflives") == pytest.approx(2_500_000)
    for wrong in ({"preset": "huge"}, {"lr": (1e-3,)}, {"schedule_images": 0}):
        with pytest.raises(ValueError, match="expected"):
            make(R3GAN, **{"width": 16, **wrong})


def test_minibatch_std_is_a_layer_of_the_critic():
    mixed, alone = make(SNGAN, minibatch_std=4), make(SNGAN)
    images = torch.rand(8, 1, 8, 8)
    changed = images.clone()
    changed[1:] = 0
    for model, sees_others in ((mixed, True), (alone, False)):
        model.eval()
        with torch.no_grad():
            first, second = model.discriminator(images)[0], model.discriminator(changed)[0]
        assert bool(abs(first - second) > 1e-6) == sees_others


def test_a_penalty_beside_minibatch_std_is_stylegan2s(trainer):
    """The gradient is that of the sum of all logits: what one image does to the others' logits is in it."""
    model = make(SNGAN, size=16, minibatch_std=4, r1=1.0, critic_steps=1).double()
    model.eval()
    images = torch.rand(8, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    change, step = torch.randn_like(images), 1e-6
    change[1:] = 0  # one image moves
    with torch.no_grad():
        moved = [model.discriminator(images + sign * step * change) for sign in (1, -1)]
    assert (moved[0] - moved[1])[1:].abs().max() > 0
    slope = float((moved[0] - moved[1]).sum()) / (2 * step)
    assert float((input_gradient(model.discriminator, images) * change).sum()) == pytest.approx(slope, rel=1e-4)
    images = torch.rand(32, 1, 16, 16) * 2 - 1
    data = DataLoader(TensorDataset(images, torch.arange(32) % 10), batch_size=8)
    trainer(2).fit(make(SNGAN, size=16, minibatch_std=4, r1=1.0, critic_steps=1), data)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"minibatch_std": 3, "kind": SNGAN}, "minibatch_std is 3; expected a divisor of the batch, 8 images"),
        ({"minibatch_std": 4, "accumulate": 4, "kind": SNGAN}, "minibatch_std is 4; .* 8 images in 4 pieces"),
        ({"accumulate": 1000}, "accumulate is 1000; expected at most 8, the images that it cuts"),
        ({"accumulate": 8, "kind": R3GAN, "width": 16}, "accumulate is 8; expected at most 4"),
    ],
)
def test_batches_that_do_not_fit_are_refused(trainer, options, says):
    with pytest.raises(ValueError, match=says):
        trainer(1).fit(make(**{"critic_steps": 1, **options} if options.get("kind") is SNGAN else options), loader())


def test_the_last_batch_of_an_epoch_may_be_smaller_than_its_groups(trainer):
    data = DataLoader(TensorDataset(torch.rand(13, 1, 8, 8) * 2 - 1, torch.arange(13) % 10), batch_size=8)
    trainer(2).fit(make(SNGAN, minibatch_std=4, critic_steps=1), data)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"augment": "cutmix"}, "augment is 'cutmix'; expected one of diffaugment, ada"),
        ({"lazy": 0}, "lazy is 0"),
        ({"lazy": 4}, "lazy is 4; expected 1 without r1 and r2"),
        ({"instance_noise": -1}, "instance_noise is -1"),
        ({"lr_decay_images": -1}, "lr_decay_images is -1"),
        ({"lr_hold_images": 5}, "lr_hold_images is 5; expected under lr_decay_images, 0"),
        ({"objective": "elastic"}, "objective is 'elastic'"),
        ({"r1": -1.0}, "r1 is -1.0; expected at least 0"),
        ({"r2": "auto"}, "r2 is auto; expected a number or heuristic"),
        (
            {"objective": "wasserstein", "augment": "ada"},
            "augment is ada, .* the wasserstein objective has no boundary",
        ),
        (
            {"objective": "relativistic", "augment": "ada"},
            "augment is ada, .* the relativistic objective has no boundary",
        ),
        ({"kind": WGANGP, "augment": "ada"}, "augment_options.target to null"),
        ({"augment_options": {"policy": "blit"}}, "augment_options has policy without augment"),
        ({"kind": DCGAN, "size": 16, "r1": 1.0}, "expected 0 beside BatchNorm in the discriminator"),
        (
            {"kind": SNGAN, "objective": "relativistic", "generator_batch": 2},
            "generator_batch is 2; expected 1 with rel",
        ),
        ({"generator_batch": 0}, "generator_batch is 0; expected at least 1"),
        ({"kind": VAEGAN, "generator_batch": 2}, "VAEGAN has no argument generator_batch"),
        (
            {"kind": R3GAN, "width": 16, "augment": "ada", "augment_options": {"target": 0.6}},
            "augment_options.target is 0.6, which R3GAN does not read",
        ),
        ({"kind": R3GAN, "width": 16, "generator_batch": 2}, "R3GAN has no argument generator_batch"),
        ({"lecam_start": -1}, "lecam_start is -1; expected at least 0"),
        ({"lr": math.inf}, "lr is inf; expected a finite number above 0"),
        ({"lr": math.nan}, "lr is nan; expected a finite number above 0"),
        ({"discriminator_lr": 0.0}, "discriminator_lr is 0.0; expected a number above 0"),
        ({"ema_halflife": math.inf}, "ema_halflife is inf; expected a finite number of at least 0"),
        ({"ema_start_images": "soon"}, "ema_start_images is soon; expected a number of images, run, or a share"),
        ({"eps": 0.0}, "eps is 0.0; expected a number above 0"),
        ({"kind": WGAN, "clip": math.inf}, "clip is inf; expected a finite number above 0"),
        ({"kind": WGANGP, "penalty_weight": -1.0}, "penalty_weight is -1.0; expected at least 0"),
        ({"kind": R3GAN, "width": 16, "gamma": (math.inf, 0.0)}, "gamma is .* expected two numbers from 0"),
        ({"kind": R3GAN, "width": 16, "schedule_images": math.inf}, "schedule_images is inf; expected a finite"),
        ({"kind": ConditionalGAN, "num_classes": 0}, "num_classes is 0; expected at least 1"),
        ({"kind": ProjectionGAN, "num_classes": 0}, "num_classes is 0; expected at least 1"),
        ({"kind": ACGAN, "num_classes": 0}, "num_classes is 0; expected at least 1"),
        ({"kind": SAGAN, "num_classes": -1}, "num_classes is -1; expected at least 0"),
        ({"kind": R3GAN, "width": 16, "num_classes": -1}, "num_classes is -1; expected at least 0"),
        ({"kind": SNGAN, "critic": "conv"}, "SNGAN has no argument critic"),
        ({"kind": R3GAN, "width": 16, "r1": 1.0}, "R3GAN has no argument r1"),
        ({"kind": R3GAN, "width": 16, "betas2": (0.9, 1.5)}, "betas2 is .* expected two numbers from 0 to 1.0"),
        ({"kind": WGAN, "lazy": 4}, "lazy is 4; expected 1 without r1 and r2"),
        ({"kind": WGAN, "betas": (0.9, 0.99)}, "WGAN has no argument betas"),
        ({"kind": R3GAN, "width": 16, "critic_steps": 2}, "R3GAN has no argument critic_steps"),
    ],
)
def test_bad_options_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        make(**{"kind": GAN, **options})


@pytest.mark.parametrize("kind", [ACGAN, InfoGAN, WGANGP, GAN, ConditionalGAN])
def test_penalties_are_never_ignored(trainer, kind):
    options = {} if kind in (WGANGP, GAN, ACGAN) else {"batch_norm": False}
    weights = []
    for extra in ({}, {"r1": 5.0}, {"lecam": 5.0, "lecam_start": 0}):
        model = make(kind, critic_steps=1, **options, **extra)
        trainer(2).fit(model, loader())
        weights.append(next(model.discriminator.parameters()).detach())
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_heuristic_is_that_of_the_whole_batch(trainer):
    states = []
    for accumulate in (1, 4):
        model = make(r1="heuristic", accumulate=accumulate)
        trainer(1, precision="64-true").fit(model, loader())
        states.append(model.state_dict())
    assert all(torch.allclose(value, states[1][name], atol=1e-9) for name, value in states[0].items())


def test_any_objective_works_with_any_critic(trainer):
    for kind in (GAN, DCGAN, ACGAN):
        trainer(1).fit(make(kind, objective="relativistic"), loader())


def test_r3gan_gives_each_player_reals_of_its_own(trainer):
    seen = []

    class Spy(R3GAN):
        def parts(self, batch):
            seen.append(batch[0])
            return super().parts(batch)

    trainer(1).fit(make(Spy, width=16), loader(8))
    whole = next(iter(loader(8)))[0]
    assert torch.equal(seen[0], whole[::2])
    assert torch.equal(seen[1], whole[1::2])
    with pytest.raises(ValueError, match="a batch has 7 images; expected an even number"):
        trainer(1).fit(make(R3GAN, width=16), loader(7))


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_half_precision_throughout_is_refused(trainer, precision):
    with pytest.raises(ValueError, match=f"trainer.precision is {precision}; expected 32-true"):
        trainer(1, precision=precision).fit(make(), loader())


def test_losses_of_mixed_precision_are_full(trainer):
    kinds = []

    class Spy(GAN):
        def descend(self, loss, optimizer):
            kinds.append(loss.dtype)
            super().descend(loss, optimizer)

    trainer(1, precision="bf16-mixed").fit(make(Spy), loader())
    assert kinds == [torch.float32] * 2


def test_betas_may_be_whole_numbers():
    for kind in (GAN, WGANGP):
        groups = make(kind, betas=[0, 0.99]).configure_optimizers()[0].param_groups
        assert groups[0]["betas"] == (0.0, 0.99)


def test_mode_seeking_moves_the_images_of_a_category_apart(trainer):
    spread = []
    for weight in (0.0, 5.0):
        model = make(InfoGAN, num_codes=1, mode_seeking_weight=weight, lr=0.01)
        trainer(4).fit(model, loader())
        z = torch.rand(32, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
        with torch.no_grad():
            images = model.generator.eval()(z, torch.zeros(32, dtype=torch.long))
        spread.append(images.std(0).mean().item())
    assert spread[1] > 1.2 * spread[0]


def test_the_information_that_guesses_share_is_that_of_their_joint_distribution():
    sure = 50 * torch.eye(4)[torch.arange(32) % 4]
    assert invariant_information(sure, sure).item() == pytest.approx(math.log(4), abs=1e-5)
    assert invariant_information(sure, sure.roll(1, 0)).item() < math.log(4)  # other images' guesses
    assert invariant_information(sure, torch.zeros(32, 4)).item() == pytest.approx(0, abs=1e-5)
    one = torch.tensor([[50.0, 0.0, 0.0, 0.0]]).repeat(32, 1)  # surely, but always the same
    assert invariant_information(one, one).item() == pytest.approx(0, abs=1e-5)


def test_categories_follow_what_changes_leave_alike_in_real_images(trainer):
    """Two kinds of images, dark and bright, that are the same after any move."""
    kinds = torch.tensor([-1.0, 1.0]).repeat(16)
    images = kinds.view(-1, 1, 1, 1) * torch.ones(32, 1, 8, 8)
    data = DataLoader(TensorDataset(images, torch.zeros(32)), batch_size=16)
    model = make(InfoGAN, num_categories=2, num_codes=0, width=8, clustering_weight=5.0, discriminator_lr=0.01)
    trainer(12).fit(model, data)
    with torch.no_grad():
        guesses = model.discriminator.eval()(images)[1].argmax(1)
    assert guesses[0] != guesses[1]
    assert torch.equal(guesses, guesses[:2].repeat(16))
