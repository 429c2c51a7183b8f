"""Tiles cover everything, once blended as if there were none, and scale."""

from itertools import pairwise

import pytest
import torch
from torch.nn.functional import conv2d, interpolate

from gans.tiles import ramp, starts, tiled, windows


@pytest.mark.parametrize("side", [1, 7, 16, 17, 30, 100, 1000])
@pytest.mark.parametrize(("tile", "overlap"), [(16, 0), (16, 4), (7, 6)])
def test_tiles_cover_a_side_and_overlap(side, tile, overlap):
    found = starts(side, tile, overlap)
    assert found[0] == 0
    assert found[-1] + min(tile, side) == side
    assert all(0 < b - a <= tile - overlap for a, b in pairwise(found))


def test_what_sees_its_own_pixel_does_not_see_tiles():
    picture, mask = torch.rand(1, 3, 50, 37), torch.rand(1, 1, 50, 37)
    whole = tiled(lambda image, other: image * other + 1, (picture, mask), 16, 4)
    assert torch.allclose(whole, picture * mask + 1, atol=1e-6)


def test_seams_are_blended():
    """Tiles that disagree go over into each other, pixel by pixel."""
    seen = []

    def disagree(image):
        seen.append(image.shape)
        return torch.full_like(image, float(len(seen)))

    made = tiled(disagree, (torch.zeros(1, 1, 4, 28),), 16, 4)
    assert seen == [(1, 1, 4, 16)] * 2
    row = made[0, 0, 2]
    assert row[:12].tolist() == [1.0] * 12
    assert row[16:].tolist() == [2.0] * 12
    assert (row[12:17].diff() > 0).all()
    assert ramp(6, 2).tolist() == pytest.approx([1 / 3, 2 / 3, 1, 1, 2 / 3, 1 / 3])


def test_a_filter_shows_no_seam_where_the_overlap_holds_it():
    kernel = torch.rand(1, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    picture = torch.rand(1, 1, 60, 60, generator=torch.Generator().manual_seed(1))

    def filtered(image):
        return conv2d(image, kernel, padding=1)

    errors = [(tiled(filtered, (picture,), 20, overlap) - filtered(picture)).abs().max() for overlap in (0, 10)]
    assert errors[1] < errors[0] / 4


def test_a_function_may_enlarge():
    picture = torch.rand(1, 3, 20, 33)
    made = tiled(lambda image: interpolate(image, scale_factor=2, mode="nearest"), (picture,), 8, 2)
    assert torch.allclose(made, interpolate(picture, scale_factor=2, mode="nearest"), atol=1e-6)


def test_small_pictures_are_one_tile():
    assert list(windows(5, 9, 16, 4)) == [(slice(0, 5), slice(0, 9))]


@pytest.mark.parametrize(("tile", "overlap", "says"), [(8, 8, "overlap is 8"), (0, 0, "tile is 0"), (8, -1, "overlap")])
def test_what_makes_no_tiles_is_refused(tile, overlap, says):
    with pytest.raises(ValueError, match=says):
        starts(100, tile, overlap)
