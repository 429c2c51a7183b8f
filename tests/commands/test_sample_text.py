"""`gans sample --text` as a user runs it, on a small model that has learnt nothing."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from gans.models import GAN, TextToImage

WORDS = ["a", "blue", "red", "seven", "two"]


@pytest.fixture
def checkpoint(saved, tmp_path):
    torch.manual_seed(0)
    small = {"latent_dim": 4, "width": 2, "features": 4, "text_width": 3, "encoder_width": 2, "max_length": 4}
    model = TextToImage(16, 3, vocabulary=WORDS, **small)
    with torch.no_grad():
        for value in model.generator_ema.parameters():
            value.normal_(0, 0.5)  # pictures that depend on latents and sentences
    return saved(model, tmp_path / "run")


def written(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def test_a_file_a_picture_and_their_captions(checkpoint, gans, tmp_path):
    (tmp_path / "lines.txt").write_text("two\n\n")
    line = f"sample {checkpoint} --num 3 --seed 5 --text_file lines.txt --out many"
    code, out, err = gans(line, "--text", "a red seven", "a blue two")
    assert (code, err) == (0, "")
    assert "pictures     many" in out
    many = written(tmp_path / "many")
    assert len(many) == 9
    assert len(set(many.values())) == 9
    captions = json.loads((tmp_path / "many" / "captions.json").read_text())
    assert list(captions.values()) == ["a red seven"] * 3 + ["a blue two"] * 3 + ["two"] * 3
    code, *_ = gans(f"sample {checkpoint} --num 1 --seed 5 --out one", "--text", "a blue two")
    assert written(tmp_path / "one")["000000.png"] == many["000003.png"]
    assert code == 0


def test_a_sheet_with_words(checkpoint, gans, tmp_path):
    code, out, err = gans(f"sample {checkpoint} --num 4 --out sheet.png", "--text", "a red seven", "blue")
    assert (code, err) == (0, "")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[1] >= 4 * 96
    assert sheet.shape[0] >= 2 * 110
    code, out, _ = gans(f"sample {checkpoint} --num 1", "--text", "a red seven for five green nine")
    assert code == 0
    assert "unknown      for, five, green, nine in 'a red seven for five green nine'" in out
    assert "cut          1 of the sentences after 4 tokens" in out
    assert (tmp_path / "run" / "last_seed0_num1_a-red-seven-for-five-green-nine.png").exists()


def test_bad_input(checkpoint, refused, saved, tmp_path):
    assert "no word of 'green nine' is known; known are a, blue, red" in refused(
        f"sample {checkpoint}", "--text", "green nine"
    )
    assert "a sentence is empty" in refused(f"sample {checkpoint}", "--text", " ")
    assert "cannot be read" in refused(f"sample {checkpoint} --text_file none.txt")
    assert "labels is 3; expected none beside --text" in refused(f"sample {checkpoint} --labels 3", "--text", "red")
    assert "use `gans sample CKPT --text 'a sentence'`" in refused(f"sample {checkpoint}")
    other = saved(GAN(size=8, channels=1, latent_dim=4, width=2), tmp_path / "other")
    assert "makes no pictures of sentences" in refused(f"sample {other}", "--text", "red")
