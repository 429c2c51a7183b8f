"""Penalties without a gradient: against closed forms and the exact ones, and as parts of a run."""

import pytest
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils.data import DataLoader, TensorDataset

from gans.models import ACGAN, DCGAN, GAN, R3GAN, SNGAN, ProjectionGAN, StyleGAN2
from gans.terms import R1, R2, ApproximateR1, ApproximateR2, Nearby, Step

SIZE = 16


def loader(n=16):
    images = torch.rand(n, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return DataLoader(TensorDataset(images, torch.arange(n) % 3), batch_size=8)


def small(kind=DCGAN, **options):
    torch.manual_seed(0)
    plain = {"batch_norm": False} if kind is DCGAN else {}
    model = kind(**{"size": SIZE, "channels": 1, "latent_dim": 4, "width": 4, **plain, **options})
    model.seed = 3
    return model


class Linear(nn.Module):
    """The critic w x."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(SIZE**2).double() / SIZE)

    def forward(self, images):
        return images.flatten(1) @ self.weight


def steps(model, images, count=1):
    """The terms of a model, and discriminator's steps of several batches."""
    terms = model.terms.of("discriminator")
    model.batch_size = lambda rows: rows
    for batch in range(count):
        model._draws.begin(3, "train", batch)
        for real in model.pieces(images):
            yield terms, model.discriminator_step(real, terms=terms)


def pictures(n=8):
    return torch.rand(n, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)).double() * 2 - 1


def test_of_a_linear_critic_the_mean_is_the_exact_penalty_and_a_draw_the_square_of_its_noise():
    model = small(terms=[ApproximateR1(1.0, sigma=0.1), ApproximateR2(1.0, sigma=0.02, samples=3)]).double()
    model.discriminator = Linear()
    exact = float(model.discriminator.weight.detach().square().sum()) / 2
    values, noises = [], []
    model.noise_like = lambda images, draw=model.noise_like: noises.append(draw(images)) or noises[-1]
    for (r1, r2), step in steps(model, pictures(64), 40):
        values.append((float(r1(step)), float(r2(step))))
        real, *fakes = (noise.flatten(1) @ model.discriminator.weight for noise in noises[-4:])
        expected = real.square().mean() / 2, torch.cat(fakes).square().mean() / 2
        torch.testing.assert_close(torch.tensor(values[-1]), torch.stack(expected).float(), rtol=1e-6, atol=0)
    found = torch.tensor(values).double()
    # Half of a chi-square of |w|^2: its standard deviation is sqrt 2 of the mean, over 64 or 192 draws in 40 batches.
    for value, draws in zip(found.mean(0), (64 * 40, 192 * 40), strict=True):
        assert abs(float(value) - exact) < 3 * exact * (2 / draws) ** 0.5


def test_of_a_smooth_critic_the_mean_tends_to_the_exact_penalty():
    """With the same noise, errors fall with sigma down to that of the draws."""
    distances = {}
    for sigma in (2.0, 1e-3):
        model = small(terms=[ApproximateR1(1.0, sigma=sigma), R1(1.0)]).double()
        torch.manual_seed(1)
        layers = nn.Linear(SIZE**2, 16), nn.Tanh(), nn.Linear(16, 1), nn.Flatten(0)
        model.discriminator = nn.Sequential(nn.Flatten(), *layers).double()
        values = [[float(term(step).detach()) for term in terms] for terms, step in steps(model, pictures(32), 25)]
        approximate, exact = torch.tensor(values).mean(0).tolist()
        distances[sigma] = abs(approximate / exact - 1)
    assert distances[1e-3] < 3 * (2 / (32 * 25)) ** 0.5
    assert distances[2.0] > 0.3


CHANGES = {"augment": "ada", "augment_options": {"probability": 0.8}, "instance_noise": 0.1}


@pytest.mark.parametrize("kind", [DCGAN, SNGAN])
@pytest.mark.parametrize("together", [True, False])
def test_images_nearby_are_augmented_as_their_side(kind, together):
    """Without noise of their own, they are the side's images, also in the middle of a batch in pieces."""
    minibatch = {"minibatch_std": 2} if kind is SNGAN else {}
    given = [ApproximateR1(1.0, sigma=1e-13, samples=2), ApproximateR2(1.0, sigma=1e-13)]
    model = small(kind, terms=given, accumulate=2, **minibatch, **CHANGES).double()
    model.one_pass, seen = together, []
    model.discriminator.register_forward_pre_hook(lambda _, images: seen.append(images[0].detach()))
    for _, step in steps(model, pictures()):
        real, fake, first, second, near_fake = torch.cat(seen[-1:] if together else seen[-5:]).split(4)
        torch.testing.assert_close(first, real, rtol=0, atol=1e-10)
        torch.testing.assert_close(second, real, rtol=0, atol=1e-10)
        torch.testing.assert_close(near_fake, fake, rtol=0, atol=1e-10)
        assert (first != second).any()
        assert (real - fake).abs().max() > 0.1
        assert (real - step.real).abs().max() > 0.1  # they are augmented
    assert (seen[0][:4] - seen[-1][:4]).abs().max() > 0.1


class Apart(DCGAN):
    """Has a critic of its own, which keeps what it sees."""

    def critic(self, images, *conditions):
        seen = self.as_seen(images)
        self.seen.append(seen.detach())
        return self.discriminate(seen)


def test_a_critic_of_ones_own_sees_images_nearby_with_the_draws_of_their_side():
    model = small(DCGAN, terms=[ApproximateR2(1.0, sigma=1e-13), ApproximateR1(1.0, sigma=1e-13)], **CHANGES).double()
    model.__class__, model.seen = Apart, []
    for _ in steps(model, pictures(), 2):
        real, fake, near_fake, near_real = model.seen[-4:]
        torch.testing.assert_close(near_real, real, rtol=0, atol=1e-10)
        torch.testing.assert_close(near_fake, fake, rtol=0, atol=1e-10)
        assert (real - fake).abs().max() > 0.1


class Levels(DCGAN):
    """Fakes have two levels, as channels, and a real image is repeated when the discriminator sees it."""

    def make_discriminator(self, size, channels, width):
        return Pair()

    def generate(self, z, *conditions):
        return super().generate(z).repeat(1, 2, 1, 1)

    def as_seen(self, images):
        pair = images if images.shape[1] == 2 else images.repeat(1, 2, 1, 1)
        return pair + 0.1 * self.noise_like(pair)


class Pair(nn.Module):
    """A critic of two channels that keeps what it sees."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = nn.Conv2d(2, 1, SIZE), []

    def forward(self, images):
        self.seen.append(images.detach())
        return self.layer(images).flatten()


def test_sides_of_different_shapes_share_a_pass():
    model = small(Levels, terms=[ApproximateR1(1.0, sigma=1e-13), ApproximateR2(1.0, sigma=1e-13)]).double()
    for (r1, r2), step in steps(model, pictures()):
        assert step.real.shape[1:] == (1, SIZE, SIZE)
        assert step.fake.shape[1:] == (2, SIZE, SIZE)
        [seen] = model.discriminator.seen
        real, near_real, fake, near_fake = seen.split(8)
        torch.testing.assert_close(near_real, real, rtol=0, atol=1e-10)
        torch.testing.assert_close(near_fake, fake, rtol=0, atol=1e-10)
        torch.testing.assert_close(step.real_logits, model.discriminator(real))
        torch.testing.assert_close(step.fake_logits, model.discriminator(fake))
        assert float(r1(step)) > 0
        assert float(r2(step)) > 0


class Once(torch.autograd.Function):
    """The identity, which cannot be differentiated twice."""

    @staticmethod
    def forward(ctx, images):
        return images.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return gradient.clone()


class OnceDifferentiable(nn.Module):
    """A layer without a double backward pass, as that of a fast kernel."""

    def forward(self, images):
        return Once.apply(images)


def test_no_double_backward_pass_is_needed(trainer):
    def model(*terms):
        made = small(terms=list(terms))
        made.discriminator = nn.Sequential(OnceDifferentiable(), made.discriminator)
        return made

    trains = model(ApproximateR1(1.0), ApproximateR2(1.0))
    before = [parameter.clone() for parameter in trains.discriminator.parameters()]
    trainer(2).fit(trains, loader())
    assert all((a != b).any() for a, b in zip(before, trains.discriminator.parameters(), strict=True))
    with pytest.raises(RuntimeError, match="once_differentiable"):
        trainer(2).fit(model(R1(1.0)), loader())


class Rows:
    """Counts the rows of each pass of a discriminator."""

    def __init__(self, model):
        self.rows = []
        model.discriminator.register_forward_pre_hook(lambda _, given: self.rows.append(len(given[0])))


BOTH = {"terms": [ApproximateR1(0.5), ApproximateR2(0.5)]}


@pytest.mark.parametrize(
    ("kind", "options", "rows"),
    [
        (DCGAN, {**BOTH, **CHANGES}, [32, 8]),
        (DCGAN, {"terms": [ApproximateR1(samples=2)]}, [32, 8]),
        (DCGAN, {"terms": [ApproximateR1(), ApproximateR1(2.0)]}, [24, 8]),  # both have the same images nearby
        (DCGAN, {"terms": [ApproximateR1(), R2(1.0)]}, [8, 8, 8, 8]),  # R2 differentiates its pass alone
        (SNGAN, {**BOTH, "critic_steps": 1}, [32, 8]),
        (SNGAN, {**BOTH, "critic_steps": 1, "minibatch_std": 4}, [8, 8, 8, 8, 8]),
        (ProjectionGAN, {**BOTH, "critic_steps": 1, "num_classes": 3}, [32, 8]),
        (ACGAN, {**BOTH, "critic_steps": 1, "num_classes": 3}, [32, 8]),
        (R3GAN, {"penalty_sigma": 0.1, "width": 8, "num_classes": 3}, [16, 4, 4]),
        (StyleGAN2, {**BOTH, "preset": "small", "r1": 0.0, "path_length": 0.0, "minibatch_std": 0}, [32, 8]),
    ],
)
def test_images_nearby_share_the_pass_of_the_loss_in_every_game(trainer, kind, options, rows):
    model = small(kind, **options)
    counted = Rows(model)
    trainer(1).fit(model, loader())
    assert counted.rows == rows
    assert all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.parametrize("every", [1, 2])
def test_pieces_and_penalties_of_their_own_steps(trainer, every):
    """A batch in pieces is the whole batch, also where a lazy term has a step of its own."""
    states = []
    for accumulate in (1, 4):
        given = [ApproximateR1(2.0, every), ApproximateR2(1.0, samples=2)]
        model = small(GAN, terms=given, accumulate=accumulate, **CHANGES)
        trainer(2, precision="64-true").fit(model, loader())
        states.append(model.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=0, atol=1e-9, msg=name)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("mixed", torch.bfloat16)])
def test_the_pass_is_in_float32_unless_the_model_says_otherwise(trainer, precision, dtype):
    model, seen = small(terms=[ApproximateR1(1.0, sigma=0.1)], penalty_precision=precision), []
    model.discriminator.register_forward_hook(lambda _, given, logits: seen.append(logits.dtype))
    trainer(1, precision="bf16-mixed").fit(model, loader())
    assert seen == [dtype, torch.bfloat16]  # the generator's step has no penalty
    assert all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.parametrize(
    ("precision", "sigma", "warned"), [("mixed", 0.01, 1), ("mixed", 0.1, 0), ("float32", 0.01, 0)]
)
def test_a_sigma_that_bfloat16_cannot_resolve_is_told(trainer, recwarn, precision, sigma, warned):
    model = small(terms=[ApproximateR2(1.0, sigma=sigma)], penalty_precision=precision)
    trainer(1, precision="bf16-mixed").fit(model, loader())
    found = [str(each.message) for each in recwarn if "approximate penalties have sigma 0.01" in str(each.message)]
    assert len(found) == warned


def test_r3gan_schedules_the_weight_of_either_kind(trainer):
    for sigma, names in ((0.0, ["r1", "r2"]), (0.1, ["approximate_r1", "approximate_r2"])):
        model = small(R3GAN, penalty_sigma=sigma, width=8, gamma=(3.0, 3.0))
        trainer(1).fit(model, loader())
        assert list(model.terms) == names
        assert [term.weight for term in model.terms.values()] == [3.0, 3.0]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ApproximateR1(sigma=0.0), "sigma is 0.0; expected a number above 0"),
        (lambda: ApproximateR1(samples=0), "samples is 0; expected at least 1"),
        (lambda: DCGAN(size=16, terms=[ApproximateR2(3.0)]), "approximate_r2 is 3.0; expected 0 beside BatchNorm"),
        (lambda: small(R3GAN, penalty_sigma=-1.0), "penalty_sigma is -1.0; expected at least 0"),
    ],
)
def test_values_that_make_no_sense_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_a_step_without_images_nearby_says_so():
    images = torch.zeros(2, 1, 4, 4)
    step = Step("discriminator", small(), images, images, (), images, images, (), images, 2)
    with pytest.raises(ValueError, match="DCGAN has no images near real ones in its steps"):
        step.change(Nearby("real", 0.1))
