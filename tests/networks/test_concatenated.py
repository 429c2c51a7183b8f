"""DCGAN's networks with a class beside their input, and InfoGAN's codes."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gans.models import InfoGAN
from gans.networks.concatenated import AuxiliaryDiscriminator, Discriminator, Generator, UnitVectors
from gans.networks.conditional import Classified
from gans.terms import Step


@pytest.mark.parametrize("size", [8, 28, (20, 36)])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes(size, channels):
    height, width = (size, size) if isinstance(size, int) else size
    labels = torch.tensor([0, 2, 4])
    images = Generator(6, size, channels, 2, 5)(torch.randn(3, 6), labels)
    assert images.shape == (3, channels, height, width)
    assert images.abs().max() <= 1
    assert Discriminator(size, channels, 2, 5)(images, labels).shape == (3,)
    logits, classes = AuxiliaryDiscriminator(size, channels, 2, 5)(images)
    assert (logits.shape, classes.shape) == ((3,), (3, 5))


def test_the_class_changes_what_comes_out():
    torch.manual_seed(0)
    generator, critic = Generator(6, 8, 1, 2, 5).eval(), Discriminator(8, 1, 2, 5).eval()
    z = torch.randn(1, 6).expand(5, -1)
    with torch.no_grad():
        images = generator(z, torch.arange(5))
        logits = critic(images[:1].expand(5, -1, -1, -1), torch.arange(5))
    assert len(images.unique(dim=0)) == len(logits.unique()) == 5


@pytest.mark.parametrize("batch_norm", [True, False])
def test_without_batch_norm_one_logit_depends_on_one_image(batch_norm):
    torch.manual_seed(0)
    critic = Discriminator(16, 1, 2, 5, batch_norm)  # two hidden layers: the first is never normalised
    for p in critic.parameters():
        torch.nn.init.normal_(p)
    images, labels = torch.randn(4, 1, 16, 16), torch.arange(4)
    before = critic(images, labels)
    images[1:] = 0
    assert torch.equal(critic(images, labels)[0], before[0]) != batch_norm


@pytest.mark.parametrize("labels", [torch.tensor([0, 5]), torch.tensor([0]), torch.tensor([0.0, 1.0])])
def test_labels_that_are_none_are_refused(labels):
    with pytest.raises(ValueError, match="labels are"):
        Generator(6, 8, 1, 2, 5)(torch.randn(2, 6), labels)


def infogan(**options):
    torch.manual_seed(0)
    model = InfoGAN(size=8, latent_dim=6, width=2, num_categories=4, num_codes=2, **options)
    model.seed = 1
    return model


def test_the_error_of_the_codes_is_their_negative_log_likelihood(monkeypatch):
    model = infogan(category_weight=2.0, code_weight=0.5)
    monkeypatch.setattr(model, "record", lambda *args: None)
    z, category = model.generator_inputs(64)
    guesses = torch.randn(64, 6)
    expected = 2 * cross_entropy(guesses[:, :4], category)
    normal = torch.distributions.Normal(guesses[:, 4:], 1.0)
    unit = torch.distributions.Normal(torch.zeros(()), 1.0)
    likelihood = (normal.log_prob(z[:, 4:]) - unit.log_prob(torch.zeros(()))).mean()
    step = Step("discriminator", model, z, z, (), None, z, (category,), Classified(guesses[:, 0], guesses), 64)
    for name in ("information", "information_2"):  # of the discriminator and of the generator
        assert torch.allclose(model.terms[name](step), expected - 0.5 * likelihood)


def test_codes_are_uniform_and_every_category_is_drawn():
    z, category = infogan().generator_inputs(4000)
    assert torch.allclose(category.bincount() / 4000, torch.full((4,), 0.25), atol=0.04)
    codes = z[:, 4:]
    assert codes.abs().max() <= 1
    assert codes.mean(0).abs().max() < 0.05
    assert torch.allclose(codes.var(0), torch.full((2,), 1 / 3), atol=0.03)


def test_sample_takes_categories_and_codes():
    model = infogan().eval()
    codes = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    labels = torch.tensor([2, 2])
    images = model.sample(2, labels=labels, codes=codes, seed=0)
    assert images.shape == (2, 1, 8, 8)
    assert torch.equal(images, model.sample(2, labels=labels, codes=codes, seed=0))
    assert not torch.equal(images, model.sample(2, labels=labels, codes=-codes, seed=0))
    with pytest.raises(ValueError, match="codes have the shape"):
        model.sample(2, codes=torch.zeros(2, 3))


@pytest.mark.parametrize("options", [{"num_categories": 1}, {"num_codes": 6}, {"num_codes": -1}])
def test_wrong_numbers_of_codes_are_refused(options):
    with pytest.raises(ValueError, match="expected at least 2, and from 0 to below latent_dim"):
        InfoGAN(size=8, latent_dim=6, width=2, **options)


def test_a_unit_vector_stands_behind_the_latent_and_nothing_of_it_is_learnt():
    network = UnitVectors(nn.Identity(), 3)
    z = torch.randn(2, 4)
    assert torch.equal(network(z, torch.tensor([2, 0])), torch.cat([z, torch.tensor([[0.0, 0, 1], [1, 0, 0]])], 1))
    assert not list(network.parameters())
    with pytest.raises(ValueError, match="labels"):
        network(z, torch.tensor([3, 0]))
