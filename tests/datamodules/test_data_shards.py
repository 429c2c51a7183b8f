"""Tar archives and WebDataset shards as roots: labels, sets, names, exactness, and shards that are refused."""

import io
import os
import tarfile
import time

import numpy as np
import pytest
import torch
from broken_images import photo
from PIL import Image

from datamodules import CaptionedDataModule, ImageFolderDataModule, kept, tars
from datamodules.archive import opened, within
from datamodules.layout import layout

torch.set_num_threads(1)
OPTIONS = {"size": 8, "batch_size": 4, "num_workers": 0, "val_size": 0}


def png(i):
    held = io.BytesIO()
    Image.fromarray(np.asarray(photo(9, 8)) // (1 + i)).save(held, "png")
    return held.getvalue()


def shard(path, files):
    """Write a tar archive of files by name: bytes, text, or a number for an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in files.items():
            content = png(content) if isinstance(content, int) else content
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def labelled(count, first=0, kind="cls", classes=3):
    """Return the files of samples with a label each."""
    files = {}
    for i in range(first, first + count):
        label = str(i % classes) if kind == "cls" else f'{{"label": {i % classes}}}'
        files |= {f"{i:06}.png": i, f"{i:06}.{kind}": label}
    return files


def images(root, **options):
    data = ImageFolderDataModule(root, **OPTIONS | options)
    data.setup()
    return data


def whole(part):
    found, labels = part.__getitems__(list(range(len(part))))
    return found, labels.tolist()


@pytest.mark.parametrize("kind", ["cls", "json"])
def test_shards_are_the_folder_of_their_images(tmp_path, kind):
    for i in range(10):
        (tmp_path / "photos" / "abc"[i % 3]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / "abc"[i % 3] / f"{i:06}.png").write_bytes(png(i))
    shard(tmp_path / "shards" / "images-000000.tar", labelled(6, 0, kind))
    shard(tmp_path / "shards" / "images-000001.tar", labelled(4, 6, kind))
    (tmp_path / "shards" / "classnames.txt").write_text("a\nb\nc\n")
    one, other = images(tmp_path / "photos"), images(tmp_path / "shards")
    assert one.classes == other.classes == ["a", "b", "c"]
    assert whole(other._sets[0])[1] == [i % 3 for i in range(10)]
    order = sorted(range(10), key=lambda i: i % 3)  # the folder has its images in the order of the classes
    assert torch.equal(whole(one._sets[0])[0], whole(other._sets[0])[0][order])
    assert other.describe() == one.describe()


def test_a_plain_tar_is_the_folder_it_was_made_of(tmp_path):
    for name in ("cat/1.png", "cat/2.png", "dög/1.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(png(int(name[-5])))
    with tarfile.open(tmp_path / "Photos.TAR", "w") as file:
        file.add(tmp_path / "photos", "./")
    one, other = images(tmp_path / "photos"), images(tmp_path / "Photos.TAR")
    assert one.describe() == other.describe()
    assert torch.equal(whole(one._sets[0])[0], whole(other._sets[0])[0])


def test_a_single_shard_has_the_labels_of_its_samples(tmp_path):
    found = layout(shard(tmp_path / "a.tar", labelled(4)))
    assert (found.labels.tolist(), found.classes, found.left_out) == ([0, 1, 2, 0], ["0", "1", "2"], {})


def test_labels_that_are_names_are_classes_in_their_order(tmp_path):
    shard(tmp_path / "s" / "0.tar", {"1.png": 1, "1.json": '{"label": "dog"}', "2.png": 2, "2.json": '"cat"'})
    found = layout(tmp_path / "s")
    assert (found.labels.tolist(), found.classes) == ([1, 0], ["cat", "dog"])


@pytest.mark.parametrize(
    "names",
    [
        {"train": "train/0.tar", "val": "val/0.tar", "test": "test/0.tar"},
        {"train": "flowers-train-0.tar", "val": "flowers-validation-0.tar", "test": "flowers-test-0.tar"},
    ],
)
def test_sets_are_named_by_shards_or_their_folders(tmp_path, names):
    for count, name in zip((3, 2, 1), names.values(), strict=True):
        shard(tmp_path / name, labelled(count))
    assert [len(part) for part in images(tmp_path)._sets] == [3, 2, 1]


def test_shards_outside_the_sets_are_counted(tmp_path):
    for name in ("train-0.tar", "val-0.tar", "more-0.tar"):
        shard(tmp_path / name, labelled(2))
    with pytest.warns(UserWarning, match=r"^2 images in .* are in no shard of a set: more-0.tar/000000.png"):
        data = images(tmp_path)
    assert [len(part) for part in data._sets] == [2, 2, 2]
    assert data.left_out == {"images outside the sets": 2}


def test_a_sample_has_one_image(tmp_path):
    shard(
        tmp_path / "0.tar", {"1.jpg.png": 1, "1.png": 2, "1.seg.png": 3, "1.txt": "a text", "x/1.png": 4, "1.npy": ""}
    )
    found = layout(tmp_path)
    assert found.paths == ["0.tar/1.png", "0.tar/x/1.png"]
    assert found.left_out == {".npy": 1, "further images of samples": 2}
    assert "have no label (.cls, or .json with label, cls, class)" in found.unclassed


def test_captions_are_texts_of_the_samples(tmp_path):
    files = {f"{i}.png": i for i in range(4)} | {f"{i}.txt": f"photo {'ab'[i % 2]}" for i in range(4)}
    shard(tmp_path / "0.tar", files)
    data = CaptionedDataModule(tmp_path, size=8, batch_size=2, num_workers=0, val_size=1)
    data.setup()
    assert {data._sets[0].caption(i) for i in range(3)} == {"photo a", "photo b"}


@pytest.mark.parametrize("workers", [2, 0])
def test_workers_and_caches_read_the_same(tmp_path, workers):
    shard(tmp_path / "0.tar", labelled(6))
    shard(tmp_path / "1.tar", labelled(5, 6))
    expected = [batch[0] for batch in images(tmp_path).train_dataloader()]
    for cache in (False, True):
        found = [batch[0] for batch in images(tmp_path, num_workers=workers, cache=cache).train_dataloader()]
        assert all(map(torch.equal, found, expected))


def test_tars_beside_images_are_files_of_another_kind(tmp_path):
    shard(tmp_path / "copy.tar", labelled(6))
    (tmp_path / "1.png").write_bytes(png(1))
    found = layout(tmp_path)
    assert (found.paths, found.left_out) == (["1.png"], {".tar": 1})


BROKEN = {
    r"0.tar is not a readable tar archive \(unexpected end of data\)": lambda data: data[:2000],
    r"0.tar is not a readable tar archive \(damaged at byte 1,": lambda data: data[:1024] + b"x" * 600 + data[1624:],
    r"0.tar is not a readable tar archive \(empty file\)": lambda data: b"",
    r"0.tar is not a readable tar archive \(": lambda data: b"no archive" * 100,
}


@pytest.mark.parametrize(("says", "change"), BROKEN.items(), ids=BROKEN.keys())
def test_a_broken_shard_is_named(tmp_path, says, change):
    path = shard(tmp_path / "s" / "0.tar", labelled(3))
    shard(tmp_path / "s" / "1.tar", labelled(3, 3))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=says):
        images(tmp_path / "s")


def test_a_shard_without_its_end_mark_is_warned_of(tmp_path):
    path = shard(tmp_path / "0.tar", {"1.png": 1})
    size = 512 + -(-len(png(1)) // 512) * 512
    path.write_bytes(path.read_bytes()[:size])
    with pytest.warns(UserWarning, match=r"0.tar has no end mark: it may be truncated between two files"):
        layout(tmp_path)


REFUSED = {
    r"1 of the 2 samples in .* have no label .*: 0.tar/2.png$": {"1.png": 1, "1.cls": "0", "2.png": 2},
    r"has the label 7; expected one of the 2 names of .*classnames.txt$": {"1.png": 1, "1.cls": "7"},
    r"which contains no images \(looked for jpg": {"1.npy": "x"},
}


@pytest.mark.parametrize(("says", "files"), REFUSED.items(), ids=REFUSED.keys())
def test_what_is_no_data_set_is_refused(tmp_path, says, files):
    shard(tmp_path / "0.tar", files)
    (tmp_path / "classnames.txt").write_text("a\nb\n")
    with pytest.raises((ValueError, OSError), match=says):
        images(tmp_path)


def test_tables_and_labels_of_large_shards_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("GANS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datamodules.tars.LARGE", 3)
    monkeypatch.setattr("datamodules.shards.LARGE", 3)
    path = shard(tmp_path / "s" / "0.tar", labelled(4))
    os.utime(path, (time.time() - 3600,) * 2)
    first = layout(tmp_path / "s")
    monkeypatch.setattr(tars, "visited", None)
    monkeypatch.setattr("datamodules.shards.label_in", None)
    found = tars.index(str(path))
    assert len(found.names) == 8
    again = layout(tmp_path / "s")
    assert (again.paths, again.labels.tolist()) == (first.paths, first.labels.tolist())
    monkeypatch.undo()
    monkeypatch.setenv("GANS_CACHE", str(tmp_path / "cache"))
    shard(path, labelled(5))
    assert layout(tmp_path / "s").labels.tolist() == [0, 1, 2, 0, 1]
    assert kept.load("tars", path)["entries"].shape == (8, 2)  # a changed archive of few members is not kept


def test_hard_links_and_the_last_of_two_files_of_a_name(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for name, data, link in (("x.png", b"old", ""), ("x.png", b"new", ""), ("y.png", b"", "x.png")):
            info = tarfile.TarInfo(name)
            info.size, info.linkname = len(data), link
            info.type = tarfile.LNKTYPE if link else tarfile.REGTYPE
            file.addfile(info, io.BytesIO(data))
    assert [opened(tmp_path / "a.tar" / name).read() for name in ("x.png", "y.png")] == [b"new", b"new"]
    assert within(tmp_path / "a.tar" / "x.png") == (str(tmp_path / "a.tar"), "x.png")
