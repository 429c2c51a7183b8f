"""Scores of holes against their definitions, and fillings against what a loop over all pixels finds."""

import pytest
import torch

from gans.metrics.holes import hole_fidelity, mean_fill, nearest_fill


def given(size=(9, 12), count=3):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, *size, generator=generator) * 2 - 1
    masks = (torch.rand(count, 1, *size, generator=generator) < 0.7).float()
    return images, masks


def test_only_holes_count():
    images, masks = given()
    made = torch.where(masks > 0, images + 0.5, images + 7)
    psnr, l1 = hole_fidelity(made, images, masks)
    assert l1.tolist() == pytest.approx([0.5] * 3)
    assert psnr.tolist() == pytest.approx([float(10 * torch.tensor(4 / 0.25).log10())] * 3)
    psnr, l1 = hole_fidelity(images, images, masks)
    assert (psnr.tolist(), l1.tolist()) == ([100] * 3, [0] * 3)
    psnr, l1 = hole_fidelity(made, images, torch.zeros_like(masks))
    assert (psnr.tolist(), l1.tolist()) == ([100] * 3, [0] * 3)


def test_the_mean_is_that_of_known_pixels():
    images, masks = given()
    filled = mean_fill(images, masks)
    for image, mask, found in zip(images, masks[:, 0] > 0, filled, strict=True):
        assert torch.equal(found[:, ~mask], image[:, ~mask])
        for channel in range(3):
            assert torch.allclose(found[channel][mask], image[channel][~mask].mean())


def test_the_nearest_is_no_further_than_any_other():
    images, masks = given()
    masks[1] = 1
    masks[1, 0, 3, 5] = 0  # one known pixel
    masks[2, 0, :, 4:] = 1  # columns without any
    filled = nearest_fill(images, masks)
    for image, mask, found in zip(images, masks[:, 0] > 0, filled, strict=True):
        known = (~mask).nonzero()
        for row in range(mask.shape[0]):
            for column in range(mask.shape[1]):
                distances = (known - torch.tensor([row, column])).square().sum(1)
                nearest = known[distances == distances.min()]
                colours = image[:, nearest[:, 0], nearest[:, 1]].T
                assert (colours == found[:, row, column]).all(1).any(), (row, column)


def test_images_without_a_known_pixel_are_filled_with_grey():
    images, masks = given()
    for fill in (mean_fill, nearest_fill):
        assert not fill(images, torch.ones_like(masks)).any()
        assert torch.equal(fill(images, torch.zeros_like(masks)), images)
