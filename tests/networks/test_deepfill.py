"""DeepFill v2's generator: the authors' layers, padding, what each stage is given, and any size."""

import pytest
import torch

from gans.networks.deepfill import Generator, Halved, Rectified
from gans.networks.gated import composed


def images(size):
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def masks(size):
    mask = torch.zeros(2, 1, *size)
    mask[..., size[0] // 4 : size[0] // 2 + 1, size[1] // 4 : size[1] // 2 + 1] = 1
    return mask


def test_it_has_the_authors_parameters():
    """The paper says 4.1 million."""
    with torch.device("meta"):
        assert sum(p.numel() for p in Generator(256, 3).parameters()) == 4_052_478


@pytest.mark.parametrize("size", [(1, 3), (17, 40)])
def test_any_size(size):
    made = Generator(16, 3, 1)(images(size), masks(size))
    assert made.shape == (2, 3, *size)
    assert made.abs().max() <= 1


def test_the_second_stage_is_given_the_first_ones_result_in_the_hole_alone():
    torch.manual_seed(0)
    network, size, seen = Generator(16, 3, 2), (16, 16), []
    network.refinement.register_forward_hook(lambda _, given, __: seen.append(given))
    given, mask = images(size), masks(size)
    coarse, refined = network.guesses(torch.where(mask > 0, torch.nan, given), mask)
    assert torch.equal(seen[0][0], composed(coarse, given, mask))
    assert torch.equal(network(given, mask), refined)
    assert not torch.equal(coarse, refined)


def test_both_branches_and_both_stages_learn():
    torch.manual_seed(0)
    network = Generator(32, 3, 2)
    sum(guess.square().mean() for guess in network.guesses(images((32, 32)), masks((32, 32)))).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_strided_layers_are_padded_at_the_end():
    layer, maps = Halved(1, 1), torch.zeros(1, 1, 6, 6)
    maps[..., 0, 0] = 1
    with torch.no_grad():
        assert torch.allclose(layer.conv(torch.nn.functional.pad(maps, (0, 1, 0, 1)))[0, :, 0, 0],
                              layer.conv.weight[:, 0, 0, 0] + layer.conv.bias)  # fmt: skip
    assert layer(maps).shape == (1, 1, 3, 3)


def test_the_attention_sees_no_negative_features():
    layer = Rectified(2, 3)
    assert (layer(torch.randn(1, 2, 6, 6)) >= 0).all()
