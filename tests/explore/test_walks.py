"""Walks in a latent space."""

import pytest
import torch

from gans.explore import walks


def test_slerp_keeps_the_norm_where_lerp_does_not():
    points = torch.randn(3, 100)
    points = 10 * points / points.norm(dim=1, keepdim=True)
    walk = walks.through(points, 9)
    assert walk.shape == (17, 100)
    torch.testing.assert_close(walk.norm(dim=1), torch.full((17,), 10.0))
    torch.testing.assert_close(walk[[0, 8, 16]], points)
    assert walks.through(points, 9, "lerp").norm(dim=1).min() < 8
    steps = walk.diff(dim=0).norm(dim=1)
    torch.testing.assert_close(steps[:8], steps[:1].expand(8), rtol=1e-3, atol=1e-4)


def test_a_loop_comes_back_without_showing_its_start_twice():
    points = torch.randn(3, 5)
    walk = walks.through(points, 4, "lerp", loop=True)
    assert walk.shape == (9, 5)
    torch.testing.assert_close(walk[[0, 3, 6]], points)
    torch.testing.assert_close(walk[-1], points[2] / 3 + points[0] * 2 / 3)


def test_wrong_walks_are_refused():
    for points, steps in ((1, 5), (2, 1)):
        with pytest.raises(ValueError, match="at least 2 of each"):
            walks.through(torch.randn(points, 4), steps)
    with pytest.raises(ValueError, match="path is round; expected lerp or slerp"):
        walks.through(torch.randn(2, 4), 5, "round")
    with pytest.raises(ValueError, match="axis is 4; expected one from 0 to 3"):
        walks.traversal(torch.zeros(4), [4], torch.zeros(2))


def test_traversals_move_one_number_and_directions_add_up():
    z, values = torch.randn(4), torch.tensor([-2.0, 0, 2])
    rows = walks.traversal(z, [3, 0], values).view(2, 3, 4)
    assert rows[0, :, 3].tolist() == rows[1, :, 0].tolist() == [-2, 0, 2]
    assert (rows[0, :, :3] == z[:3]).all()
    assert (rows[1, :, 1:] == z[1:]).all()
    directions = torch.randn(2, 4)
    rows = walks.along(z, directions, values).view(2, 3, 4)
    torch.testing.assert_close(rows[1, 2], z + 2 * directions[1])
    torch.testing.assert_close(rows[:, 1], z.expand(2, 4))


def test_the_strongest_axes_are_found():
    weight = torch.diag(torch.tensor([1.0, 4, 2, 3]))
    assert walks.strongest_axes(lambda z: (z @ weight).view(-1, 1, 2, 2), torch.randn(3, 4), -1, 1, 3) == [1, 3, 2]
