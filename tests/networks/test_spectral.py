"""Spectral norms of all layers at once: PyTorch's numbers, gradients of every order, copies, shared steps."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from gans.models import SAGAN, SNGAN
from gans.networks import spectral
from gans.networks.spectral import Division, normalise, normed_together, power_iteration, release, spectral_layers


def layers():
    """A network with every kind of weight, in the layout of fast convolutions, not yet normed."""
    torch.manual_seed(0)
    parts = nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(36, 2)
    return nn.Sequential(*parts).double().to(memory_format=torch.channels_last)


def normed(normalise):
    network = layers()
    for index in (0, 2, 4):
        normalise(network[index])
    return network


def pair():
    """The project's layers and PyTorch's, with equal vectors and the same names."""
    ours, theirs = normed(normalise), normed(parametrizations.spectral_norm)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def descended(network, optimizer, images, together):
    """The loss, whose penalty differentiates the gradient, before a step of the optimizer."""
    optimizer.zero_grad()
    with normed_together(spectral_layers(network)) if together else nullcontext():
        images = images.clone().requires_grad_()
        logits = network(images)
        (slope,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
        loss = logits.square().mean() + slope.square().sum()
        loss.backward()
    optimizer.step()
    return loss


@pytest.mark.parametrize("together", [True, False])
def test_the_numbers_are_pytorchs(together):
    ours, theirs = pair()
    optimizers = [torch.optim.Adam(network.parameters(), 0.01) for network in (ours, theirs)]
    for _ in range(3):
        images = torch.randn(5, 2, 5, 5).double()
        losses = descended(ours, optimizers[0], images, together), descended(theirs, optimizers[1], images, False)
        assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-10)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for (name, value), (_, expected) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-10, msg=name)
    for network in (ours, theirs):
        network.eval()
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-12, atol=1e-12)


def test_the_gradient_is_that_of_the_quotient_and_differentiable():
    torch.manual_seed(0)
    weights = [torch.randn(3, 2, 2, 2).double().requires_grad_(), torch.randn(4, 3).double().requires_grad_()]
    us, vs = [torch.randn(3).double(), torch.randn(4).double()], [torch.randn(8).double(), torch.randn(3).double()]

    def divided(*weights):
        pairs = zip(us, vs, weights, strict=True)
        values = [torch.dot(u, weight.detach().flatten(1) @ v) for u, v, weight in pairs]
        return Division.apply(*us, *vs, *values, *weights)

    def plain(*weights):
        values = [torch.dot(u, weight.flatten(1) @ v) for u, v, weight in zip(us, vs, weights, strict=True)]
        return *(weight / value for weight, value in zip(weights, values, strict=True)), torch.stack(values)

    for got, expected in zip(divided(*weights), plain(*weights), strict=True):
        torch.testing.assert_close(got, expected)
    assert torch.autograd.gradcheck(divided, weights)
    assert torch.autograd.gradgradcheck(divided, weights)


def test_power_iterations_find_the_largest_singular_value():
    torch.manual_seed(0)
    matrices, vs = [torch.randn(5, 3).double(), torch.zeros(2, 4).double()], [torch.ones(3).double()] * 2
    vs[1] = torch.ones(4).double()
    for _ in range(200):
        us, vs, values = power_iteration(matrices, vs, 1e-12)
    assert float(values[0]) == pytest.approx(float(torch.linalg.matrix_norm(matrices[0], 2)))
    torch.testing.assert_close(matrices[0] @ vs[0], values[0] * us[0])
    assert float(values[1]) == 0
    assert all(vector.isfinite().all() for vector in (*us, *vs))


# -- several forward passes --------------------------------------------------------------------------------------------


def vectors(network):
    return {name: buffer.clone() for name, buffer in network.named_buffers()}


def test_forward_passes_share_weights_and_one_iteration():
    network, alone = normed(normalise), normed(normalise)
    alone.load_state_dict(network.state_dict())
    images = torch.randn(2, 2, 5, 5).double()
    alone(images)
    with normed_together(spectral_layers(network)):
        first, second = network[0].weight, network[0].weight
        assert first is second
        torch.testing.assert_close(network(images), network(images), rtol=0, atol=0)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(network.buffers(), alone.buffers(), strict=True))
    before = vectors(network)
    with normed_together(spectral_layers(network), iterate=False):
        network(images)
    assert all(torch.equal(before[name], buffer) for name, buffer in network.named_buffers())
    network(images)  # outside, each layer iterates again
    assert not torch.equal(before["0.parametrizations.weight.0._u"], network[0].parametrizations.weight[0]._u)


def test_a_pass_before_keeps_its_vectors_for_its_backward_pass():
    """Real and fake images in two passes, one loss: the vectors move between them."""
    ours, theirs = pair()
    images = torch.randn(2, 4, 2, 5, 5).double()
    for network in (ours, theirs):
        (network(images[0]).sum() - network(images[1]).square().sum()).backward()
    for got, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(got.grad, expected.grad, rtol=1e-10, atol=1e-12)


def test_frozen_weights_and_layers_in_evaluation_mode_take_no_part():
    network = normed(normalise)
    network[0].requires_grad_(False)
    network[4].eval()
    before = vectors(network[4])
    with normed_together(spectral_layers(network)):
        assert not network[0].weight.requires_grad
        assert network[2].weight.requires_grad
        network(torch.randn(2, 2, 5, 5).double()).sum().backward()
    assert network[0].parametrizations.weight.original.grad is None
    assert network[2].parametrizations.weight.original.grad is not None
    assert all(torch.equal(before[name], buffer) for name, buffer in network[4].named_buffers())


def test_a_second_backward_pass_needs_a_release():
    network, images = normed(normalise), torch.randn(2, 2, 5, 5).double()
    with normed_together(spectral_layers(network)):
        network(images).sum().backward()
        release(spectral_layers(network))
        network(images).sum().backward()  # of weights that each layer norms itself
    assert all(norm.normed is None for norm, _ in spectral_layers(network))


def test_an_error_inside_leaves_nothing_behind():
    network = normed(normalise)
    with pytest.raises(RuntimeError), normed_together(spectral_layers(network)):
        raise RuntimeError
    twin = copy.deepcopy(network)  # a tensor with a history could not be copied
    twin.load_state_dict(network.state_dict())
    assert torch.equal(twin.eval()[0].weight, network.eval()[0].weight)


# -- a step of a model -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SNGAN, SAGAN])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_each_step_of_a_player_has_one_power_iteration(trainer, monkeypatch, kind, accumulate):
    count, iterate = [], spectral.power_iteration

    def counting(matrices, *given):
        count.extend(matrices)
        return iterate(matrices, *given)

    monkeypatch.setattr(spectral, "power_iteration", counting)
    options = {"critic_steps": 2} if kind is SNGAN else {}
    model = kind(size=16, channels=1, latent_dim=4, width=2, accumulate=accumulate, **options)
    count.clear()  # PyTorch asks a new parametrisation for its weight
    data = torch.utils.data.TensorDataset(torch.rand(8, 1, 16, 16), torch.zeros(8, dtype=torch.long))
    trainer(1).fit(model, torch.utils.data.DataLoader(data, batch_size=4))
    trained = [norm for norm, _ in spectral_layers(model) if norm.training]
    assert trained
    assert len(count) == len(trained) * (model.critic_steps + 1)
