"""Floating-point operations of a training step, against counts by hand."""

import pytest
import torch
from torch.nn import functional

from gans.benchmarks.flops import Flops, cost


@pytest.mark.parametrize(("groups", "transposed"), [(1, False), (4, False), (1, True), (2, True)])
def test_a_convolutions_backward_pass_costs_two_forward_passes(groups: int, transposed: bool) -> None:
    first, second = (8, 12) if transposed else (12, 8)  # the weights' first axis is that of the output, or the input
    weight = torch.ones(first, second // groups, 3, 3, requires_grad=True)
    images = torch.ones(2, 8, 6, 5, requires_grad=True)
    convolve = functional.conv_transpose2d if transposed else functional.conv2d
    with Flops() as forward:
        maps = convolve(images, weight, padding=1, groups=groups)
    # Two images of 6 x 5 positions, 8 x 12 / groups pairs of channels, 9 weights each, a product and a sum.
    assert forward.total == 2 * (2 * 6 * 5) * (8 * 12 // groups) * 9
    with Flops() as backward:
        maps.sum().backward()
    assert backward.total == 2 * forward.total


def test_a_gradient_that_nobody_asks_for_is_not_counted() -> None:
    weight, images = torch.ones(4, 3, 3, 3, requires_grad=True), torch.ones(2, 3, 5, 5)
    with Flops() as count:
        functional.conv2d(images, weight).sum().backward()
    assert count.total == 2 * 2 * (2 * 3 * 3) * (4 * 3) * 9


def test_fused_attention_counts_as_its_products_do() -> None:
    query, keys, values = (torch.rand(2, 1, length, 8, requires_grad=True) for length in (6, 4, 4))
    with Flops() as fused:
        maps = functional.scaled_dot_product_attention(query, keys, values)
    assert fused.total == 2 * 2 * (6 * 4) * (8 + 8)
    with Flops() as backward:
        maps.sum().backward()
    assert backward.total == 2 * 2 * (6 * 4) * (3 * 8 + 2 * 8)


def test_r3gan_takes_nineteen_forward_passes() -> None:
    """The networks cost the same, and the loss and both penalties share a forward pass.

    Discriminator: the generator 1, two forward passes 2, their gradients at the images 2, and the backward passes of
    all four 8. Generator: its forward pass 1, two of the discriminator 2, the gradient at the fake images 1, and the
    generator's backward pass 2.
    """
    found = cost("r3gan")
    players = {name: value / found.unit for name, value in found.players.items()}
    assert players == pytest.approx({"discriminator": 13, "generator": 6}, rel=0.01)
    assert found.total / found.unit == pytest.approx(19, rel=0.01)
    assert found.generator / found.unit == pytest.approx(1, rel=0.01)
