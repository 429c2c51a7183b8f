"""Likelihoods and divergences against torch's own distributions, and the best sigma against a search."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from gans.reconstruction import (
    LEAST_VARIANCE,
    VGG,
    absolute_distance,
    bernoulli,
    content_distance,
    feature_distance,
    gaussian,
    gaussian_kl,
    gram_distance,
    moments,
    moments_distance,
    optimal_gaussian,
    optimal_variance,
)


def pair(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    one, other = (torch.randn(5, *shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return one, other


def test_kl_is_that_of_torch():
    mean, log_variance = pair(7)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0, 1))
    assert gaussian_kl(mean, log_variance).shape == (5, 7)
    assert torch.allclose(gaussian_kl(mean, log_variance), expected, rtol=1e-12)


def test_kl_is_exact_where_codes_say_next_to_nothing():
    """`v - 1 - log v` is about `(log v)^2 / 2`, far under the spacing of floats at 1."""
    small = torch.full((1, 1), 1e-4)
    assert float(gaussian_kl(torch.zeros(1, 1), small)) == pytest.approx(1e-8 / 4, rel=1e-2)
    assert gaussian_kl(torch.zeros(2, 3), torch.zeros(2, 3)).abs().max() == 0


def test_bernoulli_sums_over_pixels_and_averages_over_images():
    logits, other = pair(2, 3, 4)
    target = (other > 0).double()
    expected = -Bernoulli(logits=logits).log_prob(target).flatten(1).sum(1).mean()
    assert torch.allclose(bernoulli(logits, target), expected, rtol=1e-12)


def test_bernoulli_of_a_confident_decoder_is_finite():
    assert float(bernoulli(torch.tensor([[1000.0]]), torch.zeros(1, 1))) == 1000
    assert float(bernoulli(torch.tensor([[1000.0]]), torch.ones(1, 1))) == 0


@pytest.mark.parametrize("sigma", [1.0, 0.1, torch.tensor(0.3, dtype=torch.float64)])
def test_gaussian_is_that_of_torch_with_its_constant(sigma):
    mean, target = pair(2, 3, 4)
    expected = -Normal(mean, sigma).log_prob(target).flatten(1).sum(1).mean()
    assert torch.allclose(gaussian(mean, target, sigma), expected, rtol=1e-12)


def test_gaussian_by_hand():
    # Two pixels, errors 1 and 2, sigma 2: (1 + 4) / 8 + log(8 pi)
    mean, target = torch.tensor([[1.0, 5.0]]), torch.tensor([[2.0, 3.0]])
    assert float(gaussian(mean, target, 2.0)) == pytest.approx(5 / 8 + math.log(8 * math.pi))


def test_the_best_sigma_is_the_best_of_many():
    mean, target = pair(2, 3, 4)
    best = optimal_variance(mean, target).sqrt()
    candidates = torch.linspace(0.5, 2.5, 4001, dtype=torch.float64)
    values = torch.stack([-Normal(mean, sigma).log_prob(target).flatten(1).sum(1).mean() for sigma in candidates])
    assert float(best) == pytest.approx(float(candidates[values.argmin()]), abs=5e-4)
    assert float(optimal_gaussian(mean, target)) == pytest.approx(float(values.min()), rel=1e-6)
    assert optimal_gaussian(mean, target) <= values.min()


def test_the_gradient_is_that_of_the_logarithm_of_the_squared_error():
    mean, target = pair(2, 3, 4)
    mean.requires_grad_()
    [gradient] = torch.autograd.grad(optimal_gaussian(mean, target), mean)
    [expected] = torch.autograd.grad(24 / 2 * (mean - target).square().mean().log(), mean)
    assert torch.allclose(gradient, expected, rtol=1e-12)


def test_shares_of_a_batch_with_the_sigma_of_the_whole():
    mean, target = pair(3)
    mean.requires_grad_()
    sigma = optimal_variance(mean, target).sqrt()
    shares = 2 / 5 * gaussian(mean[:2], target[:2], sigma) + 3 / 5 * gaussian(mean[2:], target[2:], sigma)
    assert torch.allclose(shares, optimal_gaussian(mean, target), rtol=1e-12)
    gradients = [torch.autograd.grad(value, mean)[0] for value in (shares, optimal_gaussian(mean, target))]
    assert torch.allclose(*gradients, rtol=1e-12)


def test_a_batch_without_error_is_not_infinitely_likely():
    images = torch.zeros(2, 1, 4, 4)
    assert optimal_variance(images, images) == LEAST_VARIANCE
    assert optimal_gaussian(images, images).isfinite()
    # What rounding to 256 steps does to pixels: the variance that is the least.
    pixels = torch.rand(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    rounded = ((pixels + 1) * 127.5).round() / 127.5 - 1
    assert float((rounded - pixels).square().mean()) == pytest.approx(LEAST_VARIANCE, rel=0.02)


# -- what a network sees -----------------------------------------------------------------------------------------------


def test_the_distance_of_features_against_its_definition():
    maps = [torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    distances = feature_distance(maps[:2], maps[2:], [0.25, 2.0])
    for row in range(3):
        expected = sum(
            weight * float((one[row] - other[row]).abs().mean() / other[row].abs().mean())
            for weight, one, other in zip([0.25, 2.0], maps[:2], maps[2:], strict=True)
        )
        assert float(distances[row]) == pytest.approx(expected, rel=1e-5)
    assert feature_distance(maps[:2], maps[:2]).tolist() == [0, 0, 0]
    scaled = [10 * part for part in maps]
    assert torch.allclose(feature_distance(scaled[:2], scaled[2:]), feature_distance(maps[:2], maps[2:]))


def test_the_absolute_distance_knows_the_scale_of_maps():
    maps, target = (torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(i)) for i in range(2))
    expected = [float((one - other).abs().mean()) for one, other in zip(maps, target, strict=True)]
    assert absolute_distance(maps, target).tolist() == pytest.approx(expected, rel=1e-6)
    assert torch.allclose(absolute_distance(10 * maps, 10 * target), 10 * absolute_distance(maps, target))
    target.requires_grad_()
    assert not absolute_distance(maps, target).requires_grad


def test_vgg_has_torchvisions_layers(tmp_path):
    """The maps before and behind ReLUs of torchvision's own network, from a file of its weights."""
    from torchvision.models.vgg import cfgs, make_layers

    torch.manual_seed(0)
    theirs = make_layers(cfgs["E"]).eval()
    state = {f"features.{name}": value for name, value in theirs.state_dict().items()}
    torch.save({**state, "classifier.0.weight": torch.zeros(1)}, tmp_path / "vgg.pth")
    network = VGG(tmp_path / "vgg.pth", layers=("relu1_1", "conv3_4", "conv5_4"))
    images = torch.rand(2, 3, 32, 48) * 2 - 1
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    maps, wanted = ((images + 1) / 2 - mean) / std, {1: 0, 16: 1, 34: 2}
    for number, layer in enumerate(theirs[:35]):
        maps = layer(maps) if not isinstance(layer, torch.nn.ReLU) else maps.relu()
        if number in wanted:
            assert torch.allclose(network(images)[wanted[number]], maps, atol=1e-5)
    assert network.name == "vgg19"


def test_random_vgg_is_the_same_everywhere_and_moves_no_generator():
    before = torch.get_rng_state()
    first, again, other = VGG(width=4), VGG(width=4), VGG(width=4, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    images = torch.rand(2, 1, 32, 32) * 2 - 1
    assert len(first(images)) == 5
    assert all(torch.equal(*pair) for pair in zip(first(images), again(images), strict=True))
    assert not torch.equal(first(images)[0], other(images)[0])
    assert first.name == "random"
    assert not any(p.requires_grad for p in first.parameters())
    assert len(first(images[..., :4, :4])) == 3  # 4, 2 and 1 pixels


def test_the_distance_grows_with_the_damage_and_pulls_images_back():
    generator = torch.Generator().manual_seed(0)
    network = VGG(width=8)
    target = torch.rand(2, 3, 32, 32, generator=generator) * 2 - 1
    noise = torch.randn(2, 3, 32, 32, generator=generator)
    small, large = (feature_distance(network(target + s * noise), network(target)).mean() for s in (0.05, 0.5))
    assert 0 < small < large / 2
    images = (target + 0.3 * noise).requires_grad_()
    error = feature_distance(network(images), network(target)).mean()
    (gradient,) = torch.autograd.grad(error, images)
    with torch.no_grad():
        closer = feature_distance(network(images - 0.01 * gradient.sign()), network(target)).mean()
    assert closer < error


def test_weights_that_are_not_there_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"vgg\.pth is not in .*put VGG19's weights there, https"):
        VGG(tmp_path / "vgg.pth")
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="does not hold torchvision's weights of VGG19"):
        VGG(tmp_path / "other.pth")
    with pytest.raises(ValueError, match="layers is"):
        VGG(layers=("conv6_1",))


# -- style -------------------------------------------------------------------------------------------------------------


def two_maps(size=(6, 5), shift=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, channels, *size, generator=generator) + shift for channels in (3, 7)]


@pytest.mark.parametrize("distance", [moments_distance, gram_distance])
def test_style_knows_no_places(distance):
    maps = two_maps()
    moved = [map_.flatten(2)[:, :, torch.randperm(30)].view_as(map_) for map_ in maps]
    assert distance(moved, maps).abs().max() < 1e-6
    assert distance(maps, two_maps((9, 4), 1.0, seed=1)).min() > 0.1
    assert distance(maps, maps).shape == (2,)
    zeros = [torch.zeros_like(map_) for map_ in maps]
    assert distance(zeros, maps).tolist() == pytest.approx([1, 1], abs=1e-2)  # all of it is missing, in any scale
    scaled = distance([100 * map_ for map_ in two_maps(seed=1)], [100 * map_ for map_ in maps])
    assert torch.allclose(scaled, distance(two_maps(seed=1), maps), rtol=1e-3)


def test_style_distances_against_their_definitions():
    maps, target = two_maps(), two_maps(shift=0.5, seed=1)
    for i in range(2):
        by_moments, by_products = [], []
        for ours, theirs in zip(maps, target, strict=True):
            f, t = ours[i].flatten(1).double(), theirs[i].flatten(1).double()
            above = (f.mean(1) - t.mean(1)).square().sum()
            above = above + (f.std(1, correction=0) - t.std(1, correction=0)).square().sum()
            by_moments.append(above / (t.mean(1).square().sum() + t.var(1, correction=0).sum()))
            products = [torch.einsum("ap,bp->ab", part, part) / part.shape[1] for part in (f, t)]
            by_products.append((products[0] - products[1]).square().sum() / products[1].square().sum())
        assert float(moments_distance(maps, target)[i]) == pytest.approx(float(sum(by_moments)) / 2, rel=1e-3)
        assert float(gram_distance(maps, target)[i]) == pytest.approx(float(sum(by_products)) / 2, rel=1e-3)


@pytest.mark.parametrize("distance", [moments_distance, gram_distance])
def test_style_pulls_images_and_leaves_its_target_alone(distance):
    maps, target = ([map_.requires_grad_() for map_ in two_maps(seed=seed)] for seed in (0, 1))
    distance(maps, target).sum().backward()
    assert all(map_.grad.abs().sum() > 0 for map_ in maps)
    assert all(map_.grad is None for map_ in target)
    constant = torch.ones(1, 3, 4, 4, requires_grad=True)
    distance([constant], [two_maps()[0][:1]]).sum().backward()
    assert constant.grad.isfinite().all()


def test_content_knows_no_style():
    maps = two_maps()[1]
    other = 3 * maps + torch.arange(7.0).view(7, 1, 1)
    assert content_distance(other, maps).abs().max() < 1e-3
    many = torch.randn(2, 50, 20, 20, generator=torch.Generator().manual_seed(2))
    assert content_distance(many[:1], many[1:]).tolist() == pytest.approx([2 / torch.pi**0.5], rel=0.02)
    assert moments(maps)[0].shape == moments(maps)[1].shape == (2, 7, 1, 1)
