"""Zip archives as roots: the same images as the folder, in workers and processes, and archives that are refused."""

import json
import multiprocessing
import zipfile

import numpy as np
import pytest
import torch
from broken_images import photo
from PIL import Image

from datamodules import CaptionedDataModule, ImageFolderDataModule, PairedFolderDataModule, archive
from datamodules.decode import dimensions, look
from datamodules.files import image_files

torch.set_num_threads(1)
OPTIONS = {"size": 8, "batch_size": 4, "num_workers": 0, "val_size": 0}


def zipped(folder, path, method=zipfile.ZIP_DEFLATED, folders=True):
    with zipfile.ZipFile(path, "w", method) as file:
        for inner in sorted(folder.rglob("*")):
            if folders or inner.is_file():
                file.write(inner, inner.relative_to(folder))
    return path


def classes(root, names=("cat", "dög"), count=5):
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.fromarray(np.asarray(photo(9, 8)) // (1 + i + number)).save(root / name / f"{i}.png")
    return root


def images(root, **options):
    data = ImageFolderDataModule(root, **OPTIONS | options)
    data.setup()
    return data


def whole(part):
    found, labels = part.__getitems__(list(range(len(part))))
    return found, labels.tolist()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
@pytest.mark.parametrize("folders", [True, False])
def test_an_archive_is_the_folder_it_was_made_of(tmp_path, method, folders):
    root = classes(tmp_path / "photos")
    (root / "notes.txt").write_text("x")
    classes(root, ["__MACOSX/cat", ".hidden", "@eaDir"])
    one, other = images(root), images(zipped(root, tmp_path / "Photos.ZIP", method, folders))
    assert one.classes == other.classes == ["cat", "dög"]
    assert torch.equal(whole(one._sets[0])[0], whole(other._sets[0])[0])
    assert whole(one._sets[0])[1] == whole(other._sets[0])[1] == [0] * 5 + [1] * 5
    assert one.describe() == other.describe()
    inner = tmp_path / "Photos.ZIP" / "cat" / "0.png"
    assert dimensions(inner) == (9, 8)
    assert look(inner) == (True, False)
    assert sorted(image_files(tmp_path / "Photos.ZIP" / "cat")) == [f"{i}.png" for i in range(5)]


@pytest.mark.parametrize("workers", [2, 0])
def test_workers_and_caches_read_the_same(tmp_path, workers):
    root = classes(tmp_path / "photos")
    path = zipped(root, tmp_path / "photos.zip")
    expected = [batch[0] for batch in images(root).train_dataloader()]
    for cache in (False, True):
        found = [batch[0] for batch in images(path, num_workers=workers, cache=cache).train_dataloader()]
        assert len(found) == 100
        assert all(map(torch.equal, found, expected))


def names_and_sum(path):
    return sum(archive.opened(path / name).read()[-1] for name in sorted(image_files(path)) for _ in range(50))


def test_forked_processes_do_not_disturb_each_other(tmp_path):
    path = zipped(classes(tmp_path / "photos"), tmp_path / "photos.zip")
    expected = names_and_sum(path)  # the contents are read before the fork
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.map(names_and_sum, [path] * 8) == [expected] * 8


def test_a_folder_in_the_way_is_entered(tmp_path):
    root = classes(tmp_path / "x" / "photos" / "inner")
    (tmp_path / "x" / "photos" / "readme.txt").write_text("x")
    data = images(zipped(root.parents[1], tmp_path / "photos.zip"))
    assert data.classes == ["cat", "dög"]
    assert len(data._sets[0]) == 10


def stylegan(root, labels):
    for i in range(6):
        folder = root / f"{i // 3:05}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i, i, i)).save(folder / f"img{i:08}.png")
    names = [f"{i // 3:05}/img{i:08}.png" for i in range(6)]
    (root / "dataset.json").write_text(json.dumps({"labels": labels and list(zip(names, labels, strict=False))}))
    return root


@pytest.mark.parametrize("packed", [True, False])
def test_stylegans_labels_are_the_classes(tmp_path, packed):
    def data_of(labels):
        name = str(abs(hash(str(labels))))
        root = stylegan(tmp_path / name, labels)
        return images(zipped(root, tmp_path / f"{name}.zip") if packed else root)

    data = data_of([2, 0, 1, 2, 0, 0])
    assert data.num_classes == 3
    assert data.describe() == {"data": "6 images to train on, 0 for validation and tests", "classes": "3: 0, 1, 2"}
    found, labels = whole(data._sets[0])
    assert found[:, 0, 0, 0].tolist() == list(range(6))
    assert labels == [2, 0, 1, 2, 0, 0]
    none = data_of(None)
    assert none.num_classes == 1
    assert "dataset.json has no labels" in none.describe()["classes"]
    with pytest.warns(UserWarning, match="no training images are of the classes 1"):
        assert data_of([2, 0, 0, 2, 0, 0]).num_classes == 3
    with pytest.warns(UserWarning, match="are vectors, which are not supported"):
        assert data_of([[0.1, 2.0]] * 6).num_classes == 1
    with pytest.raises(ValueError, match=r"dataset.json has no label for 1 of 6 images: 00001/img00000005.png"):
        data_of([0, 1, 0, 1, 0])
    for wrong in (1.5, -1, True, 10**12):
        with pytest.raises(ValueError, match=rf"has the label {wrong!s}; expected whole numbers from 0 to 999,999"):
            data_of([0, 1, 0, 1, 0, wrong])


def test_stylegans_labels_may_be_above_a_folder_of_folders(tmp_path):
    stylegan(tmp_path / "images", [1, 0, 1, 0, 1, 0])
    held = json.loads((tmp_path / "images" / "dataset.json").read_text())
    (tmp_path / "images" / "dataset.json").unlink()
    moved = {"labels": [[f"images/{name}", label] for name, label in held["labels"]]}
    (tmp_path / "dataset.json").write_text(json.dumps(moved))
    assert whole(images(tmp_path)._sets[0])[1] == [1, 0, 1, 0, 1, 0]


def test_pairs_and_captions_come_from_archives_too(tmp_path):
    root = classes(tmp_path / "x", ["train/A", "train/B", "val/A", "val/B"])
    pairs = PairedFolderDataModule(zipped(root, tmp_path / "x.zip"), size=8, num_workers=0)
    pairs.setup()
    assert [len(part) for part in pairs._sets] == [5, 5, 5]
    (tmp_path / "x" / "captions.json").write_text(
        json.dumps({f"{path.relative_to(root)}": "a thing" for path in root.rglob("*.png")})
    )
    captions = CaptionedDataModule(zipped(root, tmp_path / "y.zip"), **OPTIONS)
    captions.setup()
    assert captions._sets[0].caption(0) == "a thing"
    assert [len(part) for part in captions._sets] == [10, 10, 10]


def test_damage_inside_an_archive_is_a_broken_file(tmp_path):
    path = zipped(classes(tmp_path / "x"), tmp_path / "x.zip", zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        content[file.getinfo("cat/1.png").header_offset + 80] ^= 255
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"skipping unreadable image .*x.zip/cat/1.png \(damaged in the archive\)"):
        images(path)


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.7z", "a.rar"])
def test_other_archives_are_refused_with_what_to_do(tmp_path, name):
    (tmp_path / name).write_bytes(b"x" * 1000)
    with pytest.raises(NotADirectoryError, match=rf"root is .*{name}, an archive: unpack it and give the folder"):
        images(tmp_path / name)


def test_an_archive_with_a_password_is_refused(tmp_path):
    path = zipped(classes(tmp_path / "x"), tmp_path / "x.zip")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x.zip is encrypted; expected a zip archive without a password"):
        images(path)


def test_a_damaged_or_empty_archive_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\3\4" + bytes(100))
    with pytest.raises(ValueError, match=r"a.zip is not a readable zip archive"):
        images(tmp_path / "a.zip")
    (tmp_path / "x").mkdir()
    with pytest.raises(FileNotFoundError, match=r"b.zip, which contains no images"):
        images(zipped(tmp_path / "x", tmp_path / "b.zip"))
