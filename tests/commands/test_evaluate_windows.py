"""Scores of models that learn on windows of images: in training, and by `gans evaluate` and `gans test`."""

import json

import numpy as np
import pytest
from PIL import Image

SCORES = "--features random --samples 12 --reference 12 --device cpu --scores fid"


@pytest.fixture
def photos(tmp_path):
    """Photographs of several sizes, of which all are larger than the windows."""
    random = np.random.default_rng(0)
    for name, sizes in (("train", [(40, 56)] * 12), ("val", [(40, 56), (57, 41), (48, 48)])):
        for number, (height, width) in enumerate(sizes):
            (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(random.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8))
            coarse.resize((width, height), Image.Resampling.BICUBIC).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


@pytest.mark.slow
def test_a_run_on_windows_is_scored_on_windows_and_on_whole_images(gans, tmp_path, photos):
    data = f"--data.root {photos} --data.size 32 --data.fit window --data.windows 4 --data.val_fit whole"
    small = "--data.batch_size 4 --data.num_workers 0 --model.width 4 --model.blocks 1 --trainer.accelerator cpu"
    every = "--trainer.val_check_interval 2 --evaluate.every_n_steps 2 --evaluate.samples 12 --evaluate.reference 12"
    code, out, err = gans(f"fit srgan-facades {data} {small} {every} --evaluate.features random --trainer.max_steps 2")
    assert code == 0, err
    assert "48 windows of 12 images to train on, 3 for validation and tests" in out + err
    run = tmp_path / "runs" / "srgan-facades" / "version_0"
    found = (run / "checkpoints" / "last.ckpt").is_file(), list((run / "samples").glob("translations_*.png"))
    assert all(found)
    out = tmp_path / "out.json"
    code, _, err = gans(f"evaluate {run}/checkpoints/last.ckpt {SCORES} --out {out}")
    assert code == 0, err
    scores = json.loads(out.read_text())
    assert scores["metrics"]["fid"]["n_fake"] == 12  # four fixed windows of each of three images
    code, _, err = gans(f"test srgan-facades {data} {small} --ckpt_path {run}/checkpoints/last.ckpt")
    assert code == 0, err


def test_images_of_a_folder_are_compared_with_windows_and_resized_as_a_whole(gans, tmp_path, photos):
    data = f"--data ImageFolderDataModule --data.root {photos} --data.size 16 --data.channels 1 --data.fit window"
    scores, out = "--features mnist --reference 12 --device cpu --scores fid", tmp_path / "out.json"
    more = "--data.windows 4 --data.num_workers 0"
    code, _, err = gans(f"evaluate --images {photos}/train --resize {data} {more} {scores} --out {out}")
    assert code == 0, err
    found = json.loads(out.read_text())
    assert found["generator"]["resized"] == "to 16x16, crop"
    assert found["metrics"]["fid"]["n_real"] == 12  # of the 48 fixed windows of 12 images
