"""Scores as papers report them: their equations, what is left out, and that MATLAB's imresize is torch's inside."""

import pytest
import torch
from torch.nn.functional import interpolate

from gans.metrics.restored import PROTOCOLS, luma, psnr, scores, ssim


def images(size=(24, 30), channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (2, channels, *size), generator=generator, dtype=torch.uint8)


def test_luma_of_white_black_and_primaries():
    """MATLAB's rgb2ycbcr gives 235, 16, 81, 145 and 41, rounded."""
    colours = torch.tensor([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=torch.uint8)
    assert luma(colours.view(5, 3, 1, 1)).flatten().round().tolist() == [235, 16, 81, 145, 41]


def test_psnr_is_of_the_mean_squared_error():
    plain = torch.full((2, 1, 12, 12), 100.0, dtype=torch.float64)
    assert psnr(plain + 5, plain).tolist() == pytest.approx([34.1514] * 2, abs=1e-4)  # 10 log10(255^2 / 25)
    assert psnr(plain, plain).tolist() == [100, 100]


def test_ssim_is_the_mean_of_its_windows():
    """Each window by itself, from weighted means, variances and the covariance."""
    first, second = (part.double() for part in (images((13, 12), 1), images((13, 12), 1, 1)))
    places = torch.arange(-5, 6, dtype=torch.float64)
    weights = torch.exp(-(places[:, None] ** 2 + places**2) / 4.5)
    weights /= weights.sum()
    found = []
    for top in range(3):
        for left in range(2):
            a, b = (part[0, 0, top : top + 11, left : left + 11] for part in (first, second))
            mean, goal = (weights * a).sum(), (weights * b).sum()
            var, other = (weights * (a - mean) ** 2).sum(), (weights * (b - goal) ** 2).sum()
            both = (weights * (a - mean) * (b - goal)).sum()
            found.append(
                (2 * mean * goal + 6.5025)
                * (2 * both + 58.5225)
                / ((mean**2 + goal**2 + 6.5025) * (var + other + 58.5225))
            )
    assert float(ssim(first, second)[0]) == pytest.approx(float(torch.stack(found).mean()), rel=1e-9)
    assert ssim(first, first).tolist() == pytest.approx([1, 1])


def test_super_resolution_leaves_out_borders_and_colour():
    target, scale = images(), 4
    made = target.clone()
    made[..., :scale, :], made[..., -scale:] = 0, 255  # at the borders only
    found = scores(made, target, PROTOCOLS["sr"], scale)
    assert found["psnr"].tolist() == [100, 100]
    assert found["ssim"].tolist() == pytest.approx([1, 1])
    made[:, 2, 12, 12] = target[:, 2, 12, 12] ^ 128  # 128 of blue are 12.5 of luma in one of 16x22 pixels
    one = 10 * torch.log10(torch.tensor(255**2 / ((128 * 24.966 / 255) ** 2 / (16 * 22)))).item()
    assert scores(made, target, PROTOCOLS["sr"], scale)["psnr"].tolist() == pytest.approx([one] * 2, abs=1e-3)


def test_denoising_compares_all_pixels_and_channels():
    target = images((12, 12))
    made = target.clone()
    made[:, 2, 0, 0] = target[:, 2, 0, 0] ^ 128
    one = 10 * torch.log10(torch.tensor(255**2 / (128**2 / (3 * 144)))).item()
    assert scores(made, target, PROTOCOLS["denoise"])["psnr"].tolist() == pytest.approx([one] * 2, abs=1e-3)


@pytest.mark.parametrize("scale", [1, 3])
def test_a_picture_has_room_for_a_window_of_ssim(scale):
    size = 10 + 2 * (scale if scale > 1 else 0)
    with pytest.raises(ValueError, match=f"a picture has 30x{size} pixels; expected at least 11 a side without"):
        scores(images((size, 30)), images((size, 30)), PROTOCOLS["sr"], scale)


def cubic(x):
    """Return Keys's kernel with a = -0.5."""
    x = x.abs()
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, near, torch.where(x <= 2, far, torch.zeros_like(x)))


@pytest.mark.parametrize(("before", "after"), [(48, 24), (48, 16), (48, 12), (24, 48), (16, 48), (12, 48)])
def test_bicubic_interpolation_is_matlabs(before, after):
    """MATLAB's imresize away from the borders, where it mirrors the image: its equation, a row at a time."""
    scale = after / before
    width = min(scale, 1.0)  # the kernel is wider for smaller images
    row = torch.rand(1, 1, 12, before, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    places = (torch.arange(after, dtype=torch.float64) + 0.5) / scale - 0.5
    weights = width * cubic(width * (places[:, None] - torch.arange(before, dtype=torch.float64)))
    expected = row @ weights.T
    found = interpolate(row, (12, after), mode="bicubic", antialias=True)
    inner = slice(int(3 * max(1, scale)), -int(3 * max(1, scale)))
    torch.testing.assert_close(found[..., inner], expected[..., inner], atol=1e-6, rtol=0)
