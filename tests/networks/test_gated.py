"""Gated convolutions: shapes for any size, what is in a hole, what each stage is given, how strong signals stay."""

from itertools import pairwise

import pytest
import torch

from gans.networks.gated import Discriminator, Gated, Generator, composed, surrounded
from gans.networks.pullpush import pull_push


def images(size, channels=3, count=2, seed=0):
    return torch.rand(count, channels, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def masks(size, count=2):
    mask = torch.zeros(count, 1, *size)
    mask[..., size[0] // 4 : size[0] // 2 + 1, size[1] // 4 : size[1] // 2 + 1] = 1
    return mask


@pytest.mark.parametrize("size", [(16, 16), (20, 28), (17, 33), (64, 8), (1, 3)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_size_and_channels(size, channels):
    torch.manual_seed(0)
    made = Generator(16, channels, width=2)(images(size, channels), masks(size))
    assert made.shape == (2, channels, *size)
    assert made.abs().max() <= 1


@pytest.mark.parametrize("base", [False, True])
@pytest.mark.parametrize("refine", [False, True])
def test_nothing_in_a_hole_is_seen_and_everything_around_it_is(refine, base):
    torch.manual_seed(0)
    network, size = Generator(16, 3, width=4, refine=refine, base=base), (16, 16)
    for stage in network.stages:
        torch.nn.init.normal_(stage.last.weight)
    given, mask = images(size).requires_grad_(), masks(size)
    (gradient,) = torch.autograd.grad(network(given, mask)[0, :, 6, 6].sum(), given)
    assert not gradient[0][:, mask[0, 0] == 1].any()
    assert gradient[0][:, mask[0, 0] == 0].abs().min() > 0
    broken = torch.where(mask > 0, torch.nan, given)
    assert torch.equal(network(broken, mask), network(given, mask))


@pytest.mark.parametrize("refine", [False, True])
def test_a_fresh_network_with_a_base_nearly_returns_it(refine):
    network, given, mask = Generator(16, 3, 2, refine, base=True), images((16, 24)), masks((16, 24))
    fill = pull_push(given, mask).clamp(-0.98, 0.98)
    assert all(1e-4 < (guess - fill).abs().mean() < 0.05 for guess in network.guesses(given, mask))


@pytest.mark.parametrize("refine", [False, True])
def test_known_pixels_get_no_part_of_the_difference_from_a_base(refine):
    network, given, mask = Generator(16, 3, 2, refine, base=True), images((16, 24)), masks((16, 24))
    for stage in network.stages:
        torch.nn.init.normal_(stage.last.weight)
    fill = pull_push(given, mask).clamp(-0.98, 0.98)
    for guess in network.guesses(given, mask):
        assert torch.allclose(torch.where(mask > 0, fill, guess), fill, atol=1e-5)
        assert (guess - fill).abs().amax() > 0.1


def test_the_second_stage_sees_the_first_ones_guess_in_the_hole_alone():
    torch.manual_seed(0)
    network, size, seen = Generator(16, 3, width=2), (16, 16), []
    network.stages[1].register_forward_hook(lambda _, given, __: seen.append(given))
    given, mask = images(size), masks(size)
    coarse, refined = network.guesses(given, mask)
    assert torch.equal(seen[0][0], composed(coarse, given, mask))
    assert torch.equal(network(given, mask), refined)
    assert not torch.equal(coarse, refined)
    assert len(Generator(16, 3, width=2, refine=False).guesses(given, mask)) == 1


def test_a_gate_shuts_and_opens():
    layer = Gated(2, 3)
    maps = torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.conv.bias[3:] = torch.tensor([-100.0, 100.0, 0.0])
        layer.conv.weight[3:] = 0
        features = torch.nn.functional.elu(layer.conv(maps)[:, :3])
        seen = layer(maps)
    assert seen[:, 0].abs().max() < 1e-6
    assert torch.allclose(seen[:, 1:], features[:, 1:] * torch.tensor([1.0, 0.5]).view(2, 1, 1))
    assert layer(torch.zeros(1, 2, 8, 6)).shape == (1, 3, 8, 6)
    assert Gated(2, 3, stride=2)(torch.zeros(1, 2, 8, 6)).shape == (1, 3, 4, 3)
    assert Gated(2, 3, enlarge=True)(torch.zeros(1, 2, 8, 6)).shape == (1, 3, 16, 12)
    assert Gated(2, 3, dilation=4)(torch.zeros(1, 2, 8, 6)).shape == (1, 3, 8, 6)


def test_signals_neither_die_out_nor_explode():
    torch.manual_seed(0)
    maps, layers = torch.randn(2, 32, 24, 24), [Gated(32, 32) for _ in range(12)]
    with torch.no_grad():
        for layer in layers:
            maps = layer(maps)
    assert 0.05 < float(maps.square().mean()) < 5  # of a layer with torch's own initial weights 1e-12 is left


def test_dilations_stay_within_the_maps():
    for size, count in ((16, 1), (64, 3), (256, 4)):
        stage = Generator(size, 1, width=1).stages[0]
        assert sum(layer.conv.dilation != (1, 1) for layer in stage.modules() if isinstance(layer, Gated)) == count


def test_known_pixels_come_back_in_every_precision():
    given, mask = images((8, 8)), masks((8, 8))
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        whole = composed(torch.full_like(given, torch.nan, dtype=dtype), given, mask)
        assert torch.equal(whole[mask.expand_as(given) == 0].double(), given[mask.expand_as(given) == 0].double())
        assert whole[mask.expand_as(given) == 1].isnan().all()


def test_a_narrow_hole_is_filled_from_beside_it():
    torch.manual_seed(0)
    size = (32, 32)
    network, given, mask = Generator(32, 3, width=8), images(size, count=1).requires_grad_(), torch.zeros(1, 1, *size)
    mask[..., 16] = 1
    (gradient,) = torch.autograd.grad(network(given, mask)[0, :, 16, 16].sum(), given)
    assert gradient[0, :, 12:21, 12:21].abs().sum() > 0.2 * gradient.abs().sum()


# -- the critic --------------------------------------------------------------------------------------------------------


def test_sn_patchgan_is_the_papers():
    """Six layers of 5x5 that halve: 64, 128 and four times 256 channels; 4x4x256 logits of 256 pixels."""
    critic = Discriminator(4)
    with torch.device("meta"):
        plain, given = Discriminator(4, spectral_norm=False), torch.zeros(2, 4, 256, 256)
        assert plain(given[:, :3], given[:, 3:]).shape == (2, 256, 4, 4)
    widths = [4, 64, 128, 256, 256, 256, 256]
    expected = sum(25 * a * b + b for a, b in pairwise(widths))
    assert sum(p.numel() for p in critic.parameters()) == expected
    assert all("original" in name or "bias" in name for name, _ in critic.named_parameters())
    assert [maps.shape[1:] for maps in plain.features(given)] == [
        (width, 128 // 2**level, 128 // 2**level) for level, width in enumerate(widths[1:-1])
    ]


def test_a_logit_of_sn_patchgan_sees_253_pixels():
    torch.manual_seed(0)
    critic, given = Discriminator(1, 1, spectral_norm=False), torch.zeros(1, 1, 512, 512, requires_grad=True)
    (gradient,) = torch.autograd.grad(critic(given)[0, 0, 4, 4], given)
    rows = gradient[0, 0].abs().sum(1).nonzero()
    assert int(rows.max() - rows.min()) + 1 == 253
    # TensorFlow pads an even side by one zero in front and two behind: window i of a layer begins at 2 i - 1.
    assert int(rows.min()) == 4 * 64 - 63


@pytest.mark.parametrize("side", [1, 2, 5, 6])
def test_sides_are_padded_as_tensorflow_does(side):
    """`max((ceil(n / 2) - 1) 2 + 5 - n, 0)` zeros in all, of which the half, rounded down, in front."""
    conv = Discriminator(1, 1, spectral_norm=False).layers[0]
    maps = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0))
    total = max((-(-side // 2) - 1) * 2 + 5 - side, 0)
    whole = torch.zeros(1, 1, side + total, side + total)
    whole[..., total // 2 : total // 2 + side, total // 2 : total // 2 + side] = maps
    found = conv(surrounded(maps))
    assert torch.equal(found, conv(whole))
    assert found.shape[-1] == -(-side // 2)


@pytest.mark.parametrize("size", [(6, 6), (17, 40)])
def test_sn_patchgan_takes_any_size_and_bounds_every_layer(size):
    torch.manual_seed(0)
    critic = Discriminator(4, 4).train()
    for _ in range(30):
        logits = critic(images(size), masks(size))
    assert logits.isfinite().all()
    for layer in critic.layers:
        assert float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) == pytest.approx(1, abs=2e-2)
