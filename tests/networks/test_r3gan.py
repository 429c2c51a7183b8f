"""R3GAN against its equations written out with plain functions, its published sizes, and Fix-up's promises."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gans.networks import r3gan
from gans.penalties import zero_centered

torch.set_num_threads(1)

TINY = {"width": 4, "max_width": 8, "blocks": 2, "group_width": 4, "expansion": 2}


def players(size=16, channels=3, num_classes=0, latent_dim=6, **plan):
    torch.manual_seed(0)
    plan = {**TINY, **plan, "num_classes": num_classes}
    return r3gan.Generator(latent_dim, size, channels, **plan), r3gan.Discriminator(size, channels, **plan)


def shake(*networks):
    """Random numbers in every parameter: what training makes of the zeros."""
    for network in networks:
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)


def blocks(network):
    return [module for module in network.modules() if isinstance(module, r3gan.Block)]


def millions(network):
    return sum(p.numel() for p in network.parameters()) / 1e6


# -- the paper -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "size", "classes", "generator", "discriminator"),
    [(r3gan.CIFAR10, 32, 10, 20.78, 21.28), (r3gan.FFHQ64, 64, 0, 22.43, 22.38)],
)
def test_the_published_networks_have_their_published_parameters(plan, size, classes, generator, discriminator):
    with torch.device("meta"):
        assert round(millions(r3gan.Generator(64, size, 3, **plan, num_classes=classes)), 2) == generator
        assert round(millions(r3gan.Discriminator(size, 3, **plan, num_classes=classes)), 2) == discriminator


@pytest.mark.parametrize(
    ("plan", "size", "expected"),
    [
        (r3gan.CIFAR10, 32, [768] * 4),
        (r3gan.FFHQ64, 64, [768] * 4 + [384]),
        (r3gan.FFHQ256, 256, [768] * 4 + [384, 192, 96]),
        (r3gan.IMAGENET, 32, [1536] * 4),
        (r3gan.IMAGENET, 64, [1536] * 5),
    ],
)
def test_widths_are_the_papers(plan, size, expected):
    assert r3gan.widths((size, size), plan["width"], plan["max_width"]) == expected
    assert 2 * plan["max_width"] / plan["group_width"] == 96  # its cardinality


def test_the_small_plan_is_small():
    generator, discriminator = r3gan.Generator(64, 32, 1, **r3gan.SMALL), r3gan.Discriminator(32, 1, **r3gan.SMALL)
    assert round(millions(generator), 3) == 0.065
    assert round(millions(discriminator), 3) == 0.061


def reference_block(x, state, groups):
    """Every layer of arXiv 2501.05441's block in its order: bias and leaky ReLU after the first two convolutions."""
    first, bias1, second, bias2, last = state
    h = F.leaky_relu(F.conv2d(x, first) + bias1[:, None, None], 0.2)
    h = F.leaky_relu(F.conv2d(h, second, padding=1, groups=groups) + bias2[:, None, None], 0.2)
    return x + F.conv2d(h, last)


def reference_blocks(x, rest, groups):
    for _ in range(2):
        x = reference_block(x, [next(rest) for _ in range(5)], groups)
    return x


def reference_up(x):
    """The authors': zeros between the pixels and beyond the border, then the filter."""
    taps = torch.tensor([1, 3, 3, 1], dtype=x.dtype) / 4
    kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 4, 4)
    return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=x.shape[1])


def reference_down(x):
    taps = torch.tensor([1, 3, 3, 1], dtype=x.dtype) / 8
    kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(x, kernel, stride=2, padding=1, groups=x.shape[1])


def reference_generator(generator, z, labels):
    """Stages of 8, 8 and 4 channels, from 4x4 to 16x16 pixels."""
    state = dict(generator.named_parameters())
    embedding, project, basis = (state.pop(name) for name in ("embedding.weight", "project.weight", "basis"))
    rest = iter(state.values())
    x = (torch.cat([z, embedding[labels]], 1) @ project.T)[:, :, None, None] * basis
    x = reference_blocks(x, rest, 4)
    x = reference_blocks(reference_up(x), rest, 4)
    x = reference_blocks(reference_up(F.conv2d(x, next(rest))), rest, 2)
    return F.conv2d(x, next(rest))


def reference_discriminator(discriminator, images, labels):
    state = dict(discriminator.named_parameters())
    embedding, project = (state.pop(name) for name in ("embedding.weight", "project.weight"))
    rest = iter(state.values())
    x = reference_blocks(F.conv2d(images, next(rest)), rest, 2)
    x = F.conv2d(reference_down(x), next(rest))
    x = reference_down(reference_blocks(x, rest, 4))
    x = reference_blocks(x, rest, 4)
    h = (x * next(rest)[:, 0]).sum((2, 3)) @ project.T
    return (h * embedding[labels]).sum(1)


@pytest.mark.parametrize("size", [16, 19])
def test_players_are_the_equations(size):
    generator, discriminator = (network.double() for network in players(size, num_classes=5))
    shake(generator, discriminator)
    z, labels = torch.randn(3, 6, dtype=torch.float64), torch.tensor([4, 0, 4])
    images = generator(z, labels)
    expected = reference_generator(generator, z, labels)[..., :size, :size]
    torch.testing.assert_close(images, expected, rtol=1e-10, atol=1e-10)
    logits = discriminator(images, labels)
    torch.testing.assert_close(logits, reference_discriminator(discriminator, images, labels), rtol=1e-10, atol=1e-10)


def test_nothing_is_normalised_or_kept_beside_the_parameters():
    for network in players(num_classes=3):
        assert not list(network.buffers())
        kinds = {type(module).__name__ for module in network.modules()}
        kinds -= {"Generator", "Discriminator", "Block", "Up", "Down", "Sequential", "Identity"}
        assert kinds == {"Conv2d", "GroupedConv2d", "LeakyReLU", "Linear", "Embedding"}


def test_images_are_not_squashed():
    generator, _ = players()
    shake(generator)
    images = generator(10 * torch.randn(8, 6))
    assert images.max() > 1
    assert images.min() < -1


# -- Fix-up ----------------------------------------------------------------------------------------------------------


def test_every_block_starts_as_the_identity():
    for network in players():
        assert len(blocks(network)) == 6
        for block in blocks(network):
            features = torch.randn(2, block.branch[0].in_channels, 5, 7)
            assert torch.equal(block(features), features)


@pytest.mark.parametrize(("depth", "share"), [(1, 1), (4, 0.5), (16, 0.25), (100, 0.1)])
def test_branches_share_the_change_of_an_update(depth, share):
    """Two convolutions scaled by depth^(-1/4) each make a branch 1/sqrt(depth): the sum's variance is O(1)."""
    branches = []
    for layers in (1, depth):
        torch.manual_seed(0)
        branches.append(r3gan.Block(8, 4, 2, layers).branch)
        nn.init.normal_(branches[-1][4].weight)
    features = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(branches[1](features), share * branches[0](features), rtol=1e-4, atol=1e-6)


def test_weights_start_with_the_papers_deviations():
    torch.manual_seed(0)
    plan = {"width": 64, "max_width": 64, "blocks": 4, "group_width": 16, "expansion": 2}
    generator, discriminator = r3gan.Generator(64, 32, 3, **plan), r3gan.Discriminator(32, 3, **plan)
    for network in (generator, discriminator):
        gain = (2 / 1.04) ** 0.5 / 16**0.25  # 4 stages of 4 blocks
        for block in blocks(network):
            first, second, last = (layer for layer in block.branch if isinstance(layer, nn.Conv2d))
            assert first.weight.std().item() == pytest.approx(gain / 64**0.5, rel=0.05)
            assert second.weight.std().item() == pytest.approx(gain / (9 * 16) ** 0.5, rel=0.05)
            assert not last.weight.any()
            assert not first.bias.any()
            assert not second.bias.any()
            assert last.bias is None
    assert generator.basis.std().item() == pytest.approx(1, rel=0.1)
    assert generator.project.weight.std().item() == pytest.approx(1 / 8, rel=0.05)
    assert discriminator.project.weight.std().item() == pytest.approx(1 / 8, rel=0.25)  # of 64 numbers
    assert discriminator.layers[-1].weight.std().item() == pytest.approx(1 / 4, rel=0.1)


@pytest.mark.parametrize("classes", [2, 50])
def test_embeddings_start_as_linear_layers_of_one_hot_labels(classes):
    torch.manual_seed(0)
    plan = {"width": 256, "max_width": 256, "blocks": 1, "group_width": 16, "expansion": 1, "num_classes": classes}
    generator, discriminator = r3gan.Generator(512, 16, 3, **plan), r3gan.Discriminator(16, 3, **plan)
    assert generator.embedding.weight.std().item() == pytest.approx(classes**-0.5, rel=0.1)
    assert discriminator.embedding.weight.std().item() == pytest.approx((256 * classes) ** -0.5, rel=0.1)


@pytest.mark.parametrize("count", [1, 8])
def test_activations_keep_their_variance_through_depth_and_widths(count):
    torch.manual_seed(0)
    plan = {"width": 64, "max_width": 256, "blocks": count, "group_width": 16, "expansion": 1}
    discriminator = r3gan.Discriminator(16, 3, **plan)
    # Constant images: what resampling takes from the variance of noise is no matter of initialisation.
    features, seen = torch.randn(64, 3, 1, 1).expand(64, 3, 16, 16), []
    for layer in discriminator.layers:
        features = layer(features)
        seen.append(features.var().item())
    assert len(seen) == 1 + 3 * count + 2 + 1
    assert all(0.6 < variance / seen[0] < 1.6 for variance in seen)


# -- any image, any label --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 9, 15, 28, 32, 33, 64, (48, 80), (80, 48), (8, 50)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_shapes(size, channels):
    generator, discriminator = players(size, channels, blocks=1)
    images = generator(torch.randn(2, 6))
    assert images.shape == (2, channels, *((size, size) if isinstance(size, int) else size))
    assert images.std(0).min() > 0
    assert discriminator(images).shape == (2,)
    assert discriminator(images[:1]).shape == (1,)


@pytest.mark.parametrize(
    ("size", "base", "stages"),
    [(8, (4, 4), 2), (28, (7, 7), 3), (32, (4, 4), 4), (64, (4, 4), 5), ((48, 80), (6, 10), 4)],
)
def test_sizes_double_from_their_rounded_up_quotient(size, base, stages):
    generator, discriminator = players(size, blocks=3)
    assert generator.basis.shape[1:] == base
    assert discriminator.layers[-1].kernel_size == base
    for network in (generator, discriminator):
        assert len(blocks(network)) == 3 * stages
        assert sum(isinstance(module, r3gan.Up | r3gan.Down) for module in network.modules()) == stages - 1


def test_images_of_another_size_are_refused():
    _, discriminator = players(32)
    for side in (16, 64):
        with pytest.raises(RuntimeError):
            discriminator(torch.randn(4, 3, side, side))


def test_labels_change_images_and_logits_sample_by_sample():
    generator, discriminator = players(num_classes=3)
    z, images = torch.randn(4, 6), torch.randn(4, 3, 16, 16)
    first, second = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 2, 2, 1])
    for before, after in (
        (generator(z, first), generator(z, second)),
        (discriminator(images, first), discriminator(images, second)),
    ):
        assert [not torch.equal(*pair) for pair in zip(before, after, strict=True)] == [False, True, False, True]


def test_labels_that_are_missing_or_not_expected_are_refused():
    plain, conditional = players(), players(num_classes=3)
    inputs, labels = (torch.randn(2, 6), torch.randn(2, 3, 16, 16)), torch.zeros(2, dtype=torch.long)
    for network, values in zip(plain, inputs, strict=True):
        with pytest.raises(ValueError, match="labels were given to a network without classes"):
            network(values, labels)
    for network, values in zip(conditional, inputs, strict=True):
        with pytest.raises(ValueError, match="labels are missing; expected a class from 0 to 2"):
            network(values)
        for bad in (labels[:1], labels + 3, labels - 1, labels.float()):
            with pytest.raises(ValueError, match="labels are"):
                network(values, bad)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"size": 7}, "size is 7x7; R3GAN needs at least 8 pixels a side"),
        ({"size": (64, 4)}, "size is 64x4"),
        ({"channels": 0}, "channels is 0; expected at least 1"),
        ({"width": 0}, "width is 0 and max_width 8; expected 1 <= width <= max_width"),
        ({"width": 16}, "width is 16 and max_width 8"),
        ({"blocks": 0}, "blocks is 0; expected at least 1 a stage"),
        ({"group_width": 3}, "group_width is 3; expected a divisor of width x expansion = "),
        ({"group_width": 0}, "group_width is 0"),
        ({"expansion": 0}, "group_width is 4; expected a divisor of width x expansion = 0"),
        ({"num_classes": -1}, "num_classes is -1; expected 0 (no labels) or more"),
    ],
)
def test_bad_numbers_are_refused(plan, message):
    numbers = {"size": 16, "channels": 3, **TINY, **plan}
    for make in (lambda: r3gan.Generator(6, **numbers), lambda: r3gan.Discriminator(**numbers)):
        with pytest.raises(ValueError, match=re.escape(message)):
            make()


# -- gradients -------------------------------------------------------------------------------------------------------


def test_logits_depend_on_one_sample_each():
    _, discriminator = players()
    shake(discriminator)
    images = torch.randn(4, 3, 16, 16).requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(images)[1], images)
    assert gradient[1].abs().sum() > 0
    assert gradient[[0, 2, 3]].abs().sum() == 0


def test_every_layer_learns_once_branches_have_left_zero():
    generator, discriminator = players(28, num_classes=2)
    shake(generator, discriminator)
    labels = torch.tensor([0, 1, 0, 1])
    discriminator(generator(torch.randn(4, 6), labels), labels).square().mean().backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name


def test_second_derivatives():
    _, discriminator = players(8, 1, width=2, max_width=2, blocks=1, group_width=2)
    discriminator.double()
    shake(discriminator)
    images = torch.randn(1, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(discriminator, images)
    # The penalty's gradient with respect to each weight, as training needs it, against finite differences.
    weights = list(discriminator.parameters())
    analytic = torch.autograd.grad(zero_centered(discriminator, images), weights, allow_unused=True)
    for weight, gradient in zip(weights, analytic, strict=True):
        change, losses = torch.randn_like(weight), []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                weight.add_(change, alpha=step)
            losses.append(zero_centered(discriminator, images).item())
            with torch.no_grad():
                weight.sub_(change, alpha=step)
        slope = 0.0 if gradient is None else (gradient * change).sum().item()
        assert slope == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-4, abs=1e-7)


def test_half_precision_gives_nearly_the_same():
    generator, discriminator = players()
    shake(generator, discriminator)
    z = torch.randn(4, 6)
    images = generator(z)
    logits = discriminator(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.linalg.vector_norm(generator(z) - images) < 0.05 * torch.linalg.vector_norm(images)
        assert torch.linalg.vector_norm(discriminator(images) - logits) < 0.1 * torch.linalg.vector_norm(logits)
    generator.bfloat16()
    assert generator(z.bfloat16()).dtype == torch.bfloat16
