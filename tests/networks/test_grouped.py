"""Grouped convolutions against PyTorch's, with all their derivatives."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gans.benchmarks.launches import Launches
from gans.networks.grouped import GroupedConv2d, Options, convolve

torch.set_num_threads(1)

CASES = [
    (Options(padding=(1, 1), groups=2), 4, (3, 3), (5, 4)),
    (Options((2, 2), (1, 1), groups=4), 4, (4, 4), (7, 6)),
    (Options((2, 1), (0, 2), (1, 2), 2), 6, (2, 3), (6, 5)),
    (Options(groups=4), 4, (3, 2), (3, 2)),
]


def arguments(options, outputs, kernel, size):
    torch.manual_seed(0)
    shapes = [(2, 4, *size), (outputs, 4 // options.groups, *kernel), (outputs,)]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def derivatives(function, x, weight, bias):
    """The value, its gradients, and those of a penalty of the gradient with respect to x."""
    y = function(x, weight, bias)
    loss = y.pow(3).sum()
    first = torch.autograd.grad(loss, (x, weight, bias), create_graph=True)
    second = torch.autograd.grad(first[0].pow(3).sum(), (x, weight, bias), retain_graph=True)
    mixed = torch.autograd.grad(first[1].pow(3).sum() + first[2].pow(3).sum(), (x, weight, bias))
    return [y, *first, *second, *mixed]


@pytest.mark.parametrize("case", CASES)
def test_all_derivatives_are_those_of_pytorch(case):
    given, options = arguments(*case), case[0]
    own = derivatives(lambda *tensors: convolve(*tensors, options), *given)
    reference = derivatives(lambda *tensors: F.conv2d(*tensors, *options), *given)
    for found, expected in zip(own, reference, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-10)
    assert torch.autograd.gradcheck(lambda *tensors: convolve(*tensors, options), given, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda *tensors: convolve(*tensors, options), given, fast_mode=True)


def test_a_penalty_needs_no_kernel_for_each_group():
    layers = [GroupedConv2d(64, 64, 3, padding=1, groups=groups) for groups in (4, 64)]
    counts = []
    for layer in layers:
        x = torch.randn(2, 64, 6, 6, requires_grad=True)
        with Launches() as launches:
            (gradient,) = torch.autograd.grad(layer(x).pow(2).sum(), x, create_graph=True)
            gradient.pow(2).sum().backward()
        counts.append(launches.counts.total())
    assert counts[0] == counts[1] <= 35


def test_the_gradient_of_the_input_alone_leaves_the_weights_alone():
    layer, x = GroupedConv2d(4, 4, 3, groups=4), torch.randn(2, 4, 6, 6, requires_grad=True)
    y = layer(x)
    with Launches() as launches:
        torch.autograd.grad(y.sum(), x, create_graph=True)
    assert "convolution_backward" not in launches.counts
    assert "convolution" in launches.counts


@pytest.mark.parametrize("bias", [True, False])
def test_the_layer_is_that_of_pytorch(bias):
    own, reference = GroupedConv2d(6, 6, 3, padding=1, groups=3, bias=bias), nn.Conv2d(6, 6, 3, 1, 1, 1, 3, bias)
    reference.load_state_dict(own.state_dict())
    x = torch.randn(2, 6, 5, 5)
    for setting in (torch.no_grad(), torch.enable_grad(), torch.autocast("cpu", torch.bfloat16)):
        with setting:
            assert torch.equal(own(x), reference(x))
    with torch.autocast("cpu", torch.bfloat16):
        losses = [layer(x).float().square().sum() for layer in (own, reference)]
    for loss in losses:
        loss.backward()
    for found, expected in zip(own.parameters(), reference.parameters(), strict=True):
        assert found.grad.dtype == torch.float32
        torch.testing.assert_close(found.grad, expected.grad, rtol=2e-2, atol=2e-2)
