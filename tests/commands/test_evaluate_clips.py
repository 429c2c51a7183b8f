"""`gans evaluate` and the curves of training, on clips."""

import json

import pytest

from gans.metrics.report import MEANING

SMALL = "--data.size 16 --data.frames 6"
DATA = f"--data MovingDigitsDataModule --data.source digits {SMALL} --data.clips 200 --data.test_clips 60"
FEW = "--samples 60 --reference 100"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GANS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def run(gans, tmp_path):
    """Train a little and return the folder of the run."""
    flags = f"{SMALL} --data.clips 200 --data.test_clips 60 --model.width 2 --trainer.accelerator cpu"
    more = "--evaluate.features moving --evaluate.every_n_steps 2 --evaluate.samples 40 --evaluate.reference 40"
    code, _, err = gans(f"fit sequence-digits {flags} {more} --trainer.max_steps 2")
    assert code == 0, err
    return tmp_path / "runs" / "sequence-digits" / "version_0"


def test_clips_are_evaluated_beside_real_ones(run, gans, tmp_path):
    assert (run / "checkpoints" / "best.ckpt").is_file(), "by score/fid_moving"
    reports = []
    for name in ("a", "b"):
        line = f"evaluate {run}/checkpoints/last.ckpt {FEW} --frames mnist --out {tmp_path / name}.json"
        code, shown, err = gans(line)
        assert code == 0, err
        reports.append(json.loads((tmp_path / f"{name}.json").read_text()))
    first, second = reports
    assert first["metrics"] == second["metrics"]
    assert {"fid", "kid", "recall", "coverage", "modes", "motion", "frame_fid"} <= set(first["metrics"]) < set(MEANING)
    assert set(first["metrics"]) == set(first["baseline_real"])
    assert first["baseline_real"]["motion"]["value"] == pytest.approx(1, abs=0.15)
    for name in ("fid", "frame_fid"):
        assert first["metrics"][name]["value"] > 2 * first["baseline_real"][name]["value"]
    assert first["extractor"]["name"] == "moving"
    assert "frames: mnist, 28x28" in first["extractor"]["resize"]
    for name in ("fid", "frame_fid", "motion"):
        assert f"\n{name} " in shown
    code, shown, err = gans(f"evaluate {run}/checkpoints/last.ckpt {FEW} --scores motion fid")
    assert code == 0, err
    assert [line.split()[0] for line in shown.splitlines()[2:]] == ["fid", "motion"]
    code, _, err = gans(f"evaluate {run}/checkpoints/last.ckpt {FEW} --data.frames 8")
    assert code == 2
    assert "makes images of shape (1, 6, 16, 16) (channels, frames, height, width), the data are (1, 8, 16, 16)" in err
    assert "give --data.size, --data.frames and --data.channels" in err


def test_training_refuses_an_extractor_of_images(gans, tmp_path):
    flags = f"{SMALL} --data.clips 60 --model.width 2 --trainer.accelerator cpu --evaluate.features mnist"
    code, _, err = gans(f"fit sequence-digits {flags} --trainer.max_steps 2")
    assert code == 2
    assert "gans: error: images are torch.uint8 of shape (60, 1, 6, 16, 16); expected uint8 (N, C, H, W)" in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            f"evaluate a.ckpt {DATA} --features mnist",
            "features is mnist, which is for images; the data are clips of shape",
        ),
        (f"evaluate a.ckpt {DATA} --features stacked", "features is stacked, which is for images"),
        (f"evaluate a.ckpt {DATA} --frames moving", "moving is an extractor of clips; expected one of images in its"),
        (f"evaluate a.ckpt {DATA} --frames nmist", "extractor is nmist (did you mean mnist?)"),
        (f"evaluate a.ckpt {DATA} --features movin", "extractor is movin (did you mean moving?)"),
        (f"evaluate a.ckpt {DATA}", "there is no checkpoint a.ckpt"),
        (
            "evaluate a.ckpt --data DigitsDataModule --data.size 8 --features moving",
            "features is moving, which is for clips; the data are images of shape (1, 8, 8)",
        ),
        (
            "evaluate a.ckpt --data DigitsDataModule --data.size 8 --frames mnist",
            "mnist is an extractor of images; expected one of clips in its place",
        ),
    ],
)
def test_clips_and_images_are_not_mixed_up(refused, line, says):
    assert says in refused(line)
