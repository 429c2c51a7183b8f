"""Real-ESRGAN's critic of pixels: the numbers of the paper's network, any size, several scales."""

import pytest
import torch
from torch.nn.functional import conv2d, interpolate, leaky_relu

from gans.networks.spectral import spectral_layers
from gans.networks.unetcritic import Discriminator


def images(size=(24, 16), channels=3):
    return torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(0)).double() * 2 - 1


def test_the_papers_size():
    assert sum(p.numel() for p in Discriminator(3, 64).parameters()) == 4_376_897  # of the authors' network


@pytest.mark.parametrize("spectral_norm", [True, False])
def test_logits_are_those_of_the_paper(spectral_norm):
    """Ten convolutions in a row: down three times, up three times with skips added, and two more at full size."""
    torch.manual_seed(0)
    network = Discriminator(3, 4, spectral_norm=spectral_norm).double().eval()
    scale = network.scales[0]
    assert len(spectral_layers(network)) == 8 * spectral_norm
    weights = [part.weight for part in (scale.first, *scale.downs, *scale.ups, *scale.flat, scale.last)]
    assert all(spectral_norm == (abs(torch.linalg.matrix_norm(w.flatten(1), 2) - 1) < 0.1) for w in weights[1:-1])
    maps = [leaky_relu(conv2d(images(), weights[0], scale.first.bias, padding=1), 0.2)]
    for weight in weights[1:4]:
        maps.append(leaky_relu(conv2d(maps[-1], weight, stride=2, padding=1), 0.2))
    found = maps.pop()
    for weight in weights[4:7]:
        found = interpolate(found, scale_factor=2, mode="bilinear", align_corners=False)
        found = leaky_relu(conv2d(found, weight, padding=1), 0.2) + maps.pop()
    for weight in weights[7:9]:
        found = leaky_relu(conv2d(found, weight, padding=1), 0.2)
    found = conv2d(found, weights[9], scale.last.bias, padding=1)
    assert torch.allclose(network(images()), found, rtol=1e-12)


@pytest.mark.parametrize(("size", "channels"), [((5, 9), 1), ((17, 8), 3), ((8, 30), 4)])
def test_any_size_has_a_logit_for_each_pixel(size, channels):
    network = Discriminator(channels, 2, scales=2).double()
    given = images(size, channels).requires_grad_()
    logits = network(given)
    assert logits.shape == (2, 2, *size)
    logits[..., -1, -1].sum().backward()
    assert given.grad[..., -1, -1].abs().min() > 0
    assert len(network.features(given)) == 2 * 9


def test_conditions_are_further_channels():
    network = Discriminator(3, 2).double()
    image, condition = images()[:, :2], images()[:, 2:]
    assert torch.equal(network.eval()(image, condition), network(images()))


@pytest.mark.parametrize("options", [{"width": 0}, {"scales": 0}])
def test_wrong_options(options):
    with pytest.raises(ValueError, match="0; expected at least 1"):
        Discriminator(3, **options)
