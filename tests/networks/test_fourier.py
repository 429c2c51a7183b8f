"""LaMa's generator: the Fourier unit against NumPy, the whole image as receptive field, sizes, and the base."""

import numpy as np
import pytest
import torch

from gans.networks.fourier import FourierUnit, Generator
from gans.networks.pullpush import pull_push


def images(size, count=2):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def masks(size, count=2):
    mask = torch.zeros(count, 1, *size)
    mask[..., size[0] // 4 : size[0] // 2 + 1, size[1] // 4 : size[1] // 2 + 1] = 1
    return mask


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 2)])
def test_a_unit_convolves_the_spectrum(size):
    torch.manual_seed(0)
    unit, maps = FourierUnit(2, "none"), torch.randn(3, 2, *size)
    spectrum = np.fft.rfft2(maps.numpy(), norm="ortho")
    parts = np.stack([spectrum.real, spectrum.imag], 2).reshape(3, 4, size[0], -1)  # real, imaginary of each channel
    weight, bias = unit.conv.weight.detach()[..., 0, 0].numpy(), unit.conv.bias.detach().numpy()
    mixed = np.maximum(np.einsum("oi,nihw->nohw", weight, parts) + bias[:, None, None], 0).reshape(3, 2, 2, size[0], -1)
    wanted = np.fft.irfft2(mixed[:, :, 0] + 1j * mixed[:, :, 1], size, norm="ortho")
    assert np.allclose(unit(maps).detach().numpy(), wanted, atol=1e-5)


def test_half_precision_is_transformed_in_single():
    torch.manual_seed(0)
    network, given, mask = Generator(3, 2, 1, "none"), images((16, 16)), masks((16, 16))
    whole = network(given, mask)
    with torch.autocast("cpu", torch.bfloat16):
        made = network(given, mask)
    assert (made - whole).abs().max() < 0.05 * whole.abs().max()
    assert (made - whole).abs().max() > 0


@pytest.mark.parametrize("base", [False, True])
def test_every_known_pixel_is_seen_and_nothing_in_the_hole(base):
    torch.manual_seed(0)
    network, size = Generator(3, 4, 1, base=base).eval(), (64, 64)
    torch.nn.init.normal_(network.last.weight, std=0.1)
    mask, given = masks(size), images(size).requires_grad_()
    (gradient,) = torch.autograd.grad(network(given, mask)[0, :, 20, 20].sum(), given)
    assert not gradient[0][:, mask[0, 0] == 1].any()
    assert gradient[0][:, mask[0, 0] == 0].abs().sum(0).min() > 0  # with 3x3 convolutions alone, 75 pixels are seen
    broken = torch.where(mask > 0, torch.nan, given)
    assert torch.equal(network(broken, mask), network(given, mask))


@pytest.mark.parametrize("norm", ["batch", "instance_affine", "none"])
@pytest.mark.parametrize("size", [(1, 3), (17, 40)])
def test_any_size(size, norm):
    made = Generator(3, 1, 1, norm)(images(size), masks(size))
    assert made.shape == (2, 3, *size)
    assert made.abs().max() <= 1


def test_it_has_the_authors_parameters():
    """LaMa-Fourier has 27 million, the large model of 18 blocks 51 million."""
    with torch.device("meta"):
        assert sum(p.numel() for p in Generator(3).parameters()) == 27_048_835
        assert sum(p.numel() for p in Generator(3, blocks=18).parameters()) == 50_975_875


def test_a_fresh_network_with_a_base_nearly_returns_it():
    network, given, mask = Generator(3, 2, 1, base=True), images((16, 24)), masks((16, 24))
    assert 1e-4 < (network(given, mask) - pull_push(given, mask).clamp(-0.98, 0.98)).abs().mean() < 0.05
    torch.nn.init.normal_(network.last.weight)
    made = network(given, mask)
    assert torch.allclose(
        made[mask.expand_as(made) == 0], given.clamp(-0.98, 0.98)[mask.expand_as(made) == 0], atol=1e-5
    )
    assert (made - pull_push(given, mask)).abs().amax() > 0.1
