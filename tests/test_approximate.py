"""Penalties without a gradient: against closed forms and the exact ones, and as parts of a run."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gans.models import DCGAN, SNGAN
from gans.terms import R1, ApproximateR1, ApproximateR2

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
