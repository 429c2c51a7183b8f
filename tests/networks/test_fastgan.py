"""FastGAN's networks: the authors' sizes, their equations written out with plain functions, and what a size may be."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gans.explore.sefa import sefa
from gans.networks import fastgan
from gans.networks.spectral import normed_together, spectral_layers

torch.set_num_threads(1)


def players(size, channels=3, width=4, latent_dim=6):
    torch.manual_seed(0)
    return fastgan.Generator(latent_dim, size, channels, width), fastgan.Discriminator(size, channels, width)


def count(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("size", "generator", "discriminator"),
    [(256, 29_127_846, 11_526_160), (512, 29_174_392, 11_526_496), (1024, 29_176_512, 11_528_192)],
)
def test_the_networks_have_the_parameters_of_the_authors_code(size, generator, discriminator, monkeypatch):
    monkeypatch.setattr(fastgan, "normalise", lambda layer: None)  # it draws, which memory without content cannot
    with torch.device("meta"):
        assert count(fastgan.Generator(256, size, 3, 64)) == generator
        assert count(fastgan.Discriminator(size, 3, 64)) == discriminator


# -- the equations ----------------------------------------------------------------------------------------------------


def normed(weight, u, v):
    """A weight over its singular value by the stored vectors, as a matrix with a row for each output."""
    return weight / torch.dot(u, weight.flatten(1) @ v)


class Plain:
    """The layers of a network in turn, each by functions of torch alone; norms with their running statistics."""

    def __init__(self, network):
        self.state = network.state_dict()

    def weight(self, name):
        key = f"{name}.parametrizations.weight"
        return normed(self.state[f"{key}.original"], self.state[f"{key}.0._u"], self.state[f"{key}.0._v"])

    def conv(self, maps, name, stride=1, padding=0):
        return F.conv2d(maps, self.weight(name), stride=stride, padding=padding)

    def norm(self, maps, name):
        mean, var = self.state[f"{name}.running_mean"], self.state[f"{name}.running_var"]
        return F.batch_norm(maps, mean, var, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def gate(self, low, name):
        """Section 3.1: pooling to 4x4, a 4x4 convolution, swish, a 1x1 convolution, sigmoid."""
        pooled = F.adaptive_avg_pool2d(low, 4)
        hidden = self.conv(pooled, f"{name}.1")
        return torch.sigmoid(self.conv(hidden * torch.sigmoid(hidden), f"{name}.3"))

    def linear_unit(self, maps):
        first, second = maps.chunk(2, 1)
        return first * torch.sigmoid(second)

    def up(self, maps, name):
        maps = F.interpolate(maps, scale_factor=2)
        return self.linear_unit(self.norm(self.conv(maps, f"{name}.convolution", padding=1), f"{name}.norm"))

    def noisy_up(self, maps, name, noises):
        maps = F.interpolate(maps, scale_factor=2)
        for i in (1, 2):
            maps = self.conv(maps, f"{name}.convolution{i}", padding=1) + self.state[f"{name}.noise{i}.weight"] * next(
                noises
            )
            maps = self.linear_unit(self.norm(maps, f"{name}.norm{i}"))
        return maps

    def half(self, maps, name, first=0):
        maps = self.norm(self.conv(maps, f"{name}.{first}", 2, 1), f"{name}.{first + 1}")
        return F.leaky_relu(maps, 0.2)

    def down(self, maps, name):
        main = self.conv(self.half(maps, f"{name}.main"), f"{name}.main.3", padding=1)
        direct = self.conv(F.avg_pool2d(maps, 2), f"{name}.direct.1")
        parts = self.norm(main, f"{name}.main.4"), self.norm(direct, f"{name}.direct.2")
        return sum(F.leaky_relu(part, 0.2) for part in parts) / 2

    def decoder(self, maps, name, blocks):
        for i in range(blocks):
            maps = self.up(maps, f"{name}.{i}")
        return self.conv(maps, f"{name}.{blocks}", padding=1).tanh()


def shake(network):
    """Weights and statistics as training makes them; vectors of the spectral norm that fit them."""
    for name, tensor in network.state_dict().items():
        if "running" in name or name.endswith(("noise1.weight", "noise2.weight")):
            tensor += torch.rand_like(tensor)
    with normed_together(spectral_layers(network.train())):
        pass
    return network.double().eval()


@torch.no_grad()
def test_the_generator_is_its_equations():
    generator, _ = players(64)
    plain = Plain(shake(generator))
    z, noise = torch.randn(2, 6).double(), torch.randn(2, generator.noise_dim).double()
    noises = iter(
        [
            part.view(2, 1, side, side)
            for part, side in zip(noise.split([64, 64, 1024, 1024], 1), (8, 8, 32, 32), strict=True)
        ]
    )
    start = F.conv_transpose2d(z[:, :, None, None], plain.weight("start").transpose(0, 1))
    four = plain.linear_unit(plain.norm(start, "start_norm"))
    eight = plain.noisy_up(four, "blocks.0", noises)
    sixteen = plain.up(eight, "blocks.1")
    half = plain.noisy_up(sixteen, "blocks.2", noises)
    whole = plain.up(half, "blocks.3") * plain.gate(four, "gates.4")
    images, small = generator(z, noise, both=True)
    torch.testing.assert_close(images, plain.conv(whole, "to_image", padding=1).tanh())
    torch.testing.assert_close(small, plain.conv(half, "to_small").tanh())
    assert small.shape == (2, 3, 32, 32)
    assert images.std() > 1e-3


@torch.no_grad()
def test_the_discriminator_is_its_equations():
    _, discriminator = players(64)
    plain = Plain(shake(discriminator))
    images, small = torch.randn(2, 3, 64, 64).double(), torch.randn(2, 3, 32, 32).double()
    first = F.leaky_relu(plain.conv(images, "entry.0", padding=1), 0.2)
    half = plain.down(first, "blocks.0")
    middle = plain.down(half, "blocks.1")
    last = plain.down(middle, "blocks.2") * plain.gate(first, "gates.1")
    hidden = F.leaky_relu(plain.norm(plain.conv(last, "head.0"), "head.1"), 0.2)
    logits = [plain.conv(hidden, "head.3").flatten(1)]
    branch = F.leaky_relu(plain.conv(small, "small_branch.0", 2, 1), 0.2)
    branch = plain.half(branch, "small_branch", 2)
    logits.append(plain.conv(branch, "small_head").flatten(1))
    found, decoded = discriminator(images, small, torch.tensor([0, 3]))
    torch.testing.assert_close(found, torch.cat(logits, 1))
    assert found.shape == (2, 50)
    parts = torch.stack([middle[0, :, :8, :8], middle[1, :, 8:, 8:]])
    for i, (name, maps) in enumerate((("whole", last), ("quarter", parts), ("small", branch))):
        torch.testing.assert_close(decoded[:, i], plain.decoder(maps, f"decoders.{name}", 2), msg=name)
    torch.testing.assert_close(discriminator(images), discriminator(images, images[:, :, ::2, ::2]))


def test_decoders_aim_at_the_image_and_at_its_quarter():
    _, discriminator = players(64)
    images = torch.randn(4, 3, 64, 64)
    targets = discriminator.targets(images, torch.arange(4))
    for i, corner in enumerate(
        (images[0, :, :32, :32], images[1, :, :32, 32:], images[2, :, 32:, :32], images[3, :, 32:, 32:])
    ):
        assert torch.equal(targets[i, 1], corner)
        assert torch.equal(targets[i, 0], images[i, :, ::2, ::2])
        assert torch.equal(targets[i, 2], targets[i, 0])


def test_noise_is_stored_outside_training_and_has_no_weight_at_first():
    generator, _ = players(16)
    z, noise = torch.randn(2, 6), torch.randn(2, generator.noise_dim)
    assert torch.equal(generator.eval()(z, noise), generator(z))
    for part in generator.modules():
        if isinstance(part, fastgan.Noise):
            nn.init.ones_(part.weight)
    assert torch.equal(generator(z), generator(z, generator.noise.expand(2, -1)))
    assert (generator(z, noise) - generator(z)).abs().max() > 1e-4
    again, _ = players(16)
    again.load_state_dict(generator.state_dict())
    assert torch.equal(again.eval()(z), generator(z))


def test_directions_are_those_of_the_start():
    generator = players(16)[0].eval()
    _, responses = sefa(generator, torch.zeros(1, 6), 3)
    matrix = generator.start.weight.transpose(0, 1).flatten(1).detach()
    torch.testing.assert_close(responses, torch.linalg.svdvals(matrix)[:3], rtol=1e-4, atol=1e-5)


# -- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "small", "logits"),
    [
        (16, (16, 16), 50),
        ((20, 28), (20, 28), 154),
        (32, (16, 16), 50),
        ((96, 128), (48, 64), 234),
        (128, (64, 64), 50),
        (256, (128, 128), 50),
        (512, (128, 128), 50),
        pytest.param(1024, (128, 128), 50, marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_images_of_all_sizes(size, small, logits):
    generator, discriminator = players(size, width=1)
    images, shrunk = generator(torch.randn(2, 6), both=True)
    pair = size if isinstance(size, tuple) else (size, size)
    assert (images.shape, shrunk.shape) == ((2, 3, *pair), (2, 3, *small))
    assert images.is_contiguous()
    quarter = torch.tensor([0, 3])
    found, decoded = discriminator(images, shrunk, quarter)
    assert found.shape == (2, logits)
    assert decoded.shape == discriminator.targets(images, quarter).shape == (2, 3, 3, *small)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (100, "size is 100x100; FastGAN needs at least 16 pixels a side and multiples of 16, such as 96x96"),
        ((127, 150), "size is 127x150; FastGAN needs at least 16 pixels a side and multiples of 16, such as 128x160"),
        (12, "size is 12x12; FastGAN needs at least 16 pixels a side and multiples of 2, such as 16x16"),
    ],
)
def test_other_sizes_are_refused(size, message):
    for kind in (lambda: fastgan.Generator(6, size, 3, 4), lambda: fastgan.Discriminator(size, 3, 4)):
        with pytest.raises(ValueError, match=re.escape(message)):
            kind()


def test_the_size_that_is_named_is_one():
    for size in [(16, 16), *((a, b) for a in range(17, 400, 37) for b in (a, a + 13, 2 * a + 1))]:
        near = fastgan.nearest(size)
        (height, width), levels = fastgan.shape(near)
        assert (height << levels, width << levels) == near
    with pytest.raises(ValueError, match="width is 0; expected at least 1"):
        fastgan.Generator(6, 64, 3, 0)
    with pytest.raises(ValueError, match=re.escape("images have the size (32, 32); expected (64, 64)")):
        players(64)[1](torch.zeros(1, 3, 32, 32))
