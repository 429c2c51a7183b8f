"""Encoders, decoders and the discriminator with features: shapes, what depends on what, errors."""

import pytest
import torch

from gans.networks import dcgan
from gans.networks.autoencoder import Decoder, Encoder, FeatureDiscriminator

SIZES = [8, 28, (20, 36)]


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_shapes(network, size, channels):
    height, width = (size, size) if isinstance(size, int) else size
    images = torch.rand(3, channels, height, width)
    codes = Encoder(size, channels, 2, 5, network)(images)
    assert codes.shape == (3, 5)
    assert Encoder(size, channels, 2, 1, network)(images).shape == (3, 1)
    decoder = Decoder(5, size, channels, 2, network)
    assert decoder(codes).shape == decoder.logits(codes).shape == images.shape


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_the_image_is_the_mean_of_pixels_that_are_1_or_minus_1(network):
    torch.manual_seed(0)
    decoder = Decoder(4, 8, 1, 2, network).eval()
    for p in decoder.parameters():
        p.data = 0.5 * torch.randn(p.shape)  # drawn in the order of the shape, whatever the layout
    z = torch.randn(6, 4)
    probability = torch.sigmoid(2 * decoder.logits(z))
    assert decoder.logits(z).abs().max() > 1
    assert torch.allclose(decoder(z), probability * 1 + (1 - probability) * -1, atol=1e-6)


def test_the_convolutions_are_those_of_dcgan():
    torch.manual_seed(0)
    decoder = Decoder(4, (20, 28), 3, 2, "conv").eval()
    torch.manual_seed(0)
    generator = dcgan.Generator(4, (20, 28), 3, 2).eval()
    z = torch.randn(2, 4)
    assert torch.equal(decoder(z), generator(z))
    assert torch.equal(decoder.logits(z).tanh(), generator(z))


@pytest.mark.parametrize("batch_norm", [True, False])
def test_without_batch_norm_one_code_depends_on_one_image(batch_norm):
    torch.manual_seed(0)
    for network in (Encoder(16, 1, 2, 3, "conv", batch_norm), FeatureDiscriminator(16, 1, 2, batch_norm)):
        for p in network.parameters():
            torch.nn.init.normal_(p)
        images = torch.randn(4, 1, 16, 16)
        before = network(images)
        images[1:] = 0
        after = network(images)
        pairs = zip(before, after, strict=True) if isinstance(before, tuple) else [(before, after)]
        assert all(torch.equal(one[0], other[0]) != batch_norm for one, other in pairs)


def test_features_are_what_the_logits_are_made_of():
    torch.manual_seed(0)
    critic = FeatureDiscriminator(16, 1, 3, batch_norm=False)
    logits, features = critic(torch.randn(4, 1, 16, 16))
    assert (logits.shape, features.shape) == ((4,), (4, 6 * 4 * 4))
    weight, bias = critic.last.weight.flatten(1), critic.last.bias
    assert torch.allclose(features @ weight[0] + bias, logits, atol=1e-6)


def test_an_image_of_another_size_is_no_image():
    for network in (Encoder(16, 1, 2, 3), Encoder(16, 1, 2, 3, "conv"), FeatureDiscriminator(16, 1, 2)):
        with pytest.raises(RuntimeError):
            network(torch.zeros(2, 1, 32, 32))


def test_there_is_no_such_network():
    for make in (lambda: Encoder(8, 1, 2, 3, "unet"), lambda: Decoder(3, 8, 1, 2, "unet")):
        with pytest.raises(ValueError, match="network is unet; expected mlp or conv"):
            make()
