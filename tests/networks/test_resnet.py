"""Residual networks against the papers' layers written out, at every size, with every option; spectral norms."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.functional import avg_pool2d, interpolate

from gans.engine import ema
from gans.networks import resnet
from gans.networks.minibatch import MinibatchStd
from gans.networks.spectral import xavier
from gans.penalties import one_centered, zero_centered

torch.set_num_threads(1)


class UpBlock(nn.Module):
    """The left of figure 4 of arXiv 1802.05957, in the order of its text: upsample, then convolve, on both paths."""

    def __init__(self, i, o):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(i), nn.Conv2d(i, o, 3, 1, 1)
        self.norm2, self.conv2 = nn.BatchNorm2d(o), nn.Conv2d(o, o, 3, 1, 1)
        self.shortcut = nn.Conv2d(i, o, 1)

    def forward(self, x):
        h = self.conv1(interpolate(self.norm1(x).relu(), scale_factor=2))
        return self.conv2(self.norm2(h).relu()) + self.shortcut(interpolate(x, scale_factor=2))


class DownBlock(nn.Module):
    """The authors' blocks: the first has no ReLU before it and widens at once, the others widen at the end."""

    def __init__(self, i, o, first, down):
        super().__init__()
        hidden = o if first else i
        self.first, self.down = first, down
        self.conv1, self.conv2 = nn.Conv2d(i, hidden, 3, 1, 1), nn.Conv2d(hidden, o, 3, 1, 1)
        self.shortcut = nn.Conv2d(i, o, 1) if down or i != o else nn.Identity()

    def forward(self, x):
        h = self.conv2(self.conv1(x if self.first else x.relu()).relu())
        return avg_pool2d(h, 2) + avg_pool2d(self.shortcut(x), 2) if self.down else h + self.shortcut(x)


def reference_generator(latent_dim, base, hidden, channels=3):
    blocks = [UpBlock(i, o) for i, o in pairwise(hidden)]
    start = [nn.Linear(latent_dim, hidden[0] * base * base), nn.Unflatten(1, (hidden[0], base, base))]
    end = [nn.BatchNorm2d(hidden[-1]), nn.ReLU(), nn.Conv2d(hidden[-1], channels, 3, 1, 1), nn.Tanh()]
    return nn.Sequential(*start, *blocks, *end)


def reference_discriminator(hidden, downs, pool="sum", channels=3):
    ends = pairwise([channels, *hidden])
    blocks = [DownBlock(i, o, first=n == 0, down=n < downs) for n, (i, o) in enumerate(ends)]
    pooled = nn.Flatten(2)
    return nn.Sequential(*blocks, nn.ReLU(), pooled, Pool(pool), nn.Linear(hidden[-1], 1), nn.Flatten(0))


class Pool(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        return getattr(x, self.kind)(2)


# size: (base, the generator's channels / width, the discriminator's channels / width, halvings), and what to ask for
PAPER = {
    32: (4, [1, 1, 1, 1], [1, 1, 1, 1], 2, {"growth": 1}, {"growth": 1, "smallest": 8, "flat_blocks": 2}),
    48: (6, [8, 4, 2, 1], [1, 2, 4, 8, 16], 4, {}, {"smallest": 3}),
    64: (4, [16, 8, 4, 2, 1], [1, 2, 4, 8, 16], 5, {}, {"smallest": 2, "flat_blocks": 0}),
    128: (4, [16, 16, 8, 4, 2, 1], [1, 2, 4, 8, 16, 16], 5, {}, {}),
}


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def awake(network):
    """`network` with its attention, which starts at 0, switched on."""
    for name, parameter in network.named_parameters():
        if name.endswith("gamma"):
            parameter.data.fill_(1)
    return network


def layers(network, *kinds):
    return [module for module in network.modules() if isinstance(module, kinds)]


def copy_layers(source, target):
    """Copy convolutions and linear layers by order, with the weight that the forward pass sees, and BatchNorm."""
    kinds = nn.Conv2d, nn.Linear, nn.BatchNorm2d
    for mine, other in zip(layers(source, *kinds), layers(target, *kinds), strict=True):
        with torch.no_grad():
            other.weight.copy_(mine.weight)
            other.bias.copy_(mine.bias)
        if isinstance(mine, nn.BatchNorm2d):
            other.load_state_dict(mine.state_dict())


@pytest.mark.parametrize(
    ("size", "width", "critic_width", "expected"),
    [
        (32, 256, 128, (4_276_739, 1_053_825)),
        (48, 64, 64, (4_878_083, 10_141_441)),
        (64, 64, 64, (12_220_675, 10_141_441)),
        (128, 64, 64, (32_150_787, 29_017_857)),
    ],
)
def test_the_papers_sizes_have_the_parameters_of_published_code(size, width, critic_width, expected):
    _, _, _, _, generator_options, discriminator_options = PAPER[size]
    with torch.device("meta"):
        generator = resnet.Generator(128, size, 3, width, **generator_options)
        discriminator = resnet.Discriminator(size, 3, critic_width, spectral_norm=False, **discriminator_options)
    assert (parameters(generator), parameters(discriminator)) == expected
    defaults = {"growth": 2, "smallest": 4, "flat_blocks": 1}
    assert resnet.shape(size) == {**defaults, **discriminator_options}
    assert {"growth": resnet.growth(size)} == {"growth": 2, **generator_options}


@pytest.mark.parametrize(
    ("sides", "expected"),
    [(((), ()), (4_304_387, 1_055_105)), (((16,), (8,)), (4_386_308, 1_075_586))],
    ids=["projection", "and attention"],
)
def test_networks_with_classes_have_the_parameters_of_published_code(sides, expected):
    _, _, _, _, generator_options, discriminator_options = PAPER[32]
    with torch.device("meta"):
        generator = resnet.Generator(128, 32, 3, 256, num_classes=10, attention=sides[0], **generator_options)
        discriminator = resnet.Discriminator(
            32, 3, 128, num_classes=10, spectral_norm=False, attention=sides[1], **discriminator_options
        )
    assert (parameters(generator), parameters(discriminator)) == expected


@pytest.mark.parametrize("size", PAPER)
@pytest.mark.parametrize("training", [True, False])
def test_generator_is_the_papers(size, training):
    torch.manual_seed(0)
    base, hidden, _, _, options, _ = PAPER[size]
    generator = resnet.Generator(6, size, 3, 2, **options).double()
    for norm in layers(generator, nn.BatchNorm2d):
        for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
            tensor.uniform_(0.5, 2)
    reference = reference_generator(6, base, [2 * w for w in hidden]).double()
    copy_layers(generator, reference)
    z = torch.randn(3, 6, dtype=torch.float64)
    torch.testing.assert_close(generator.train(training)(z), reference.train(training)(z))


@pytest.mark.parametrize("size", PAPER)
@pytest.mark.parametrize(("spectral_norm", "pool"), [(True, "sum"), (False, "mean")])
def test_discriminator_is_the_papers(size, spectral_norm, pool):
    torch.manual_seed(0)
    _, _, hidden, downs, _, options = PAPER[size]
    discriminator = resnet.Discriminator(size, 3, 2, spectral_norm=spectral_norm, pool=pool, **options).double().eval()
    reference = reference_discriminator([2 * w for w in hidden], downs, pool).double()
    copy_layers(discriminator, reference)
    images = torch.rand(2, 3, size, size, dtype=torch.float64) * 2 - 1
    logits = discriminator(images)
    assert logits.shape == (2,)
    torch.testing.assert_close(logits, reference(images))


def test_weights_start_with_xaviers_variance_twice_in_blocks():
    torch.manual_seed(0)
    generator, discriminator = resnet.Generator(64, 16, 3, 32), resnet.Discriminator(16, 3, 32, spectral_norm=False)
    for network in (generator, discriminator):
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                fan_out, fan_in = module.weight.shape[0], module.weight[0].numel()
                fan_out *= module.weight[0, 0].numel()
                gain = 2**0.5 if "conv" in name else 1
                limit = gain * (6 / (fan_in + fan_out)) ** 0.5
                assert 0.8 * limit < module.weight.max() <= limit, name
                if module.weight.numel() > 500:
                    assert module.weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.1), name
                assert module.bias.abs().sum() == 0, name
    assert xavier(nn.Linear(3, 4, bias=False)).bias is None


# -- sizes, options, refusals ------------------------------------------------------------------------------------------


def pair(size):
    return (size, size) if isinstance(size, int) else size


SIZES = [2, 3, 5, 7, 8, 15, 28, 32, (33, 50), (48, 80), (80, 48), (2, 9), 64, 96, 128]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("channels", "growth"), [(1, 1), (3, 2), pytest.param(4, 2, marks=pytest.mark.slow)])
def test_shapes(size, channels, growth):
    images = resnet.Generator(6, size, channels, 2, growth)(torch.randn(2, 6))
    assert images.shape == (2, channels, *pair(size))
    assert images.abs().max() <= 1
    for options in ({}, {"smallest": 8, "flat_blocks": 2}, {"smallest": 1, "flat_blocks": 0}):
        assert resnet.Discriminator(size, channels, 2, growth, **options)(images).shape == (2,)
    assert resnet.Discriminator(size, channels, 2, growth).eval()(images[:1]).shape == (1,)


@pytest.mark.parametrize(
    ("size", "base", "levels"), [(4, (2, 2), 1), (28, (7, 7), 2), (64, (4, 4), 4), ((48, 80), (6, 10), 3)]
)
def test_sizes_double_from_their_rounded_up_quotient(size, base, levels):
    generator = resnet.Generator(6, size, 1, 1)
    assert (generator.base[1:], len(generator.blocks)) == (base, levels)


def test_a_size_that_is_no_multiple_loses_its_surplus_at_both_edges():
    torch.manual_seed(0)
    generator = resnet.Generator(6, (33, 50), 3, 4).eval()
    z = torch.randn(64, 6)
    images = generator(z)
    assert (images.std(0) > 0).all()
    generator.size = (40, 56)  # 5x7 doubled three times
    whole = generator(z)
    assert whole.shape == (64, 3, 40, 56)
    torch.testing.assert_close(images, whole[:, :, 4:37, 3:53])


@pytest.mark.parametrize("size", [28, (33, 50)])
def test_every_pixel_counts(size):
    torch.manual_seed(0)
    images = torch.randn(4, 1, *pair(size), requires_grad=True)
    resnet.Discriminator(size, 1, 8, spectral_norm=False)(images).sum().backward()
    assert (images.grad.abs().sum((0, 1)) > 0).all()


@pytest.mark.parametrize("size", [16, 64, (32, 16)])
def test_images_of_another_size_than_the_discriminator_was_built_for_are_refused(size):
    with pytest.raises(ValueError, match="images are {}x{}; expected 32x32".format(*pair(size))):
        resnet.Discriminator(32, 3, 2)(torch.randn(4, 3, *pair(size)))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((1, 3, 2), {}, "size is 1x1; a convolutional network needs at least 2 pixels a side"),
        ((0, 3, 2), {}, "size is 0"),
        ((8, 2, 2), {}, "channels is 2"),
        ((8, 3, 0), {}, "width is 0 and growth 2; expected at least 1 each"),
        ((8, 3, 2), {"growth": 0}, "width is 2 and growth 0"),
        ((8, 3, 2), {"num_classes": -1}, "num_classes (is )?-1"),
        ((32, 3, 2), {"attention": (32,)}, r"attention is 32; expected a side from \d to 31"),
    ],
)
def test_bad_values_are_refused_by_both_networks(arguments, options, message):
    for make in (lambda *a, **o: resnet.Generator(6, *a, **o), resnet.Discriminator):
        with pytest.raises(ValueError, match=message):
            make(*arguments, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smallest": 0}, "smallest is 0"),
        ({"flat_blocks": -1}, "flat_blocks -1"),
        ({"pool": "max"}, "pool is 'max'; expected sum or mean"),
        ({"head": "none"}, "head is 'none'"),
        ({"minibatch_std": 1}, "minibatch_std is 1; expected 0, for none, or at least 2"),
    ],
)
def test_bad_values_are_refused_by_the_discriminator(options, message):
    with pytest.raises(ValueError, match=message):
        resnet.Discriminator(16, 3, 2, **options)


def test_attention_is_at_the_side_that_is_asked_for():
    seen = []
    generator = resnet.Generator(6, 64, 3, 2, attention=(32,))
    discriminator = resnet.Discriminator(64, 3, 2, attention=(32, 16), smallest=16, flat_blocks=2)
    for network in (generator, discriminator):
        for layer in network.attentions:
            if not isinstance(layer, nn.Identity):
                layer.register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape[1:])))
    discriminator(generator(torch.randn(1, 6)))
    assert seen == [(4, 32, 32), (2, 32, 32), (4, 16, 16)]


@pytest.mark.parametrize("attention", [(), (8,)])
@pytest.mark.parametrize("spectral_norm", [True, False])
@pytest.mark.parametrize(("num_classes", "head"), [(0, "projection"), (3, "projection"), (3, "auxiliary")])
def test_every_layer_learns(attention, spectral_norm, num_classes, head):
    torch.manual_seed(0)
    options = {"num_classes": num_classes, "spectral_norm": spectral_norm, "attention": attention}
    generator = resnet.Generator(6, 16, 3, 4, **options)
    discriminator = resnet.Discriminator(16, 3, 4, head=head, minibatch_std=2, **options)
    labels = torch.tensor([0, 1, 2, 0]) if num_classes else None
    outputs = awake(discriminator)(awake(generator)(torch.randn(4, 6), labels), labels)
    sum(output.square().mean() for output in (outputs if isinstance(outputs, tuple) else [outputs])).backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name


def test_batch_norm_can_be_left_out():
    generator = resnet.Generator(6, 16, 3, 2, batch_norm=False).double()
    assert not layers(generator, nn.BatchNorm2d)
    z = torch.randn(3, 6, dtype=torch.float64)
    torch.testing.assert_close(generator(z)[:1], generator(z[:1]))
    with pytest.raises(ValueError, match="num_classes is 3; expected 0 or more, and 0 without batch_norm"):
        resnet.Generator(6, 16, 3, 2, num_classes=3, batch_norm=False)


@pytest.mark.parametrize("autocast", [True, False])
def test_half_precision_is_near_full_precision(autocast):
    torch.manual_seed(0)
    options = {"num_classes": 3, "spectral_norm": True, "attention": (8,)}
    generator = awake(resnet.Generator(6, 16, 3, 8, **options)).eval()
    discriminator = awake(resnet.Discriminator(16, 3, 8, minibatch_std=2, **options)).eval()
    z, labels = torch.randn(4, 6), torch.tensor([0, 1, 2, 0])
    images = generator(z, labels)
    logits = discriminator(images, labels)
    if not autocast:
        generator, discriminator, z, images = (
            generator.bfloat16(),
            discriminator.bfloat16(),
            z.bfloat16(),
            images.bfloat16(),
        )
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        half_images, half_logits = generator(z, labels), discriminator(images, labels)
    assert half_images.dtype == torch.bfloat16
    torch.testing.assert_close(half_images.float(), images.float(), atol=0.05, rtol=0)
    torch.testing.assert_close(half_logits.float(), logits, atol=0.05 * logits.abs().max().item(), rtol=0)


def test_networks_lie_pixel_by_pixel_and_give_what_they_would_channel_by_channel():
    generator = awake(resnet.Generator(7, 28, 3, 8, attention=(14,))).eval()
    discriminator = awake(resnet.Discriminator(28, 3, 8, attention=(14,))).eval()
    z, images = torch.randn(2, 7), torch.randn(2, 3, 28, 28)
    made, logits = generator(z), discriminator(images)
    assert made.is_contiguous()
    assert not generator.blocks[0].conv1.weight.is_contiguous()
    assert not discriminator.blocks[1].conv1.weight.is_contiguous()
    for network in (generator, discriminator):
        network.to(memory_format=torch.contiguous_format)
    torch.testing.assert_close(generator(z), made, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(discriminator(images), logits, rtol=1e-4, atol=1e-5)
    last = images.to(memory_format=torch.channels_last)
    torch.testing.assert_close(discriminator(last), logits, rtol=1e-4, atol=1e-5)


# -- what gradient penalties need --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("minibatch_std", "independent"), [(0, True), (2, False)])
def test_minibatch_std_is_what_makes_samples_see_each_other(minibatch_std, independent):
    torch.manual_seed(0)
    discriminator = awake(resnet.Discriminator(16, 3, 4, attention=(8,), minibatch_std=minibatch_std)).double()
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(images)[1], images)
    assert gradient[1].abs().sum() > 0
    assert (gradient[[0, 2, 3]].abs().sum() == 0) == independent


@pytest.mark.parametrize("attention", [(), (2,)])
@pytest.mark.parametrize("spectral_norm", [True, False])
def test_logits_are_differentiable_twice(attention, spectral_norm):
    torch.manual_seed(0)
    discriminator = resnet.Discriminator(4, 1, 2, spectral_norm=spectral_norm, attention=attention, smallest=2)
    discriminator = awake(discriminator).double().eval()  # where vectors stand still, as difference quotients need
    images = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(discriminator, images)
    assert gradgradcheck(discriminator, images)


@pytest.mark.parametrize("attention", [(), (4,)])
@pytest.mark.parametrize("spectral_norm", [True, False])
def test_penalties_have_the_gradient_of_their_difference_quotient(attention, spectral_norm):
    torch.manual_seed(0)
    options = {"attention": attention, "spectral_norm": spectral_norm}
    discriminator = awake(resnet.Discriminator(8, 3, 4, **options)).double().eval()
    real, fake = torch.randn(2, 4, 3, 8, 8, dtype=torch.float64)
    weights = torch.rand(4, dtype=torch.float64)

    def penalty():
        return zero_centered(discriminator, real) + one_centered(discriminator, real, fake, weights)

    names = [name for name, p in discriminator.named_parameters() if p.ndim > 1]
    gradients = torch.autograd.grad(penalty(), [discriminator.get_parameter(name) for name in names])
    for name, gradient in zip(names, gradients, strict=True):
        weight, direction = discriminator.get_parameter(name).data, torch.randn_like(gradient)
        weight += 1e-6 * direction
        above = penalty()
        weight -= 2e-6 * direction
        quotient = (above - penalty()) / 2e-6
        weight += 1e-6 * direction
        torch.testing.assert_close((gradient * direction).sum(), quotient, rtol=1e-4, atol=1e-6, msg=name)


# -- spectral norms ----------------------------------------------------------------------------------------------------


def test_singular_values_are_computed_outside_autocast(monkeypatch):
    inside, product = [], torch.mv
    monkeypatch.setattr(torch, "mv", lambda *given: inside.append(torch.is_autocast_enabled("cpu")) or product(*given))
    discriminator = resnet.Discriminator(8, 1, 2, minibatch_std=2)
    inside.clear()
    with torch.autocast("cpu", torch.bfloat16):
        logits = discriminator(torch.zeros(2, 1, 8, 8))
        assert torch.is_autocast_enabled("cpu")
    assert logits.dtype == torch.bfloat16  # the layers themselves are in half precision
    assert inside
    assert not any(inside)


def test_every_layer_of_the_discriminator_gets_norm_one():
    torch.manual_seed(0)
    discriminator = resnet.Discriminator(32, 3, 16, growth=1, smallest=8, flat_blocks=2, attention=(8,), num_classes=5)
    kinds = nn.Conv2d, nn.Linear, nn.Embedding
    for layer in layers(discriminator, *kinds):
        layer.parametrizations.weight.original.data.mul_(3).add_(0.1)  # an optimiser's step, for the vectors to follow
    images, labels = torch.randn(2, 3, 32, 32), torch.tensor([0, 4])
    norms = []
    for _ in range(2):
        norms.append([torch.linalg.matrix_norm(m.weight.flatten(1), 2).item() for m in layers(discriminator, *kinds)])
        for _ in range(60):
            discriminator(images, labels)
    assert len(norms[1]) == 2 * 4 + 2 + 4 + 2
    assert norms[1] == pytest.approx(16 * [1], abs=0.01)
    assert max(abs(norm - 1) for norm in norms[0]) > 0.01


def test_evaluation_leaves_the_vectors_alone():
    torch.manual_seed(0)
    discriminator = resnet.Discriminator(16, 3, 4)
    for layer in layers(discriminator, nn.Conv2d):
        layer.parametrizations.weight.original.data.add_(0.1)
    images = torch.randn(2, 3, 16, 16)

    def changes():
        before = {name: buffer.clone() for name, buffer in discriminator.named_buffers()}
        discriminator(images)
        return [name for name, buffer in discriminator.named_buffers() if not torch.equal(buffer, before[name])]

    assert len(changes()) >= 2 * len(layers(discriminator, nn.Conv2d)) - 2
    discriminator.eval()
    assert changes() == []
    assert torch.equal(discriminator(images), discriminator(images))


def spectral_generator():
    torch.manual_seed(0)
    return awake(resnet.Generator(6, 16, 3, 4, num_classes=3, spectral_norm=True, attention=(8,)))


@pytest.mark.parametrize("way", ["deepcopy", "state_dict", "average"])
def test_weights_travel(way):
    generator, z, labels = spectral_generator(), torch.randn(3, 6), torch.tensor([0, 1, 2])
    twin = copy.deepcopy(generator)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(0.05)
        generator(z, labels)  # vectors and statistics move
    assert not torch.equal(twin.eval()(z, labels), generator.eval()(z, labels))
    if way == "deepcopy":
        twin = copy.deepcopy(generator)
    elif way == "state_dict":
        twin.load_state_dict(generator.state_dict())
    else:
        ema.update(twin, generator, 0.0)
    assert torch.equal(twin(z, labels), generator(z, labels))
    assert not {p.data_ptr() for p in twin.parameters()} & {p.data_ptr() for p in generator.parameters()}


# -- classes -----------------------------------------------------------------------------------------------------------


def test_classes_change_images():
    torch.manual_seed(0)
    generator, z = resnet.Generator(6, 16, 3, 8, num_classes=10).eval(), torch.randn(1, 6).expand(10, 6)
    images = generator(z, torch.arange(10))
    distances = torch.pdist(images.flatten(1))
    assert distances.min() > 1e-4  # from the start, by gains of N(1, .02)
    same = generator(z[:2], torch.tensor([3, 3]))
    torch.testing.assert_close(same[0], same[1])


def test_discriminators_with_classes():
    torch.manual_seed(0)
    images, labels = torch.randn(4, 3, 16, 16), torch.arange(4)
    projection = resnet.Discriminator(16, 3, 8, num_classes=4).eval()
    assert projection(images, labels).shape == (4,)
    assert (projection(images, labels) != projection(images, labels.flip(0))).all()
    difference = projection(images, labels) - projection.head.linear(projection.features(images)).squeeze(1)
    products = projection.features(images) @ projection.head.embedding.weight.T
    torch.testing.assert_close(difference, products.diagonal())
    auxiliary = resnet.Discriminator(16, 3, 8, num_classes=4, head="auxiliary").eval()
    logits, classes = auxiliary(images)
    assert (logits.shape, classes.shape) == ((4,), (4, 4))
    assert torch.equal(auxiliary(images, labels)[0], logits)


@pytest.mark.parametrize(
    ("labels", "message"),
    [(None, "labels are missing"), (torch.tensor([0, 4]), "labels are 0 to 4; expected classes from 0 to 3")],
)
def test_labels_that_are_wrong_are_refused_by_both_networks(labels, message):
    with pytest.raises(ValueError, match=message):
        resnet.Generator(6, 16, 3, 2, num_classes=4)(torch.randn(2, 6), labels)
    with pytest.raises(ValueError, match=message):
        resnet.Discriminator(16, 3, 2, num_classes=4)(torch.randn(2, 3, 16, 16), labels)


def test_networks_without_classes_refuse_labels():
    labels = torch.tensor([0, 1])
    with pytest.raises(ValueError, match="network without classes"):
        resnet.Generator(6, 16, 3, 2)(torch.randn(2, 6), labels)
    with pytest.raises(ValueError, match="network without classes"):
        resnet.Discriminator(16, 3, 2)(torch.randn(2, 3, 16, 16), labels)


# -- minibatch standard deviation --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "group"), [(8, 4), (4, 4), (3, 3), (1, 1), (7, 7), (10, 5), (6, 6)])
def test_minibatch_std_is_the_mean_deviation_of_each_group(count, group):
    torch.manual_seed(0)
    features = torch.randn(count, 5, 2, 3)
    appended = MinibatchStd(4)(features)
    assert appended.shape == (count, 6, 2, 3)
    assert torch.equal(appended[:, :5], features)
    for n in range(count):
        members = features[n // group * group :][:group].numpy()
        expected = members.std(0).mean()
        assert appended[n, 5].flatten().tolist() == pytest.approx(6 * [expected], abs=2e-4)


def test_minibatch_std_tells_a_collapsed_batch():
    for dtype in (torch.float32, torch.float16):
        collapsed = torch.randn(1, 5, 2, 3, dtype=dtype).expand(8, 5, 2, 3).clone().requires_grad_()
        appended = MinibatchStd()(collapsed)
        assert appended.dtype == dtype
        assert appended[:, 5].max() < 2e-4
        appended[:, 5].sum().backward()
        assert collapsed.grad.isfinite().all()
