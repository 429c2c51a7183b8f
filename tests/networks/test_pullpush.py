"""Smooth fills: known pixels stay, constants and ramps are continued, large holes and any size."""

import pytest
import torch

from gans.networks.pullpush import pull_push


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 48)])
def test_known_pixels_stay_and_holes_lie_between_them(size):
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)) - 0.5
    masks = (torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    masks[..., 0, 0] = 0
    made = pull_push(torch.where(masks > 0, torch.nan, images), masks)
    known = (masks == 0).expand_as(images)
    assert torch.equal(made[known], images[known])
    assert made.isfinite().all()
    for image, whole, there in zip(images, made, known, strict=True):
        assert whole.min() >= image[there].min() - 1e-6
        assert whole.max() <= image[there].max() + 1e-6


def test_a_constant_is_continued_into_a_large_hole():
    images, masks = torch.full((1, 1, 96, 96), 0.25), torch.ones(1, 1, 96, 96)
    masks[..., 0] = 0
    assert torch.allclose(pull_push(images, masks), images)


def test_a_ramp_is_continued_better_than_by_the_nearest_pixel():
    ramp = torch.linspace(-1, 1, 32).expand(1, 1, 32, 32)
    masks = torch.zeros(1, 1, 32, 32)
    masks[..., 12:20] = 1
    error = (pull_push(ramp, masks) - ramp)[..., 12:20].abs().mean()
    assert error < 0.6 * 2.5 * 2 / 31  # the nearest pixel is 2.5 pixels away on average


def test_nothing_known_is_filled_with_zeros():
    assert not pull_push(torch.ones(1, 1, 8, 8), torch.ones(1, 1, 8, 8)).any()
