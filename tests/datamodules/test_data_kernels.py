"""Blur kernels and filters against their formulas, and unsharp masking."""

from math import cos, pi, sin

import pytest
import torch
from torch.nn.functional import conv2d, pad

from datamodules import kernels


def photo(height=40, width=56):
    coarse = torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    return (torch.nn.functional.interpolate(coarse, (height, width))[0] * 255).round().to(torch.uint8)


@pytest.mark.parametrize("size", [7, 21])
@pytest.mark.parametrize(
    ("sigmas", "angle", "power"), [((1.5, 1.5), 0.0, 1.0), ((3.0, 0.4), 0.6, 0.5), ((2, 1), -2, 4)]
)
def test_kernels_are_those_of_their_formulas(size, sigmas, angle, power):
    """`x^T S^-1 x` with `S = U diag(s^2) U^T`, of x to the right and y downwards."""
    turn = torch.tensor([[cos(angle), -sin(angle)], [sin(angle), cos(angle)]], dtype=torch.float64)
    inverse = torch.linalg.inv(turn @ torch.diag(torch.tensor(sigmas, dtype=torch.float64) ** 2) @ turn.T)
    place = torch.arange(size, dtype=torch.float64) - size // 2
    grid = torch.stack([place.expand(size, size), place[:, None].expand(size, size)], -1)
    squared = torch.einsum("ijk,kl,ijl->ij", grid, inverse, grid)
    for made, formula in (
        (kernels.gaussian, (-0.5 * squared**power).exp()),
        (kernels.plateau, 1 / (1 + squared**power)),
    ):
        assert torch.allclose(made(size, sigmas, angle, power), formula / formula.sum(), atol=1e-12)


def test_sinc_filters_let_low_frequencies_through_and_high_ones_not():
    kernel = kernels.sinc(41, 0.5)
    assert float(kernel.sum()) == pytest.approx(1)
    assert torch.allclose(kernel, kernel.T)
    assert kernel.min() < 0  # it rings
    wave = torch.arange(200, dtype=torch.float32)
    for share, kept in ((0.2, 1.0), (0.8, 0.0)):
        image = (pi * share * wave).cos().expand(1, 200, 200)
        found = kernels.filtered(image, kernel)[0, 100, 50:150]
        assert float((found * image[0, 100, 50:150]).mean() * 2) == pytest.approx(kept, abs=0.1)


@pytest.mark.parametrize("size", [3, 21])
def test_filters_are_convolutions_with_reflected_borders(size):
    image = photo().float() / 255
    kernel = kernels.gaussian(size, (2.0, 0.5), 0.4)
    padded = pad(image[:, None], (size // 2,) * 4, mode="reflect")
    expected = conv2d(padded, kernel.float()[None, None])[:, 0]
    assert torch.allclose(kernels.filtered(image, kernel), expected, atol=2e-6)
    tiny = kernels.filtered(image[:, :1, :2], kernel)  # smaller than the kernel
    assert tiny.shape == (3, 1, 2)
    assert torch.allclose(kernels.filtered(torch.full((1, 3, 2), 0.5), kernel), torch.tensor(0.5), atol=1e-6)


def test_sharpening_is_an_unsharp_mask_where_there_is_contrast():
    image = photo()
    flat = torch.full((3, 30, 30), 90, dtype=torch.uint8)
    assert torch.equal(kernels.sharpened(flat, 0.5), flat)
    faint = flat.clone()
    faint[:, :, 15:] += 9  # a difference of less than the threshold
    assert torch.equal(kernels.sharpened(faint, 0.5), faint)
    pixels = image.float() / 255
    place = torch.arange(-25, 26, dtype=torch.float64)
    weights = (-((place / 8) ** 2) / 2).exp().float()
    weights /= weights.sum()

    def blurred(what):
        padded = pad(what[:, None], (25,) * 4, mode="reflect")
        return conv2d(padded, (weights[:, None] * weights)[None, None])[:, 0]

    rest = pixels - blurred(pixels)
    mask = blurred((rest.abs() * 255 > 10).float())
    expected = mask * (pixels + 0.5 * rest).clamp(0, 1) + (1 - mask) * pixels
    assert (kernels.sharpened(image, 0.5).int() - (expected * 255).round().int()).abs().max() <= 1
    assert kernels.sharpened(image, 0.5).float().std() > image.float().std()
