"""Sentences beside images: spelled out, and drawn below."""

import json

import torch

from gans.pictures.captions import LINE, SMALLEST, contact_sheet, spelled


def test_numbers_are_spelled():
    assert spelled(["red", "seven"], torch.tensor([3, 2, 1, 0, 0])) == "seven red ?"
    described = json.dumps({"model": {"vocab": {"[PAD]": 0, "re": 1, "d": 2}}})
    assert spelled(described, torch.tensor([1, 2, 0])) == "re d"


def test_a_sheet_has_the_images_and_words_below_them():
    images = torch.rand(6, 3, 32, 32) * 2 - 1
    sheets = contact_sheet(images, ["a red seven", "a very long sentence " * 9], each=3)
    assert sheets.shape[:2] == (2, 3)
    height, width = SMALLEST + 4, 3 * (SMALLEST + 2) + 2
    assert sheets.shape[3] == width
    assert sheets.shape[2] >= height + 4 * LINE
    top = sheets[0][:, 2 : 2 + SMALLEST, 2 : 2 + SMALLEST]
    assert torch.allclose(top[:, ::3, ::3], images[0], atol=0.01)
    words = [(sheet[:, height:] < 0).any(0).sum() for sheet in sheets]
    assert 0 < words[0] < words[1]
    assert contact_sheet(images[:2, :1], ["x", "y"]).shape[1] == 3
