"""Codes of images on disk: the batches of the folder of images, without a look at it, and refusals of damaged files.

The "autoencoder" of these tests is the identity: the code of an image is its pixels.
"""

import json
import shutil

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate

from datamodules import CodesDataModule, ImageFolderDataModule
from datamodules.order import StreamSampler
from gans.commands.splits import sets
from gans.metrics.rows import of_images

torch.set_num_threads(1)
SHAPE = (3, 8, 8)


def images(root, sets=("",), count=9):
    """Two classes of images of random pixels each."""
    generator = np.random.default_rng(0)
    for part in sets:
        for name in ("a", "b"):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i:02}.png")
    return root


def encoded(root, out, forms=2, shards=(7, 11), sets=None, **about):
    """Write the codes of a folder of images as `gans data encode` does."""
    data = ImageFolderDataModule(root, size=8, num_workers=0, val_size=0)
    data.setup()
    everything = data.everything()
    pixels, labels = everything.__getitems__(range(len(everything)))
    codes = torch.stack([pixels, pixels.flip(-1)][:forms], 1).to(torch.float16).numpy()
    out.mkdir()
    for i, part in enumerate(np.split(codes, np.cumsum(shards)[:-1])):
        np.save(out / f"codes-{i:05}.npy", part)
    np.save(out / "labels.npy", labels.numpy())
    names = [str(path.relative_to(everything.files.root)) for path in everything.files.paths()]
    (out / "files.json").write_text(json.dumps(names))
    told = {
        "version": 1,
        "count": len(codes),
        "forms": forms,
        "dtype": "float16",
        **dict.fromkeys(("image_shape", "code_shape", "stored_shape"), SHAPE),
        "shards": shards,
        "sets": sets or {},
        "classes": data.classes,
        "unclassed": "",
        "autoencoder": {"digest": "0123456789abcdef", "name": "Identity", "path": "a.ckpt", "description": {}},
        "pictures": {"root": str(everything.files.root), "fit": "crop", "crop": None, "half": None},
        "left_out": {".txt": 2},
    }
    (out / "codes.json").write_text(json.dumps(told | about))
    return out


@pytest.fixture
def root(tmp_path):
    """A folder of images; its codes are in the folder `codes` beside it."""
    encoded(images(tmp_path / "images"), tmp_path / "codes")
    return tmp_path / "images"


def codes(root, **options):
    return CodesDataModule(root.parent / "codes", **({"size": 8, "batch_size": 4, "val_size": 5} | options))


def folder(root, **options):
    return ImageFolderDataModule(root, **({"size": 8, "batch_size": 4, "val_size": 5, "num_workers": 0} | options))


def read(data, count=20):
    """The first training batches, and all validation and test batches."""
    data.setup("fit")
    train = [batch for _, batch in zip(range(count), data.train_dataloader(), strict=False)]
    return [*train, *data.val_dataloader(), *data.test_dataloader()]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one[0].float().equal(other[0].float())
        assert one[1].equal(other[1])


@pytest.mark.parametrize("cache", [None, False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_codes_of_the_batches_of_the_folder(root, cache, workers):
    found = read(codes(root, flip=True, cache=cache, num_workers=workers))
    assert_same(found, read(folder(root, flip=True)))
    assert found[0][0].dtype == torch.float16
    assert any(not batch[0].equal(same[0]) for batch, same in zip(found, read(codes(root)), strict=True)), "no flips"


def test_folders_of_sets_are_the_sets(tmp_path):
    root = images(tmp_path / "images", ("train", "val", "test"), 3)
    encoded(root, tmp_path / "codes", sets={"train": 6, "val": 6, "test": 6})
    found = codes(root, flip=True)
    assert_same(read(found), read(folder(root, flip=True)))
    assert [len(part) for part in found._sets] == [6, 6, 6]


def test_two_processes_have_the_keys_of_one(root):
    data = codes(root, flip=True)
    train = data.splits()[0]
    whole, *parts = (
        StreamSampler(train, 4 // world, num_replicas=world, rank=rank, seed=3, infinite=True)
        for world, rank in ((1, 0), (2, 0), (2, 1))
    )
    for step in range(8):
        one, two = (train.__getitems__(part.share(step))[0] for part in parts)
        assert torch.cat([one, two]).equal(train.__getitems__(whole.share(step))[0])


class Recorder(L.LightningModule):
    """A record of the batches."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(1, 1), []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch)
        return self.layer(batch[0].mean().view(1)).sum()

    def validation_step(self, batch, batch_idx):
        self.seen.append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("cache", [None, "device"])
def test_a_run_with_validation_needs_no_image(root, trainer, cache):
    expected = read(folder(root, flip=True), 100)[:102]
    shutil.rmtree(root)
    model, data = Recorder(), codes(root, flip=True, cache=cache)
    trainer(100).fit(model, data)
    assert len(model.seen) == 102
    assert model.seen[0][0].dtype == torch.float32
    assert_same(model.seen, expected)
    with pytest.raises(ValueError, match=r"the images of the codes are not in .*images, which is needed for scores"):
        data._sets[0].pictures()


def test_scores_see_the_images_of_the_same_rows(root, tmp_path):
    data = codes(root, flip=True)
    data.setup()
    reference, held_out, name = sets(data, "train")
    first = reference.__getitems__(range(5))[0]
    expected = folder(root)
    expected.setup()
    for found, wanted in ((reference, expected._sets[0]), (held_out, expected._sets[1])):
        assert found.__getitems__(range(5))[0].equal(wanted.__getitems__(range(5))[0])
    assert name == "test"
    assert of_images(expected._sets[0]) is expected._sets[0]
    shutil.move(root, tmp_path / "moved")
    moved = codes(root, pictures_root=tmp_path / "moved")
    moved.setup()
    assert of_images(moved._sets[0]).__getitems__(range(5))[0].equal(first)


@pytest.mark.parametrize("workers", [0, 2])
def test_images_can_be_the_third_element_of_a_batch(root, workers):
    for batch in read(codes(root, flip=True, pictures=True, num_workers=workers), 10):
        assert batch[2].dtype == torch.uint8
        assert batch[2].float().equal(batch[0].float())


def test_items_can_be_collated_one_by_one(root):
    data = codes(root)
    data.setup()
    assert default_collate([data._sets[0][0], data._sets[0][1]])[0].shape == (2, *SHAPE)


def test_a_summary_names_the_autoencoder(root):
    data = codes(root)
    told = data.describe()
    assert told["data"] == "13 codes to train on, 5 for validation and tests"
    assert told["codes"] == "3x8x8 float16 of images and of mirrored ones, of Identity a.ckpt (digest 0123456789ab)"
    assert told["classes"] == "2: 0 a, 1 b"
    assert told["left out"] == "2 .txt"
    assert (data.digest, data.code_shape, data.num_classes) == ("0123456789abcdef", SHAPE, 2)


def edit(name, **more):
    def change(folder):
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | more))

    return change


def cut(name):
    def change(folder):
        (folder / name).write_bytes((folder / name).read_bytes()[:-5])

    return change


DAMAGE = {
    "holds no codes.json; expected a folder that `gans data encode`": lambda folder: (folder / "codes.json").unlink(),
    "which does not exist; expected a folder that": shutil.rmtree,
    "codes are not complete: the same `gans data encode` continues": lambda folder: (folder / "codes.json").rename(
        folder / "encoding.json"
    ),
    "codes.json is of version 2; expected 1": edit("codes.json", version=2),
    "codes.json is damaged": cut("codes.json"),
    "codes.json is damaged .TypeError: its numbers do not agree": edit("codes.json", count=17),
    "codes-00001.npy is missing": lambda folder: (folder / "codes-00001.npy").unlink(),
    "codes-00001.npy is truncated": cut("codes-00001.npy"),
    "codes-00000.npy holds float16 of shape .7, 2, 3, 8, 8.; expected": edit("codes.json", stored_shape=[6, 8, 8]),
    "labels.npy is truncated": cut("labels.npy"),
    "labels.npy has labels outside of the 1 classes": edit("codes.json", classes=["a"]),
}


@pytest.mark.parametrize("sentence", DAMAGE)
def test_a_damaged_folder_is_refused_before_training(root, sentence):
    DAMAGE[sentence](root.parent / "codes")
    with pytest.raises(ValueError, match=sentence):
        codes(root)


def test_arguments_that_do_not_fit_the_codes_are_refused(root, tmp_path):
    with pytest.raises(
        ValueError, match=r"size is \[16, 16\].*of shape \(3, 8, 8\): give --data.size 8 --data.channels 3"
    ):
        codes(root, size=16)
    with pytest.raises(ValueError, match="cache is device; expected true or false"):
        codes(root, cache="device", pictures=True)
    with pytest.raises(FileNotFoundError, match="pictures_root must be a folder of images"):
        codes(root, pictures_root=tmp_path / "nothing")
    shutil.rmtree(tmp_path / "codes")
    encoded(root, tmp_path / "codes", forms=1)
    with pytest.raises(ValueError, match=r"flip is true, but .* has no codes of mirrored images"):
        codes(root, flip=True)
    (root / "a" / "00.png").unlink()
    data = codes(root)
    data.setup()
    with pytest.raises(
        ValueError, match=r"images has no a/00.png, of which there is a code: give --data.pictures_root"
    ):
        data.everything().pictures()
