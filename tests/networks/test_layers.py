"""Sizes by formula, and weights with the statistics that the paper states."""

import math

import pytest
import torch
from torch import nn

from gans.networks.conditional import Classified
from gans.networks.layers import doublings, image_channels, image_size, normal_init, widened


@pytest.mark.parametrize(
    ("size", "pair"),
    [(1, (1, 1)), (28, (28, 28)), ((48, 80), (48, 80)), ([48, 80], (48, 80)), (torch.Size([3, 5]), (3, 5))],
)
def test_a_size_is_a_side_or_a_pair(size, pair):
    assert image_size(size) == pair
    assert type(image_size(size)) is tuple


@pytest.mark.parametrize(
    "size",
    [
        0,
        -1,
        2.0,
        2.5,
        "28",
        None,
        True,
        (),
        (28,),
        (1, 28, 28),
        (28, 0),
        (-4, 28),
        (28, 28.0),
        ("28", "28"),
        (True, 28),
    ],
)
def test_other_sizes_are_refused_by_their_value(size):
    with pytest.raises(ValueError, match="; expected a positive integer or \\(height, width\\)") as error:
        image_size(size)
    assert f"size is {size!r};" in str(error.value)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grey_rgb_and_rgba(channels):
    assert image_channels(channels) == channels


@pytest.mark.parametrize("channels", [0, 2, 5, -1, 3.0, "3", None, True])
def test_other_channels_are_refused_by_their_value(channels):
    with pytest.raises(ValueError, match="; expected 1 \\(grey\\), 3 \\(RGB\\) or 4 \\(RGBA\\)") as error:
        image_channels(channels)
    assert f"channels is {channels!r};" in str(error.value)


@pytest.mark.parametrize("smallest", [1, 4, 7])
def test_doublings_halve_the_shorter_side_while_it_stays_large_enough(smallest):
    for side in range(4, 513):
        count = 0
        while side / 2 ** (count + 1) >= smallest:
            count += 1
        assert doublings((side, side), smallest) == max(1, count), side
        assert doublings((side, 2 * side), smallest) == doublings((3 * side, side), smallest) == max(1, count), side


@pytest.mark.parametrize(
    ("side", "count"), [(1, 1), (4, 1), (7, 1), (8, 1), (15, 1), (16, 2), (28, 2), (31, 2), (32, 3), (64, 4), (418, 6)]
)
def test_doublings_down_to_four(side, count):
    assert doublings((side, side)) == count


@pytest.mark.parametrize("std", [0.02, 0.5])
@pytest.mark.parametrize(
    "module",
    [nn.Conv2d(64, 128, 4), nn.ConvTranspose2d(64, 128, 4), nn.Linear(256, 512)],
    ids=lambda m: type(m).__name__,
)
def test_weights_are_normal_and_biases_zero(module, std):
    torch.manual_seed(0)
    normal_init(module, std)
    weights = module.weight.detach().double().flatten() / std
    n = len(weights)
    assert abs(weights.mean()) < 5 / math.sqrt(n)
    assert weights.square().mean().item() == pytest.approx(1, abs=5 * math.sqrt(2 / n))
    assert weights.pow(4).mean().item() == pytest.approx(3, abs=5 * math.sqrt(96 / n))  # not uniform: 1.8
    assert (module.bias == 0).all()


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nn.InstanceNorm2d])
def test_gains_of_norms_lie_around_one(kind):
    torch.manual_seed(0)
    module = kind(4096, affine=True)
    nn.init.ones_(module.bias)
    normal_init(module)
    assert module.weight.mean().item() == pytest.approx(1, abs=0.002)
    assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert (module.bias == 0).all()


def test_initialisation_applies_to_a_network_and_skips_what_has_no_weights():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8, affine=False), nn.ReLU(), nn.Sequential(nn.Linear(8, 8))
    ).apply(normal_init)
    assert network[0].weight.std() < 0.03
    assert network[3][0].weight.std() < 0.03
    assert network[0].weight.requires_grad
    assert network[0].weight.grad_fn is None
    normal_init(nn.InstanceNorm2d(4))  # which has no gain


def test_other_layers_keep_their_own_initialisation():
    for module in (nn.Embedding(4, 4), nn.LayerNorm(4), nn.GroupNorm(2, 4)):
        before = module.weight.detach().clone()
        normal_init(module)
        assert torch.equal(module.weight, before)


def test_widened_outputs_keep_the_names_of_their_parts():
    half = torch.ones(2, dtype=torch.bfloat16)
    output = widened(Classified(half, (half, half.double())))
    assert type(output) is Classified
    assert [part.dtype for part in (output.logits, *output.guesses)] == [torch.float32, torch.float32, torch.float64]
    assert type(output.guesses) is type(widened((half,))) is tuple
