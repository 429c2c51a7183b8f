"""Pictures of a generator are found again, those of the world less well, and no picture minds another."""

import pytest
import torch
from torch import nn

from gans.explore.inversion import decibels, invert, nearest_start, rate
from gans.networks import dcgan

DIM = 8


@pytest.fixture(scope="module")
def generator():
    """A small generator whose pictures differ: BatchNorm has the statistics of its layers."""
    torch.manual_seed(0)
    network = dcgan.Generator(DIM, 16, 1, 8)
    with torch.no_grad():
        for _ in range(100):
            network(torch.randn(64, DIM))
        network.layers[-2].weight.mul_(5)
    return network.eval().requires_grad_(False)


def start(generator, targets):
    return nearest_start(generator, targets, torch.randn(200, DIM, generator=torch.Generator().manual_seed(5)))


def test_generated_pictures_are_found_again(generator):
    truth = torch.randn(4, DIM, generator=torch.Generator().manual_seed(1))
    targets = generator(truth)
    found = invert(generator, targets, start(generator, targets), steps=150)
    random = generator(torch.randn(4, DIM, generator=torch.Generator().manual_seed(2)))
    gain = decibels(found.errors[-1]) - decibels((random - targets).square().flatten(1).mean(1))
    assert gain.min() > 10, gain
    assert decibels(found.errors[-1]).min() > 25
    assert found.errors.shape == (151, 4)
    assert (found.codes - truth).norm(dim=1).max() < 0.5 * truth.norm(dim=1).min()
    torch.testing.assert_close(found.images, generator(found.codes))
    torch.testing.assert_close(found.errors[-1], (found.images - targets).square().flatten(1).mean(1))


def test_pictures_of_the_world_are_farther_off_than_generated_ones(generator):
    targets = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1
    found = invert(generator, targets, start(generator, targets), steps=30)
    assert (found.errors[-1] < found.errors[0]).all()
    assert decibels(found.errors[-1]).max() < 15


def test_what_is_found_for_a_picture_does_not_depend_on_the_others(generator):
    targets = generator(torch.randn(3, DIM, generator=torch.Generator().manual_seed(4)))
    begin = start(generator, targets)
    together = invert(generator, targets, begin, steps=20)
    alone = invert(generator, targets[1:2], begin[1:2], steps=20)
    torch.testing.assert_close(together.codes[1:2], alone.codes, rtol=1e-3, atol=1e-3)
    again = invert(generator, targets, begin, steps=20)
    assert torch.equal(again.codes, together.codes)


def test_features_take_part_and_limits_hold(generator):
    targets = generator(torch.randn(2, DIM, generator=torch.Generator().manual_seed(4)))
    begin = start(generator, targets)
    half = nn.AvgPool2d(8)
    seen = invert(generator, targets, begin, steps=10, features=lambda images: half(images).flatten(1) + 2)
    assert not torch.equal(seen.codes, invert(generator, targets, begin, steps=10).codes)
    assert invert(generator, targets, begin, steps=10, limit=0.5).codes.abs().max() <= 0.5
    assert torch.equal(invert(generator, targets, begin, steps=0).codes, begin)


def test_errors_are_of_every_step_and_of_the_end(generator):
    targets = generator(torch.randn(2, DIM, generator=torch.Generator().manual_seed(4)))
    codes = start(generator, targets)
    places = [codes]
    made = nn.Module()
    made.forward = lambda z: places.append(z.detach().clone()) or generator(z)
    found = invert(made, targets, codes, steps=3, noise=0)
    wanted = [(generator(place) - targets).square().flatten(1).mean(1) for place in places[-4:]]
    assert torch.equal(places[-4], codes)
    torch.testing.assert_close(found.errors, torch.stack(wanted))
    assert invert(generator, targets, codes, steps=0).errors.shape == (1, 2)


def test_the_weights_have_no_gradient_afterwards(generator):
    network = dcgan.Generator(DIM, 8, 1, 2).eval()
    invert(network, torch.zeros(1, 1, 8, 8), torch.zeros(1, DIM), steps=2)
    assert all(p.grad is None for p in network.parameters())


def test_the_rate_rises_and_falls():
    assert rate(0) < 0.05
    assert rate(0.05) == rate(0.75) == 1
    assert rate(0.875) == pytest.approx(0.5)
    assert rate(0.999) < 1e-3
