"""`gans evaluate` of a model that makes images of images: what it makes of held-out ones, beside the targets."""

import json

import pytest

from datamodules import DegradedDigitsDataModule
from gans.engine.checkpoint import load_model
from gans.metrics.extractors import extractor
from gans.metrics.functional import fid
from gans.metrics.rows import chosen
from gans.pictures.images import to_float, to_uint8

FEW = "--samples 40 --reference 60 --features mnist"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GANS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def run(gans, tmp_path):
    """Train a little and return the folder of the run."""
    (tmp_path / "my.yaml").write_text(
        "model:\n  class_path: Pix2Pix\n  init_args: {width: 2, features: mnist}\n"
        "data:\n  class_path: DegradedDigitsDataModule\n  init_args: {degrade: noise 40, size: 16, batch_size: 8}\n"
        "trainer: {max_steps: 4, accelerator: cpu, val_check_interval: 4, limit_val_batches: 2}\n"
    )
    more = "--evaluate.features mnist --evaluate.every_n_steps 2 --evaluate.samples 50 --evaluate.reference 50"
    code, _, err = gans(f"fit my.yaml {more}")
    assert code == 0, err
    assert (tmp_path / "runs" / "my" / "version_0" / "checkpoints" / "best.ckpt").is_file()
    return "runs/my/version_0/checkpoints"


def test_what_is_made_of_held_out_images_is_scored(run, gans, tmp_path):
    reports = {}
    for split in ("train", "test"):
        out = tmp_path / f"{split}.json"
        code, shown, err = gans(f"evaluate {run}/last.ckpt {FEW} --split {split} --out {out}")
        assert code == 0, err
        assert "40 samples against 60" in shown
        reports[split] = json.loads(out.read_text())
    data, model, judge = (
        DegradedDigitsDataModule("noise 40", size=16),
        load_model(f"{run}/last.ckpt"),
        extractor("mnist"),
    )
    test = data.splits()[2]
    sources, _ = test.__getitems__(chosen(len(test), 40, 0))
    _, targets = test.__getitems__(chosen(len(test), 60, 0))
    made = judge(to_uint8(model.translate(to_float(sources))))[0]
    for split, report in reports.items():
        assert report["metrics"]["fid"]["n_fake"] == 40
        assert report["generator"]["latents"] == "none: translated"
        assert report["metrics"]["fid"]["value"] > report["baseline_real"]["fid"]["value"], split
    everything = float(fid(judge(targets)[0], made))
    assert reports["test"]["metrics"]["fid"]["value"] == pytest.approx(everything, rel=1e-3)
    # All there are by default, and as asked again at the command line.
    code, shown, err = gans(f"evaluate {run}/best.ckpt --reference 60 --features random")
    assert code == 0, err
    assert "197 samples against 60" in shown
    # The final protocol has no latents to draw three times.
    code, _, err = gans(f"evaluate {run}/last.ckpt {FEW} --protocol final --out final.json")
    assert code == 0, err
    assert json.loads((tmp_path / "final.json").read_text())["protocol"]["seeds"] == [0]
    code, _, err = gans(f"evaluate {run}/last.ckpt {FEW} --truncation 0.5")
    assert code == 2
    assert "truncation is 0.5; expected none, for Pix2Pix has no latents" in err


@pytest.mark.slow
def test_costs_of_translators(run, gans):
    code, shown, err = gans(f"evaluate --compare {run}/last.ckpt {run}/best.ckpt {FEW} --device cpu")
    assert code == 0, err
    assert "multiply-adds of G" in shown
    code, _, err = gans("test my.yaml --trainer.logger false")
    assert code == 0, err
