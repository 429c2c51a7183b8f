"""Neighbours, spectra, path lengths: on pictures of which the answer is known."""

import pytest
import torch

from gans.explore.neighbours import nearest
from gans.explore.path_length import path_length
from gans.explore.perceptual import feature_function
from gans.explore.spectrum import power_spectrum
from gans.metrics.extractors import extractor
from gans.metrics.interface import Wrapped, with_channels
from gans.pictures.images import in_channels, to_float


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_a_planted_copy_is_found_at_no_distance():
    references = torch.randint(0, 256, (1000, 64)).double()
    queries = torch.randint(0, 256, (5, 64)).double()
    references[777] = queries[3]
    references[20] = queries[3] + 1
    found = nearest(queries, references.split(130), 3)
    assert found.rows[3, :2].tolist() == [777, 20]
    assert found.distances[3, :2].tolist() == pytest.approx([0, 8])
    whole = torch.cdist(queries, references).topk(3, largest=False)
    torch.testing.assert_close(found.distances, whole.values)
    assert torch.equal(found.rows[:3], whole.indices[:3])
    with pytest.raises(ValueError, match="there are 2 references"):
        nearest(queries, [references[:2]], 3)


def test_white_noise_is_flat():
    frequencies, power = power_spectrum(torch.randn(400, 3, 24, 32).split(100))
    assert power.tolist() == pytest.approx([1] * len(power), rel=0.15)
    assert frequencies[0] == 0
    assert (frequencies.diff() > 0).all()


def test_a_checkerboard_has_its_peak_at_the_highest_frequency():
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1
    frequencies, power = power_spectrum([board.expand(2, 1, 16, 16)])
    assert power.argmax() == len(power) - 1
    assert frequencies[-1] == pytest.approx(0.5**0.5, abs=0.04)
    assert power[:-1].max() < 1e-9
    stripes = (torch.arange(32) * 2 * torch.pi * 4 / 32).sin().expand(1, 1, 32, 32)
    frequencies, power = power_spectrum([stripes])
    assert frequencies[power.argmax()] == pytest.approx(4 / 32, abs=0.01)


def test_sizes_that_differ_have_no_spectrum():
    with pytest.raises(ValueError, match="expected one size"):
        power_spectrum([torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 9)])
    with pytest.raises(ValueError, match="no images"):
        power_spectrum([])


def draws(dim):
    generator = torch.Generator().manual_seed(0)
    return lambda n: torch.randn(n, dim, generator=generator)


def test_the_path_length_of_a_linear_generator_has_a_closed_form():
    weight = torch.randn(16, 6)

    def linear(z):
        return (z @ weight.T).view(-1, 1, 4, 4)

    # E |A (z2 - z1)|^2 = 2 |A|^2 for straight ways, all of them counted.
    mean, deviation = path_length(
        linear, draws(6), lambda images: images.flatten(1), samples=4000, path="lerp", discard=0
    )
    assert mean == pytest.approx(2 * float(weight.square().sum()), rel=0.05)
    assert deviation > 0
    doubled, _ = path_length(lambda z: linear(2 * z), draws(6), lambda i: i.flatten(1), samples=500, path="lerp")
    once, _ = path_length(linear, draws(6), lambda i: i.flatten(1), samples=500, path="lerp")
    assert doubled == pytest.approx(4 * once, rel=1e-2)


def test_the_path_length_on_the_sphere_is_that_of_the_angle():
    # |z| = r for both ends and a generator that is an isometry: (r angle)^2, with right angles (r pi / 2)^2.
    ends = iter([torch.eye(4)[:1] * 3, torch.eye(4)[:1].expand(8, 4) * 3, torch.eye(4)[1:2].expand(8, 4) * 3])
    mean, _ = path_length(
        lambda z: z.view(-1, 1, 2, 2), lambda n: next(ends), lambda i: i.flatten(1), samples=8, discard=0
    )
    assert mean == pytest.approx((3 * torch.pi / 2) ** 2, rel=1e-3)


def test_classes_take_part_in_a_path_length():
    seen = []

    def generator(z, labels):
        seen.append(labels)
        return z.view(-1, 1, 2, 2)

    path_length(generator, draws(4), lambda i: i.flatten(1), samples=300, num_classes=3)
    assert torch.cat(seen).unique().tolist() == [0, 1, 2]
    first, second = seen[0].chunk(2)
    assert torch.equal(first, second)


def test_eyes_see_what_the_extractor_sees_and_have_a_gradient():
    network = extractor("mnist")
    for channels in (1, 3, 4):
        pixels = torch.randint(0, 256, (3, channels, 20, 20), dtype=torch.uint8)
        images = to_float(pixels).requires_grad_(True)
        features = feature_function(network)(images)
        torch.testing.assert_close(features, network(with_channels(pixels, 1))[0], rtol=0.05, atol=0.05)
        (gradient,) = torch.autograd.grad(features.sum(), images)
        assert gradient.abs().sum() > 0
    assert in_channels(torch.zeros(2, 1, 4, 4), 3).shape == (2, 3, 4, 4)
    with pytest.raises(ValueError, match="has no gradient"):
        feature_function(Wrapped(torch.nn.Flatten(), num_features=4))
    with pytest.raises(ValueError, match="moving has no gradient"):
        feature_function(extractor("moving"))
