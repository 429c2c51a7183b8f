"""3x3 convolutions merged with a resampling by 2, against the two operations one after the other."""

import pytest
import torch
from torch import nn
from torch.autograd import gradgradcheck
from torch.nn.functional import avg_pool2d, interpolate
from torch.utils.flop_counter import FlopCounterMode

from gans.networks.strided import convolve_and_pool, double_and_convolve


def pooled(convolution, maps):
    return avg_pool2d(convolution(maps), 2)


def doubled(convolution, maps):
    return convolution(interpolate(maps, scale_factor=2, mode="nearest"))


PAIRS = [pytest.param(convolve_and_pool, pooled, id="pool"), pytest.param(double_and_convolve, doubled, id="double")]


@pytest.mark.parametrize(("merged", "apart"), PAIRS)
@pytest.mark.parametrize("sides", [(2, 2), (7, 4), (8, 9)])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_both_operations(merged, apart, sides, bias):
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 5, 3, padding=1, bias=bias).double()
    maps = torch.randn(2, 3, *sides, dtype=torch.float64, requires_grad=True)
    found, wanted = merged(convolution, maps), apart(convolution, maps)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-14)
    inputs = [maps, *convolution.parameters()]
    slope = torch.randn_like(found)
    for grad, wanted_grad in zip(
        torch.autograd.grad(found, inputs, slope), torch.autograd.grad(wanted, inputs, slope), strict=True
    ):
        torch.testing.assert_close(grad, wanted_grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("merged", "apart"), PAIRS)
def test_they_can_be_differentiated_twice(merged, apart):
    torch.manual_seed(0)
    convolution = nn.Conv2d(1, 2, 3, padding=1).double()
    maps = torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert gradgradcheck(lambda x: merged(convolution, x).square(), maps)


def multiplications(run, convolution, maps):
    with FlopCounterMode(display=False) as counter:
        run(convolution, maps)
    return counter.get_total_flops()


@pytest.mark.parametrize(("merged", "apart"), PAIRS)
def test_they_need_fewer_than_half_of_the_multiplications(merged, apart):
    convolution, maps = nn.Conv2d(8, 8, 3, padding=1), torch.randn(1, 8, 8, 8)
    ratio = multiplications(apart, convolution, maps) / multiplications(merged, convolution, maps)
    assert ratio == pytest.approx(9 / 4)
