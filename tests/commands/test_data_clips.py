"""`gans data clips`: what is written, interruptions, and what is wrong with photographs and flags."""

import json

import numpy as np
import pytest
from PIL import Image

from datamodules import FrameFolderDataModule
from gans.commands import data_clips

FLAGS = "--size 8 --frames 4 --num 3 --speed [0.5,1] --zoom 1.2"


@pytest.fixture
def photos(tmp_path):
    """Photographs of two sets, of which one is too small and one is broken."""
    random = np.random.default_rng(0)
    for name, size in (("train/a", 24), ("train/b", 30), ("train/small", 9), ("val/c", 24)):
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (size, size + 4, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_clips_train_and_are_the_same_for_a_seed(photos, tmp_path, gans):
    code, out, err = gans(f"data clips photos clips {FLAGS}")
    assert code == 0, err
    assert "written      clips: 9 clips of 4 frames of 8x8" in out
    assert "left out     1 photographs below 14x14 pixels: train/small.png" in out
    held = contents(tmp_path / "clips")
    assert len(held) == 1 + 9 * 4
    assert json.loads(held["clips.json"])["clips"]["train/a-0"]["photograph"] == "train/a.png"
    gans(f"data clips photos again {FLAGS}")
    assert contents(tmp_path / "again") == held
    gans(f"data clips photos other --seed 1 {FLAGS}")
    assert contents(tmp_path / "other")["train/a-0/0.png"] != held["train/a-0/0.png"]
    data = FrameFolderDataModule(tmp_path / "clips", size=8, frames=4, batch_size=2, num_workers=0)
    data.setup()
    assert [len(part) for part in data.splits()[:2]] == [6, 3]
    assert next(iter(data.val_dataloader()))[0].shape == (2, 3, 4, 8, 8)


def test_an_interrupted_run_continues(photos, tmp_path, monkeypatch, gans):
    gans(f"data clips photos whole {FLAGS}")
    save, calls = data_clips.images.save, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 15:  # in the fourth clip
            raise KeyboardInterrupt
        return save(*args)

    with monkeypatch.context() as patch:
        patch.setattr(data_clips.images, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            data_clips.main(f"photos out {FLAGS}".split())
    there = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("a-*/*.png")}
    assert len(there) == 12
    assert "continued    3 clips are complete" in gans(f"data clips photos out {FLAGS}")[1]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert {path: path.stat().st_mtime_ns for path in there} == there


def test_photographs_that_cannot_be_read_are_named(photos, gans):
    (photos / "train" / "broken.png").write_bytes(b"no picture")
    code, out, _ = gans(f"data clips photos clips {FLAGS}")
    assert code == 1
    assert "unreadable   train/broken.png" in out
    assert "written      clips: 9 clips" in out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("nowhere clips", "folder must be a folder of images, but nowhere does not exist"),
        ("photos clips --frames 1", "frames must be"),
        ("photos clips --size 0", "size must be"),
        ("photos clips --num 0", "num must be"),
        ("photos clips --zoom 0.5", "zoom is 0.5; expected a factor of at least 1"),
        ("photos clips --speed [2,1]", "speed is 2.0, 1.0; expected two numbers, 0 <= least <= greatest"),
        ("photos clips --size 64", "none of the 4 photographs in photos is large enough: expected 118x118 pixels"),
        ("photos photos", "out is photos, which is not empty; expected a new folder"),
    ],
)
def test_bad_input_is_refused(photos, refused, flags, says):
    size = "" if "--size" in flags else "--size 8 --frames 4 " if "--frames" not in flags else "--size 8 "
    assert says in refused(f"data clips {flags} {size}")


def test_a_folder_of_other_clips_is_refused(photos, gans, refused):
    gans(f"data clips photos clips {FLAGS}")
    says = "out is clips, which holds clips of other photographs, or with other settings; expected a new folder"
    assert says in refused(f"data clips photos clips {FLAGS} --seed 1")
    Image.open(photos / "train" / "a.png").save(photos / "train" / "a.jpg")
    says = "photos has train/a.jpg and train/a.png, whose clips would have the same names: rename one"
    assert says in refused(f"data clips photos new {FLAGS}")
