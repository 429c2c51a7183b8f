"""Data sets of Hugging Face: every form in which they are stored, their columns and splits, processes and resuming."""

import pickle
import re
import sys

import numpy as np
import pytest
import torch
from checkpoints import assert_near, freeze_batch_norm
from PIL import Image as Picture

from datamodules import HuggingFaceDataModule, ImageFolderDataModule
from datamodules.reader import BrokenDataError
from gans.models import DCGAN

datasets = pytest.importorskip(
    "datasets", reason="datasets cannot be imported: the extra datasets", exc_type=ImportError
)

CLASSES = ["cat", "dog"]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache of `datasets` for each test, without the Hub and without progress bars."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def encoded(number, side=8):
    """Return the bytes of a PNG file whose pixels tell its number."""
    import io

    pixels = np.random.default_rng(number).integers(0, 255, (side, side + 1, 3), dtype=np.uint8)
    file = io.BytesIO()
    Picture.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def rows(count, first=0, **more):
    """Return a data set of `count` images of two classes."""
    held = {
        "image": [{"bytes": encoded(first + i), "path": None} for i in range(count)],
        "label": [i % 2 for i in range(count)],
    }
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES)}
    return datasets.Dataset.from_dict(held, features=datasets.Features(kinds))


def saved(folder, data, **splits):
    """Save splits to a folder and return its path."""
    datasets.DatasetDict({"train": data, **splits}).save_to_disk(str(folder / "saved"))
    return str(folder / "saved")


def module(path, **options):
    options = {"size": 8, "batch_size": 4, "num_workers": 0, "infinite": False} | options
    data = HuggingFaceDataModule(path, **options)
    data.prepare_data()
    data.setup("fit")
    return data


def everything(data):
    return [[part.clone() for part in batch] for batch in data.train_dataloader()]


def same(one, other):
    return len(one) == len(other) and all(
        torch.equal(a, b) for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True)
    )


def write(folder, form, data, test):
    """Write both splits in a form and return the path."""
    if form == "save_to_disk":
        return saved(folder, data, test=test)
    if form == "parquet":
        for name, part in (("train", data), ("test", test)):
            (folder / "parquet").mkdir(exist_ok=True)
            part.to_parquet(folder / "parquet" / f"{name}-00000-of-00001.parquet")
        return str(folder / "parquet")
    for name, part in (("train", data), ("test", test)):
        for i, row in enumerate(part.cast_column("image", datasets.Image(decode=False))):
            place = folder / "photos" / name / CLASSES[row["label"]]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{i:03}.png").write_bytes(row["image"]["bytes"])
    return str(folder / "photos")


@pytest.mark.parametrize("form", ["save_to_disk", "parquet", "imagefolder"])
def test_every_form_gives_the_batches_of_an_image_folder(tmp_path, form):
    data, test = rows(10).sort("label"), rows(4, 10).sort("label")
    folder = ImageFolderDataModule(
        write(tmp_path, "imagefolder", data, test), 8, batch_size=4, num_workers=0, infinite=False, flip=True
    )
    folder.setup("fit")
    table = module(write(tmp_path, form, data, test), flip=True)
    assert table.classes == folder.classes == CLASSES
    assert table.describe() == folder.describe()
    assert table.describe()["data"] == "10 images to train on, 4 for validation and tests"
    assert same(everything(table), everything(folder))
    assert same(list(table.test_dataloader()), list(folder.test_dataloader()))


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_one_file(tmp_path, kind):
    path = write(tmp_path, "parquet" if kind == "parquet" else "save_to_disk", rows(10), rows(4, 10))
    [file] = tmp_path.glob("parquet/train*") if kind == "parquet" else tmp_path.glob("saved/train/*.arrow")
    one, whole = module(str(file), val_size=0), module(path)
    assert one.describe()["data"].startswith("10 images to train on, 0 for")
    assert same(everything(one), everything(whole))


def test_handles_survive_worker_processes(tmp_path):
    path = saved(tmp_path, rows(24), test=rows(2))
    data, forked = module(path, flip=True), module(path, flip=True, num_workers=2)
    assert same(everything(data), everything(forked))
    train = data._sets[0]
    train.__getitems__([0])  # now the file is open
    held = pickle.dumps(train)  # as for a worker that is spawned
    assert len(held) < 20_000, "the file is opened again"
    keys = [(5, 3), (1, 4)]
    assert same([pickle.loads(held).__getitems__(keys)], [train.__getitems__(keys)])


def test_two_processes_with_workers_train_as_one(tmp_path, trained_by):
    path = saved(tmp_path, rows(16), test=rows(2))

    def train(world):
        data = HuggingFaceDataModule(path, size=8, batch_size=4 // world, num_workers=1, flip=True)
        torch.manual_seed(3)
        model = DCGAN(size=8, width=4, latent_dim=4, batch_norm=False)
        freeze_batch_norm(model.generator)  # its statistics are those of each process
        return trained_by(world, model, data, 3)["state_dict"]

    assert_near(train(1), train(2))


def test_a_run_of_the_command_line_resumes_bit_for_bit(gans, tmp_path):
    saved(tmp_path, rows(16), test=rows(2))
    line = (
        "fit dcgan-folder --data HuggingFaceDataModule --data.path saved --data.size 8 --data.batch_size 4 "
        "--data.num_workers 0 --model.width 4 --trainer.accelerator cpu --trainer.limit_val_batches 0"
    )
    code, out, err = gans(f"{line} --trainer.max_steps 6 --trainer.default_root_dir whole")
    assert code == 0, err
    assert "16 images to train on, 2 for validation and tests" in out
    assert "2: 0 cat, 1 dog" in out
    assert gans(f"{line} --trainer.max_steps 3 --trainer.default_root_dir parts")[0] == 0
    assert gans(f"{line} --trainer.max_steps 6 --trainer.default_root_dir parts --ckpt_path last")[0] == 0
    whole, parts = (
        torch.load(next(tmp_path.glob(f"{name}/*/version_*/checkpoints/last.ckpt")), weights_only=True)["state_dict"]
        for name in ("whole", "parts")
    )
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


# -- columns --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "classes", "labels"),
    [
        ([7, 0, 2], [str(i) for i in range(8)], [7, 0, 2]),
        (["pony", "ant", "pony"], ["ant", "pony"], [1, 0, 1]),
        ([True, False, True], ["False", "True"], [1, 0, 1]),
    ],
)
def test_labels_of_every_kind(tmp_path, values, classes, labels):
    data = rows(3).remove_columns("label").add_column("label", values)
    read = module(saved(tmp_path, data), val_size=0)
    assert (read.classes, read.num_classes) == (classes, len(classes))
    assert read.contents.labels.tolist() == labels


def test_without_labels_there_are_no_classes(tmp_path):
    plain = module(saved(tmp_path, rows(3).remove_columns("label")), val_size=0)
    assert (plain.classes, plain.num_classes) == ([], 1)
    assert plain.describe()["classes"] == f"none: {tmp_path}/saved has no column of class labels"
    asked = module(saved(tmp_path / "b", rows(3)), val_size=0, label=None)
    assert asked.describe()["classes"] == "none: label is null"


@pytest.mark.parametrize("stored", ["bytes", "binary", "path"])
def test_images_that_datasets_does_not_know_as_images(tmp_path, stored):
    values = [encoded(i) for i in range(3)]
    if stored == "path":
        for i, value in enumerate(values):
            (tmp_path / f"{i}.png").write_bytes(value)
        values = [str(tmp_path / f"{i}.png") for i in range(3)]
    if stored == "bytes":
        values = [{"bytes": value, "path": "x.png"} for value in values]
    data = datasets.Dataset.from_dict({"img": values})
    asked = {"image": "img"} if stored == "path" else {}
    found = module(saved(tmp_path, data), val_size=0, fit="window", val_fit="whole", **asked)
    expected = module(saved(tmp_path / "b", rows(3)), val_size=0, fit="window", val_fit="whole")
    for i in range(3):
        assert torch.equal(found._readers[0].read(i), expected._readers[0].read(i))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": "img"}, r"^image is img; expected a column of .*saved: image, label$"),
        ({"label": "class"}, r"^label is class; expected a column of .*saved: image, label$"),
        ({"label": "image"}, r"^label is image, a column of .* of .*saved; expected class labels, whole numbers or"),
        (
            {"split": "full"},
            r"^split is full; expected one of train, test, or a part such as train\[:90%\], of .*saved",
        ),
        ({"val_split": "train[x:]"}, r"^val_split is train\[x:\]; expected one of train, test, or a part"),
        ({"split": "train[:0]"}, r"^the split train\[:0\] of .*saved has no rows$"),
    ],
)
def test_a_wrong_column_or_split_is_named(tmp_path, options, message):
    path = saved(tmp_path, rows(4), test=rows(2))
    with pytest.raises(ValueError, match=message):
        module(path, **options)


def test_two_columns_of_images_or_of_classes_have_to_be_chosen(tmp_path):
    data = rows(4)
    two = data.add_column("more", data["label"]).cast_column("more", datasets.ClassLabel(names=CLASSES))
    assert module(saved(tmp_path / "a", two)).columns["label"] == "label"
    path = saved(tmp_path / "b", two.rename_column("label", "fine"))
    with pytest.raises(ValueError, match=r"has the columns of class labels fine and more; expected one of them, or nu"):
        module(path)
    assert module(path, label="fine").classes == CLASSES
    bare = saved(tmp_path / "c", data.remove_columns("image"))
    with pytest.raises(
        ValueError, match=r"^image is auto, and .* has no column of images; expected the name of one of "
    ):
        module(bare)


# -- splits ---------------------------------------------------------------------------------------------------------


def test_parts_of_splits_are_the_sets(tmp_path):
    path = saved(tmp_path, rows(10), validation=rows(3, 20), test=rows(2, 30))
    assert module(path).describe()["data"] == "10 images to train on, 3 for validation, 2 for tests"
    data = module(path, split="train[:60%]+test", val_split="train[60%:]", test_split="validation")
    assert data.describe()["data"] == "8 images to train on, 4 for validation, 3 for tests"
    whole = module(path)
    for row, source in ((0, 0), (5, 5)):
        assert torch.equal(data._sets[0].__getitems__([row])[0], whole._sets[0].__getitems__([source])[0])
    assert torch.equal(data._sets[0].__getitems__([7])[0], whole._sets[2].__getitems__([1])[0])
    assert torch.equal(data._sets[1].__getitems__([1])[0], whole._sets[0].__getitems__([7])[0])


def test_a_test_split_without_labels_is_left_out(tmp_path):
    hidden = rows(4).remove_columns("label").add_column("label", [-1] * 4)
    hidden = hidden.cast_column("label", datasets.ClassLabel(names=CLASSES))
    with pytest.warns(UserWarning, match="4 images of test have no label and are left out"):
        data = module(saved(tmp_path, rows(40), test=hidden))
    assert data.describe()["data"] == "38 images to train on, 2 for validation and tests"
    assert data.describe()["left out"] == "4 images of test without a label"
    assert min(int(labels.min()) for _, labels in everything(data)) == 0
    with pytest.raises(ValueError, match=r"^label is label, and 4 of the 4 rows of train have none; expected null"):
        module(saved(tmp_path / "b", hidden))


# -- options of stored images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cache", [True, "device"])
def test_a_cache_and_windows_give_the_same_batches(tmp_path, cache):
    path = saved(tmp_path, rows(12), test=rows(2))
    plain, cached = everything(module(path)), module(path, cache=cache)
    assert same(plain, everything(cached))
    assert same(everything(module(path)), plain)
    if cache is True:
        windows = {"fit": "window", "windows": 2, "size": 4}
        first, second = module(path, **windows), module(path, cache=True, **windows)
        assert same(everything(first), everything(second))
        assert same(everything(first), everything(second))
        assert second._readers[0].missing(torch.arange(12)) == 12, "bytes are cached, and no pixels"


def test_broken_rows_are_skipped_and_named(tmp_path):
    data = rows(8)
    held = [{"bytes": encoded(i), "path": None} for i in range(8)]
    held[3], held[5] = None, {"bytes": b"no image", "path": None}
    data = datasets.Dataset.from_dict({"image": held, "label": data["label"]}, features=data.features)
    path = saved(tmp_path, data, test=rows(2))
    with pytest.warns(UserWarning, match=r"skipping unreadable image row 3 of train of .*saved \(no image\)"):
        read = module(path)
    everything(read)
    assert read.describe()["left out"] == "2 unreadable so far"
    with pytest.raises(BrokenDataError, match=r"^Cannot read image row 3 of train of .* \(no image\); on_error=skip"):
        module(path, on_error="raise")


# -- what is missing ------------------------------------------------------------------------------------------------


def test_a_name_that_is_not_there_is_one_sentence(refused, tmp_path):
    line = "fit dcgan-folder --data HuggingFaceDataModule --trainer.accelerator cpu --data.path"
    told = refused(f"{line} nobody/nothing")
    assert told.startswith("data.path is nobody/nothing, which is no file or folder here, and the Hub does not give i")
    (tmp_path / "notes.txt").write_text("x")
    assert refused(f"{line} notes.txt").startswith(
        "data.path is notes.txt; expected a folder, a .parquet or .arrow file, or"
    )
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    assert refused(f"{line} cut.parquet").startswith("data.path is cut.parquet, which datasets cannot read (")


def test_without_the_package_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=re.escape('package datasets: pip install "lightning-gans[datasets]"')):
        HuggingFaceDataModule("photos")
