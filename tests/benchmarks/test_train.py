"""A short training and the speed of samples, by `scripts/benchmark.py train` and `sampling`."""

import csv
from pathlib import Path

import pytest

from gans.benchmarks import main as benchmark


@pytest.mark.slow
def test_a_training_leaves_its_curve_and_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["train", "--minutes", "0.3", "--width", "4", "--workers", "0", "--out", str(tmp_path)]) == 0
    assert "generator updates" in capsys.readouterr().out
    assert (tmp_path / "samples.png").is_file()
    with (tmp_path / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 0
    assert {"loss/discriminator", "loss/generator"} <= rows[0].keys()


def test_samples_and_translations_have_a_speed(capsys: pytest.CaptureFixture[str]) -> None:
    models = ["gan", "pix2pix", "imagetextencoder"]
    assert benchmark.main(["sampling", "--rounds", "2", "--batch_size", "2", "--models", *models]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["gan", "pix2pix"]  # an encoder makes no images
    assert all("images/s" in line for line in lines[1:])


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("train --minutes 0", "minutes is 0.0; expected a number above 0"),
        ("train --data nowhere", "data is nowhere; expected a folder of images"),
        ("sampling --rounds 1", "rounds is 1; expected at least 2"),
    ],
)
def test_bad_input_is_one_sentence(capsys: pytest.CaptureFixture[str], flags: str, says: str) -> None:
    assert benchmark.main(flags.split()) == 2
    assert f"error: {says}" in capsys.readouterr().err.splitlines()[-1]
