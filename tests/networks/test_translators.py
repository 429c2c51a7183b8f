"""U-Net, residual translator and patch critic: shapes for any size, what each pixel sees, options, initial weights."""

import pytest
import torch
from torch import nn

from gans.networks import patch, translation, unet

TRANSLATORS = [unet.Generator, translation.Generator]


def images(size, channels=3, count=2):
    return torch.rand(count, channels, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("kind", TRANSLATORS)
@pytest.mark.parametrize("size", [(16, 16), (20, 28), (17, 33), (64, 8)])
@pytest.mark.parametrize("channels", [(1, 3), (3, 1), (4, 4)])
def test_any_size_and_channels(kind, size, channels):
    made = kind(size, *channels, width=2)(images(size, channels[0]))
    assert made.shape == (2, channels[1], *size)
    assert made.abs().max() <= 1


@pytest.mark.parametrize("kind", TRANSLATORS)
def test_a_trained_size_does_not_bind(kind):
    torch.manual_seed(0)
    network = kind(32, 3, 3, width=2).eval()
    for size in ((45, 70), (1, 3), (9, 2)):
        assert network(images(size)).shape == (2, 3, *size)


@pytest.mark.parametrize("kind", TRANSLATORS)
@pytest.mark.parametrize("norm", ["instance", "none"])
def test_images_of_a_batch_are_apart(kind, norm):
    torch.manual_seed(0)
    network = kind(16, 3, 3, width=4, norm=norm).eval()
    both = images((16, 16))
    assert torch.allclose(network(both)[:1], network(both[:1]), atol=1e-6)


@pytest.mark.parametrize(
    ("size", "depth"), [(256, 8), (512, 8), (64, 6), (2, 1), ((20, 28), 4), ((16, 300), 4), (100, 6)]
)
def test_the_depth_follows_the_size(size, depth):
    network = unet.Generator(size, 3, 3, width=2)
    assert len(network.halvings) == len(network.doublings) == network.depth == depth


def test_pix2pix_has_its_54_million_parameters():
    """The paper's network: 54.4 M parameters with BatchNorm, of which the generator of 256 pixels consists."""
    with torch.device("meta"):
        network = unet.Generator(256, 3, 3, norm="batch")
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(54.41e6, rel=1e-3)
    drops = [any(isinstance(part, nn.Dropout) for part in up) for up in network.doublings]
    assert drops == [False, True, True, True, False, False, False, False]
    assert not any(isinstance(part, nn.Dropout) for part in unet.Generator(256, 3, 3, width=1, dropout=0).modules())


@pytest.mark.parametrize("kind", [*TRANSLATORS, patch.Discriminator])
def test_batch_norm_of_one_image_is_instance_norm_with_gain_and_shift(kind):
    """pix2pix trains and tests so; an instance norm without gain and shift is something else."""
    torch.manual_seed(0)
    channels = (3,) if kind is patch.Discriminator else (3, 3)
    drop = {"dropout": 0.0} if kind is unet.Generator else {}
    batch, affine, plain = (
        kind(32, *channels, width=4, norm=n, **drop) for n in ("batch", "instance_affine", "instance")
    )
    for name, value in affine.named_parameters():
        if value.ndim == 1:
            nn.init.normal_(value, 0 if "bias" in name else 1, 0.3)
    assert [*batch.state_dict()] != [*affine.state_dict()]  # no running statistics
    for other in (batch, plain):
        other.load_state_dict(affine.state_dict(), strict=False)
    given = images((32, 32), count=1)
    assert torch.allclose(affine.eval()(given), batch.train()(given), atol=1e-5)
    assert (affine(given) - plain(given)).abs().mean() > 0.01
    pair = images((32, 32), count=2)
    assert torch.allclose(affine(pair)[:1], affine(pair[:1]), atol=1e-6)
    assert not torch.allclose(batch(pair)[:1], affine(pair[:1]), atol=1e-3)


def test_a_skip_stands_in_front_of_what_comes_up():
    """A U-Net of two halvings by hand, in the order of the published weights."""
    torch.manual_seed(0)
    network = unet.Generator(4, 3, 3, width=4, norm="none", dropout=0)
    given = images((4, 4))
    outer, inner = (halving[0] for halving in network.halvings)
    up, last = (doubling[0] for doubling in network.doublings)
    seen = outer(given)
    risen = up(inner(nn.functional.leaky_relu(seen, 0.2)).relu())
    made = last(torch.cat([seen, risen], 1).relu()).tanh()
    assert torch.allclose(network(given), made, atol=1e-6)


def test_skips_carry_what_the_bottleneck_loses():
    """A change of one pixel of a large image reaches its own place the most."""
    torch.manual_seed(0)
    network = unet.Generator(64, 1, 1, width=4, norm="none", dropout=0).eval()
    given = images((64, 64), 1, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(network(given)[0, 0, 20, 41], given)
    assert gradient[0, 0, 17:24, 38:45].abs().sum() > 0.2 * gradient.abs().sum()
    assert (gradient != 0).float().mean() > 0.9  # and everything has some say


def test_the_residual_translator_has_cyclegans_size():
    with torch.device("meta"):
        network = translation.Generator(256, 3, 3)
    weights = sum(p.numel() for p in network.parameters() if p.ndim == 4)
    assert weights == 7 * 7 * 3 * 64 * 2 + 9 * 2 * 9 * 256 * 256 + 2 * 9 * (64 * 128 + 128 * 256)


@pytest.mark.parametrize(("antialias", "sides"), [(True, (16, 8)), (False, (8, 4))])
@pytest.mark.parametrize("norm", ["instance", "none"])
def test_features_of_stages(antialias, sides, norm):
    """CUT compares the bordered image, raw convolutions of the halvings, and residual blocks."""
    torch.manual_seed(0)
    network = translation.Generator(16, 3, 3, width=2, blocks=2, norm=norm, antialias=antialias)
    given = images((16, 16))
    zero, first, halved, quartered, block = network.features(given, [0, 1, 2, 3, 5])
    assert torch.equal(zero, nn.functional.pad(given, (3, 3, 3, 3), mode="reflect"))
    behind = network.stages[0](given)
    convs = [network.stages[0][1], network.stages[1][0], network.stages[2][0]]
    assert torch.equal(first, convs[0](zero))
    assert torch.equal(halved, convs[1](behind))
    assert torch.equal(quartered, convs[2](network.stages[1](behind)))
    assert (halved.shape, quartered.shape) == ((2, 4, sides[0], sides[0]), (2, 8, sides[1], sides[1]))
    assert all(float((maps < 0).float().mean()) > 0.1 for maps in (halved, quartered))  # no rectifier
    maps = given
    for stage in network.stages[:5]:
        maps = stage(maps)
    assert torch.equal(block, maps)
    assert len(network.features(given, range(9))) == len(network.widths) == 9


def test_nothing_behind_the_last_stage_is_computed():
    network, called = translation.Generator(16, 3, 3, width=2, blocks=2), []
    for number, stage in enumerate(network.stages):
        for part in stage.modules():
            part.register_forward_hook(lambda *_, number=number: called.append(number))
    network.features(images((16, 16)), [0, 2])
    assert max(called) == 1


@pytest.mark.parametrize("size", [(16, 16), (20, 33)])
def test_antialiasing_is_a_blur_behind_or_before_a_convolution(size):
    """Each stage by torch's own filters: [1, 2, 1] with reflection down, bilinear up; logits as many as without."""
    torch.manual_seed(0)
    network = translation.Generator(16, 3, 3, width=2, blocks=1, antialias=True)
    given, blur = images(size), torch.tensor([1.0, 2.0, 1.0]) / 4
    maps = network.stages[0](given)

    def halved(maps):
        kernel = torch.outer(blur, blur).expand(maps.shape[1], 1, 3, 3)
        border = nn.functional.pad(maps, (1, 1, 1, 1), mode="reflect")
        return nn.functional.conv2d(border, kernel, stride=2, groups=maps.shape[1])

    found = network.stages[1](maps)
    assert torch.allclose(found, halved(network.stages[1][1](network.stages[1][0](maps)).relu()), atol=1e-6)
    inner = network.stages[3](network.stages[2](found))
    wide = nn.functional.interpolate(inner, scale_factor=2, mode="bilinear")
    up = network.stages[4]
    assert torch.allclose(up(inner), up[2](up[1](wide)).relu(), atol=1e-5)
    assert network(given).shape == given.shape
    critics = [patch.Discriminator(size, 3, width=2, layers=2, antialias=blurred) for blurred in (True, False)]
    critics[0].load_state_dict(critics[1].state_dict())
    logits = [critic(given) for critic in critics]
    assert logits[0].shape == logits[1].shape
    assert not torch.allclose(*logits)
    layer = critics[0].scales[0].layers[1]
    seen = critics[0].scales[0].layers[0](given)
    assert layer[0].stride == (1, 1)
    assert torch.allclose(layer(seen), halved(nn.functional.leaky_relu(layer[1](layer[0](seen)), 0.2)), atol=1e-6)


@pytest.mark.parametrize("side", range(6, 130, 7))
def test_logits_of_any_side_are_as_many_with_antialiasing(side):
    shapes = [patch.Discriminator(side, 1, width=1, antialias=blurred)(images((side, side), 1)).shape
              for blurred in (True, False)]  # fmt: skip
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("kind", TRANSLATORS)
def test_weights_start_narrow(kind):
    torch.manual_seed(0)
    weights = torch.cat([p.detach().flatten() for p in kind(64, 3, 3, width=16).parameters() if p.ndim == 4])
    assert float(weights.std()) == pytest.approx(0.02, rel=0.02)


# -- the critic --------------------------------------------------------------------------------------------------------


def field(network, size, at):
    """The side of what a logit sees."""
    given = images(size, 3, 1).requires_grad_()
    logits = network(given)
    (gradient,) = torch.autograd.grad(logits[0, 0, at, at], given)
    rows = gradient[0].abs().sum((0, 2)).nonzero()
    return int(rows.max() - rows.min()) + 1


def test_a_patch_has_70_pixels():
    torch.manual_seed(0)
    network = patch.Discriminator(256, 3, width=2, norm="none").eval()
    assert network(images((256, 256))).shape == (2, 1, 30, 30)
    assert field(network, (256, 256), 15) == 70
    assert field(patch.Discriminator(256, 3, width=2, layers=1, norm="none"), (256, 256), 60) == 16


def test_patch_gan_has_its_parameters():
    with torch.device("meta"):
        network = patch.Discriminator(256, 6, norm="batch")
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(2.769e6, rel=1e-3)


@pytest.mark.parametrize("size", [(6, 6), (8, 8), (13, 40), (28, 28), (64, 64)])
def test_any_size_has_logits(size):
    logits = patch.Discriminator(size, 3, width=2)(images(size))
    assert logits.shape[:2] == (2, 1)
    assert logits.isfinite().all()


@pytest.mark.parametrize("spectral", [False, True])
def test_each_scale_has_the_same_say(spectral):
    torch.manual_seed(0)
    network = patch.Discriminator(64, 3, width=2, scales=2, spectral_norm=spectral).eval()
    given = images((64, 64))
    logits = network(given)
    alone = [maps[-1] for maps in network.seen(given)]
    assert logits.shape == (2, 2, 6, 6)
    assert alone[1].shape == (2, 1, 2, 2)
    assert torch.allclose(logits.mean(), torch.stack([part.mean() for part in alone]).mean(), atol=1e-6)


def test_the_critic_sees_what_images_shall_fit():
    torch.manual_seed(0)
    network = patch.Discriminator(16, 4, width=2).eval()
    given, source, other = images((16, 16)), images((16, 16), 1), -images((16, 16), 1)
    assert not torch.equal(network(given, source), network(given, other))
    features = network.features(given, source)
    assert [maps.shape[1] for maps in features] == [2, 4, 8]


def test_spectral_norm_bounds_every_layer():
    torch.manual_seed(0)
    network = patch.Discriminator(32, 3, width=4, spectral_norm=True).train()
    for _ in range(30):
        network(images((32, 32)))
    for layer in network.scales[0].layers:
        assert float(torch.linalg.matrix_norm(layer[0].weight.flatten(1), 2)) == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: unet.Generator(1, 3, 3), "size is 1x1; a U-Net needs at least 2"),
        (lambda: unet.Generator(8, 3, 3, width=0), "width is 0"),
        (lambda: unet.Generator(8, 3, 3, dropout=1), "dropout is 1; expected"),
        (
            lambda: unet.Generator(8, 3, 3, norm="layer"),
            "norm is 'layer'; expected instance, instance_affine, batch or none",
        ),
        (lambda: translation.Generator(7, 3, 3), "size is 7x7; a residual translator needs at least 8"),
        (lambda: patch.Discriminator(5, 3), "size is 5x5; a patch discriminator needs at least 6"),
        (lambda: patch.Discriminator(8, 3, scales=2), "size is 4x4; a patch discriminator needs at least 6"),
    ],
)
def test_wrong_arguments(make, says):
    with pytest.raises(ValueError, match=says):
        make()
