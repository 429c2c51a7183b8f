"""SPADE: one-hot maps, the equations of a layer, and a generator of any size that reads its label map everywhere."""

import pytest
import torch
from torch.nn.functional import interpolate, leaky_relu, one_hot

from gans.networks.spade import Block, Discriminator, Generator, OneHot, Spade


def labels(n=2, size=(16, 16), classes=3, cell=4):
    """One-hot maps of square cells with random classes."""
    torch.manual_seed(1)
    numbers = torch.randint(0, classes, (n, *(side // cell for side in size)))
    return one_hot(numbers.repeat_interleave(cell, 1).repeat_interleave(cell, 2), classes).permute(0, 3, 1, 2).float()


def awake(network):
    """`network` with weights that are large enough for all of them to matter."""
    torch.manual_seed(2)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_pixel_belongs_to_the_nearest_colour(dtype):
    hot = OneHot(3)
    hot.colours.copy_(torch.tensor([[-1.0, -1, 1], [1, 0, -1], [1, 1, 1]]))
    maps = hot.colours.T[None, :, [2, 0, 1, 1], None].to(dtype) * 0.9
    assert torch.equal(hot(maps), one_hot(torch.tensor([[2, 0, 1, 1]]), 3).mT[..., None].to(dtype))


def test_neighbouring_greys_are_told_apart():
    hot = OneHot(256, 1)
    maps = (torch.arange(256) / 127.5 - 1).view(1, 1, 16, 16)
    assert torch.equal(hot(maps).argmax(1).flatten(), torch.arange(256))


def test_a_layer_scales_and_shifts_by_its_label_map():
    layer, maps, given = awake(Spade(4, 3, 5)), torch.randn(2, 4, 16, 16), labels()
    gamma, beta = layer.factors(torch.relu(layer.shared(given))).split(4, 1)
    assert torch.allclose(layer(maps, given), (1 + gamma) * maps + beta, atol=1e-5)


@pytest.mark.parametrize("after", [4, 2])
def test_a_block_is_a_residual_of_two_layers(after):
    block, maps, given = awake(Block(4, after, 3, 5, "instance", False)), torch.randn(2, 4, 16, 16), labels()

    def normed(values):
        return torch.nn.functional.instance_norm(values)

    made = block.convs[0](leaky_relu(block.spades[0](normed(maps), given), 0.2))
    made = block.convs[1](leaky_relu(block.spades[1](normed(made), given), 0.2))
    skip = maps if after == 4 else block.skip_conv(block.skip_spade(normed(maps), given))
    assert torch.allclose(block(maps, given), skip + made, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "steps"),
    [
        (16, [2, 2, 2, 2, 2, 2, 1]),
        (256, [32, 16, 16, 8, 4, 2, 1]),
        ((256, 512), [32, 16, 16, 8, 4, 2, 1]),
        (512, [64, 32, 16, 8, 4, 2, 1]),
    ],
)
def test_the_size_of_training_chooses_the_doublings(size, steps):
    assert Generator(size, 3, 3, 1, 1).steps == steps


@pytest.mark.parametrize("size", [(16, 16), (33, 50), (3, 5)])
def test_images_have_the_size_of_their_maps(size):
    network = awake(Generator(64, 3, 3, 2, 4)).eval()
    given = interpolate(labels(), size, mode="nearest")
    made = network(given)
    assert made.shape == (2, 3, *size)
    assert made.std() > 0.01


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_every_region_reads_its_class(norm):
    network, given = awake(Generator(64, 3, 3, 2, 4, norm, False)), labels(1, (64, 64), cell=16)
    network.last.weight.data *= 0.01  # far from the ends of tanh
    changed = given.clone()
    changed[..., :16, :16] = changed[..., :16, :16].roll(1, 1)
    apart = (network(changed) - network(given)).detach().abs().mean(1)[0]
    assert apart[:16, :16].mean() > 4 * apart[48:, 48:].mean()
    assert (apart[:16, :16] > 0).float().mean() > 0.99


def test_the_last_layers_alone_read_single_pixels():
    network, given = awake(Generator(256, 3, 3, 1, 2)).eval(), labels(1, (256, 256), cell=32)
    changed = given.clone()
    changed[..., 33, 33] = changed[..., 33, 33].roll(1, 1)  # of no lower resolution
    assert torch.equal(network.inner(given[..., ::16, ::16]), network.inner(changed[..., ::16, ::16]))
    assert not torch.equal(network(given), network(changed))


def test_the_critic_returns_logits_and_hidden_maps_of_both_scales():
    critic, images, given = Discriminator(32, 6, 2, scales=2), torch.randn(2, 3, 32, 32), labels(size=(32, 32))
    opinion = critic(images, given)
    assert opinion.logits.shape[:2] == (2, 2)
    assert len(opinion.maps) == len(critic.scales[0].layers) + len(critic.scales[1].layers) - 2
    for ours, other in zip(opinion.maps, critic.features(images, given), strict=True):
        assert torch.equal(ours, other)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="norm is 'layer'; expected instance or batch"):
        Generator(16, 3, 3, 2, 4, "layer")
    with pytest.raises(ValueError, match="classes is 1; expected at least 2"):
        OneHot(1)
    with pytest.raises(ValueError, match="hidden is 0; expected at least 1"):
        Generator(16, 3, 3, 2, 0)
