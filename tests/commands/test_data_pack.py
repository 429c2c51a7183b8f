"""`gans data pack`: shards train as the folder they were made of; interruptions, broken files and bad input."""

import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import CaptionedDataModule, ImageFolderDataModule
from gans.commands import data_pack

torch.set_num_threads(1)


@pytest.fixture
def photos(tmp_path):
    """A folder of 12 images in three classes, of two formats and several sizes; one has the size 8x8."""
    random = np.random.default_rng(0)
    for i in range(12):
        size = (8, 8) if i == 5 else (9 + i, 14 - i % 4)
        path = tmp_path / "photos" / "abc"[i % 3] / f"{i}.{('png', 'jpg')[i % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


def pack(*args):
    data_pack.main([*map(str, args), "--num_workers", "0"])


def batches(root, world=(1, 0), done=None, **options):
    """Return the training batches of one process from a number of batches on."""
    options = {"size": 8, "batch_size": 4, "num_workers": 0, "flip": True, "val_size": 2} | options
    data = ImageFolderDataModule(root, **options)
    data._world = lambda: world
    data.setup()
    loader = data.train_dataloader()
    loader.sampler.progress = done
    return data.classes, list(loader)


def equal(some, others):
    return len(some) == len(others) and all(
        torch.equal(*parts) for batches in zip(some, others, strict=True) for parts in zip(*batches, strict=True)
    )


@pytest.mark.parametrize(("flags", "size"), [(["--size", "8"], 8), ([], 8), ([], 6)])
def test_shards_train_as_the_folder_they_were_made_of(photos, tmp_path, flags, size):
    pack(photos, tmp_path / "out", "--shard", "4KB", *flags)
    assert len(list((tmp_path / "out").glob("*.tar"))) > 1
    names, expected = batches(photos, size=size)
    found_names, found = batches(tmp_path / "out", size=size)
    assert found_names == names == ["a", "b", "c"]
    assert equal(found, expected)
    assert len(expected) == 100


def test_two_processes_and_a_resumed_one_read_what_one_reads(photos, tmp_path):
    pack(photos, tmp_path / "out", "--shard", "4KB")
    _, one = batches(tmp_path / "out")
    halves = [batches(tmp_path / "out", world=(2, rank), batch_size=2)[1] for rank in range(2)]
    together = [tuple(map(torch.cat, zip(*both, strict=True))) for both in zip(*halves, strict=True)]
    assert equal(together, one)
    assert equal(batches(tmp_path / "out", done=lambda: 7)[1][: 100 - 7], one[7:])


def test_bytes_of_images_that_need_no_change_are_copied(photos, tmp_path):
    pack(photos, tmp_path / "all")
    pack(photos, tmp_path / "small", "--size", "8")
    held = [path.read_bytes() for path in sorted(photos.rglob("*.*"), key=lambda path: path.as_posix())]
    with tarfile.open(tmp_path / "all" / "000000.tar") as file:
        assert [file.extractfile(m).read() for m in file if not m.name.endswith(".cls")] == held
    with tarfile.open(tmp_path / "small" / "000000.tar") as file:
        names = [m.name for m in file if not m.name.endswith(".cls")]
    assert [name for name in names if name.endswith("jpg")] == ["000000010.jpg"]  # c/5.jpg, which has the size


def test_jpeg_is_smaller_and_nearly_the_same(photos, tmp_path):
    pack(photos, tmp_path / "out", "--size", "8", "--jpeg", "95")
    found, expected = batches(tmp_path / "out")[1], batches(photos)[1]
    assert 0 < (found[0][0].float() - expected[0][0].float()).abs().mean() < 6


def test_sets_and_captions_are_kept(photos, tmp_path):
    for i, path in enumerate(sorted(photos.rglob("*.*"))):
        new = tmp_path / "sets" / ("train" if i % 3 else "val") / path.name
        new.parent.mkdir(parents=True, exist_ok=True)
        path.rename(new)
        new.with_suffix(".txt").write_text(f"photo {path.stem}\nthe other one\n")
    pack(tmp_path / "sets", tmp_path / "out")
    options = {"size": 8, "batch_size": 2, "num_workers": 0}
    parts = []
    for root in ("sets", "out"):
        data = CaptionedDataModule(tmp_path / root, **options)
        data.setup()
        parts.append([[part.caption(i) for i in range(len(part))] for part in data._sets])
    assert parts[0] == parts[1]
    assert [len(part) for part in parts[0]] == [8, 4, 4]


def test_an_interrupted_packing_continues(photos, tmp_path, monkeypatch, capsys):
    pack(photos, tmp_path / "whole", "--shard", "4KB")
    record, calls = data_pack.record, []

    def interrupted(*args):
        record(*args)
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(data_pack, "record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack(photos, tmp_path / "out", "--shard", "4KB")
    with pytest.raises(ValueError, match=r"whose shards are not complete: the same `gans data pack` continues"):
        batches(tmp_path / "out")
    with pytest.raises(ValueError, match="which holds unfinished shards of other images or with other settings"):
        pack(photos, tmp_path / "out", "--shard", "5KB")
    there = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    monkeypatch.undo()
    capsys.readouterr()
    pack(photos, tmp_path / "out", "--shard", "4KB")
    assert "continued" in capsys.readouterr().out
    assert len(there) == 2
    assert all(path.stat().st_mtime_ns == time for path, time in there.items())
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_broken_images_are_left_out_and_named(photos, tmp_path, capsys):
    (photos / "a" / "0.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match="skipping unreadable image"):
        pack(photos, tmp_path / "out")
    told = capsys.readouterr().out
    assert "left out     1 unreadable images" in told
    assert "a/0.png" in told
    assert "11 images" in told
    with pytest.raises(OSError, match=r"Cannot read image .*a/0.png"):
        pack(photos, tmp_path / "other", "--on_error", "raise")


REFUSED = {
    "shard is 3 apples; expected a size such as 256MB": ["--shard", "3 apples"],
    "crop, half, fit and jpeg are for resized images; expected a size with them": ["--crop", "4"],
    "jpeg is 0; expected a quality from 1 to 100": ["--size", "8", "--jpeg", "0"],
    "size must be an integer of at least 1, got 0": ["--size", "0"],
}


@pytest.mark.parametrize(("says", "flags"), REFUSED.items(), ids=REFUSED.keys())
def test_bad_flags_are_refused_and_nothing_is_written(photos, tmp_path, says, flags):
    with pytest.raises(ValueError, match=says):
        pack(photos, tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_is_refused(photos, tmp_path):
    with pytest.raises(ValueError, match="which is not empty; expected a new folder"):
        pack(photos, photos)
    pack(photos, tmp_path / "out")
    with pytest.raises(ValueError, match="which is not empty; expected a new folder"):
        pack(photos, tmp_path / "out")
