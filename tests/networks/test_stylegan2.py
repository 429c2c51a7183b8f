"""StyleGAN2 against its equations written out with plain sums, its published sizes, and what its layers promise."""

import math

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from gans.networks import stylegan2

torch.set_num_threads(1)

TINY = {"base_width": 64, "max_width": 6}


def players(size=16, channels=3, num_classes=0, architecture="resnet", group=2, **options):
    """Both networks in float64, with random numbers in what is initialised by zeros."""
    torch.manual_seed(0)
    options = {**TINY, **options}
    generator = stylegan2.Generator(5, size, channels, num_classes, w_dim=6, mapping_layers=2, **options)
    options |= {"architecture": architecture, "minibatch_group": group, "mapping_layers": 2}
    discriminator = stylegan2.Discriminator(size, channels, num_classes, **options)
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            if parameter.ndim < 2:
                nn.init.normal_(parameter, mean=float("affine" in name), std=0.5)
    return generator.double(), discriminator.double()


def layers(network, kind=stylegan2.StyledConv):
    return [module for module in network.modules() if isinstance(module, kind)]


def force(network, fused):
    for layer in layers(network):
        layer.fused = fused
    return network


# -- the equations -----------------------------------------------------------------------------------------------------


def fir(maps, before, after, gain=1.0):
    """[1, 3, 3, 1] / 8 as a sum over its places, after a border of zeros."""
    maps = F.pad(maps, (before, after, before, after))
    height, width = maps.shape[2] - 3, maps.shape[3] - 3
    taps = [1 / 8, 3 / 8, 3 / 8, 1 / 8]
    return gain * sum(taps[y] * taps[x] * maps[:, :, y : y + height, x : x + width] for y in range(4) for x in range(4))


def spread(maps):
    """Zeros after each pixel, in both directions."""
    count, channels, height, width = maps.shape
    wide = maps.new_zeros(count, channels, 2 * height, 2 * width)
    wide[:, :, ::2, ::2] = maps
    return wide


def upsampled(maps):
    return fir(spread(maps), 2, 1, gain=4)


def lrelu(maps, gain=1.0, clamp=256.0):
    return gain * (F.leaky_relu(maps, 0.2) * math.sqrt(2)).clamp(-clamp, clamp)


def linear(layer, vectors, multiplier=1.0):
    return vectors @ layer.weight.T * multiplier / math.sqrt(vectors.shape[1]) + layer.bias * multiplier


def mapped(mapping, z, labels):
    def unit(vectors):
        return vectors / (vectors.square().mean(1, keepdim=True) + 1e-8).sqrt()

    parts = [] if z is None else [unit(z)]
    if labels is not None:
        table = mapping.embedding
        hot = F.one_hot(labels, len(table.weight)).double()
        parts.append(unit(hot @ table.weight / math.sqrt(len(table.weight)) + table.bias))
    w = torch.cat(parts, 1)
    for layer in mapping.layers:
        w = lrelu(linear(layer, w, 0.01), clamp=math.inf)
    return w


def styled(layer, maps, w, noise):
    """Equations 1 and 3 of arXiv 1912.04958, a sample at a time."""
    found = []
    for sample, style in zip(maps, linear(layer.affine, w), strict=True):
        weight = layer.weight * style[:, None, None]
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if layer.filter is None:
            found.append(F.conv2d(sample[None], weight, padding=1))
        else:  # a true convolution of the pixels between zeros, so the kernel is flipped
            wide = F.pad(spread(sample[None]), (2, 1, 2, 1))
            found.append(fir(F.conv2d(wide, weight.flip(2, 3)), 1, 1, gain=4))
    return lrelu(torch.cat(found) + noise * layer.strength + layer.bias[:, None, None])


def coloured(layer, maps, w):
    weight = layer.weight[:, :, 0, 0] / math.sqrt(maps.shape[1])
    image = torch.einsum("kc,nc,nchw->nkhw", weight, linear(layer.affine, w), maps)
    return (image + layer.bias[:, None, None]).clamp(-256, 256)


def reference_images(synthesis, ws, noise):
    maps, image, start, at = synthesis.constant.expand(len(ws), -1, -1, -1), None, 0, 0
    for block in synthesis.blocks:
        for layer in (block.conv0, block.conv1):
            if layer is not None:
                height, width = (side * (1 if layer.filter is None else 2) for side in maps.shape[2:])
                part = noise[:, start : start + height * width].reshape(-1, 1, height, width)
                maps = styled(layer, maps, ws[:, at], part)
                start, at = start + height * width, at + 1
        colours = coloured(block.to_rgb, maps, ws[:, at])  # its style is that of the next level's first convolution
        image = colours if image is None else upsampled(image) + colours
    assert start == noise.shape[1]
    assert at == ws.shape[1] - 1
    return image


def convolved(layer, maps, down=False, gain=1.0):
    weight = layer.weight / math.sqrt(layer.weight[0].numel())
    if down:
        maps = fir(maps, 2, 2) if weight.shape[2] == 3 else fir(maps, 1, 1)[:, :, ::2, ::2]
    stride = 2 if down and weight.shape[2] == 3 else 1
    maps = F.conv2d(maps, weight, None, stride, padding=0 if down else weight.shape[2] // 2)
    return maps * gain if layer.bias is None else lrelu(maps + layer.bias[:, None, None], gain)


def reference_logits(discriminator, images, labels, architecture, group):
    maps, gain = None, math.sqrt(0.5) if architecture == "resnet" else 1.0
    for block in discriminator.blocks:
        if maps is None or architecture == "skip":
            maps = convolved(block.from_rgb, images) + (0 if maps is None else maps)
            images = fir(images, 1, 1)[:, :, ::2, ::2]
        changed = convolved(block.conv1, convolved(block.conv0, maps), down=True, gain=gain)
        if architecture == "resnet":
            changed = changed + convolved(block.skip, maps, down=True, gain=gain)
        maps = changed
    if architecture == "skip":
        maps = maps + convolved(discriminator.from_rgb, images)
    spreads = [part.var(0, correction=0) for part in maps.split(group)]  # neighbours, not as the authors group them
    deviation = torch.stack([(spread + 1e-8).sqrt().mean() for spread in spreads]).repeat_interleave(group)
    maps = torch.cat([maps, deviation[:, None, None, None].expand(-1, 1, *maps.shape[2:])], 1)
    vectors = lrelu(linear(discriminator.linear, convolved(discriminator.conv, maps).flatten(1)), clamp=math.inf)
    outputs = linear(discriminator.logits, vectors)
    if labels is None:
        return outputs[:, 0]
    classes = mapped(discriminator.mapping, None, labels)
    return (outputs * classes).sum(1) / math.sqrt(classes.shape[1])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(("size", "num_classes"), [(16, 3), ((8, 24), 0)])
def test_the_generator_is_its_equations(size, num_classes, fused):
    generator = force(players(size, num_classes=num_classes)[0], fused)
    z, labels = torch.randn(3, 5).double(), torch.tensor([2, 0, 2]) if num_classes else None
    with torch.no_grad():
        w = mapped(generator.mapping, z, labels)
        torch.testing.assert_close(generator.mapping(z, labels), w, rtol=1e-10, atol=1e-10)
        ws = torch.randn(3, generator.num_ws, 6).double()  # another style for each layer
        for noise in (None, torch.randn(3, generator.noise_dim).double()):
            rows = generator.synthesis.noise.expand(3, -1) if noise is None else noise
            expected = reference_images(generator.synthesis, ws, rows)
            torch.testing.assert_close(generator.synthesis(ws, noise), expected, rtol=1e-10, atol=1e-10)
        same = generator.synthesis(w[:, None].expand(-1, generator.num_ws, -1))
        torch.testing.assert_close(generator(z, labels), same, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("architecture", ["resnet", "orig", "skip"])
@pytest.mark.parametrize(("size", "num_classes"), [(16, 3), ((8, 24), 0)])
def test_the_discriminator_is_its_equations(size, num_classes, architecture):
    _, discriminator = players(size, num_classes=num_classes, architecture=architecture)
    sides = (size, size) if isinstance(size, int) else size
    images, labels = torch.randn(4, 3, *sides).double(), torch.tensor([2, 0, 2, 1]) if num_classes else None
    with torch.no_grad():
        expected = reference_logits(discriminator, images, labels, architecture, 2)
        torch.testing.assert_close(discriminator(images, labels), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("size", "options", "architecture", "generator", "discriminator"),
    [
        (32, {"mapping_layers": 2}, "orig", 19_947_539, 20_720_641),  # cifar
        (64, {"mapping_layers": 2, "base_width": 16384}, "resnet", 22_243_608, 23_407_361),  # auto
        (256, {"mapping_layers": 8, "base_width": 16384}, "resnet", 24_767_458, 24_001_089),  # paper256
    ],
)
def test_the_published_networks_have_the_parameters_of_the_authors_code(
    size, options, architecture, generator, discriminator
):
    def count(network):
        return sum(parameter.numel() for parameter in network.parameters())

    with torch.device("meta"):
        assert count(stylegan2.Generator(512, size, 3, **options)) == generator
        del options["mapping_layers"]
        assert count(stylegan2.Discriminator(size, 3, architecture=architecture, **options)) == discriminator


# -- layers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fused", [False, True])
def test_the_weights_of_each_output_have_norm_1(fused):
    torch.manual_seed(0)
    layer = stylegan2.StyledConv(4, 7, 5, up=False, clamp=None).double()
    layer.fused = fused
    impulses = torch.zeros(4, 4, 5, 5).double()
    impulses[range(4), range(4), 2, 2] = 1
    w = torch.randn(1, 5).double()
    with torch.no_grad():
        out = layer(impulses, 10 * w.expand(4, -1), torch.zeros(1, 1, 5, 5).double()) / math.sqrt(2)
    weights = torch.where(out < 0, out / 0.2, out)  # without the leaky ReLU
    torch.testing.assert_close(weights.square().sum((0, 2, 3)), torch.ones(7).double())


@torch.no_grad()
def test_learning_rates_are_equalised():
    torch.manual_seed(0)
    layer = stylegan2.Linear(400, 300, lr_multiplier=0.01)
    assert layer.weight.std() == pytest.approx(100, rel=0.02)
    x = torch.randn(50, 400)
    before = layer(x)
    assert before.std() == pytest.approx(1, rel=0.05)
    layer.weight += 1
    layer.bias += 1
    torch.testing.assert_close(layer(x) - before, (0.01 * (x.sum(1) / 20 + 1))[:, None].expand(-1, 300))
    conv = stylegan2.Conv2d(32, 16, 3, leaky=False)
    assert conv.weight.std() == pytest.approx(1, rel=0.05)
    assert conv(torch.randn(4, 32, 9, 9))[..., 1:-1, 1:-1].std() == pytest.approx(1, rel=0.1)


def test_noise_starts_at_nothing_and_is_a_row_of_all_layers():
    torch.manual_seed(0)
    generator = stylegan2.Generator(4, (8, 12), 1, w_dim=4, mapping_layers=1, **TINY)
    sizes = generator.synthesis.noise_sizes
    assert sizes == [(4, 6), (8, 12), (8, 12)]
    assert generator.noise_dim == 24 + 96 + 96
    ws, noise = torch.randn(2, generator.num_ws, 4), torch.randn(2, generator.noise_dim)
    silent = generator.synthesis(ws)
    assert torch.equal(generator.synthesis(ws, noise), silent)
    with torch.no_grad():
        layers(generator)[-1].strength.fill_(2.0)
    changed = noise.clone()
    changed[1, 24 + 96 + 5 * 12 + 7] += 1  # row 5, column 7 of the last layer, of the second image
    first, second = generator.synthesis(ws, noise), generator.synthesis(ws, changed)
    assert not torch.allclose(first, silent)
    assert torch.nonzero(first - second).tolist() == [[1, 0, 5, 7]]
    one = generator.synthesis(ws, noise[:1])
    torch.testing.assert_close(one, generator.synthesis(ws, noise[:1].expand(2, -1)))


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_both_forms_have_derivatives_of_second_order(up, fused):
    torch.manual_seed(0)
    layer = stylegan2.StyledConv(2, 3, 2, up, clamp=100).double()
    layer.fused = fused
    noise = torch.randn(2, 1, 6, 6).double() if up else torch.randn(2, 1, 3, 3).double()
    given = (torch.randn(2, 2, 3, 3).double(), torch.randn(2, 2).double(), layer.weight.detach())
    for part in given:
        part.requires_grad_()

    def form(maps, w, weight):
        return torch.func.functional_call(layer, {"weight": weight}, (maps, w, noise))

    assert gradcheck(form, given, fast_mode=True)
    assert gradgradcheck(form, given, fast_mode=True)


@pytest.mark.parametrize("architecture", ["resnet", "orig", "skip"])
def test_networks_have_derivatives_of_second_order(architecture):
    generator, discriminator = players(8, architecture=architecture, num_classes=2)
    ws = torch.randn(2, generator.num_ws, 6).double().requires_grad_()  # as path length
    assert gradgradcheck(generator.synthesis, ws, fast_mode=True)
    images = torch.randn(2, 3, 8, 8).double().requires_grad_()  # as R1
    assert gradgradcheck(lambda images: discriminator(images, torch.tensor([1, 0])), images, fast_mode=True)


# -- precision ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("half_resolutions", [0, 2, 9])
def test_the_highest_resolutions_are_in_half_precision(dtype, half_resolutions):
    generator, discriminator = (network.float() for network in players(32, half_resolutions=half_resolutions))
    seen = {}

    def note(layer, _, maps):
        seen[layer].append((maps.shape[-1], maps.dtype))

    convs = [*layers(generator), *layers(discriminator, stylegan2.Conv2d)]
    for layer in convs:
        layer.register_forward_hook(note)
    found = []
    for enabled in (False, True):
        seen.update({layer: [] for layer in convs})
        with torch.no_grad(), torch.autocast("cpu", dtype, enabled=enabled):
            images = generator(torch.ones(2, 5))
            found += [images, discriminator(images)]
        low = [kind for ((side, kind),) in (seen[layer] for layer in layers(generator))]
        half = dtype if enabled else torch.float32
        levels = min(half_resolutions, 3)  # of four, but the lowest never
        assert low == [torch.float32] * (1 + 2 * (3 - levels)) + [half] * 2 * levels
        critic = [seen[block.conv0][0][1] for block in discriminator.blocks] + [seen[discriminator.conv][0][1]]
        assert critic == [half] * levels + [torch.float32] * (4 - levels)
    for tensor in found:
        assert tensor.dtype == torch.float32
    tolerance = 0.05 * float(found[0].abs().max()) if half_resolutions else 1e-6
    torch.testing.assert_close(found[2], found[0], rtol=0, atol=tolerance)


def test_activations_are_clamped():
    torch.manual_seed(0)
    generator, discriminator = (network.float() for network in players(16, clamp=2.0))
    peaks = []
    for layer in [*layers(generator), *layers(generator, stylegan2.ToRGB), *layers(discriminator, stylegan2.Conv2d)]:
        nn.init.constant_(layer.bias, 100) if layer.bias is not None else None
        layer.register_forward_hook(lambda layer, _, maps: peaks.append(float(maps.abs().max())) if layer.clamp else 0)
    with torch.no_grad():
        discriminator(generator(torch.ones(2, 5)))
    assert max(peaks) == 2
    assert min(peaks) == pytest.approx(math.sqrt(2))  # of a layer whose output is added to another's
    free = players(16, clamp=None)[0].float()
    nn.init.constant_(layers(free)[-1].bias, 1000)
    assert free(torch.ones(2, 5)).abs().max() > 256


def test_float16_does_not_overflow():
    layer = players(16)[0].float().synthesis.blocks[1].conv1
    nn.init.zeros_(layer.affine.bias)
    maps, w, noise = 200 * torch.randn(2, 6, 8, 8), 1e5 * torch.randn(2, 6), torch.zeros(1, 1, 8, 8)
    with torch.no_grad():
        layer.weight *= 1e3
        whole, half = layer(maps, w, noise), layer(maps.half(), w, noise.half())
    torch.testing.assert_close(half.float(), whole, rtol=0.02, atol=0.02 * float(whole.std()))


# -- use ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [8, 28, (48, 32), (40, 56)])
def test_sizes_and_channels(size, channels):
    generator, discriminator = (network.float() for network in players(size, channels))
    images = generator(torch.randn(2, 5))
    assert images.shape == (2, channels, *((size, size) if isinstance(size, int) else size))
    assert images.is_contiguous()
    assert discriminator(images).shape == (2,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: stylegan2.Generator(4, 250, 3), "size is 250x250; StyleGAN2 needs multiples of a power"),
        (lambda: stylegan2.Generator(4, 4, 3), "size is 4x4; StyleGAN2 needs"),
        (
            lambda: stylegan2.Generator(4, 64, 3, base_width=32),
            "base_width is 32 and max_width 512; expected at least 64",
        ),
        (lambda: stylegan2.Generator(4, 8, 2), "channels is 2; expected 1"),
        (lambda: stylegan2.Generator(4, 8, 3, mapping_layers=0), "mapping_layers is 0; expected at least 1"),
        (
            lambda: stylegan2.Discriminator(8, 3, architecture="res"),
            "architecture is 'res'; expected one of resnet, or",
        ),
        (lambda: players(8)[0].synthesis(torch.zeros(2, 3, 6)), r"shape \(2, 3, 6\); expected \(N, 4, 6\)"),
        (lambda: players(8)[0].synthesis(torch.zeros(2, 4, 6), torch.zeros(2, 9)), r"noise has .* expected \(N, 144\)"),
        (lambda: players(8)[0](torch.zeros(2, 5), torch.zeros(2)), "labels were given to a network without classes"),
        (lambda: players(8, num_classes=3)[1](torch.zeros(2, 3, 8, 8)), "labels are missing"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.slow
def test_networks_compile_without_graph_breaks():
    generator, discriminator = (network.float() for network in players(8, num_classes=3))
    z, labels = torch.randn(4, 5), torch.tensor([0, 1, 2, 1])
    for inputs, network in (((z, labels), generator), ((torch.randn(4, 3, 8, 8), labels), discriminator)):
        compiled = torch.compile(network, backend="eager", fullgraph=True)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(compiled(*inputs), network(*inputs))
    torch._dynamo.reset()


def test_the_work_of_sampling_can_be_counted():
    generator = players()[0].eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():  # its hooks look for gradients of all inputs
        generator(torch.randn(1, 5).double())
    assert counter.get_total_flops() > 0
