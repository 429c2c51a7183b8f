"""Autoencoder with a grid of codes: its codes, its losses, the adaptive weight, what it refuses."""

import pytest
import torch

from gans.models import GridAutoencoder


def make(**options):
    torch.manual_seed(0)
    model = GridAutoencoder(**{"size": 16, "channels": 1, "width": 4, **options})
    model.seed = 0
    return model


@pytest.mark.parametrize(
    ("size", "channels", "factor", "shape"),
    [(16, 1, 2, (4, 8, 8)), ((16, 24), 3, 4, (4, 4, 6)), ((32, 16), 4, 8, (4, 4, 2))],
)
def test_codes_are_grids_of_any_rectangle(size, channels, factor, shape):
    model = make(size=size, channels=channels, factor=factor, attention=True).eval()
    images = torch.rand(3, *model.image_shape) * 2 - 1
    codes = model.encode(images)
    assert codes.shape == (3, *shape)
    assert model.code_shape == shape
    assert model.decode(codes).shape == images.shape
    assert model.sample(2, seed=0).shape == images[:2].shape
    ways = model.interpolate(images[:1], images[1:2], 5)
    assert torch.allclose(ways[:, 0], model.reconstruct(images[:1]), atol=1e-4)
    assert torch.allclose(ways[:, -1], model.reconstruct(images[1:2]), atol=1e-4)
    assert set(model.pictures((images,))) == {"reconstructions", "interpolations"}
