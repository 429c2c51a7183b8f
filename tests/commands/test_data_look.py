"""`gans data look`: what it says of a folder, an archive and of data modules, and its contact sheet."""

import json
import shutil

import numpy as np
import pytest
from broken_images import BROKEN
from PIL import Image

import gans.commands.data_facts as gans_facts


def picture(number, side=(20, 16), mode="RGB"):
    pixels = np.random.default_rng(number).integers(0, 255, (*side[::-1], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.fixture
def photos(tmp_path):
    """Two classes of images, with a duplicate, a broken and a truncated file and a text."""
    root = tmp_path / "photos"
    for kind, count in (("cat", 5), ("dog", 3)):
        (root / kind).mkdir(parents=True)
        for i in range(count):
            picture(10 * count + i).save(root / kind / f"{i}.png")
    picture(1, (64, 48), "L").save(root / "cat" / "wide.jpg")
    picture(2, (9, 9), "RGBA").save(root / "dog" / "alpha.png")
    shutil.copy(root / "cat" / "1.png", root / "dog" / "copy.png")
    (root / "dog" / "bad.png").write_text("x")
    BROKEN["truncated.png"](root / "cat" / "2.png")
    (root / "readme.txt").write_text("x")
    return root


def test_what_is_said_of_a_folder(gans, photos, tmp_path):
    code, out, err = gans("data look photos")
    assert code == 0, err
    lines = {line[:13].strip(): line[13:] for line in out.splitlines() if line[13:]}
    assert lines["data"] == "12 images of photos"
    assert lines["classes"] == "2, 5 to 6 images each: 6 cat, 5 dog"
    assert lines["formats"] == "10 PNG, 1 JPEG"
    assert lines["modes"] == "9 RGB, 1 L, 1 RGBA; 1 with alpha"
    assert lines["sizes"] == "8 20x16, 1 64x64, 1 64x48, 1 9x9; shorter side 9 to 64, median 16"
    assert lines["broken"] == "1: photos/dog/bad.png (not an image); --decode also finds truncated images"
    assert lines["duplicates"] == "1: photos/cat/1.png = photos/dog/copy.png"
    assert lines["left out"] == "1 .txt"
    assert out.endswith("\n\ngans fit dcgan-folder --data.root photos --data.size 32\n")
    sheet = np.asarray(Image.open(tmp_path / "look.png"))
    assert sheet.shape[1] == 2 + 2 * (96 + 2), "a column for each class"
    assert sheet.std() > 30


def test_the_report_as_json_after_decoding_everything(gans, photos, tmp_path):
    shutil.make_archive(str(tmp_path / "packed"), "zip", photos)
    code, out, err = gans("data look packed.zip --json --decode --out sheets/a.png")
    assert code == 0, err
    report = json.loads(out)
    assert report["images"] == 12
    assert [one["image"] for one in report["broken"]] == ["packed.zip/cat/2.png", "packed.zip/dog/bad.png"]
    assert report["classes"] == {"cat": 5, "dog": 5}
    assert report["duplicates"] == [["packed.zip/cat/1.png", "packed.zip/dog/copy.png"]]
    assert report["shorter_side"] == {"min": 9, "median": 16, "max": 48}
    assert report["sheet"] == "sheets/a.png"
    assert Image.open(tmp_path / "sheets/a.png").size[0] == 198


def test_no_image_is_lost_between_blocks(gans, photos, monkeypatch):
    monkeypatch.setattr(gans_facts, "AT_ONCE", 5)
    report = json.loads(gans("data look photos --json")[1])
    assert sum(report["formats"].values()) + len(report["broken"]) == report["images"]


def test_a_flat_grey_folder_and_too_much_to_compare(gans, tmp_path, monkeypatch):
    (tmp_path / "grey").mkdir()
    for i in range(3):
        picture(i, (130, 140), "L").save(tmp_path / "grey" / f"{i}.bmp")
    monkeypatch.setattr(gans_facts, "MOST", 100)
    out = gans("data look grey")[1]
    assert "classes      none: all images are directly in grey\n" in out
    assert "duplicates   not looked for\n" in out
    assert out.endswith("\n\ngans fit dcgan-folder --data.root grey --data.size 128 --data.channels 1\n")


def test_data_modules_by_name(gans, photos, tmp_path):
    code, out, err = gans("data look DigitsDataModule --data.size 8 --out digits.png")
    assert code == 0, err
    assert "data         1,600 images of DigitsDataModule\nsets         1,600 train, 197 val, 197 test\n" in out
    assert "item         1x8x8 and a number\n" in out
    assert Image.open(tmp_path / "digits.png").size[0] > 80
    root = tmp_path / "data" / "eurosat" / "2750"
    for kind in ("cat", "dog"):
        (root / kind).mkdir(parents=True)
        picture(3).save(root / kind / "a.jpg")
    out = gans("data look TorchvisionDataModule --data.name EuroSAT")[1]
    assert "data         2 images of EuroSAT\n" in out
    assert "classes      2, 1 images each: cat, dog\n" in out
    assert "sizes        2 20x16\n" in out
    assert out.endswith("gans fit dcgan-folder --data TorchvisionDataModule --data.name EuroSAT --data.size 32\n")


def test_a_table(gans, tmp_path):
    datasets = pytest.importorskip(
        "datasets", reason="datasets cannot be imported: the extra datasets", exc_type=ImportError
    )
    held = {"image": [picture(i) for i in (0, 1, 1)], "label": ["a", "b", "b"]}
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    datasets.Dataset.from_dict(held, features=kinds).save_to_disk(str(tmp_path / "table"))
    code, out, err = gans("data look --data HuggingFaceDataModule --data.path table")
    assert code == 0, err
    assert "data         3 images of table\n" in out
    assert "classes      2, 1 to 2 images each: 2 b, 1 a\n" in out
    assert "duplicates   1: row 1 of train of table = row 2 of train of table\n" in out


def test_wrong_input(refused, tmp_path):
    assert refused("data look nowhere") == "root must be a folder of images, but nowhere does not exist"
    assert refused("data look").endswith("must be given")
    assert refused("data look FolderDataModule").startswith("data is FolderDataModule")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_text("x")
    assert refused("data look bad") == "no image can be read"
