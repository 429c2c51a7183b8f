"""Perceptrons: any image shape, raw logits, and no sample that sees another."""

from itertools import pairwise
from math import prod

import pytest
import torch
from torch import nn

from gans.networks import mlp

torch.set_num_threads(1)
SIZES = [1, 2, 5, 28, 32, (48, 80), (3, 1)]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", SIZES)
def test_shapes(size, channels):
    height, width = (size, size) if isinstance(size, int) else size
    images = mlp.Generator(6, size, channels, 4)(torch.randn(3, 6))
    assert images.shape == (3, channels, height, width)
    assert images.abs().max() <= 1
    assert mlp.Discriminator(size, channels, 4)(images).shape == (3,)
    assert mlp.Discriminator(size, channels, 4)(images[:1]).shape == (1,)


def test_layers_are_those_of_the_docstring():
    def linear(network):
        return [(m.in_features, m.out_features) for m in network.modules() if isinstance(m, nn.Linear)]

    generator, discriminator = mlp.Generator(6, (4, 5), 3, 8), mlp.Discriminator((4, 5), 3, 8)
    assert linear(generator) == [(6, 8), (8, 16), (16, 32), (32, 60)]
    assert linear(discriminator) == [(60, 16), (16, 8), (8, 1)]
    kinds = [type(layer) for layer in discriminator.layers]
    assert kinds == [nn.Linear, nn.LeakyReLU, nn.Linear, nn.LeakyReLU, nn.Linear]  # and no sigmoid


def test_outputs_are_those_of_the_equations():
    generator, discriminator = mlp.Generator(6, (4, 5), 3, 8), mlp.Discriminator((4, 5), 3, 8)
    z = torch.randn(3, 6)

    def through(x, layers):
        linears = [layer for layer in layers if isinstance(layer, nn.Linear)]
        for layer in linears[:-1]:
            x = x @ layer.weight.T + layer.bias
            x = x.maximum(0.2 * x)
        return x @ linears[-1].weight.T + linears[-1].bias

    images = torch.tanh(through(z, generator.layers)).reshape(3, 3, 4, 5)
    torch.testing.assert_close(generator(z), images)
    torch.testing.assert_close(discriminator(images), through(images.reshape(3, 60), discriminator.layers)[:, 0])


@pytest.mark.parametrize("training", [True, False])
def test_samples_do_not_see_each_other(training):
    torch.manual_seed(0)
    generator, discriminator = (
        net.double().train(training) for net in (mlp.Generator(6, 8, 3, 4), mlp.Discriminator(8, 3, 4))
    )
    z = torch.randn(5, 6, dtype=torch.float64)
    images = generator(z)
    torch.testing.assert_close(torch.cat([generator(row) for row in z.split(1)]), images)
    torch.testing.assert_close(torch.cat([discriminator(row) for row in images.split(1)]), discriminator(images))
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(generator(z))[2], z)
    assert gradient[2].abs().sum() > 0
    assert gradient[[0, 1, 3, 4]].abs().sum() == 0


def test_logits_are_raw_scores():
    discriminator = mlp.Discriminator(8, 1, 4)
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.mul_(10)
    logits = discriminator(torch.randn(64, 1, 8, 8))
    assert logits.max() > 1
    assert logits.min() < 0


def test_inputs_are_left_as_they_are():
    generator, discriminator = mlp.Generator(6, 8, 3, 4), mlp.Discriminator(8, 3, 4)
    z, images = torch.randn(2, 6), torch.randn(2, 3, 8, 8)
    before = z.clone(), images.clone()
    generator(z)
    discriminator(images)
    assert torch.equal(z, before[0])
    assert torch.equal(images, before[1])


def test_the_number_of_parameters():
    def count(*widths):
        return sum(inputs * outputs + outputs for inputs, outputs in pairwise(widths))

    generator, discriminator = mlp.Generator(100, 28, 1, 256), mlp.Discriminator(28, 1, 256)
    assert sum(prod(p.shape) for p in generator.parameters()) == count(100, 256, 512, 1024, 784)
    assert sum(prod(p.shape) for p in discriminator.parameters()) == count(784, 512, 256, 1)


@pytest.mark.parametrize("width", [0, -1])
def test_a_width_that_is_not_positive_is_refused(width):
    for make in (lambda: mlp.Generator(6, 8, 1, width), lambda: mlp.Discriminator(8, 1, width)):
        with pytest.raises(ValueError, match="expected at least 1 each"):
            make()


@pytest.mark.parametrize(("size", "channels", "message"), [(0, 1, "size is 0"), (8, 2, "channels is 2")])
def test_bad_images_are_refused(size, channels, message):
    for make in (lambda: mlp.Generator(6, size, channels, 4), lambda: mlp.Discriminator(size, channels, 4)):
        with pytest.raises(ValueError, match=message):
            make()
