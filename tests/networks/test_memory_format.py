"""The memory format of convolutional networks: the same numbers in both, and InstanceNorm, which decides on it."""

import copy
import math

import pytest
import torch
from torch import nn

from gans.networks import adain, biggan, dcgan, dfgan, gated, patch, resnet, superresolution, translation
from gans.networks.layers import InstanceNorm2d


def built(kind, *arguments, **options):
    """Return a network of random weights: zeros at initialisation would hide layers."""
    torch.manual_seed(0)
    network = kind(*arguments, **options)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


SIDE = 32
IMAGES = ((2, 3, SIDE, SIDE),)
NETWORKS = {  # of each architecture that is channels_last, with the shapes of its inputs
    "dcgan.Generator": (lambda: built(dcgan.Generator, 5, SIDE, 3, 4), ((2, 5),)),
    "dcgan.Discriminator": (lambda: built(dcgan.Discriminator, SIDE, 3, 4), IMAGES),
    "resnet.Generator": (lambda: built(resnet.Generator, 5, SIDE, 3, 4, attention=(16,)), ((2, 5),)),
    "resnet.Discriminator": (lambda: built(resnet.Discriminator, SIDE, 3, 4), IMAGES),
    "biggan.Generator": (lambda: built(biggan.Generator, 5, SIDE, 3, 1), ((2, 5),)),
    "biggan.Discriminator": (lambda: built(biggan.Discriminator, SIDE, 3, 1, deep=True), IMAGES),
    "dfgan.Generator": (lambda: built(dfgan.Generator, 5, 6, SIDE, 3, 4), ((2, 5), (2, 6))),
    "dfgan.Discriminator": (lambda: built(dfgan.Discriminator, 6, SIDE, 3, 4), (*IMAGES, (2, 6))),
    "gated.Generator": (lambda: built(gated.Generator, SIDE, 3, 4), (*IMAGES, (2, 1, SIDE, SIDE))),
    "gated.Discriminator": (lambda: built(gated.Discriminator, 3, 4), IMAGES),
    "superresolution.Generator": (lambda: built(superresolution.Generator, 3, 2, 8, 2), IMAGES),
    "superresolution.Generator, RRDB": (lambda: built(superresolution.Generator, 3, 2, 8, 1, growth=4), IMAGES),
    "adain.Decoder": (lambda: built(adain.Decoder, 8, 2, 3, 4), ((2, 8, 8, 8),)),
    "patch.Discriminator": (lambda: built(patch.Discriminator, SIDE, 3, 4, scales=2, norm="none"), IMAGES),
    "translation.Generator": (lambda: built(translation.Generator, SIDE, 3, 3, 4, 2, norm="batch"), IMAGES),
}
WITH_INSTANCE_NORM = {
    "patch.Discriminator": (lambda: built(patch.Discriminator, SIDE, 3, 4), IMAGES),
    "translation.Generator": (lambda: built(translation.Generator, SIDE, 3, 3, 4, 2), IMAGES),
}


def convolutions(network):
    return [p for p in network.parameters() if p.ndim == 4 and min(p.shape) > 1]


def last(tensor):
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


def contiguous(network):
    """Return a copy in PyTorch's default format, with a state dict that was saved from the network."""
    other = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    other.load_state_dict(network.state_dict())
    return other


def outcome(network, shapes, dtype, second):
    """Return outputs, and gradients of parameters: of the outputs, and of their slope as penalties have it."""
    generator = torch.Generator().manual_seed(1)
    inputs = [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes
    ]
    output = network(*inputs)
    loss = (output * torch.linspace(-1, 1, output.numel(), dtype=dtype).view_as(output)).sum()
    if second:
        loss = sum(slope.square().sum() for slope in torch.autograd.grad(loss, inputs[:1], create_graph=True))
    loss.backward()
    return [output, *(p.grad for p in network.parameters() if p.grad is not None)]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("second", [False, True])
def test_both_memory_formats_have_the_same_numbers(name, second):
    make, shapes = NETWORKS[name]
    network = make().double()
    assert convolutions(network)
    assert all(last(p) for p in convolutions(network))
    other = contiguous(network)
    assert not any(last(p) for p in other.parameters())
    for exact, dtype in ((1e-12, torch.float64), (1e-5, torch.float32)):
        pairs = [outcome(net.zero_grad() or net.to(dtype), shapes, dtype, second) for net in (network, other)]
        # Relative to the largest of all: before BatchNorm the gradient of a bias is 0 but for rounding.
        most = max(float(there.abs().max()) for there in pairs[1])
        for here, there in zip(*pairs, strict=True):
            assert float((here - there).abs().max()) <= exact * most


@pytest.mark.parametrize("name", NETWORKS)
def test_images_have_the_default_format_and_gradients_that_of_the_weights(name):
    make, shapes = NETWORKS[name]
    network = make()
    assert all(last(p) for p in convolutions(copy.deepcopy(network)))
    other = contiguous(network)
    network.load_state_dict(other.state_dict())  # saved in the default format
    assert all(last(p) for p in convolutions(network))
    output = network(*(torch.randn(shape) for shape in shapes))
    assert output.is_contiguous() or "Discriminator" in name
    output.mean().backward()
    assert all(p.grad.stride() == p.stride() for p in convolutions(network) if p.grad is not None)
    torch.optim.Adam(network.parameters(), fused=True).step()  # which refuses other formats


@pytest.mark.parametrize("name", WITH_INSTANCE_NORM)
def test_networks_with_instance_norm_keep_the_default_format(name):
    make, _ = WITH_INSTANCE_NORM[name]
    assert not any(last(p) for p in make().parameters())


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 3, 1, 2)])
def test_instance_norm_is_pytorchs(affine, shape):
    norm, reference = (kind(3, affine=affine).double() for kind in (InstanceNorm2d, nn.InstanceNorm2d))
    torch.manual_seed(0)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    reference.load_state_dict(norm.state_dict(), strict=True)
    found = []
    for layer in (norm, reference):
        maps = torch.linspace(-1, 2, math.prod(shape), dtype=torch.float64).square().view(shape).requires_grad_()
        output = layer(maps)
        [slope] = torch.autograd.grad((output * output.detach().roll(1, 3)).sum(), maps, create_graph=True)
        [second] = torch.autograd.grad(slope.square().sum(), maps)
        found.append((output, slope, second))
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(here, there, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("images", [1, 2])
def test_instance_norm_refuses_maps_of_one_pixel(images):
    for norm in (InstanceNorm2d(3), nn.InstanceNorm2d(3)):
        with pytest.raises(ValueError, match="more than 1 spatial element"):
            norm(torch.rand(images, 3, 1, 1))


def test_instance_norm_takes_one_image_without_a_batch():
    maps = torch.rand(3, 4, 5)
    torch.testing.assert_close(InstanceNorm2d(3)(maps), nn.InstanceNorm2d(3)(maps))
