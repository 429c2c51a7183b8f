"""What folders stand for: classes and which are none, sets, what is left out, and what a run says of it."""

import warnings

import pytest
import torch
from PIL import Image

from datamodules import DegradedFolderDataModule, DigitsDataModule, ImageFolderDataModule, MNISTDataModule
from datamodules.mnist import FILES

torch.set_num_threads(1)


def fill(folder, count=4, value=0):
    """Images of one value."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", (8, 8), (value, value, value)).save(folder / f"{i}.png")
    return folder


def data_of(root, **options):
    data = ImageFolderDataModule(root, **({"size": 8, "batch_size": 2, "num_workers": 0, "val_size": 0} | options))
    data.setup()
    return data


def held(part):
    """Value and label of the images of a set."""
    return [(int(part[i][0][0, 0, 0]), int(part[i][1])) for i in range(len(part))]


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "valid", "Testing"), ("train", "validation")])
@pytest.mark.parametrize("above", ["", "photos"])
def test_train_val_and_test_are_sets_and_no_classes(tmp_path, names, above):
    for value, name in enumerate(names):
        for kind in ("cat", "dog"):
            fill(tmp_path / above / name / kind, 2 + value, 10 * value)
    data = data_of(tmp_path)
    train, val, test = data._sets
    assert data.classes == ["cat", "dog"]
    assert held(train) == [(0, 0), (0, 0), (0, 1), (0, 1)]
    assert held(val) == [(10, 0)] * 3 + [(10, 1)] * 3
    assert test is val if len(names) == 2 else held(test) == [(20, 0)] * 4 + [(20, 1)] * 4
    assert data.describe()["data"].startswith("4 images to train on, 6 for validation")


def test_flat_sets_have_no_classes(tmp_path):
    fill(tmp_path / "train", 5)
    fill(tmp_path / "test", 2, 9)
    data = data_of(tmp_path)
    assert [len(part) for part in data._sets] == [5, 2, 2]
    assert data.num_classes == 1
    assert data.classes == []


def test_a_class_may_be_called_train(tmp_path):
    for value, name in enumerate(("bus", "train")):
        fill(tmp_path / name, 2, value)
    data = data_of(tmp_path)
    assert data.classes == ["bus", "train"]
    assert held(data._sets[0]) == [(0, 0), (0, 0), (1, 1), (1, 1)]


def test_what_is_beside_the_sets_is_left_out_and_named(tmp_path):
    for name in ("train/a", "train/b", "val/a", "val/c", "extra"):
        fill(tmp_path / name, 2)
    fill(tmp_path, 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = data_of(tmp_path)
    said = [str(note.message) for note in caught]
    assert said == [
        f"3 images outside the folders train, val in {tmp_path} are left out: 0.png, extra/0.png, extra/1.png",
        "no training images are of the classes c",
    ]
    assert data.describe() == {
        "data": "4 images to train on, 4 for validation and tests",
        "classes": "3: 0 a, 1 b, 2 c",
        "left out": "3 images outside the sets",
    }


def test_held_out_images_without_classes_are_left_out(tmp_path):
    for name in ("train/a", "train/b", "test"):
        fill(tmp_path / name, 4)
    with pytest.warns(UserWarning, match=r"test has no class folders, as train has: its images have no label"):
        data = data_of(tmp_path, val_size=2)
    assert [len(part) for part in data._sets] == [6, 2, 2]
    assert data.left_out == {"images of test": 4}


def test_an_empty_class_folder_is_no_class_and_named(tmp_path):
    for name in ("a", "c"):
        fill(tmp_path / name)
    (tmp_path / "b").mkdir()
    with pytest.warns(
        UserWarning, match=rf"b in {tmp_path} contains no images and is not a class: labels count without it"
    ):
        data = data_of(tmp_path)
    assert data.classes == ["a", "c"]
    assert data.describe()["classes"] == "2: 0 a, 1 c"


def test_a_stray_picture_is_named(tmp_path):
    for name in ("a", "c"):
        fill(tmp_path / name)
    Image.new("RGB", (8, 8)).save(tmp_path / "preview.png")
    data = data_of(tmp_path)
    assert data.num_classes == 1
    assert data.describe()["classes"] == f"none: preview.png is directly in {tmp_path}, next to the folders a, c"


def thousands(root, numbers=(0, 999, 1000, 69999)):
    """Images in the layout of FFHQ: folders of a thousand, by the number of the image."""
    for number in numbers:
        folder = root / f"{number // 1000 * 1000:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / f"{number:05d}.png")
    return root


@pytest.mark.parametrize("above", ["", "img_align_celeba"])  # some archives hold the folder twice
def test_celeba_is_one_folder_whose_faces_are_cropped(tmp_path, above):
    folder = tmp_path / "img_align_celeba" / above
    folder.mkdir(parents=True)
    picture = Image.new("RGB", (178, 218), (255, 0, 0))
    picture.paste((0, 0, 255), (15, 35, 163, 183))  # the centre 148 pixels
    for i in range(1, 4):
        picture.save(folder / f"{i:06d}.png")
    (tmp_path / "list_attr_celeba.txt").write_text("3\n")
    data = data_of(tmp_path, crop=148)
    assert held(data._sets[0]) == [(0, 0)] * 3  # without red
    assert data.describe() == {
        "data": "3 images to train on, 0 for validation and tests",
        "classes": "1: 0 img_align_celeba",
        "left out": "1 .txt",
    }


@pytest.mark.parametrize("above", ["", "thumbnails128x128"])
def test_folders_of_a_thousand_images_are_no_classes(tmp_path, above):
    thousands(tmp_path / above)
    (tmp_path / "ffhq-dataset-v2.json").write_text("{}")
    data = data_of(tmp_path)
    assert [data.num_classes, len(data._sets[0])] == [1, 4]
    expected = "none: the folders 00000, 01000, 69000 hold a thousand images each, by number, as in FFHQ"
    assert data.describe()["classes"] == expected


def test_numbered_classes_stay_classes(tmp_path):
    for name in ("00000", "01000"):
        fill(tmp_path / name, 2)
    assert data_of(tmp_path).classes == ["00000", "01000"]


def test_one_size_of_ffhq_is_asked_for(tmp_path):
    for name in ("images1024x1024", "thumbnails128x128"):
        thousands(tmp_path / name)
    told = f"{tmp_path} holds the same images as images1024x1024, thumbnails128x128; expected one of these folders"
    with pytest.raises(ValueError, match=told):
        data_of(tmp_path)


def test_sets_of_ffhq_are_no_sizes(tmp_path):
    thousands(tmp_path / "train", (0, 1000))
    thousands(tmp_path / "test", (1001,))
    data = data_of(tmp_path)
    assert [len(part) for part in data._sets] == [2, 1, 1]


LEFT_BEHIND = ["@eaDir", ".ipynb_checkpoints", "__MACOSX", ".thumbnails", "$RECYCLE.BIN", "#recycle", "lost+found"]


def test_thumbnails_that_systems_leave_are_no_class(tmp_path):
    for name in ("a", "b", *LEFT_BEHIND, "a/@eaDir/1.png"):
        fill(tmp_path / name)
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "a/._0.png"):
        (tmp_path / name).write_text("x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = data_of(tmp_path)
    assert data.classes == ["a", "b"]
    assert len(data._sets[0]) == 8
    assert "left out" not in data.describe()


def test_files_left_out_are_counted_by_kind(tmp_path):
    fill(tmp_path, 3)
    for name in ("1.heic", "2.HEIC", "3.txt", "4"):
        (tmp_path / name).write_text("x")
    assert data_of(tmp_path).describe() == {
        "data": "3 images to train on, 0 for validation and tests",
        "classes": f"none: all images are directly in {tmp_path}",
        "left out": "2 .heic, 1 .txt, 1 without extension",
    }
    degraded = DegradedFolderDataModule(tmp_path, size=8, num_workers=0)
    assert degraded.describe()["left out"] == "2 .heic, 1 .txt, 1 without extension"
    assert "classes" not in degraded.describe()


def test_many_classes_are_abbreviated(tmp_path):
    for i in range(30):
        fill(tmp_path / f"kind{i:02}", 1)
    said = data_of(tmp_path).describe()["classes"]
    assert said.startswith("30: 0 kind00, 1 kind01, ")
    assert said.endswith("18 kind18, ... 29 kind29")


def test_digits_are_described():
    said = DigitsDataModule(size=8).describe()
    assert said == {
        "data": "1,600 images to train on, 197 for validation and tests",
        "classes": "10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
    }


@pytest.mark.parametrize("below", ["MNIST/raw", "raw", ""])
def test_mnist_is_found_in_the_folder_of_its_files(tmp_path, monkeypatch, below):
    (tmp_path / below).mkdir(parents=True, exist_ok=True)
    for name in FILES:
        kind, count = (3, 20) if "images" in name else (1, 20)
        header = bytes([0, 0, 8, kind]) + count.to_bytes(4, "big")
        pixels = bytes(range(20)) if kind == 1 else bytes([28]).rjust(4, b"\0") * 2 + bytes(count * 784)
        (tmp_path / below / name).write_bytes(header + (pixels if kind == 3 else bytes([i % 10 for i in range(20)])))
    monkeypatch.setattr("datamodules.mnist.MNIST.download", lambda self: pytest.fail("downloads"))
    data = MNISTDataModule(tmp_path, val_size=4)
    data.prepare_data()
    data.setup()
    assert [len(part) for part in data._sets] == [16, 4, 20]
    assert not (tmp_path / below / "MNIST").exists() or not below
