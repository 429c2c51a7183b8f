"""Data sets of torchvision, in small files of their real formats, and what happens without the files."""

import gzip
import json
import pickle
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from datamodules import ImageFolderDataModule, TorchvisionDataModule

COUNTS = {"train": 12, "val": 3, "test": 4}


def pictures(part, side, channels=3):
    """Return images `(N, side, side, channels)` uint8 of a set."""
    shape = (COUNTS[part], side, side, channels)
    return np.random.default_rng(len(part)).integers(0, 255, shape, dtype=np.uint8)


def labels(part, count):
    return (np.arange(COUNTS[part]) * 7 + 1) % count


def write_cifar(root, name):
    hundred = name == "CIFAR100"
    folder, count = root / ("cifar-100-python" if hundred else "cifar-10-batches-py"), 100 if hundred else 10
    folder.mkdir(parents=True)
    names = [f"class {i}" for i in range(count)]
    meta = {"fine_label_names" if hundred else "label_names": names}
    (folder / ("meta" if hundred else "batches.meta")).write_bytes(pickle.dumps(meta))
    key = "fine_labels" if hundred else "labels"
    for part, files in (
        ("train", ["train"] if hundred else [f"data_batch_{i}" for i in range(1, 6)]),
        ("test", ["test"] if hundred else ["test_batch"]),
    ):
        data = pictures(part, 32).transpose(0, 3, 1, 2).reshape(COUNTS[part], -1)
        groups = zip(
            files, np.array_split(data, len(files)), np.array_split(labels(part, count), len(files)), strict=True
        )
        for file, pixels, numbers in groups:
            (folder / file).write_bytes(pickle.dumps({"data": pixels, key: numbers.tolist()}))
    return 32, 3, count


def write_digits(root, name):
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for part, word in (("train", "train"), ("test", "t10k")):
        pixels, numbers = pictures(part, 28, 1), labels(part, 10).astype(np.uint8)
        start = f"emnist-balanced-{word.replace('t10k', 'test')}" if name == "EMNIST" else word
        head = struct.pack(">4i", 0x803, len(pixels), 28, 28)
        for file, data in (
            (f"{start}-images-idx3-ubyte", head + pixels.tobytes()),
            (f"{start}-labels-idx1-ubyte", struct.pack(">2i", 0x801, len(numbers)) + numbers.tobytes()),
        ):
            (folder / file).write_bytes(data)
            (folder / f"{file}.gz").write_bytes(gzip.compress(data))
    return 28, 1, 47 if name == "EMNIST" else 10


def write_svhn(root, name):
    root.mkdir()
    for part in ("train", "test"):
        numbers = labels(part, 10)
        held = {"X": pictures(part, 32).transpose(1, 2, 3, 0), "y": np.where(numbers == 0, 10, numbers)[:, None]}
        savemat(root / f"{part}_32x32.mat", held)
    return 32, 3, 10


def write_stl10(root, name):
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    (folder / "class_names.txt").write_text("\n".join(f"class {i}" for i in range(10)))
    (folder / "fold_indices.txt").write_text("0 1\n")
    for part, file in (("train", "train"), ("test", "test"), ("val", "unlabeled")):
        (folder / f"{file}_X.bin").write_bytes(pictures(part, 96).transpose(0, 3, 2, 1).tobytes())
        (folder / f"{file}_y.bin").write_bytes((labels(part, 10) + 1).astype(np.uint8).tobytes())
    return 96, 3, 10


def write_celeba(root, name):
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    lines = [(part, i) for part in COUNTS for i in range(COUNTS[part])]
    files = [f"{i + 1:06}.jpg" for i in range(len(lines))]
    for file, (part, i) in zip(files, lines, strict=True):
        Image.fromarray(pictures(part, 40)[i]).save(folder / "img_align_celeba" / file, lossless=True)
    parts = "".join(f"{file} {list(COUNTS).index(part)}\n" for file, (part, _) in zip(files, lines, strict=True))
    (folder / "list_eval_partition.txt").write_text(parts)
    (folder / "identity_CelebA.txt").write_text("".join(f"{file} 7\n" for file in files))
    boxes = "".join(f"{file} 1 2 3 4\n" for file in files)
    (folder / "list_bbox_celeba.txt").write_text(f"{len(files)}\nimage_id x_1 y_1 width height\n{boxes}")
    marks = "".join(f"{file} {' '.join('1' * 10)}\n" for file in files)
    points = " ".join(f"{part}_{axis}" for part in ("lefteye", "righteye", "nose", "left", "right") for axis in "xy")
    (folder / "list_landmarks_align_celeba.txt").write_text(f"{len(files)}\n{points}\n{marks}")
    smiles = "".join(f"{file} 1 -1\n" for file in files)
    (folder / "list_attr_celeba.txt").write_text(f"{len(files)}\nSmiling Young\n{smiles}")
    return None, 3, 1


def write_flowers(root, name):
    folder = root / "flowers-102"
    (folder / "jpg").mkdir(parents=True)
    ids, numbers, first = {}, [], 1
    for part, key in (("train", "trnid"), ("val", "valid"), ("test", "tstid")):
        ids[key] = np.arange(first, first + COUNTS[part])
        numbers += (labels(part, 102) + 1).tolist()
        for i, number in enumerate(ids[key]):
            Image.fromarray(pictures(part, 40)[i]).save(folder / "jpg" / f"image_{number:05}.jpg")
        first += COUNTS[part]
    savemat(folder / "imagelabels.mat", {"labels": np.array(numbers)[None]})
    savemat(folder / "setid.mat", {key: value[None] for key, value in ids.items()})
    return None, 3, 102


def write_food(root, name):
    folder = root / "food-101"
    (folder / "meta").mkdir(parents=True)
    for part in ("train", "test"):
        held = {"pie": [], "soup": []}
        for i in range(COUNTS[part]):
            kind = ("pie", "soup")[i % 2]
            (folder / "images" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pictures(part, 40)[i]).save(folder / "images" / kind / f"{part}{i}.jpg")
            held[kind].append(f"{kind}/{part}{i}")
        (folder / "meta" / f"{part}.json").write_text(json.dumps(held))
    return None, 3, 2


def write_pets(root, name):
    folder = root / "oxford-iiit-pet"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for part, file in (("train", "trainval"), ("test", "test")):
        lines = []
        for i in range(COUNTS[part]):
            kind = ("Abyssinian", "beagle")[i % 2]
            Image.fromarray(pictures(part, 40)[i]).save(folder / "images" / f"{kind}_{part}{i}.jpg")
            lines.append(f"{kind}_{part}{i} {i % 2 + 1} 1 1\n")
        (folder / "annotations" / f"{file}.txt").write_text("".join(lines))
    return None, 3, 2


def write_eurosat(root, name):
    for i in range(COUNTS["train"]):
        folder = root / "eurosat" / "2750" / ("Forest", "River")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pictures("train", 64)[i]).save(folder / f"{i}.jpg")
    return None, 3, 2


WRITERS = {
    "CIFAR10": write_cifar,
    "CIFAR100": write_cifar,
    "CelebA": write_celeba,
    "EMNIST": write_digits,
    "EuroSAT": write_eurosat,
    "FashionMNIST": write_digits,
    "Flowers102": write_flowers,
    "Food101": write_food,
    "KMNIST": write_digits,
    "MNIST": write_digits,
    "OxfordIIITPet": write_pets,
    "STL10": write_stl10,
    "SVHN": write_svhn,
}


@pytest.fixture(autouse=True)
def any_checksum(monkeypatch):
    """Accept small files: torchvision compares the checksums of the real ones. Nothing is downloaded."""

    def there(path, md5=None):
        return Path(path).is_file()

    for module in (datasets.cifar, datasets.stl10, datasets.svhn, datasets.celeba, datasets.flowers102):
        monkeypatch.setattr(module, "check_integrity", there)
    monkeypatch.setattr(datasets.utils, "check_integrity", there)
    monkeypatch.setattr("urllib.request.urlopen", fails)


def fails(*args, **kwargs):
    raise OSError("no network")


def module(name, root, **options):
    options = {"size": 32, "channels": 3, "batch_size": 4, "num_workers": 0, "infinite": False} | options
    data = TorchvisionDataModule(name, root, **options)
    data.prepare_data()
    data.setup("fit")
    return data


@pytest.mark.filterwarnings("ignore:.* are grey")
@pytest.mark.parametrize("name", WRITERS)
def test_every_data_set_in_its_own_files(tmp_path, name):
    side, channels, count = WRITERS[name](tmp_path / "data", name)
    data = module(name, tmp_path / "data", size=side or 32, channels=channels)
    assert data.num_classes == count
    train, val, test = data._sets
    held = {"train": 11, "val": 1, "test": 1} if name == "EuroSAT" else COUNTS
    if name not in ("CelebA", "Flowers102", "EuroSAT"):
        held = held | {"val": held["test"]}
    assert [len(part) for part in (train, val, test)] == list(held.values())
    if side:  # pixels in arrays
        for part, dataset in (("train", train), ("test", test)):
            images, numbers = dataset.__getitems__(range(len(dataset)))
            expected = torch.from_numpy(pictures(part, side, channels)).permute(0, 3, 1, 2)
            assert torch.equal(images, expected)
            assert numbers.tolist() == labels(part, min(count, 10 if name != "CIFAR100" else 100)).tolist()
    keys = [(3, 5), (0, 2)]
    assert torch.equal(pickle.loads(pickle.dumps(train)).__getitems__(keys)[0], train.__getitems__(keys)[0])
    assert len(list(data.train_dataloader())) == (11 if name == "EuroSAT" else 12) // 4


def test_files_are_decoded_as_those_of_a_folder(tmp_path):
    write_food(tmp_path / "data", "Food101")
    folder = ImageFolderDataModule(tmp_path / "data/food-101/images", 16, num_workers=0, val_size=0)
    folder.setup("fit")
    names = {Path(path).name: row for row, path in enumerate(folder._layout.paths)}
    data = module("Food101", tmp_path / "data", size=16)
    files = [file.name for file in data.parts["train"]._image_files]
    expected = folder._sets[0].__getitems__([names[file] for file in files])
    found = data._sets[0].__getitems__(range(len(files)))
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert data.describe()["classes"] == "2: 0 pie, 1 soup"


def test_workers_and_a_cache_give_the_same_batches(tmp_path):
    write_cifar(tmp_path / "data", "CIFAR10")
    batches = [
        list(module("CIFAR10", tmp_path / "data", flip=True, **options).train_dataloader())
        for options in ({}, {"num_workers": 2}, {"cache": True}, {"cache": "device"})
    ]
    for other in batches[1:]:
        assert all(
            torch.equal(a, b) for one, two in zip(batches[0], other, strict=True) for a, b in zip(one, two, strict=True)
        )
    with pytest.raises(
        ValueError, match=r"^cache is true; expected false for windows, because images in CIFAR10 have no"
    ):
        module("CIFAR10", tmp_path / "data", cache=True, fit="window", size=16)


def test_another_training_set(tmp_path):
    write_stl10(tmp_path / "data", "STL10")
    data = module("STL10", tmp_path / "data", split="train+unlabeled", size=96)
    assert data.describe()["data"] == "15 images to train on, 4 for validation and tests"
    assert data.describe()["classes"] == "none: STL10 has images without classes"
    with pytest.raises(ValueError, match=r"(?s)Unknown value 'extra' for argument split.*unlabeled"):
        module("STL10", tmp_path / "data", split="extra")
    with pytest.raises(ValueError, match=r"^split is extra; expected null, because CIFAR10 has one training set$"):
        TorchvisionDataModule("CIFAR10", tmp_path, split="extra")


def test_a_broken_file_is_skipped_and_named(tmp_path):
    write_food(tmp_path / "data", "Food101")
    (tmp_path / "data/food-101/images/pie/train2.jpg").write_bytes(b"x")
    data = module("Food101", tmp_path / "data", cache=True, val_size=0)
    with pytest.warns(UserWarning, match=r"^skipping unreadable image 1 of Food101 \(not an image\)"):
        data._sets[0].__getitems__(range(12))
    assert data.describe()["left out"] == "1 unreadable so far"


def test_missing_files_that_cannot_be_downloaded(refused, tmp_path):
    line = (
        "fit dcgan-folder --data TorchvisionDataModule --trainer.accelerator cpu --data.root nowhere/data --data.name"
    )
    told = refused(f"{line} CIFAR10")
    assert re.match(r"CIFAR10 is not in nowhere/data and downloading it failed \(.*no network.*\): put its files", told)
    assert refused(f"{line} FashionMNIST --data.download false") == (
        "FashionMNIST is not in nowhere/data and download is false: put its files there, in the layout of "
        "torchvision.datasets.FashionMNIST, or set root"
    )
    assert refused(f"{line} CIFAR11").startswith("data.name must be one of CIFAR10, CIFAR100, CelebA, ")


def test_the_command_line_finds_it(gans, tmp_path):
    write_cifar(tmp_path / "data", "CIFAR10")
    code, out, err = gans(
        "fit dcgan-folder --data TorchvisionDataModule --data.name CIFAR10 --data.size 32 --data.batch_size 4 "
        "--data.num_workers 0 --model.width 4 --trainer.accelerator cpu --trainer.max_steps 2"
    )
    assert code == 0, err
    assert "12 images to train on, 4 for validation and tests" in out
    assert "10: 0 class 0, 1 class 1" in out
