"""Autoencoder with a grid of codes: its codes, its losses, the adaptive weight, what it refuses."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import pixel_unshuffle, unfold
from torch.utils.data import DataLoader, TensorDataset

from gans.models import GridAutoencoder
from gans.networks.grid import ChannelMoments, cosines
from gans.reconstruction import feature_distance


def make(**options):
    torch.manual_seed(0)
    model = GridAutoencoder(**{"size": 16, "channels": 1, "width": 4, **options})
    model.seed = 0
    return model


@pytest.mark.parametrize(
    ("size", "channels", "factor", "shape"),
    [(16, 1, 2, (4, 8, 8)), ((16, 24), 3, 4, (4, 4, 6)), ((32, 16), 4, 8, (4, 4, 2))],
)
def test_codes_are_grids_of_any_rectangle(size, channels, factor, shape):
    model = make(size=size, channels=channels, factor=factor, attention=True).eval()
    images = torch.rand(3, *model.image_shape) * 2 - 1
    codes = model.encode(images)
    assert codes.shape == (3, *shape)
    assert model.code_shape == shape
    assert model.decode(codes).shape == images.shape
    assert model.sample(2, seed=0).shape == images[:2].shape
    ways = model.interpolate(images[:1], images[1:2], 5)
    assert torch.allclose(ways[:, 0], model.reconstruct(images[:1]), atol=1e-4)
    assert torch.allclose(ways[:, -1], model.reconstruct(images[1:2]), atol=1e-4)
    assert set(model.pictures((images,))) == {"reconstructions", "interpolations"}


def test_the_adaptive_weight_is_the_ratio_of_gradient_norms(trainer):
    """The decoder of one convolution, whose gradients are computed by hand."""
    model = make(depth=0)
    maps = torch.randn(5, 4, 8, 8, dtype=torch.double)
    model = model.double()
    weight = model.generator.decoder.last.weight
    targets = torch.randn(2, 5, 1, 16, 16, dtype=torch.double)
    losses, by_hand = [], []
    for target in targets:
        images = model.generator.decoder.finished(maps, torch.zeros(()))
        losses.append((images * target).mean())
        # The weight's gradient is the correlation of the maps with the gradient of the layer's outputs.
        outputs = pixel_unshuffle(target / target.numel(), 2)
        near = unfold(maps, 3, padding=1)  # (5, 4 * 9, 64)
        by_hand.append(torch.einsum("nop,nkp->ok", outputs.flatten(2), near).reshape(weight.shape))
    found = model.last_gradients(*losses)
    model.trainer = trainer(1)
    assert torch.allclose(found, torch.stack(by_hand).flatten(1), atol=1e-14)
    first, second = (float(gradient.norm()) for gradient in by_hand)
    assert math.isclose(float(model.adaptive_weight(found)), first / (second + 1e-4), rel_tol=1e-9)
    assert float(model.adaptive_weight(torch.tensor([[3e9, 4e9], [0.0, 0.0]]))) == 1e4


def test_the_kl_divergence_is_that_of_the_posterior(trainer):
    """Of N(m, v) from N(0, 1), averaged over the numbers of a code; torch.distributions computes it too."""
    seen = {}

    class Spy(GridAutoencoder):
        def record(self, name, value):
            seen.setdefault(name, value.detach())

        def descend(self, loss, optimizer):
            seen["total"] = loss.detach()
            super().descend(loss, optimizer)

    torch.manual_seed(0)
    model = Spy(size=16, channels=1, width=4, kl=0.3, code_penalty=0.0, noise=0.0)
    images = torch.rand(6, 1, 16, 16) * 2 - 1
    mean, log_variance = model.posterior(images, model.generator)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).mean()
    model.seed = 0
    trainer(1).fit(model, DataLoader(TensorDataset(images), batch_size=6))
    assert torch.allclose(seen["loss/kl"], expected, rtol=1e-4)
    assert torch.allclose(seen["total"], seen["loss/reconstruction"] + 0.3 * seen["loss/kl"], rtol=1e-5)
    assert torch.equal(model.eval().encode(images), model.posterior(images, model.generator_ema)[0])


def test_the_critic_starts_at_its_step_and_makes_the_loss_adversarial(trainer):
    moved = []

    class Spy(GridAutoencoder):
        def descend(self, loss, optimizer):
            super().descend(loss, optimizer)
            moved.append((self.batches_seen, self.players[self.player_optimizers().index(optimizer)]))

    torch.manual_seed(0)
    model = Spy(size=16, channels=1, width=4, adversarial_weight=0.5, adversarial_start=2)
    model.seed = 0
    trainer(4).fit(model, DataLoader(TensorDataset(torch.rand(32, 1, 16, 16)), batch_size=8))
    assert [player for step, player in moved if step <= 2] == ["autoencoder"] * 2
    assert [player for step, player in moved if step > 2] == ["autoencoder", "discriminator"] * 2


def test_the_averaged_encoder_fits_the_averaged_decoder(trainer):
    model = make(ema_halflife=1e6, ema_rampup=0.0)
    start = {name: value.clone() for name, value in model.generator.state_dict().items()}
    images = torch.rand(8, 1, 16, 16) * 2 - 1
    trainer(3).fit(model, DataLoader(TensorDataset(images), batch_size=8))
    for name, value in model.generator_ema.named_parameters():
        assert torch.allclose(value, start[name], atol=1e-4), name  # so long a half-life holds both where they were
    with torch.no_grad():
        codes = model.generator_ema.encoder(images)
        assert torch.equal(model.encode(images), codes)
        assert torch.equal(model.reconstruct(images), model.generator_ema.decoder(codes))
    assert not torch.allclose(model.generator.encoder(images), codes, atol=1e-4)


def test_moments_are_those_of_the_channels_at_every_place():
    moments, codes = ChannelMoments(3), torch.randn(50, 3, 4, 5)
    codes = codes * torch.tensor([1.0, 3.0, 0.5])[:, None, None] + torch.tensor([0.0, 1.0, -2.0])[:, None, None]
    moments.update(codes)
    assert torch.allclose(moments.mean, codes.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(moments.std, codes.std((0, 2, 3)), rtol=1e-2)
    white = moments.whiten(codes)
    assert white.shape == codes.shape
    assert torch.allclose(white.movedim(1, 0).flatten(1).cov(), torch.eye(3), atol=1e-2)
    assert torch.allclose(moments.colour(white), codes, atol=1e-4)


def test_features_of_a_network_are_a_part_of_the_error():
    images = torch.rand(2, 1, 16, 16) * 2 - 1
    plain, featured = make(), make(feature_weight=2.0, features="random")
    network = featured.networks.on("cpu")[0]
    expected = plain.error(0.5 * images, images) + 2 * feature_distance(network(0.5 * images), network(images)).mean()
    assert torch.allclose(featured.error(0.5 * images, images), expected)
    assert not any(name.startswith("networks") for name in featured.state_dict())


def test_the_baked_generator_is_the_same_function():
    model = make()
    model.generator.codes.second.copy_(torch.diag(torch.arange(1.0, 5.0)) + 0.1)
    model.generator.codes.mean.copy_(torch.arange(4.0) / 10)
    z = torch.randn(3, model.latent_dim)
    baked = model.generator.baked()
    assert torch.allclose(baked(z), model.generator(z), atol=1e-5)
    assert sum(p.numel() for p in baked.parameters()) < sum(p.numel() for p in model.generator.parameters())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": 18}, "size is 18x18; expected multiples of 4, the factor"),
        ({"size": (16, 20), "factor": 8}, "size is 16x20; expected multiples of 8, the factor"),
        ({"factor": 3}, "factor is 3; expected 2, 4, 8 or 16"),
        ({"code_channels": 0}, "code_channels is 0; expected at least 1"),
        ({"width": 0}, "width is 0; expected at least 1"),
        ({"pixel": "l3"}, "pixel is l3; expected l1 or l2"),
        ({"kl": -1.0}, "kl is -1.0; expected at least 0"),
        ({"lr": 0.0}, "lr is 0.0; expected a number above 0"),
        ({"channels": 2}, "channels is 2; expected 1 .*"),
        ({"betas": (0.5,)}, r"betas is \(0.5,\); expected two numbers from 0 to below 1"),
        ({"features": "discriminator"}, "features is discriminator, which changes; expected vgg19, .*"),
        ({"latent_dim": 16}, r"GridAutoencoder has no argument latent_dim \(did you mean attention\?\)"),
        ({"augment": "ada"}, "GridAutoencoder has no argument augment"),
    ],
)
def test_bad_options_are_refused(options, says):
    with pytest.raises(ValueError, match=f"^{says}$"):
        make(**options)


def test_images_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"images have shape \(1, 12, 16\); expected \(1, 16, 16\)"):
        make().encode(torch.zeros(2, 1, 12, 16))


@pytest.mark.parametrize(("channels", "side"), [(3, 4), (1, 8), (4, 2)])
def test_cosines_are_orthonormal_and_begin_with_the_mean(channels, side):
    count = channels * side**2
    waves = cosines(channels, side, count).flatten(1)
    assert torch.allclose(waves @ waves.T, torch.eye(count), atol=1e-5)
    assert torch.allclose(waves[0], torch.full((count,), count**-0.5))


def test_training_starts_from_the_lowest_frequencies():
    """Of as many numbers as pixels nothing is lost; of fewer, smooth images are kept."""
    images = torch.rand(2, 3, 16, 24) * 2 - 1
    assert torch.allclose(make(size=(16, 24), channels=3, code_channels=48).reconstruct(images), images, atol=1e-5)
    rows, columns = torch.linspace(-1, 1, 16)[:, None], torch.linspace(0, 1, 24)
    smooth = torch.stack([rows + columns, rows - columns, columns + 0 * rows])[None] / 2
    error = make(size=(16, 24), channels=3, code_channels=8).reconstruct(smooth) - smooth
    assert error.square().mean() < 0.02 * smooth.var()
    assert make(size=(16, 24), channels=3, code_channels=60).encode(images).shape == (2, 60, 4, 6)
