"""DF-GAN's networks: any size, told the sentence everywhere, at first plain."""

import pytest
import torch

from gans.networks import dfgan, told
from gans.networks.dfgan import Affine, Discriminator, Generator


@pytest.mark.parametrize("kind", [dfgan, told])
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
        layer.layers[2].bias[:6], layer.layers[2].bias[6:] = 1.0, 0.5
    assert torch.allclose(layer(maps, condition), 2 * maps + 0.5, atol=1e-6)


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
    critic = told.Discriminator(3, 16, 3, 2).eval()
    images, one, other = torch.rand(2, 3, 16, 16), torch.randn(2, 3), torch.randn(2, 3)
    own, wrong, none = critic(images, one, other, torch.zeros(2, 3))
    assert (own - wrong).abs().min() > 0
    assert torch.allclose(critic(images, one + other), own + wrong - none, atol=1e-6)
