"""Triptychs: images of different sizes and channels beside each other."""

import torch

from gans.pictures.triptychs import triptychs


def test_triptychs_match_sizes_and_channels():
    given, made, target = torch.zeros(2, 1, 4, 4), torch.ones(2, 4, 8, 8) / 2, torch.ones(2, 3, 8, 8)
    shown, columns = triptychs(given, made, target)
    assert columns % 3 == 0
    assert shown.shape == (6, 4, 8, 8)
    assert shown[0, :3].unique().tolist() == [0]
    assert shown[3:5, 3].unique().tolist() == [0.5, 1]
    assert torch.equal(shown[4], made[1])
