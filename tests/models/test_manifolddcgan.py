"""ManifoldDCGAN: DCGAN's networks on codes."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gans.models import GridAutoencoder, ManifoldDCGAN
from gans.models.coders import GridCoder


@pytest.fixture(scope="module")
def file():
    """Description of an autoencoder of 16x16 images with codes 5 x 8 x 8."""
    torch.manual_seed(0)
    return GridCoder(GridAutoencoder(size=16, channels=1, code_channels=5, factor=2, width=8)).description()


def make(file, **options):
    torch.manual_seed(0)
    return ManifoldDCGAN(**{"size": 16, "channels": 1, "latent_dim": 4, "width": 8, "autoencoder": file, **options})


def test_players_see_codes_of_any_range_and_samples_are_images(trainer, file):
    model = make(file)
    codes = model.generator(50 * torch.randn(8, 4))
    assert codes.shape == (8, 5, 8, 8)
    assert not any(isinstance(layer, nn.Tanh) for layer in model.generator.modules())
    with torch.no_grad():
        model.generator.layers[-1].bias.fill_(7.0)
    assert model.generator(torch.randn(8, 4)).mean() > 5
    assert model.sample(3, seed=0).shape == (3, 1, 16, 16)
    before = model.generator.layers[0].weight.clone()
    images = torch.rand(8, 1, 16, 16) * 2 - 1
    trainer(2, limit_val_batches=0).fit(model, DataLoader(TensorDataset(images), batch_size=8))
    assert not torch.equal(model.generator.layers[0].weight, before)


def test_the_discriminator_begins_at_the_full_resolution(file):
    first = make(file, discriminator_width=12).discriminator.layers[0]
    assert (first.weight.shape, first.stride) == ((6, 5, 3, 3), (1, 1))


def test_without_batch_norm_a_logit_depends_on_its_own_code_alone(file):
    critic = make(file, batch_norm=False).discriminator.train()
    codes = torch.randn(4, 5, 8, 8)
    assert torch.allclose(critic(codes)[:2], critic(codes[:2]), atol=1e-5)


def test_a_discriminator_of_one_channel_is_refused(file):
    with pytest.raises(ValueError, match="discriminator_width is 1; expected at least 2"):
        make(file, discriminator_width=1)
