"""DF-GAN's networks: any size, told the sentence everywhere, at first plain."""

import pytest
import torch

from gans.networks import dfgan, textdcgan
from gans.networks.dfgan import Affine, Discriminator, Generator


@pytest.mark.parametrize("kind", [dfgan, textdcgan])
@pytest.mark.parametrize("size", [16, 28, (20, 33), 7])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_size(kind, size, channels):
    shape = size if isinstance(size, tuple) else (size, size)
    images = kind.Generator(5, 3, size, channels, 2)(torch.randn(2, 5), torch.randn(2, 3))
    assert images.shape == (2, channels, *shape)
    assert images.abs().max() <= 1
    critic = kind.Discriminator(3, size, channels, 2)
    assert critic(images, torch.randn(2, 3)).shape == (2,)
    with pytest.raises(RuntimeError):
        critic(torch.rand(2, channels, 64, 64), torch.randn(2, 3))


def test_an_affine_layer_begins_as_the_identity_and_learns_both():
    torch.manual_seed(0)
    layer, maps, condition = Affine(4, 6), torch.randn(2, 6, 3, 3), torch.randn(2, 4)
    assert torch.equal(layer(maps, condition), maps)
    with torch.no_grad():
        layer.gain[2].bias.fill_(2)
        layer.shift[2].bias.fill_(0.5)
    assert torch.allclose(layer(maps, condition), 2 * maps + 0.5, atol=1e-6)
    with torch.no_grad():
        layer.gain[2].weight.normal_()
    assert torch.allclose(layer(maps, condition)[:, :, 0, 0], layer.gain(condition) * maps[:, :, 0, 0] + 0.5, atol=1e-5)


@pytest.mark.parametrize(("size", "trunk", "generator"), [(64, 3.21e6, 4.87e6), (256, 6.62e6, None)])
def test_the_players_have_the_papers_parameters(size, trunk, generator):
    """At width 32 and sentences of 256 numbers, layer by layer: (inputs, outputs) of each block by hand."""
    with torch.device("meta"):
        critic, maker = Discriminator(256, size, 3, 32), Generator(100, 256, size, 3, 32)
    count = sum(p.numel() for p in critic.trunk.parameters())
    steps = {64: [(32, 64), (64, 128), (128, 256), (256, 256)]}
    steps[256] = [*steps[64], (256, 256), (256, 256)]
    blocks = [16 * a * b + 9 * b * b + 1 + (a * b + b if a != b else 0) for a, b in steps[size]]
    assert count == 3 * 32 * 9 + 32 + sum(blocks)
    # The authors' code builds a 1x1 shortcut for blocks that keep their channels too, and never calls it.
    idle = sum(a * b + b for a, b in steps[size] if a == b)
    assert count + idle == pytest.approx(trunk, rel=2e-3)
    assert sum(p.numel() for p in critic.joint.parameters()) == 9 * (256 + 256) * 64 + 16 * 64
    made = sum(p.numel() for p in maker.parameters())
    total = 101 * 256 * 16 + 3 * 32 * 9 + 3
    for b, a in [(256, 256)] * (len(steps[size]) - 3) + [(128, 256), (64, 128), (32, 64)]:
        affine = [2 * (357 * c + (c + 1) * c) for c in (a, a, b, b)]
        total += sum(affine) + 9 * a * b + b + 9 * b * b + b + (a * b + b if a != b else 0)
    assert made == total
    if generator:
        assert made == pytest.approx(generator, rel=2e-3)


def test_the_sentence_changes_images_and_logits():
    torch.manual_seed(0)
    generator, critic = Generator(5, 3, 16, 3, 2), Discriminator(3, 16, 3, 2)
    with torch.no_grad():
        for name, value in [*generator.named_parameters(), *critic.named_parameters()]:
            if value.ndim < 2 or "affines" in name:
                value.normal_(0, 0.3)  # gains and affines as if they had been trained
    z, one, other = torch.randn(2, 5), torch.randn(2, 3), torch.randn(2, 3)
    images = generator(z, one)
    assert (images - generator(z, other)).abs().max() > 1e-3
    own, wrong = critic(images, one, other)
    assert (own - wrong).abs().min() > 1e-4
    assert torch.equal(critic(images, one), own)


def test_the_projection_compares_image_and_sentence():
    torch.manual_seed(0)
    critic = textdcgan.Discriminator(3, 16, 3, 2).eval()
    images, one, other = torch.rand(2, 3, 16, 16), torch.randn(2, 3), torch.randn(2, 3)
    own, wrong, none = critic(images, one, other, torch.zeros(2, 3))
    assert (own - wrong).abs().min() > 0
    assert torch.allclose(critic(images, one + other), own + wrong - none, atol=1e-6)
