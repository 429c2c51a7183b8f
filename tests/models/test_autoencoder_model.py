"""Autoencoder: what it learns of its codes, how it samples, what it refuses."""

import math

import lightning as L
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from datamodules import DigitsDataModule
from gans.models import Autoencoder
from gans.models.autoencoder import cycle_error
from gans.networks.mixture import Mixture

SIZE = 16


@pytest.fixture(scope="module")
def data():
    torch.set_num_threads(1)
    data = DigitsDataModule(size=SIZE, batch_size=64)
    data.prepare_data()
    data.setup("fit")
    return data


def images_of(data, n=500):
    images = torch.stack([item[0] for item in (data.train_dataloader().dataset[i] for i in range(n))])
    return images.float() / 127.5 - 1


def make(**options):
    torch.manual_seed(0)
    model = Autoencoder(**{"size": SIZE, "channels": 1, "latent_dim": 8, "width": 8, **options})
    model.seed = 0
    return model


@pytest.fixture(scope="module")
def learnt(data):
    model = make(lr=5e-3, lr_decay_images=250 * 64)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    loop = L.Trainer(max_steps=250, max_epochs=-1, accelerator="cpu", logger=False, limit_val_batches=0, **quiet)
    loop.fit(model, data)
    return model.eval()


@pytest.fixture
def trained(trainer, data):
    def trained(steps=150, **options):
        model = make(**options)
        trainer(steps, limit_val_batches=0).fit(model, data)
        return model.eval()

    return trained


def test_it_learns_images_and_whitens_their_codes(learnt, data):
    model, images = learnt, images_of(data)
    error = (model.reconstruct(images) - images).square().mean()
    assert error < 0.3 * images.var(0).mean()  # of the error of a model that always gives the mean
    white = model.generator.codes.whiten(model.encode(images)).numpy()
    assert np.abs(white.mean(0)).max() < 0.25
    assert np.abs(np.cov(white.T) - np.eye(8)).max() < 0.35
    codes = model.encode(images).numpy()
    assert np.allclose(model.generator.codes.std, codes.std(0), rtol=0.2)


def test_samples_decode_a_gaussian_with_the_codes_moments(learnt):
    model = learnt
    codes, z = model.generator.codes, torch.randn(6, 8)
    factor = np.linalg.cholesky(codes.covariance.double().numpy() + 1e-9 * np.eye(8))
    drawn = torch.tensor(z.numpy() @ factor.T, dtype=torch.float32) + codes.mean
    assert torch.allclose(model(z), model.decode(drawn), atol=2e-2)
    assert model.sample(4, seed=1).abs().max() <= 1


def test_samples_decode_a_mixture_that_follows_the_codes(trained, data):
    model = trained(components=3, lr=5e-3)
    generator, z = model.generator, torch.randn(6, 8)
    assert int(generator.latent.batches) == 50  # of 150: it begins after 100
    assert torch.allclose(model(z), model.decode(generator.codes.colour(generator.latent(z))), atol=1e-5)
    white = generator.codes.whiten(model.encode(images_of(data)))
    fitted, start = (mixture.logits(white).logsumexp(1).mean() for mixture in (generator.latent, Mixture(8, 3)))
    assert fitted > start + 0.1
    assert float(Mixture(8, 1).logits(white).logsumexp(1).mean()) < fitted  # of one Gaussian with the codes' moments


def test_noise_is_in_standard_deviations_of_the_codes(trainer, data):
    seen = []

    class Spy(Autoencoder):
        def error(self, decoded, images):
            seen.append(decoded)
            return super().error(decoded, images)

    outputs = []
    for noise in (0.0, 0.5):
        torch.manual_seed(0)
        model = Spy(size=SIZE, channels=1, latent_dim=8, width=4, noise=noise)
        model.seed = 0
        codes = model.generator.codes
        codes.batches += 1000
        codes.second.copy_(torch.diag(torch.arange(1.0, 9.0)) ** 2)
        inputs = []
        model.generator.decoder.register_forward_pre_hook(lambda part, given, into=inputs: into.append(given[0]))
        trainer(1, limit_val_batches=0).fit(model, data)
        outputs.append(inputs[0].detach())
    added = outputs[1] - outputs[0]
    assert torch.allclose(added.std(0), 0.5 * torch.arange(1.0, 9.0), rtol=0.35)


def test_the_penalty_shortens_codes(trained, data):
    images = images_of(data, 100)
    lengths = [trained(60, code_penalty=weight).encode(images).square().sum(1).mean() for weight in (0.0, 0.1)]
    assert lengths[1] < 0.7 * lengths[0]


def test_standard_scaling_sees_channels_alike(trainer):
    torch.manual_seed(0)
    images = torch.stack([0.05 * torch.randn(64, SIZE, SIZE) + 0.8, 0.3 * torch.randn(64, SIZE, SIZE) - 0.2], 1)
    images = torch.cat([images, images[:, :1]], 1).clamp(-1, 1)
    model = make(channels=3, scaling="standard")
    trainer(2, limit_val_batches=0).fit(model, DataLoader(TensorDataset(images), batch_size=64))
    scaled = model.scaled(images)
    assert torch.allclose(scaled.mean((0, 2, 3)), torch.zeros(3), atol=1e-3)
    assert torch.allclose(scaled.std((0, 2, 3)), torch.ones(3), atol=1e-3)
    off = torch.zeros(3)[:, None, None] + torch.tensor([0.1, 0, 0])[:, None, None]
    assert torch.allclose(model.error(images + off, images), torch.full((64,), (0.1 / 0.05) ** 2 / 3), rtol=0.05)
    assert model.eval().sample(3).abs().max() <= 1
    plain = make(channels=3)
    assert torch.equal(plain.scaled(images), images)


def test_ways_between_images_begin_and_end_on_the_manifold(learnt, data):
    model, images = learnt, images_of(data, 6)
    ways = model.interpolate(images[:3], images[3:], 5)
    assert ways.shape == (3, 5, 1, SIZE, SIZE)
    assert torch.allclose(ways[:, 0], model.reconstruct(images[:3]), atol=1e-3)
    assert torch.allclose(ways[:, -1], model.reconstruct(images[3:]), atol=1e-3)
    assert not torch.allclose(ways[:, 2], ways[:, 0], atol=1e-2)


def test_its_pictures_show_images_above_reconstructions(learnt, data):
    model, images = learnt, images_of(data, 20)
    shown = model.pictures((images,))
    picture, columns = shown["reconstructions"]
    assert columns == 8
    assert torch.equal(picture[:8], images[:8])
    assert torch.equal(picture[8:16], model.reconstruct(images[:8]))
    assert torch.equal(picture[16:24], images[8:16])
    assert shown["interpolations"][0].shape == (64, 1, SIZE, SIZE)
    assert set(model.pictures((images[:1],))) == {"reconstructions"}


def test_held_out_images_are_measured(trainer, data):
    model = make()
    run = trainer(20, val_check_interval=20, limit_val_batches=1)
    run.fit(model, data)
    model.eval()
    batch = next(iter(data.val_dataloader()))
    real = data.on_after_batch_transfer(batch, 0)[0]
    errors = (model.reconstruct(real) - real).square().flatten(1).mean(1)
    logged = run.callback_metrics
    assert math.isclose(logged["val/loss/reconstruction"], errors.mean(), rel_tol=1e-4)
    assert math.isclose(logged["val/psnr"], (20 * math.log10(2) - 10 * errors.log10()).mean(), rel_tol=1e-4)
    assert logged["val/loss/cycle"] > 0
    assert cycle_error(model, real).shape == (len(real),)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"latent_dim": 257}, "latent_dim is 257; expected at most 256, as many numbers as a 1x16x16 image has"),
        ({"noise": -1.0}, "noise is -1.0; expected at least 0"),
        ({"components": 0}, "components is 0; expected at least 1"),
        ({"scaling": "max"}, "scaling is max; expected range or standard"),
        ({"lr": 0.0}, "lr is 0.0; expected a number above 0"),
        ({"critic_steps": 2}, "Autoencoder has no argument critic_steps"),
        ({"augment": "ada"}, "Autoencoder has no argument augment"),
        ({"prior": "uniform"}, "Autoencoder has no argument prior"),
    ],
)
def test_bad_options_are_refused(options, says):
    with pytest.raises(ValueError, match=f"^{says}$"):
        make(**options)


def test_a_code_of_one_number(trained):
    model = trained(2, latent_dim=1)
    assert model.sample(3).shape == (3, 1, SIZE, SIZE)
    assert model.encode(torch.zeros(2, 1, SIZE, SIZE)).shape == (2, 1)
