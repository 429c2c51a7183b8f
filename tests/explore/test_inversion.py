"""Pictures of a generator are found again, those of the world less well, and no picture minds another."""

import pytest
import torch
from styled_model import SIZES, Styled
from torch import nn

from gans.explore.inversion import correlation, decibels, invert, nearest_start, rate, split
from gans.explore.perceptual import map_function
from gans.explore.spaces import space_of
from gans.metrics.extractors import feature_network
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


@pytest.fixture(scope="module")
def styled():
    torch.manual_seed(0)
    return Styled()


def psnr(made, targets):
    return decibels((made - targets).square().flatten(1).mean(1))


@pytest.mark.parametrize("name", ["w", "w+"])
def test_pictures_of_a_style_model_are_found_from_the_mean(styled, name):
    space = space_of(styled, name)
    truth = space.from_latents(torch.randn(3, 6, generator=torch.Generator().manual_seed(1)))
    targets = space(truth)
    begin = torch.zeros_like(truth)
    found = invert(space, targets, begin, steps=50, noise=0.05)
    gain = psnr(found.images, targets) - psnr(space(begin), targets)
    assert gain.min() > 10, gain
    assert found.noise is None


def test_a_point_of_each_layer_recovers_what_one_for_all_cannot(styled):
    wide = space_of(styled, "w+")
    targets = wide(torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(2)))
    gains = []
    for name in ("w", "w+"):
        space = space_of(styled, name)
        found = invert(space, targets, torch.zeros(2, *space.shape), steps=50)
        gains.append(psnr(found.images, targets) - psnr(space(torch.zeros(2, *space.shape)), targets))
    assert (gains[1] > gains[0] + 3).all(), gains


def test_noise_inputs_are_optimised_and_stay_normal(styled):
    space = space_of(styled, "w+")
    targets = space(torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(2)), torch.randn(2, 336))
    begin = torch.zeros(2, 3, 5)
    plain = invert(space, targets, begin, steps=30)
    found = invert(space, targets, begin, steps=30, noise_sizes=SIZES, noise_weight=1.0)
    assert (psnr(found.images, targets) > psnr(plain.images, targets)).all()
    torch.testing.assert_close(found.images, space(found.codes, found.noise))
    for maps in split(found.noise, SIZES):
        assert maps.mean((1, 2, 3)).abs().max() < 1e-5
        torch.testing.assert_close(maps.square().mean((1, 2, 3)), torch.ones(2))
    assert not torch.equal(found.noise[0], found.noise[1])


def test_the_weight_of_correlations_keeps_the_picture_out_of_the_noise(styled):
    space = space_of(styled, "w+")
    smooth = torch.linspace(-1, 1, 16).expand(1, 1, 16, 16)
    held = [
        correlation(
            invert(space, smooth, torch.zeros(1, 3, 5), steps=30, noise_sizes=SIZES, noise_weight=weight).noise, SIZES
        )
        for weight in (0.0, 1e5)
    ]
    assert held[1] < 0.05 * held[0]


def test_correlations_are_those_of_the_paper():
    noise = torch.randn(4, 16 * 16, generator=torch.Generator().manual_seed(0))
    assert correlation(noise, [(16, 16)]).max() < 0.2
    board = ((torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1).view(1, -1)
    # Neighbours are opposite in x and in y. In the half, all is 0.
    assert correlation(board, [(16, 16)]).tolist() == pytest.approx([2])
    stripes = (torch.arange(8) % 2 * 2.0 - 1).expand(4, 8).reshape(1, -1)
    assert correlation(torch.cat([stripes, stripes], 1), [(4, 8), (4, 8)]).tolist() == pytest.approx([4])
    # Sums of four white numbers, divided by 2, are white again: the mean square of a correlation is 1 / pixels.
    white = torch.randn(500, 16 * 16, generator=torch.Generator().manual_seed(0))
    assert correlation(white, [(16, 16)]).mean() == pytest.approx(2 / 256 + 2 / 64, rel=0.15)


def test_the_picture_can_be_compared_without_pixels(styled):
    space = space_of(styled, "w+")
    targets = space(torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(2)))
    compare = map_function(feature_network("random"))
    begin = torch.zeros(1, 3, 5)
    found = invert(space, targets, begin, steps=20, features=compare, feature_weight=1, pixel_weight=0)

    def distance(made):
        return (compare(made) - compare(targets)).square().sum()

    assert distance(found.images) < 0.5 * distance(space(begin))
    assert distance(targets) == 0


def test_maps_are_compared_as_lpips_does():
    maps = [torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)]

    def network(images):
        return [images.mean() * part for part in maps]

    one, other = map_function(network)(torch.full((2, 1, 8, 8), 2.0))
    unit = [nn.functional.normalize(part, dim=1) for part in maps]
    wanted = sum((part[0] - part[1]).square().sum(0).mean() for part in unit)
    assert (one - other).square().sum() == pytest.approx(float(wanted), rel=1e-4)
