"""Data sets of LitData: the same run on any number of processes and workers, resuming, small caches, bad data sets."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import ImageFolderDataModule, LitDataModule
from datamodules.order import ChunkSampler
from gans.commands import data_pack

pytest.importorskip("litdata", reason="litdata is not installed: the extra litdata")
pytest.importorskip(
    "pyarrow", reason="no pyarrow: the extra litdata", exc_type=ImportError
)  # it may need a newer NumPy
torch.set_num_threads(1)
OPTIONS = {"size": 8, "num_workers": 0, "flip": True, "infinite": False}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A folder of 72 images in three classes, and a data set of LitData of them in several chunks."""
    random, root = np.random.default_rng(0), tmp_path_factory.mktemp("streams")
    for i in range(72):
        path = root / "photos" / ("val" if i % 9 == 8 else "train") / "abc"[i % 3] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (9, 10, 3), dtype=np.uint8)).save(path)
    data_pack.main(
        [str(root / "photos"), str(root / "lit"), "--num_workers", "0", "--shard", "3KB", "--format", "litdata"]
    )
    return root


def module(root, world=1, rank=0, batch_size=16, **options):
    data = LitDataModule(root, batch_size=batch_size // world, **OPTIONS | options)
    data._world = lambda: (world, rank)
    data.setup()
    return data


def batches(root, world=1, done=0, **options):
    """Return the global training batches from a number of batches on."""
    parts = []
    for rank in range(world):
        loader = module(root, world, rank, **options).train_dataloader()
        loader.sampler.progress = lambda: done
        parts.append(list(loader))
    return [tuple(map(torch.cat, zip(*some, strict=True))) for some in zip(*parts, strict=True)]


def equal(some, others):
    return len(some) == len(others) and all(
        torch.equal(*parts) for pairs in zip(some, others, strict=True) for parts in zip(*pairs, strict=True)
    )


@pytest.fixture(scope="module")
def whole(packed):
    return batches(packed / "lit")


@pytest.mark.parametrize("options", [{"world": 2}, {"world": 4}, {"num_workers": 2}], ids=str)
def test_processes_and_workers_share_the_batches_of_one(packed, whole, options):
    assert len(whole) == 4
    assert equal(batches(packed / "lit", **options), whole)


def test_a_resumed_run_continues_with_the_next_batch(packed, whole):
    found = batches(packed / "lit", done=2)
    assert equal(found[:2], whole[2:])
    assert not equal(found[2:], whole[:2])  # the next epoch has an order of its own


def test_images_labels_and_sets_are_those_of_the_folder(packed):
    data, folder = module(packed / "lit"), ImageFolderDataModule(packed / "photos", **OPTIONS)
    folder.setup()
    assert data.classes == folder.classes == ["a", "b", "c"]
    for one, other in zip(data._sets, folder._sets, strict=True):
        keys = list(range(len(other)))
        assert all(map(torch.equal, one.__getitems__(keys), other.__getitems__(keys)))
    assert data.describe()["data"] == folder.describe()["data"]


def test_a_small_cache_of_a_remote_data_set_gives_the_same(packed, whole, tmp_path):
    remote = {"val_root": f"local:{packed}/lit/val", "classes": 3, "cache_size": "10KB", "cache_dir": str(tmp_path)}
    assert equal(batches(f"local:{packed}/lit/train", **remote), whole)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.bin")) < 20_000  # of 24 kB


def test_a_part_is_held_out_without_a_set_for_it(packed):
    data = module(packed / "lit" / "train", val_size=5)
    train, val, test = data._sets
    assert (len(train), len(val)) == (59, 5)
    assert test is val
    assert not set(train.rows.tolist()) & set(val.rows.tolist())


def test_neighbours_in_the_order_are_of_few_chunks():
    sampler = ChunkSampler(range(640), 16, sizes=torch.full((64,), 10), together=2, num_replicas=1)
    assert sampler.streams == 8
    rows = [row for row, _ in sampler.share(0)]
    assert len({row // 10 for row in rows}) <= 8 * 3
    epoch = [row for batch in range(sampler.batches) for row, _ in sampler.share(batch)]
    assert sorted(epoch) == list(range(640))
    first = [[row // 10 for row, _ in sampler.share(batch)[:8]] for batch in range(sampler.batches)]
    second = [[row // 10 for row, _ in sampler.share(batch)[8:]] for batch in range(sampler.batches)]
    assert not {chunk for some in first for chunk in some} & {chunk for some in second for chunk in some}


def written(folder, items):
    from litdata.streaming.writer import BinaryWriter

    folder.mkdir()
    writer = BinaryWriter(str(folder), chunk_bytes=1000)
    for i, item in enumerate(items):
        writer[i] = item
    writer.done()
    writer.merge()
    return folder


def file_of(image):
    held = io.BytesIO()
    Image.fromarray(image).save(held, "PNG")
    return held.getvalue()


FORMS = {
    "a dict of bytes": lambda image, label: {"image": file_of(image), "label": label},
    "a dict of a tensor": lambda image, label: {"image": torch.from_numpy(image).permute(2, 0, 1), "cls": label},
    "a tuple of Pillow": lambda image, label: (Image.fromarray(image), label),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_items_of_others(tmp_path, form):
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    data = module(written(tmp_path / "x", [form(image, i) for i in range(3)]), classes=3, val_size=1, batch_size=1)
    images, labels = data._sets[0].__getitems__([0, 1])
    assert torch.equal(images[0], torch.from_numpy(image).permute(2, 0, 1))
    assert labels.tolist() == data._sets[0].rows.tolist()


def test_broken_images_are_skipped_or_refused(tmp_path):
    image = file_of(np.zeros((8, 8, 3), np.uint8))
    root = written(tmp_path / "x", [{"image": image}, {"image": b"no image"}, {"image": image}])
    with pytest.warns(UserWarning, match=r"skipping unreadable item 1 of .*x \(not an image\)"):
        assert module(root, val_size=0, batch_size=1)._sets[0].__getitems__([1])[0].shape == (1, 3, 8, 8)
    with pytest.raises(OSError, match=r"Cannot read item 1 of .*x \(not an image\)"):
        module(root, val_size=0, batch_size=1, on_error="raise")._sets[0].__getitems__([1])


REFUSED = {
    r"root must be a folder or an address, but .*none does not exist": lambda root: root / "none",
    r"which has no index.json; expected a data set of LitData": lambda root: root / "photos",
    r"items of .*other have text; expected an image as one of image, jpg": lambda root: written(
        root / "other", [{"text": "a"}] * 2
    ),
    r"has the label 7; expected one of 3 classes": lambda root: written(
        root / "seven", [{"image": file_of(np.zeros((8, 8, 3), np.uint8)), "label": 7}] * 2
    ),
}


@pytest.mark.parametrize(("says", "make"), REFUSED.items(), ids=REFUSED.keys())
def test_what_is_no_data_set_of_images_is_refused(packed, says, make):
    with pytest.raises((ValueError, OSError), match=says):
        module(make(packed), classes=3, val_size=1, batch_size=1)._sets[0].__getitems__([0])


@pytest.mark.slow
def test_a_broken_chunk_is_named(packed, tmp_path):
    image = file_of(np.zeros((8, 8, 3), np.uint8))
    root = written(tmp_path / "x", [{"image": image}] * 4)
    data = module(root, val_size=0, batch_size=1)
    next(root.glob("*.bin")).unlink()
    with pytest.raises(OSError, match=r"Cannot read item \d of .*x \("):
        data._sets[0].__getitems__([0, 1, 2, 3])
