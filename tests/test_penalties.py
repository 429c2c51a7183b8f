"""Gradient penalties against analytic gradients, and their own gradients against finite differences."""

import pytest
import torch
from torch import nn

from gans.networks.dcgan import Discriminator
from gans.penalties import (
    clip_weights,
    gamma_heuristic,
    input_gradient,
    lecam,
    matching_aware,
    mode_seeking,
    one_centered,
    zero_centered,
)

torch.set_num_threads(1)


def images(n=4, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, 4, 4, generator=generator, dtype=torch.float64).to(dtype)


def smooth_critic():
    """A critic with curvature everywhere: a piecewise linear one has second derivatives of zero."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.Tanh(), nn.Linear(5, 1)).double()


def penalties(real, fake, weights):
    return {
        "zero_centered": lambda critic: zero_centered(critic, real),
        "one_centered": lambda critic: one_centered(critic, real, fake, weights),
    }


def test_a_linear_critic_has_the_norm_of_its_weight_everywhere():
    w = images(1, seed=9)[0]
    norm = w.square().sum().sqrt().item()

    def critic(x):
        return (x * w).sum((1, 2, 3)) + 3

    real, fake = images(), images(seed=1)
    torch.testing.assert_close(input_gradient(critic, real), w.expand(4, -1, -1, -1))
    assert zero_centered(critic, real).item() == pytest.approx(norm**2 / 2, rel=1e-12)
    assert one_centered(critic, real, fake).item() == pytest.approx((norm - 1) ** 2, rel=1e-12)
    unit = one_centered(lambda x: critic(x) / norm, real, fake)
    assert unit.item() == pytest.approx(0, abs=1e-24)


def test_a_quadratic_critic_has_its_images_as_gradient():
    real = images()
    real[0] = 0

    def critic(x):
        return x.square().sum((1, 2, 3)) / 2

    torch.testing.assert_close(input_gradient(critic, real), real)
    lengths = real.flatten(1).norm(dim=1)
    assert zero_centered(critic, real).item() == pytest.approx((lengths**2).mean().item() / 2, rel=1e-12)
    # Between x and x every point is x.
    expected = ((lengths - 1) ** 2).mean().item()
    assert one_centered(critic, real, real).item() == pytest.approx(expected, rel=1e-12)


def test_squares_are_summed_over_pixels_and_averaged_over_samples():
    def critic(x):
        return x.sum((1, 2, 3))

    for n in (1, 2, 7):  # 48 pixels with a gradient of 1 each
        assert zero_centered(critic, images(n)).item() == pytest.approx(24)
        assert one_centered(critic, images(n), images(n)).item() == pytest.approx((48**0.5 - 1) ** 2)


def test_every_sample_has_a_weight_of_its_own():
    def critic(x):
        return x.square().sum((1, 2, 3)) / 2  # the norm of the gradient is the length of the point

    real = torch.full((3, 3, 4, 4), 1.0, dtype=torch.float64)
    fake = torch.zeros_like(real)
    weights = torch.tensor([0.0, 0.25, 1.0])
    expected = ((weights.double() * 48**0.5 - 1) ** 2).mean().item()
    assert one_centered(critic, real, fake, weights).item() == pytest.approx(expected, rel=1e-12)
    assert one_centered(critic, fake, real, 1 - weights).item() == pytest.approx(expected, rel=1e-12)


def test_without_weights_samples_draw_their_own_from_the_global_generator():
    points = []

    def critic(x):
        points.append(x.detach())
        return x.sum((1, 2, 3))

    real, fake = torch.ones(64, 3, 4, 4), torch.zeros(64, 3, 4, 4)
    torch.manual_seed(0)
    one_centered(critic, real, fake)
    torch.manual_seed(0)
    one_centered(critic, real, fake)
    assert torch.equal(points[0], points[1])
    one_centered(critic, real, fake)
    assert not torch.equal(points[1], points[2])
    shares = points[0].flatten(1)
    assert torch.equal(shares, shares[:, :1].expand(-1, 48))  # one number a sample, not a pixel
    assert len(shares[:, 0].unique()) > 60
    assert 0 <= shares.min() < 0.2
    assert 0.8 < shares.max() <= 1


@pytest.mark.parametrize("name", ["zero_centered", "one_centered"])
def test_gradients_in_the_weights_agree_with_finite_differences(name):
    critic = smooth_critic()
    weights = torch.tensor([0.1, 0.5, 0.7, 0.9])
    penalty = penalties(images(), images(seed=1), weights)[name]
    gradients = torch.autograd.grad(penalty(critic), list(critic.parameters()), allow_unused=True)
    assert gradients[-1] is None  # the last bias moves no gradient
    for parameter, gradient in zip(critic.parameters(), gradients[:-1], strict=False):
        flat, slopes = parameter.data.view(-1), gradient.flatten()
        assert slopes.abs().max() > 1e-4
        for index in range(0, len(flat), max(1, len(flat) // 12)):
            before = flat[index].item()
            ends = []
            for step in (1e-6, -1e-6):
                flat[index] = before + step
                ends.append(penalty(critic).item())
            flat[index] = before
            assert slopes[index].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", ["zero_centered", "one_centered"])
def test_autograd_checks_both_orders_in_the_weights(name):
    real, fake, weights = images(2), images(2, seed=1), torch.tensor([0.25, 0.75])

    def value(first, second):
        return penalties(real, fake, weights)[name](lambda x: torch.tanh(x.flatten(1) @ first) @ second)

    torch.manual_seed(0)
    first = (torch.randn(48, 2, dtype=torch.float64) / 7).requires_grad_()
    second = torch.randn(2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(value, (first, second))
    assert torch.autograd.gradgradcheck(value, (first, second))


def gradient_inside(critic, real):
    """The penalty as one writes it first: whatever autocast does, it does here too."""
    real = real.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(real).float().sum(), real, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean() / 2


def distance(ours, exact):
    """The larger of the relative distances between two values and between their gradients."""
    # torch's maximum, unlike Python's, is NaN if one of them is.
    return torch.stack([(a - b).norm() / b.norm() for a, b in zip(ours, exact, strict=True)]).max()


@pytest.mark.parametrize("name", ["zero_centered", "one_centered"])
def test_autocast_changes_nothing(name):
    torch.manual_seed(0)
    critic = Discriminator(16, 3, 8, batch_norm=False)
    for module in critic.modules():  # at the initial scale all logits and gradients are nearly zero
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, 0.2)
    real, fake = torch.rand(8, 3, 16, 16) * 2 - 1, torch.rand(8, 3, 16, 16) * 2 - 1
    penalty = penalties(real, fake, torch.linspace(0.1, 0.9, 8))[name]

    def value_and_gradient(function, autocast):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            critic(real)  # fills autocast's cache of half-precision weights, as a training step does
            value = function(critic)
        slopes = torch.autograd.grad(value, list(critic.parameters()), allow_unused=True)
        return value.detach(), torch.cat([slope.flatten() for slope in slopes if slope is not None])

    exact = value_and_gradient(penalty, autocast=False)
    ours = value_and_gradient(penalty, autocast=True)
    assert ours[0].item() > 0.01
    assert distance(ours, exact) < 1e-6
    if name == "zero_centered":
        naive = value_and_gradient(lambda critic: gradient_inside(critic, real), autocast=False)
        assert distance(naive, exact) < 1e-6  # the same formula
        naive = value_and_gradient(lambda critic: gradient_inside(critic, real), autocast=True)
        assert distance(naive, exact) > 1e-3  # but not the same numbers


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16, torch.float64])
def test_fakes_of_another_precision_are_taken_as_they_are(half):
    def critic(x):
        assert x.dtype == torch.float32
        return x.square().sum((1, 2, 3))

    real, fake, weights = images(dtype=torch.float32), images(dtype=half, seed=1), torch.rand(4)
    value = one_centered(critic, real, fake, weights)  # a generator under autocast gives such fakes
    torch.testing.assert_close(value, one_centered(critic, real, fake.float(), weights))


@pytest.mark.parametrize(
    ("given", "computed"),
    [(torch.float64, torch.float64), (torch.float32, torch.float32), (torch.bfloat16, torch.float32)],
)
def test_float32_at_least(given, computed):
    seen = []

    def critic(x):
        seen.append(x.dtype)
        return x.square().sum((1, 2, 3))

    real, fake = images(dtype=given), images(dtype=given, seed=1)
    results = [input_gradient(critic, real), zero_centered(critic, real), one_centered(critic, real, fake)]
    assert seen == [computed] * 3
    assert [result.dtype for result in results] == [computed] * 3


def test_points_between_half_precision_images_are_not_rounded_to_half_precision():
    points = []

    def critic(x):
        points.append(x.detach())
        return x.sum((1, 2, 3))

    weights = torch.tensor([0.123456789])
    one_centered(critic, torch.ones(1, 3, 4, 4).bfloat16(), torch.zeros(1, 3, 4, 4).bfloat16(), weights)
    assert points[0].mean().item() == pytest.approx(0.123456789, rel=1e-6)


def test_nothing_flows_into_the_images():
    real, fake = images().requires_grad_(), images(seed=1).requires_grad_()
    critic = smooth_critic()
    (zero_centered(critic, real) + one_centered(critic, real, fake)).backward()
    assert real.grad is None
    assert fake.grad is None
    assert critic[1].weight.grad.abs().sum() > 0


def test_values_are_there_without_grad_mode_too():
    critic, real = smooth_critic(), images()
    with torch.no_grad():
        value = zero_centered(critic, real)
    torch.testing.assert_close(value, zero_centered(critic, real))


def test_a_flat_critic_pays_one_and_has_a_finite_gradient():
    weight = torch.zeros(48, requires_grad=True)
    value = one_centered(lambda x: x.flatten(1) @ weight, images(dtype=torch.float32), images(dtype=torch.float32))
    assert value.item() == 1
    assert torch.autograd.grad(value, weight)[0].isfinite().all()  # the norm has no slope at 0, and that is no NaN


def test_clip_weights_clamps_in_place_and_leaves_what_is_inside():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    before = [p.detach().clone() for p in network.parameters()]
    where = [p.data_ptr() for p in network.parameters()]
    clip_weights(network.parameters(), 0.1)
    assert [p.data_ptr() for p in network.parameters()] == where
    for parameter, old in zip(network.parameters(), before, strict=True):
        assert torch.equal(parameter, old.minimum(torch.tensor(0.1)).maximum(torch.tensor(-0.1)))
        assert parameter.requires_grad
        assert parameter.is_leaf
    assert any((old.abs() > 0.1).any() for old in before)
    assert any((old.abs() < 0.1).any() for old in before)


def test_lecam_is_the_closed_form():
    real, fake = torch.tensor([3.0, 0.5, -2.0]), torch.tensor([-1.0, 2.0])
    # Real logits above the fakes' average 1: by 2. Fake logits under the reals' average 1.5: by 2.5.
    value = lecam(real, fake, torch.tensor(1.5), torch.tensor(1.0))
    assert value.item() == pytest.approx(2**2 / 3 + 2.5**2 / 2)
    patches = lecam(real.view(1, 1, 3), fake.view(2, 1), torch.tensor(1.5), torch.tensor(1.0))
    assert patches.item() == pytest.approx(value.item())
    # A discriminator that cannot tell pays nothing, and one that is sure all the more.
    assert lecam(real, real, real.max(), real.max()).item() == pytest.approx((2.5**2 + 5**2) / 3)
    assert lecam(real * 0 + 1, fake * 0 + 1, torch.tensor(1.0), torch.tensor(1.0)).item() == 0


def test_lecam_pulls_real_and_fake_logits_together_and_leaves_the_averages():
    real, fake = torch.tensor([3.0, 0.5], requires_grad=True), torch.tensor([-1.0, 2.0], requires_grad=True)
    averages = [torch.tensor(1.5, requires_grad=True), torch.tensor(1.0, requires_grad=True)]
    gradients = torch.autograd.grad(lecam(real, fake, *averages), [real, fake, *averages], allow_unused=True)
    assert gradients[0].tolist() == [2, 0]
    assert gradients[1].tolist() == [-2.5, 0]
    assert gradients[2:] == (None, None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_lecam_is_in_single_precision_at_least(dtype):
    real, fake = torch.tensor([300.0, 1.0]).to(dtype), torch.tensor([-300.0, 1.0]).to(dtype)
    value = lecam(real, fake, torch.tensor(0.001), torch.tensor(0.001))
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    assert value.item() == pytest.approx((299.999**2 + 0.999**2 + 300.001**2) / 2, rel=1e-6)


def test_mode_seeking_is_the_inverse_of_how_far_images_move_with_their_latents():
    first, second = images(2), images(2)
    first[0], second[0] = 0.5, 0.1  # 0.4 apart, with latents 0.8 apart: a ratio of 0.5
    first[1], second[1] = 0.3, 0.3  # equal
    z, other = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.2, 0.8], [1.0, 1.0]])
    assert mode_seeking(first, second, z, other).item() == pytest.approx((1 / 0.51 + 1 / 0.01) / 2)


def test_mode_seeking_moves_images_apart_from_where_they_are_close():
    z, other = torch.randn(4, 3, generator=torch.Generator().manual_seed(1)), torch.zeros(4, 3)
    scale = torch.tensor(0.01, requires_grad=True)
    value = mode_seeking((scale * z).view(4, 1, 1, 3), (scale * other).view(4, 1, 1, 3), z, other)
    assert torch.autograd.grad(value, scale)[0].item() < 0
    equal = torch.zeros(4, 1, 2, 2, requires_grad=True)
    assert torch.autograd.grad(mode_seeking(equal, equal.detach(), z, other), equal)[0].isfinite().all()
    assert mode_seeking(equal.bfloat16(), equal.bfloat16(), z.bfloat16(), other.bfloat16()).dtype == torch.float32


def test_the_heuristic_weight_is_the_papers():
    assert gamma_heuristic((256, 256), 64) == pytest.approx(0.2048)
    assert gamma_heuristic((32, 64), 16) == pytest.approx(0.0256)


def test_the_matching_aware_penalty_is_of_both_gradients_together():
    w, v = images(1, seed=9)[0], torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)[0]
    sentences = torch.randn(4, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def critic(x, s):
        return (x * w).sum((1, 2, 3)) + (s * v).sum(1)

    length = (w.square().sum() + v.square().sum()).sqrt().item()
    assert matching_aware(critic, images(), sentences).item() == pytest.approx(length**6, rel=1e-12)
    assert matching_aware(critic, images(), sentences, 2).item() == pytest.approx(length**2, rel=1e-12)
    still = torch.zeros((), dtype=torch.float64, requires_grad=True)
    flat = matching_aware(lambda x, s: still * (critic(x, s)), images(), sentences)
    flat.backward()
    assert still.grad == 0, "where the gradient is 0, so is the penalty's own"
