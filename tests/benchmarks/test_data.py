"""The benchmark of reading a folder of images."""

import multiprocessing
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from datamodules.decode import Target, converted
from gans.benchmarks import main as benchmark
from gans.benchmarks.data import SIDE, cpu_seconds, photographs


def rows(text: str) -> list[list[str]]:
    """Return the cells of the table below its head."""
    return [line.split() for line in text.partition("size workers")[2].splitlines()[1:]]


@pytest.mark.parametrize("cache", ["true", "device", "false"])
def test_both_sides_read_all_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cache: str
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(8):
            Image.new("RGB", (20, 16), (i, 0, 0)).save(tmp_path / name / f"{i}.png")
    decoded = []

    def counted(file: Any, target: Target) -> Tensor:
        decoded.append(file.filename)
        return converted(file, target)

    monkeypatch.setattr("datamodules.reader.converted", counted)
    flags = f"data --root {tmp_path} --sizes 8 10 --workers 0 --rounds 2 --batch_size 4 --cache {cache}"
    assert benchmark.main(flags.split()) == 0
    found = rows(capsys.readouterr().out)
    # Two sizes, two epochs; without a cache eight files are read once more, as a check.
    assert [(row[0], row[1], row[2]) for row in found] == [(s, "0", e) for s in ("8", "10") for e in ("1", "2")]
    assert all(float(cell.strip("(),").replace(",", "")) > 0 for row in found for cell in row[3:] if cell != "to")
    assert len(decoded) == 2 * 3 * (8 + 32 if cache == "false" else 16), "one round more, which warms up"


def test_photographs_are_like_photographs(tmp_path: Path) -> None:
    photographs(tmp_path, 3)
    files = sorted((tmp_path / "photographs").iterdir())
    images = [np.array(Image.open(path)) for path in files]
    assert [image.shape for image in images] == [(SIDE, SIDE, 3)] * 3
    assert 80e3 < statistics.mean(path.stat().st_size for path in files) < 120e3, "91 kB for photographs of BSDS500"
    assert all(30 < image.std() < 70 for image in images)
    assert not np.array_equal(images[0], images[1])


def spin(seconds: float) -> None:
    """Use the processor."""
    start = time.process_time()
    while time.process_time() - start < seconds:
        pass


def test_the_time_of_workers_counts_before_and_after_their_end() -> None:
    start = cpu_seconds()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        pool.apply(spin, (0.2,))
        assert cpu_seconds() - start >= 0.19
        pool.close()
        pool.join()
        assert 0.19 <= cpu_seconds() - start < 2


def test_a_flat_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert benchmark.main(["data", "--root", str(tmp_path), "--rounds", "2"]) in (1, 2)
    assert "error: " in capsys.readouterr().err.splitlines()[-1]
