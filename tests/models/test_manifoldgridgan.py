"""ManifoldGridGAN: players on codes, and what commands make of its generator, encoder and decoder."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from gans.commands.controls import Sampler, autoencoder_of
from gans.commands.explore_pictures import start_of
from gans.commands.explore_subject import Subject
from gans.commands.export import baked
from gans.commands.exported import drawing
from gans.explore.spaces import space_of
from gans.models import GridAutoencoder, ManifoldGridGAN
from gans.models.coders import GridCoder


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Description of an autoencoder with codes 3 x 8 x 8."""
    torch.manual_seed(0)
    return GridCoder(GridAutoencoder(size=16, channels=1, code_channels=3, factor=2, width=8)).description()


def make(file, **options):
    torch.manual_seed(0)
    small = {"size": 16, "channels": 1, "latent_dim": 4, "width": 8, "max_width": 8}
    return ManifoldGridGAN(**{**small, "autoencoder": file, **options}).eval()


def test_players_see_codes_and_samples_are_images(trainer, file):
    model = make(file, num_classes=3)
    assert model.code_shape == (3, 8, 8)
    assert model.generator(torch.randn(2, 4), torch.tensor([0, 1])).shape == (2, 3, 8, 8)
    assert model.sample(3, seed=0).shape == (3, 1, 16, 16)
    before = model.generator.project.weight.clone()
    images, labels = torch.rand(8, 1, 16, 16) * 2 - 1, torch.arange(8) % 3
    trainer(2, limit_val_batches=0).fit(model, DataLoader(TensorDataset(images, labels), batch_size=8))
    assert not torch.equal(model.generator.project.weight, before)


def test_ways_between_images_begin_and_end_at_their_reconstructions(file):
    model = make(file)
    first, last = (torch.rand(2, 1, 16, 16) * 2 - 1 for _ in range(2))
    ways = model.interpolate(first, last, 4)
    assert ways.shape == (2, 4, 1, 16, 16)
    assert torch.allclose(ways[:, 0], model.reconstruct(first), atol=1e-4)
    assert torch.allclose(ways[:, -1], model.reconstruct(last), atol=1e-4)


def test_generator_and_decoder_are_exported_as_one(file):
    model = make(file)
    network = drawing(model).network(baked)
    z = torch.randn(3, 4)
    program = torch.export.export(network, (z,)).module()
    assert torch.allclose(program(z), model(z), atol=1e-5)


def test_inversion_starts_at_the_nearest_code(tmp_path, file):
    model = make(file)
    subject = Subject(model, space_of(model, "latent"), tmp_path, None)
    z = subject.draws(range(3), 0)
    model.coder.encode = lambda pictures: model.codes(z)  # an encoder that is exact for generated images
    assert torch.equal(start_of(subject, torch.zeros(3, 1, 16, 16)), z)


def test_controls_of_grids_have_the_covariance_of_the_codes(file):
    model, draw = make(file), torch.Generator().manual_seed(0)
    mixed = torch.randn(12, 12, generator=draw)
    codes = (torch.randn(3000, 12, generator=draw) @ mixed + 1).view(-1, 3, 2, 2)
    made = []
    coder = autoencoder_of(model)
    coder.decode = lambda codes: made.append(codes) or codes
    Sampler(coder, codes, 1).sample(3000)
    assert made[0].shape == codes.shape
    wanted = codes.flatten(1).T.cov()
    assert float((made[0].flatten(1).T.cov() - wanted).norm() / wanted.norm()) < 0.15
    assert autoencoder_of(make(None)) is None
