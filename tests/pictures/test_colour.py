"""Lab: known colours, the way there and back, gradients; colourfulness; and transfer of colours."""

import pytest
import torch

from gans.pictures.colour import colourfulness, lab_to_rgb, recoloured, rgb_to_lab


def image(*colours):
    return (torch.tensor(colours, dtype=torch.float64) / 127.5 - 1).T[None, :, None]


def test_known_colours():
    """From any table of sRGB primaries under D65."""
    lab = rgb_to_lab(image((255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (119, 119, 119)))
    expected = [
        (100, 0, 0),
        (0, 0, 0),
        (53.24, 80.09, 67.20),
        (87.73, -86.18, 83.18),
        (32.30, 79.19, -107.86),
        (50.03, 0, 0),
    ]
    for found, known in zip(lab[0, :, 0].T.tolist(), expected, strict=True):
        assert found == pytest.approx(known, abs=0.02)


def test_there_and_back():
    levels = torch.linspace(-1, 1, 9)
    colours = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 27, 27)
    assert (lab_to_rgb(rgb_to_lab(colours)) - colours).abs().max() < 1e-4
    assert (lab_to_rgb(rgb_to_lab(colours.double())) - colours).abs().max() < 1e-6
    assert rgb_to_lab(colours.bfloat16()).dtype == torch.float32


def test_mixed_precision_changes_nothing():
    colours = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.autocast("cpu", torch.bfloat16):
        lab = rgb_to_lab(colours)
        back = lab_to_rgb(lab)
    assert torch.equal(lab, rgb_to_lab(colours))
    assert (back - colours).abs().max() < 1e-4


def test_grey_has_no_colour_and_colours_that_are_not_there_are_clipped():
    grey = torch.linspace(-1, 1, 50).expand(1, 3, 1, -1)
    assert rgb_to_lab(grey)[:, 1:].abs().max() < 1e-4
    wild = lab_to_rgb(torch.tensor([50.0, 120, -120]).view(1, 3, 1, 1))
    assert wild.abs().max() == 1


@pytest.mark.parametrize("value", [-1.0, -0.95, 0.0, 1.0])
def test_gradients_are_finite(value):
    images = torch.full((1, 3, 1, 1), value, requires_grad=True)
    lab_to_rgb(rgb_to_lab(images)).sum().backward()
    assert images.grad.isfinite().all()


def test_colourfulness():
    grey = torch.rand(1, 1, 8, 8).expand(2, 3, -1, -1) * 2 - 1
    assert colourfulness(grey).abs().max() < 1e-4
    halves = torch.tensor([[255.0, 0, 0], [0, 0, 255.0]]).T.reshape(1, 3, 1, 2) / 127.5 - 1
    # rg is 255 and 0, yb 127.5 and -255
    expected = (127.5**2 + 191.25**2) ** 0.5 + 0.3 * (127.5**2 + 63.75**2) ** 0.5
    assert float(colourfulness(halves)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_gets_the_mean_and_covariance_of_another(channels):
    torch.manual_seed(0)
    mix = torch.randn(channels, channels)
    image, like = 0.1 * torch.randn(1, channels, 30, 20), 0.1 * torch.randn(1, channels, 9, 50) + 0.2
    like = torch.einsum("ij,njhw->nihw", mix, like).clamp(-1, 1)
    made = recoloured(image, like)
    assert made.shape == image.shape
    for statistic in (torch.cov, lambda rows: rows.mean(-1)):
        found, wanted = (statistic(part[0].flatten(1)) for part in (made, like))
        assert torch.allclose(found, wanted, atol=2e-3)
    grey = recoloured(torch.full((1, channels, 4, 4), 0.7), like)
    assert torch.allclose(grey[0].mean((1, 2)), like[0].mean((1, 2)), atol=1e-5)
    assert grey.std((2, 3)).max() < 1e-5
