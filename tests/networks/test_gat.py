"""GAT's networks against their equations, the noise of their levels, and what they refuse."""

import math
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gans.networks import gat, transformer
from gans.penalties import zero_centered

torch.set_num_threads(1)

TINY = {"width": 16, "depth": 4, "heads": 2, "patch": 2}


def players(size=8, channels=4, num_classes=0, aligned=0, **options):
    torch.manual_seed(0)
    plan = {**TINY, **options}
    generator = gat.Generator(6, size, channels, num_classes, **plan)
    return generator, gat.Discriminator(
        size, channels, num_classes, **plan, embed_dim=12, aligned=aligned, projector_width=10
    )


def shake(*networks):
    """Random numbers in every parameter: what training makes of zeros and ones."""
    for network in networks:
        for name, parameter in network.named_parameters():
            nn.init.normal_(parameter, std=30 if "mapping.layers" in name else 0.3)


def play(generator, discriminator, *labels, count=2):
    z = torch.randn(count, 6, dtype=generator.mean_w.dtype)
    levels = generator.levels(generator.mapping(z, *labels))
    return z, levels, discriminator(torch.cat(levels, 1), *labels)


# -- the equations ---------------------------------------------------------------------------------------------------


def rms(x, eps=1e-6):
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt()


def reference_turned(vectors, grid, unplaced):
    """Pairs of channels as complex numbers, each times exp(i position frequency), token by token."""
    tokens, channels = vectors.shape[-2:]
    turned = vectors.clone()
    for token in range(unplaced, tokens):
        places = divmod(token - unplaced, grid[1])  # row, column
        for pair in range(channels // 2):
            axis, index = divmod(pair, channels // 4)
            angle = places[axis] * 10_000 ** (-index / (channels // 4))
            a, b = vectors[..., token, 2 * pair], vectors[..., token, 2 * pair + 1]
            turned[..., token, 2 * pair] = a * math.cos(angle) - b * math.sin(angle)
            turned[..., token, 2 * pair + 1] = a * math.sin(angle) + b * math.cos(angle)
    return turned


def reference_attention(layer, x, grid, unplaced):
    width = x.shape[-1] // layer.heads
    q, k, v = (layer.inputs.weight @ x.mT + layer.inputs.bias[:, None]).chunk(3, 1)  # (N, width, tokens)
    heads = []
    for head in range(layer.heads):
        mine = slice(head * width, (head + 1) * width)
        query = reference_turned(rms(q[:, mine].mT, 1e-16) * layer.scales[0], grid, unplaced)
        key = reference_turned(rms(k[:, mine].mT, 1e-16) * layer.scales[1], grid, unplaced)
        heads.append((query @ key.mT / width**0.5).softmax(-1) @ v[:, mine].mT)
    return F.linear(torch.cat(heads, -1), layer.output.weight, layer.output.bias)


def reference_mlp(layer, x):
    gate, value = F.linear(x, layer.inputs.weight, layer.inputs.bias).chunk(2, -1)
    return F.linear(gate * gate.sigmoid() * value, layer.output.weight, layer.output.bias)


def reference_mapping(layers, x):
    first, second = layers[0], layers[2]
    hidden = F.silu(F.linear(x, first.weight / 100, first.bias / 100))
    return F.linear(hidden, second.weight / 100, second.bias / 100)


def reference_start(grid, width):
    rows = []
    for row in range(grid[0]):
        for column in range(grid[1]):
            both = [[p * 10_000 ** (-i / (width // 4)) for i in range(width // 4)] for p in (column, row)]
            rows.append([f(angle) for angles in both for f in (math.sin, math.cos) for angle in angles])
    return torch.tensor(rows, dtype=torch.float64)


def reference_levels(generator, z, label, grid, patch):
    """Every level of the generator for one class of all latents."""
    embedding = generator.mapping.embedding.weight[label].expand(len(z), -1)
    w = reference_mapping(generator.mapping.layers, torch.cat([rms(embedding, 1e-8), rms(z, 1e-8)], 1))
    modulation = F.linear(F.silu(w), generator.modulation.weight, generator.modulation.bias)[:, None]
    width = w.shape[1]
    styles = iter(modulation.split(width, 2))
    heads = iter(modulation[..., -4 * width :].split(width, 2))
    x, total, levels = reference_start(grid, width).expand(len(z), -1, -1), 0, []
    for index, block in enumerate(generator.blocks):
        gain, gate, mlp_gain, mlp_gate = (next(styles) for _ in range(4))
        x = x + gate * reference_attention(block.attention, rms(x) * (1 + gain), grid, 0)
        x = x + mlp_gate * reference_mlp(block.mlp, rms(x) * (1 + mlp_gain))
        if (index + 1) % (len(generator.blocks) // 4) == 0:
            output = generator.outputs[len(levels)]
            tokens = F.linear(rms(x) * (1 + next(heads)), output.weight, output.bias)
            image = torch.empty(len(z), tokens.shape[2] // patch**2, grid[0] * patch, grid[1] * patch).double()
            for token in range(tokens.shape[1]):
                row, column = (patch * place for place in divmod(token, grid[1]))
                cell = tokens[:, token].view(len(z), patch, patch, -1).permute(0, 3, 1, 2)
                image[:, :, row : row + patch, column : column + patch] = cell
            total = total + image
            levels.append(total)
    return w, levels


def reference_logits(discriminator, images, label, grid, patch):
    cells = [
        images[:, :, patch * row : patch * (row + 1), patch * column : patch * (column + 1)].flatten(1)
        for row in range(grid[0])
        for column in range(grid[1])
    ]
    x = F.linear(torch.stack(cells, 1), discriminator.embed.weight, discriminator.embed.bias)
    x = x + reference_start(grid, x.shape[2])
    x = torch.cat([discriminator.class_token.expand(len(x), 1, -1), x], 1)
    for block in discriminator.blocks:
        x = x + block.scale * reference_attention(block.attention, rms(x) * block.norm.weight, grid, 1)
        x = x + block.mlp_scale * reference_mlp(block.mlp, rms(x) * block.mlp_norm.weight)
    features = F.linear(
        rms(x[:, 0]) * discriminator.norm.weight, discriminator.features.weight, discriminator.features.bias
    )
    direction = reference_mapping(discriminator.mapping, discriminator.embedding.weight[label][None])
    tokens = x
    for index in (0, 2, 4):
        layer = discriminator.projector[index]
        tokens = F.linear(F.silu(tokens) if index else tokens, layer.weight, layer.bias)
    return (features * direction).sum(1), tokens


def test_players_are_the_equations():
    size = (4, 6)
    generator, discriminator = players(size, 3, num_classes=5, aligned=7, depth=8)
    shake(generator, discriminator)
    generator.double(), discriminator.double()
    grid = (size[0] // 2, size[1] // 2)
    for network, unplaced in ((generator, 0), (discriminator, 1)):  # buffers have the accuracy of float32
        network.start.copy_(reference_start(grid, 16))
        network.positions.copy_(exact_positions(grid, 8, unplaced))
    z, levels, output = play(generator, discriminator, torch.tensor([3, 3]))
    w, expected = reference_levels(generator, z, 3, grid, 2)
    torch.testing.assert_close(generator.mapping(z, torch.tensor([3, 3])), w, rtol=1e-9, atol=1e-9)
    assert len(levels) == len(expected) == 4
    for level, image in zip(levels, expected, strict=True):
        torch.testing.assert_close(level, image, rtol=1e-9, atol=1e-9)
    logits, tokens = reference_logits(discriminator, torch.cat(levels, 1), 3, grid, 2)
    torch.testing.assert_close(output.logits, logits, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(discriminator.projected(output.tokens), tokens, rtol=1e-9, atol=1e-9)


def exact_positions(grid, channels, unplaced):
    """Cosines and signed sines in float64, of unit vectors that the reference turns."""
    tokens = unplaced + grid[0] * grid[1]
    unit = torch.zeros(tokens, channels, dtype=torch.float64)
    unit[:, ::2] = 1
    turned = reference_turned(unit, grid, unplaced)
    cosines, sines = turned[:, ::2].repeat_interleave(2, 1), turned[:, 1::2].repeat_interleave(2, 1)
    signs = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(channels // 2)
    return torch.stack([cosines, sines * signs])


def test_stored_positions_are_the_exact_ones():
    generator, discriminator = players((4, 6))
    for network, unplaced in ((generator, 0), (discriminator, 1)):
        torch.testing.assert_close(network.start.double(), reference_start((2, 3), 16), rtol=0, atol=1e-7)
        exact = exact_positions((2, 3), 8, unplaced)
        torch.testing.assert_close(network.positions.double(), exact, rtol=0, atol=1e-7)


def test_attention_sees_only_distances():
    """Queries and keys that are turned have products that depend on the difference of their positions alone."""
    positions = transformer.rotary((5, 6), 8)
    query, key = torch.randn(2, 1, 1, 8).expand(2, 1, 30, 8)
    products = (transformer.turned(query, positions) @ transformer.turned(key, positions).mT)[0].view(5, 6, 5, 6)
    torch.testing.assert_close(products[0, 0, 1, 2], products[3, 2, 4, 4])
    torch.testing.assert_close(products[2, 5, 1, 1], products[1, 4, 0, 0])
    assert not torch.isclose(products[0, 0, 1, 2], products[0, 0, 2, 1])


def test_patches_and_their_inverse():
    images = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6)
    tokens = transformer.patches(images, 2)
    assert tokens[1, 4].tolist() == images[1, :, 2:4, 2:4].flatten().tolist()
    inner = tokens.view(2, 6, 3, 4).mT.flatten(2)  # channels innermost
    assert torch.equal(transformer.unpatched(inner, (2, 3), 2), images)


# -- noise -----------------------------------------------------------------------------------------------------------


def test_noise_levels_are_those_of_the_authors():
    assert gat.noise_levels() == pytest.approx([0.885, 0.76, 0.51, 0.01])
    assert gat.noise_levels(3, 0.25) == pytest.approx([0.76, 0.51, 0.01])
    assert gat.noise_levels(1) == pytest.approx([0.01])


def test_noise_of_levels_has_their_variances_and_correlations():
    """Each noise is linear in independent ones, so those of unit vectors give its exact covariances."""
    units = torch.eye(4, dtype=torch.float64)
    mixed = torch.stack(gat.noised([torch.zeros(4, dtype=torch.float64)] * 4, list(units)))  # a row for each level
    covariance, t = mixed @ mixed.T, gat.noise_levels()
    for i in range(4):
        for j in range(i, 4):  # a diffusion from level j down to level i keeps this part of the noise of j
            assert covariance[i, j].item() == pytest.approx((1 - t[i]) / (1 - t[j]) * t[j] ** 2)
    assert mixed.tril(-1).abs().max() == 0  # a level has the noises of those above it


def test_noised_levels_are_a_mean_of_image_and_noise():
    images, noises = torch.randn(2, 4, 3, 2, 5)
    found = gat.noised(list(images), list(noises))
    last = 0.99 * images[3] + 0.01 * noises[3]
    torch.testing.assert_close(found[3], last)
    kept = 0.49 / 0.99
    third = 0.49 * images[2] + kept * 0.01 * noises[3] + math.sqrt(0.51**2 - (kept * 0.01) ** 2) * noises[2]
    torch.testing.assert_close(found[2], third)


def test_noises_of_another_number_or_share_are_refused():
    with pytest.raises(ValueError, match="there are 3 noises for 4 levels; expected one for each level"):
        gat.noised([torch.zeros(1)] * 4, [torch.zeros(1)] * 3)
    with pytest.raises(ValueError, match=re.escape("least is 1.5; expected a share")):
        gat.noise_levels(4, 1.5)
    with pytest.raises(ValueError, match="count is 0"):
        gat.noise_levels(0)


# -- sizes and initialisation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, (4, 10)])
@pytest.mark.parametrize("classes", [0, 3])
def test_shapes(size, classes):
    generator, discriminator = players(size, 3, classes)
    labels = (torch.tensor([2, 0]),) if classes else ()
    z, levels, logits = play(generator, discriminator, *labels)
    sides = size if isinstance(size, tuple) else (size, size)
    assert [level.shape for level in levels] == [(2, 3, *sides)] * 4
    assert torch.equal(generator(z, *labels), levels[-1])
    assert logits.shape == (2,)
    assert generator.mean_w.shape == (max(classes, 1), 16)


@pytest.mark.parametrize(
    ("preset", "classes", "generator", "discriminator"),
    [("S", 1000, 29_256_512, 39_114_624), ("B", 10, 116_481_728, 102_452_736)],
)
def test_the_papers_networks_have_its_parameters(preset, classes, generator, discriminator):
    plan = gat.PRESETS[preset]
    numbers = {"num_classes": classes, "width": plan.width, "depth": plan.depth, "heads": plan.heads, "patch": 2}
    with torch.device("meta"):
        made = gat.Generator(64, 32, 4, **numbers)
        critic = gat.Discriminator(32, 4, **numbers, embed_dim=plan.embed_dim, aligned=768)
    assert sum(p.numel() for p in made.parameters()) == generator
    assert sum(p.numel() for p in critic.parameters()) == discriminator


def test_initial_deviations():
    torch.manual_seed(0)
    generator = gat.Generator(32, 8, 4, 200, 64, 4, 4)
    critic = gat.Discriminator(8, 4, 200, 64, 4, 4, embed_dim=128, aligned=8)

    def deviation(weight, gain=1.0):
        assert weight.std().item() == pytest.approx(gain * (2 / sum(weight.shape)) ** 0.5, rel=0.05)

    for network in (generator, critic):
        for name, layer in network.named_modules():
            if isinstance(layer, nn.Linear):
                assert not layer.bias.any()
                if name != "modulation":
                    deviation(layer.weight)
        assert network.blocks[0].attention.scales.eq(1).all()
    for weight in generator.modulation.weight.split([256] * 4 + [64] * 4):
        deviation(weight, 0.1)
    for layer in (generator.mapping.layers[0], generator.mapping.layers[2], critic.mapping[0], critic.mapping[2]):
        deviation(layer.weight, 100)
    for vectors in (generator.mapping.embedding, critic.embedding):
        assert vectors.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert critic.class_token.std().item() == pytest.approx(0.02, rel=0.3)
    for block in critic.blocks:
        assert block.scale.eq(0.1).all()
        assert block.mlp_scale.eq(0.1).all()
        assert block.norm.weight.eq(1).all()


def test_an_unconditional_critic_starts_with_a_vector_as_long_as_those_of_classes():
    torch.manual_seed(0)
    plain = gat.Discriminator(8, 4, 0, **TINY, embed_dim=1024)
    conditional = gat.Discriminator(8, 4, 4, **TINY, embed_dim=1024)
    lengths = conditional.directions(torch.arange(4)).norm(dim=1)
    assert plain.directions(None).norm().item() == pytest.approx(lengths.mean().item(), rel=0.1)


# -- gradients, precision, compilation, export -----------------------------------------------------------------------


def test_every_parameter_learns():
    generator, discriminator = players(8, 4, num_classes=2, aligned=3)
    shake(generator, discriminator)
    _, _, output = play(generator, discriminator, torch.tensor([0, 1]))
    (output.logits.square().sum() + discriminator.projected(output.tokens).square().sum()).backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad.abs().sum() > 0, name


def test_a_logit_depends_on_all_levels_of_its_sample():
    _, discriminator = players()
    images = torch.randn(3, 16, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(discriminator(images)[1], images)
    assert gradient[[0, 2]].abs().max() == 0
    assert (gradient[1].abs().amax((1, 2)) > 0).all()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_penalty_has_its_gradient(checkpointing):
    """The exact R1, by a double backward pass, against finite differences of each weight."""
    _, discriminator = players(4, 1, checkpointing=checkpointing)
    shake(discriminator)
    discriminator.double()
    images = torch.randn(2, 4, 4, 4, dtype=torch.float64)
    weights = list(discriminator.parameters())
    analytic = torch.autograd.grad(zero_centered(discriminator, images), weights, allow_unused=True)
    changes, losses = [torch.randn_like(weight) for weight in weights], []
    for step in (1e-6, -1e-6):
        with torch.no_grad():
            torch._foreach_add_(weights, changes, alpha=step)
        losses.append(zero_centered(discriminator, images).item())
        with torch.no_grad():
            torch._foreach_add_(weights, changes, alpha=-step)
    slope = sum((g * change).sum() for g, change in zip(analytic, changes, strict=True) if g is not None)
    assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(slope.item(), rel=1e-5)


def test_checkpointing_changes_no_gradient():
    found = []
    for checkpointing in (False, True):
        networks = players(num_classes=2, checkpointing=checkpointing)
        torch.manual_seed(1)
        play(*networks, torch.tensor([0, 1]))[2].sum().backward()
        found.append([parameter.grad for network in networks for parameter in network.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_autocast_differs_by_the_error_of_bfloat16():
    generator, discriminator = players(num_classes=2, aligned=3)
    labels = torch.tensor([0, 1])
    z = torch.randn(2, 6)
    found = []
    for mixed in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            w = generator.mapping(z, labels)
            levels = generator.levels(w)
            output = discriminator(torch.cat(levels, 1), labels)
            projected = discriminator.projected(output.tokens)
        found.append([w, *levels, output.logits, projected])
    for exact, half in zip(*found, strict=True):
        assert (half - exact).norm() < 2**-7 * exact.norm()
    assert torch.equal(found[0][0], found[1][0])  # styles are in float32
    assert [value.dtype for value in found[1]] == [torch.float32] * 6 + [torch.bfloat16]


@pytest.mark.parametrize("checkpointing", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_both_compile_without_a_break(checkpointing):
    torch.compiler.reset()
    generator, discriminator = players(num_classes=2, checkpointing=checkpointing)
    labels = torch.tensor([0, 1])
    z, levels, logits = play(generator, discriminator, labels)
    expected = torch.autograd.grad(logits.sum(), discriminator.class_token, retain_graph=True)[0]
    made, critic = (torch.compile(network, fullgraph=True, backend="eager") for network in (generator, discriminator))
    torch.testing.assert_close(made(z, labels), levels[-1])
    again = critic(torch.cat(levels, 1), labels)
    torch.testing.assert_close(torch.autograd.grad(again.sum(), discriminator.class_token)[0], expected)


@pytest.mark.parametrize("classes", [pytest.param(0, marks=pytest.mark.slow), 3])
def test_the_generator_is_exported_for_any_number_of_latents(classes):
    generator, _ = players((4, 8), num_classes=classes)
    count = torch.export.Dim("count", min=1)
    given, other = ((torch.randn(n, 6), *([torch.arange(n) % 3] if classes else [])) for n in (3, 5))
    program = torch.export.export(generator, given, dynamic_shapes=tuple({0: count} for _ in given))
    torch.testing.assert_close(program.module()(*other), generator(*other))


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 3}, "patch is 3; expected a divisor of both sides of 8x8"),
        ({"patch": 0}, "patch is 0; expected a divisor of both sides of 8x8"),
        ({"heads": 3}, "heads is 3; expected a divisor of width, which is 16"),
        ({"heads": 8}, "width is 16 with 8 heads; expected heads of a multiple of 4 channels"),
        ({"depth": 0}, "depth is 0; expected"),
        ({"num_classes": -1}, "num_classes is -1; expected at least 0"),
        ({"channels": 0}, "channels is 0; expected at least 1"),
    ],
)
def test_numbers_that_do_not_go_together_are_refused(options, message):
    numbers = {"size": 8, "channels": 4, **TINY, **options}
    for make in (lambda: gat.Generator(6, **numbers), lambda: gat.Discriminator(**numbers)):
        with pytest.raises(ValueError, match=re.escape(message)):
            make()


def test_depth_that_levels_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="depth is 6; expected a multiple of 4, the number of output layers"):
        gat.Generator(6, 8, 4, width=16, depth=6, heads=2)


def test_labels_that_are_missing_or_not_expected_are_refused():
    labels = torch.tensor([0, 1])
    for network, values in zip(players(), (torch.randn(2, 6), torch.randn(2, 16, 8, 8)), strict=True):
        with pytest.raises(ValueError, match="labels were given to a network without classes"):
            network(values, labels)
    for network, values in zip(players(num_classes=2), (torch.randn(2, 6), torch.randn(2, 16, 8, 8)), strict=True):
        with pytest.raises(ValueError, match="labels are missing; expected a class from 0 to 1"):
            network(values)
        with pytest.raises(ValueError, match="expected classes from 0 to 1"):
            network(values, labels + 1)
