"""Images between uint8, [-1, 1] and PNG files: no pixel changes on the way."""

import numpy as np
import pytest
import torch
from PIL import Image

from gans.pictures.images import grid, save_grid, to_float, to_uint8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_all_256_values_survive_the_round_trip(dtype):
    values = torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8)
    floats = to_float(values, dtype)
    assert floats.dtype == dtype
    assert floats.shape == values.shape
    assert torch.equal(to_uint8(floats), values)


def test_the_ends_and_the_middle():
    floats = to_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
    torch.testing.assert_close(floats, torch.tensor([-1, -0.6, 1]))
    assert floats.dtype == torch.float32
    assert floats[0] == -1
    assert floats[2] == 1
    assert to_uint8(torch.tensor([-1.0, 0.0, 1.0])).tolist() == [0, 128, 255]


def test_values_round_to_the_nearest():
    step = 1 / 127.5
    assert to_uint8(torch.tensor([-1 + 0.49 * step, -1 + 0.51 * step, 1 - 0.49 * step, 1 - 0.51 * step])).tolist() == [
        0,
        1,
        255,
        254,
    ]


def test_what_lies_outside_is_clipped_and_does_not_wrap():
    outside = torch.tensor([-1.01, -3, -1e9, -float("inf"), 1.01, 3, 1e9, float("inf")])
    assert to_uint8(outside).tolist() == [0] * 4 + [255] * 4
    assert to_uint8(outside).dtype == torch.uint8


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    ("n", "columns", "rows", "across"),
    [(2, None, 2, 1), (16, None, 4, 4), (10, None, 4, 3), (10, 5, 2, 5), (3, 8, 1, 3)],
)
def test_grids_have_rows_of_columns_with_two_pixels_between(channels, n, columns, rows, across):
    picture = grid(torch.zeros(n, channels, 5, 7), columns)
    assert picture.shape == (max(channels, 3), rows * 7 + 2, across * 9 + 2)
    assert picture.dtype == torch.uint8


def test_one_image_is_its_own_grid():
    assert grid(torch.zeros(1, 3, 5, 7)).shape == (3, 5, 7)


def sources(n, channels):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, channels, 5, 7), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("n", [1, 6])
def test_a_saved_grid_shows_the_same_pixels(tmp_path, channels, n):
    values = sources(n, channels)
    path = save_grid(to_float(values).requires_grad_(), tmp_path / "new" / "folder" / "grid.png", columns=2)
    assert path == tmp_path / "new" / "folder" / "grid.png"
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.mode == {1: "RGB", 3: "RGB", 4: "RGBA"}[channels]
        pixels = np.asarray(picture)
    expected = values.numpy().transpose(0, 2, 3, 1)
    if channels == 1:
        expected = expected.repeat(3, 3)  # a grey image is one of three equal channels
    if n == 1:
        np.testing.assert_array_equal(pixels, expected[0])
        return
    canvas = np.full((3 * 7 + 2, 2 * 9 + 2, max(channels, 3)), 255, np.uint8)
    for index, image in enumerate(expected):
        top, left = 2 + 7 * (index // 2), 2 + 9 * (index % 2)
        canvas[top : top + 5, left : left + 7] = image
    np.testing.assert_array_equal(pixels, canvas)


def test_a_grid_can_be_saved_over_another_and_under_a_string(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in (-1.0, 1.0):
        path = save_grid(torch.full((1, 3, 5, 7), value), "grid.png")
    assert np.asarray(Image.open(path)).min() == 255
    assert [file.name for file in tmp_path.iterdir()] == ["grid.png"]
