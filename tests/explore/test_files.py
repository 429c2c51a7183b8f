"""What exploring writes: codes, films, plots, tables."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from gans.explore import codes, directions
from gans.pictures import film, plot

FRAMES = torch.linspace(-1, 1, 5)[:, None, None, None].expand(5, 1, 8, 10)


def test_codes_come_back(tmp_path):
    rows = torch.randn(3, 4)
    path = codes.save(tmp_path / "new" / "codes.safetensors", rows, ["a.png", "b.png", "c.png"], "codes")
    found, names, space = codes.load(path)
    assert torch.equal(found, rows)
    assert (names, space) == (["a.png", "b.png", "c.png"], "codes")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        codes.load(tmp_path / "none")
    (tmp_path / "text").write_text("no")
    with pytest.raises(ValueError, match="contains no codes"):
        codes.load(tmp_path / "text")


@pytest.mark.parametrize(
    "save",
    [lambda path: codes.save(path, torch.ones(1, 2), ["a"]), lambda path: directions.save(path, {"a": torch.ones(2)})],
)
def test_what_cannot_be_renamed_leaves_nothing_behind(tmp_path, save):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        save(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_strip_has_the_frames_beside_each_other(tmp_path):
    film.save_film(FRAMES, tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size == (5 * 12 + 2, 12)
    film.save_film(FRAMES[:4], tmp_path / "b.png", columns=2)
    assert Image.open(tmp_path / "b.png").size == (2 * 12 + 2, 2 * 10 + 2)


def test_a_gif_plays_the_frames_enlarged(tmp_path):
    film.save_film(FRAMES, tmp_path / "a.gif", frames_per_second=10)
    file = Image.open(tmp_path / "a.gif")
    assert file.n_frames == 5
    assert file.info["duration"] == 100
    levels = [np.asarray(frame.convert("L"))[64, 64] for frame in ImageSequence.Iterator(file)]
    assert levels == pytest.approx([0, 64, 128, 191, 255], abs=4)
    assert min(file.size) >= 128


def test_an_mp4_plays_the_frames(tmp_path):
    av = pytest.importorskip("av", reason="av is not installed: the extra video")
    film.save_film(FRAMES, tmp_path / "a.mp4", frames_per_second=10)
    with av.open(str(tmp_path / "a.mp4")) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert [float(frame.mean()) for frame in frames] == pytest.approx([0, 64, 128, 191, 255], abs=20)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_alpha_lies_over_white():
    frame = torch.tensor([1.0, -1.0, -1.0, 0.0])[None, :, None, None].expand(1, 4, 2, 2)
    assert next(film.rgb(frame))[0, 0].tolist() == [255, 128, 128]


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.webm; expected a name that ends with \.png, \.gif or \.mp4"):
        film.save_film(FRAMES, tmp_path / "a.webm")


def test_a_curve_is_where_it_should_be(tmp_path):
    path = plot.save_plot({"up": ([0, 10], [1, 100])}, tmp_path / "new" / "a.png", "x", "y", log=True)
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    blue = np.argwhere(np.abs(pixels - [0x1F, 0x77, 0xB4]).sum(2) < 30)
    inside = blue[(blue[:, 0] > plot.TOP) & (blue[:, 0] < plot.HEIGHT - plot.BOTTOM)]
    left, right = inside[inside[:, 1].argmin()], inside[inside[:, 1].argmax()]
    assert left[0] > right[0] + 0.9 * (plot.HEIGHT - plot.TOP - plot.BOTTOM)
    assert left[1] < plot.LEFT + 3
    assert right[1] > plot.WIDTH - plot.RIGHT - 3


def test_odd_curves_can_be_drawn(tmp_path):
    curves = {"flat": ([0, 1], [2, 2]), "broken": ([0, 1, 2], [float("nan"), 0, -1]), "empty": ([], [])}
    for log in (False, True):
        assert plot.save_plot(curves, tmp_path / "a.png", "x", "y", log).is_file()


def test_ticks_are_round_and_few():
    assert plot.ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    for low, high in ((-3.2, 7), (0, 0.003), (5, 2000)):
        found = plot.ticks(low, high)
        assert 4 <= len(found) <= 11
        assert low <= found[0] <= found[-1] <= high


def test_tables(tmp_path):
    path = plot.save_table({"a": [1, 2], "b": ["x", "y"]}, tmp_path / "a.csv")
    assert list(csv.reader(path.open())) == [["a", "b"], ["1", "x"], ["2", "y"]]
