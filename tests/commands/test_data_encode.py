"""`gans data encode`: codes of every image and of its mirror image, interruptions, and refusals."""

import json
import shutil

import numpy as np
import pytest
import torch
from broken_images import BROKEN
from PIL import Image

from datamodules import CodesDataModule, ImageFolderDataModule
from gans.commands import data_encode
from gans.models import Autoencoder, GridAutoencoder
from gans.models.coders import GridCoder, load_coder

torch.set_num_threads(1)


@pytest.fixture
def made(saved, tmp_path):
    """The folder `photos` with two classes of images, and the path of a checkpoint of an autoencoder of 8x8 images."""
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in range(7):
            Image.fromarray(generator.integers(0, 256, (8, 12, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    (tmp_path / "photos" / "notes.txt").write_text("x")
    torch.manual_seed(0)
    model = GridAutoencoder(size=8, channels=3, code_channels=2, factor=4, width=8)
    model.generator_ema.codes.update(torch.randn(8, 2, 2, 2) * 3 + 1)
    return saved(model, tmp_path)


@pytest.fixture
def small_shards(monkeypatch):
    """Shards of 5 images with codes of 2 x 2 x 2 numbers in float16 and their mirror images."""
    monkeypatch.setattr(data_encode, "SHARD", 5 * 2 * 8 * 2 + 1)


def encode(gans, path, more="", out="codes", folder="photos"):
    return gans(f"data encode {folder} {out} --autoencoder {path} --num_workers 0 --batch_size 3 --device cpu {more}")


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_codes_are_those_of_the_images_and_of_their_mirror_images(gans, made, tmp_path, small_shards, dtype):
    BROKEN["truncated.png"](tmp_path / "photos" / "a" / "2.png")
    code, out, err = encode(gans, made, f"--dtype {dtype}")
    assert code == 0, err
    assert "left out     1 .txt, 1 unreadable\nunreadable   a/2.png" in out
    assert "written      codes: 13 codes of images and of mirrored ones" in out
    told = "gans fit RECIPE --data CodesDataModule --data.root codes --data.size 8 --data.channels 3"
    assert f"{told} --model.autoencoder {made}\n" in out
    data = CodesDataModule("codes", size=8, val_size=0)
    data.setup()
    everything, coder = data.everything(), load_coder(made)
    images, labels = everything.pictures().__getitems__(range(13))
    images = images / 127.5 - 1
    exact = {"float16": 3e-3, "float32": 1e-5}[dtype]
    for mirrored, shown in ((False, images), (True, images.flip(-1))):
        found = data.files.read(torch.arange(13), torch.full((13,), mirrored))
        assert found.dtype == getattr(torch, dtype)
        assert (found.float() - coder.encode(shown)).abs().max() < exact
    assert everything.files.labels.equal(labels)
    assert labels.tolist() == [0] * 6 + [1] * 7
    assert (data.classes, data.digest, data.code_shape) == (["a", "b"], coder.digest, (2, 2, 2))
    assert data.files.files()[:3] == ["a/0.png", "a/1.png", "a/3.png"]
    assert len(data.about.shards) == len(list((tmp_path / "codes").glob("codes-*.npy"))) >= 3
    assert {path.suffix for path in (tmp_path / "codes").iterdir()} == {".npy", ".json"}


def test_the_sets_of_a_folder_stay_sets_and_mirror_images_can_be_left_out(gans, made, tmp_path):
    for name in ("train", "val"):
        shutil.copytree(tmp_path / "photos" / "a", tmp_path / "sets" / name / "x")
    code, _, err = encode(gans, made, "--mirror false", folder="sets")
    assert code == 0, err
    found, expected = CodesDataModule("codes", size=8), ImageFolderDataModule("sets", size=8, num_workers=0)
    for data in (found, expected):
        data.setup()
    assert found.about.forms == 1
    assert [len(part) for part in found._sets] == [len(part) for part in expected._sets] == [7, 7, 7]


def test_an_interrupted_encoding_is_not_complete_and_continues(gans, made, tmp_path, small_shards, monkeypatch):
    code, _, err = encode(gans, made, out="whole")
    assert code == 0, err
    stored, calls = GridCoder.stored, []

    def interrupted(coder, images):
        calls.append(len(images))
        if len(calls) > 6:
            raise KeyboardInterrupt
        return stored(coder, images)

    monkeypatch.setattr(GridCoder, "stored", interrupted)
    code, out, err = encode(gans, made)
    assert (code, err) == (130, "gans: stopped\n")
    assert "interrupted  1 of 3 shards are written: the same command continues" in out
    with pytest.raises(ValueError, match="whose codes are not complete"):
        CodesDataModule("codes", size=8)
    monkeypatch.setattr(GridCoder, "stored", stored)
    before = content(tmp_path / "codes")
    code, _, err = encode(gans, made, "--dtype float32")
    assert code == 2
    assert "out is codes, an unfinished encoding of other images or with other settings" in err
    assert content(tmp_path / "codes") == before
    code, out, err = encode(gans, made)
    assert code == 0, err
    assert "continued    1 of 3 shards are there" in out
    assert content(tmp_path / "codes") == content(tmp_path / "whole")
    code, _, err = encode(gans, made)
    assert code == 2
    assert "out is codes, which holds 14 codes; expected a new folder" in err


def test_bad_input_is_refused_and_writes_nothing(refused, made, saved, tmp_path):
    flat = saved(Autoencoder(size=8, channels=3, latent_dim=4, width=4), tmp_path / "flat")
    assert "codes of an Autoencoder are flat; expected a GridAutoencoder" in encode(refused, flat)
    assert "autoencoder is nothing.ckpt: there is no checkpoint: " in encode(refused, "nothing.ckpt")
    assert "size is 16; expected (8, 8), the size of the images of" in encode(refused, made, "--size 16")
    assert "channels is 1; expected 3" in encode(refused, made, "--channels 1")
    assert "folder must be a folder of images, but nothing does not exist" in encode(refused, made, folder="nothing")
    assert "out is photos, which is not empty; expected a new folder" in encode(refused, made, out="photos")
    assert "batch_size must be an integer of at least 1" in encode(refused, made, "--batch_size 0")
    assert "there is no gans data encod (did you mean encode?)" in refused("data encod")


def test_a_code_that_float16_does_not_hold_is_refused(gans, made, monkeypatch):
    stored = GridCoder.stored
    monkeypatch.setattr(GridCoder, "stored", lambda coder, images: stored(coder, images) + 1e5)
    code, _, err = encode(gans, made)
    assert code == 2
    assert "a/0.png is not finite in float16; --dtype float32 holds larger numbers" in err
    code, _, err = encode(gans, made, "--dtype float32")
    assert code == 0, err
    assert json.loads((made.parents[1] / "codes" / "codes.json").read_text())["dtype"] == "float32"


def test_scores_of_a_folder_that_holds_no_codes_are_refused_in_a_sentence(refused, made):
    told = refused("evaluate --images photos --data CodesDataModule --data.root photos --data.size 8")
    assert told == "root is photos, which holds no codes.json; expected a folder that `gans data encode` has written"
