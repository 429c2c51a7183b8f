"""SRResNet and RRDB: they begin as interpolation, for any size and scale, and their blocks near the identity."""

import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate, leaky_relu
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from gans.networks.superresolution import RRDB, Dense, Generator, Residual, enlarged
from gans.pictures.images import to_float, to_uint8

KINDS = [None, 2]  # growth: residual blocks, or dense ones


def images(size, channels=3, count=2):
    return torch.rand(count, channels, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("growth", KINDS)
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize(("size", "channels"), [((1, 1), 1), ((5, 9), 3), ((8, 6), 4)])
def test_a_network_begins_with_the_baseline(growth, scale, size, channels):
    torch.manual_seed(0)
    given = images(size, channels)
    for base in ("bicubic", "bilinear"):
        network = Generator(channels, scale, 3, 2, growth, base)
        made = network(given)
        assert made.shape == (2, channels, scale * size[0], scale * size[1])
        assert torch.equal(made, enlarged(given, scale, base))
        made.square().mean().backward()
        assert network.last.weight.grad.abs().max() > 0
        network.last.weight.data.normal_()
        assert not torch.allclose(network(given), made)


def test_interpolation_is_pillows():
    pixels = to_uint8(0.6 * images((9, 13)))  # at white and black Pillow clips between rows and columns
    for kernel, name in ((Image.Resampling.BICUBIC, "bicubic"), (Image.Resampling.BILINEAR, "bilinear")):
        theirs = pil_to_tensor(to_pil_image(pixels[0]).resize((39, 27), kernel))
        ours = to_uint8(enlarged(to_float(pixels[:1]), 3, name))[0]
        assert (ours.int() - theirs.int()).abs().max() <= 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_interpolation_keeps_the_precision_of_images(dtype):
    assert enlarged(images((4, 4)).to(dtype), 2).dtype == dtype


@pytest.mark.parametrize(("kind", "options", "share"), [(Residual, (8,), 1), (Dense, (8, 4), 1), (RRDB, (8, 4), 1.2)])
def test_blocks_begin_near_the_identity(kind, options, share):
    """RRDB adds a fifth of what its three dense blocks give, which begin near the identity themselves."""
    torch.manual_seed(0)
    block, maps = kind(*options), torch.randn(2, 8, 6, 6)
    change = (block(maps) - share * maps).std()
    assert 0 < change < 0.05


def test_a_network_sees_as_far_as_it_is_deep():
    """Two convolutions a block, and one each of head, body, tail and end, each of which sees a pixel further."""
    torch.manual_seed(0)
    network = Generator(1, 1, 4, 2).double()
    network.last.weight.data.normal_()
    given = torch.randn(1, 1, 31, 31, dtype=torch.float64).requires_grad_()
    network(given)[0, 0, 15, 15].backward()
    seen = given.grad[0, 0].abs() > 0
    rows = seen.any(1).nonzero().flatten()
    assert (int(rows.min()), int(rows.max())) == (15 - 8, 15 + 8)


def test_the_papers_sizes():
    """BasicSR's published networks: 1.5 and 16.7 million parameters."""
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in Generator(3, 4, 64, *more).parameters()) for more in ((16,), (23, 32))]
    assert [size / 1e6 for size in sizes] == pytest.approx([1.52, 16.7], rel=0.03)


@pytest.mark.parametrize(("scale", "doublings"), [(2, 1), (4, 2), (3, 1)])
def test_with_nearest_and_no_base_the_network_is_esrgans(scale, doublings):
    """Equation by equation on images in [0, 1]; its layers are as published and begin with no zeros."""
    torch.manual_seed(0)
    network = Generator(3, scale, 4, 2, 2, "none", "nearest", unit=True)
    assert network.last.weight.abs().min() > 0
    images = torch.rand(2, 3, 5, 7)
    with torch.no_grad():
        maps = network.head(images)
        maps = maps + network.body(maps)
        for number in range(doublings):
            maps = interpolate(maps, scale_factor=scale // doublings, mode="nearest")
            maps = leaky_relu(network.ups[number][-1](maps), 0.2)
        expected = network.last(leaky_relu(network.tail(maps), 0.2))
        torch.testing.assert_close((network(2 * images - 1) + 1) / 2, expected)
    assert expected.shape == (2, 3, 5 * scale, 7 * scale)


@pytest.mark.parametrize("enlarge", ["shuffle", "nearest", "direct"])
@pytest.mark.parametrize(("scale", "shrink"), [(1, 2), (2, 2), (1, 4)])
def test_layers_may_work_on_smaller_maps(enlarge, scale, shrink):
    """Images of any size; of sides that are multiples nothing is padded, as in Real-ESRGAN."""
    torch.manual_seed(0)
    network = Generator(3, scale, 4, 1, 2, enlarge=enlarge, shrink=shrink)
    seen = []
    network.head.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    given = images((7, 8))
    assert torch.equal(network(given), enlarged(given, scale))
    assert seen[0].shape == (2, 3 * shrink**2, -(-7 // shrink), 8 // shrink)
    assert network.multiple == shrink
    assert torch.equal(seen[0][:, 0, 0, 1], given[:, 0, 0, shrink])


@pytest.mark.parametrize(("scale", "shrink"), [(4, 1), (3, 1), (2, 2)])
def test_a_direct_enlargement_has_no_layers_on_large_maps(scale, shrink):
    torch.manual_seed(0)
    network = Generator(3, scale, 4, 1, enlarge="direct", shrink=shrink)
    seen = []
    for layer in (network.tail, network.last):
        layer.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0].shape[-2:]))
    given = images((6, 8))
    assert torch.equal(network(given), enlarged(given, scale))
    assert seen == [(6 // shrink, 8 // shrink)] * 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"scale": 5}, "scale is 5; expected one of 1, 2, 3, 4, 8"),
        ({"base": "nearest"}, "base is nearest; expected bicubic, bilinear or none"),
        ({"enlarge": "bicubic"}, "enlarge is bicubic; expected shuffle, nearest or direct"),
        ({"shrink": 3}, "shrink is 3; expected 1, 2 or 4"),
        ({"scale": 3, "shrink": 2}, "shrink is 2; expected 1, 2 or 4, and 1 for a scale of 3"),
        ({"blocks": 0}, "blocks is 0; expected at least 1"),
        ({"growth": 0}, "growth is 0; expected at least 1"),
    ],
)
def test_wrong_options(options, says):
    with pytest.raises(ValueError, match=says):
        Generator(3, **options)
