"""Compact network of Real-ESRGAN: its equation, its start and its size."""

import pytest
import torch
from torch.nn import functional as F

from gans.networks.compact import Generator


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_it_adds_to_the_nearest_neighbours(scale):
    torch.manual_seed(0)
    network, images = Generator(3, scale, 4, 2, unit=True), torch.rand(2, 3, 5, 7)
    nearest = images.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    with torch.no_grad():
        torch.testing.assert_close((network(2 * images - 1) + 1) / 2, nearest)
        network.layers[-2].weight.normal_(0, 0.1)
        maps = images
        for layer in (0, 2, 4):
            maps = network.layers[layer](maps)
            maps = torch.where(maps > 0, maps, network.layers[layer + 1].weight[:, None, None] * maps)
        expected = nearest + F.pixel_shuffle(network.layers[-2](maps), scale)
        torch.testing.assert_close((network(2 * images - 1) + 1) / 2, expected)


def test_layers_may_work_on_the_values_of_the_images():
    """Then a picture of zeros stays one: no rescaling is added."""
    network = Generator(1, 2, 4, 1)
    with torch.no_grad():
        network.layers[-2].weight.normal_()
        assert torch.equal(network(torch.zeros(1, 1, 4, 4)), torch.zeros(1, 1, 8, 8))


def test_the_published_sizes():
    """Parameters of realesr-animevideov3 and realesr-general-x4v3."""
    sizes = [sum(p.numel() for p in Generator(3, 4, 64, blocks).parameters()) for blocks in (16, 32)]
    assert sizes == [621_424, 1_213_296]


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="scale is 5; expected one of 1, 2, 3, 4, 8"):
        Generator(3, 5)
    with pytest.raises(ValueError, match="blocks is 0; expected at least 1"):
        Generator(3, blocks=0)
