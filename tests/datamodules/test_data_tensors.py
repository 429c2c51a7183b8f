"""The sets in memory: MNIST's files and folders, exact pixels, and what every data module promises of its batches."""

import urllib.error
import warnings

import lightning as L
import numpy as np
import pytest
import torch
import torchvision.datasets.utils
from lightning.pytorch.trainer.connectors import data_connector
from mnist_files import random_mnist
from PIL import Image

from datamodules import DigitsDataModule, MNISTDataModule
from datamodules.base import unit_range
from datamodules.mnist import FILES

torch.set_num_threads(1)


def written(root):
    """Write random MNIST files and return the pixels and labels of both sets."""
    return [torch.from_numpy(values) for pair in random_mnist(root, 50, 20) for values in pair]


def everything(loader):
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


@pytest.fixture
def offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torchvision.datasets.utils.urllib.request, "urlopen", refuse)


@pytest.fixture
def digits():
    data = DigitsDataModule(size=16, batch_size=32)
    data.setup()
    return data


def test_batches_are_uint8_until_they_are_on_the_device(digits):
    assert [len(labels) for _, labels in digits.val_dataloader()] == [32] * 6 + [5]
    images, labels = next(iter(digits.train_dataloader()))
    assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
    assert images.shape == (32, *digits.image_shape) == (32, 1, 16, 16)
    assert labels.shape == (32,)
    scaled, same = digits.on_after_batch_transfer((images, labels), 0)
    assert torch.equal(scaled, images.float() / 127.5 - 1)
    assert scaled.dtype == torch.float32
    assert same is labels


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_scaling_reaches_both_ends_of_the_range_in_any_dtype(dtype):
    values = torch.arange(256, dtype=torch.uint8)
    scaled = unit_range(values, dtype)
    assert scaled.dtype == dtype
    assert (scaled[0], scaled[-1]) == (-1, 1)
    wide = torch.promote_types(dtype, torch.float32)
    assert torch.equal(scaled, (values.to(wide) / 127.5 - 1).to(dtype)), "only the result is rounded to bfloat16"


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("64-true", torch.float64)])
def test_images_have_the_dtype_of_the_model(precision, dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(data_connector, "suggested_max_num_workers", lambda devices: 8)  # as on a larger machine

    class Module(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(256, 1)

        def training_step(self, batch, batch_idx):
            assert batch[0].dtype == dtype
            return self.layer(batch[0].flatten(1)).mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*workers.*")
        digits = DigitsDataModule(size=16)
        L.Trainer(max_steps=1, precision=precision, default_root_dir=tmp_path, **options).fit(Module(), digits)


def test_digits_are_split_by_the_seed_and_the_split_is_all_of_them(digits):
    train, _ = digits._sets[0].images, digits._sets[0].labels
    val, labels = everything(digits.val_dataloader())
    assert len(train) + len(val) == 1797
    assert set(labels.tolist()) == set(range(digits.num_classes))
    again, other = DigitsDataModule(size=16), DigitsDataModule(size=16, seed=1)
    again.setup()
    other.setup()
    assert torch.equal(again._sets[1].images, val)
    assert not torch.equal(other._sets[1].images, val)


def test_digits_keep_their_values_and_their_average():
    data = DigitsDataModule(size=8, val_size=0)
    data.setup()
    images = data._sets[0].images
    from sklearn.datasets import load_digits

    assert torch.equal(images[:, 0], torch.from_numpy(load_digits().images * 255 / 16).round().byte())
    assert data.val_dataloader() == []
    large = DigitsDataModule(size=(32, 24), channels=3, val_size=0)
    large.setup()
    assert large._sets[0].images.shape == (1797, 3, 32, 24)
    assert abs(large._sets[0].images.float().mean() - images.float().mean()) < 2


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_neither_reads_nor_moves_the_global_random_state(workers):
    runs = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        data = DigitsDataModule(size=8, num_workers=workers)
        data.setup()
        runs.append(torch.cat([*everything(data.train_dataloader()), *everything(data.val_dataloader())][::2]))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*runs)


def test_the_whole_batch_equals_its_images_one_by_one(digits):
    train = digits._sets[0]
    images, labels = train.__getitems__([(3, 9), 5])
    assert torch.equal(images[0], train[3][0])
    assert labels[1] == train[5][1]


def test_mnist_is_read_from_a_read_only_folder_without_a_download(tmp_path, offline):
    images, labels, test_images, test_labels = written(tmp_path)
    tmp_path.chmod(0o555)
    data = MNISTDataModule(tmp_path, val_size=10, batch_size=8)
    data.prepare_data()
    data.setup("fit")
    assert torch.equal(everything(data.test_dataloader())[0][:, 0], test_images)
    assert torch.equal(everything(data.test_dataloader())[1], test_labels.long())
    found = torch.cat([data._sets[0].images, data._sets[1].images])[:, 0]
    assert sorted(found.flatten(1).tolist()) == sorted(images.flatten(1).tolist())
    assert (len(data._sets[0]), len(data._sets[1])) == (40, 10)
    row = next(i for i, image in enumerate(images) if torch.equal(image, data._sets[1].images[4, 0]))
    assert data._sets[1].labels[4] == labels[row], "labels stay with their images"
    tmp_path.chmod(0o755)


def test_mnist_of_32_pixels_is_padded_exactly(tmp_path):
    _, _, test_images, _ = written(tmp_path)
    data = MNISTDataModule(tmp_path, size=32, channels=3, val_size=0, batch_size=8)
    data.setup()
    images, _ = everything(data.test_dataloader())
    assert images.shape == (20, 3, 32, 32)
    assert torch.equal(images[:, 2, 2:30, 2:30], test_images)
    assert images.sum() == 3 * test_images.sum(dtype=torch.int64)


@pytest.mark.parametrize("size", [14, 64, (20, 40)])
def test_mnist_in_other_sizes_is_resized_with_antialiasing(tmp_path, size):
    _, _, test_images, _ = written(tmp_path)
    data = MNISTDataModule(tmp_path, size=size, val_size=0, batch_size=8)
    data.setup()
    images, _ = everything(data.test_dataloader())
    assert images.shape[1:] == data.image_shape
    height, width = data.size
    reference = Image.fromarray(test_images[0].numpy()).resize((width, height), Image.Resampling.BICUBIC)
    difference = (images[0, 0].int() - torch.from_numpy(np.array(reference)).int()).abs()
    assert difference.float().mean() < 0.5
    assert difference.max() <= 12, "PIL clips between rows and columns"


def test_offline_mnist_is_one_sentence_and_leaves_nothing_behind(tmp_path, offline):
    root = tmp_path / "new" / "data"
    data = MNISTDataModule(root)
    for step in (data.prepare_data, data.setup):
        with pytest.raises(FileNotFoundError) as caught:
            step()
        message = str(caught.value)
        assert str(root / "MNIST" / "raw") in message
        assert all(name in message for name in FILES)
        assert "https://" in message
        assert "\n" not in message
    assert not root.parent.exists()
    (tmp_path / "MNIST").mkdir()
    with pytest.raises(FileNotFoundError, match="Name or service not known"):
        MNISTDataModule(tmp_path).prepare_data()
    assert list(tmp_path.rglob("*")) == [tmp_path / "MNIST"], "what was there before stays"


def test_damaged_mnist_files_are_named(tmp_path):
    written(tmp_path)
    path = tmp_path / "MNIST" / "raw" / FILES[0]
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"training files in {path.parent} are damaged"):
        MNISTDataModule(tmp_path, val_size=0).setup()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be .* got 0"),
        ({"size": 2.5}, "size must be .* got 2.5"),
        ({"size": (8, 8, 8)}, "size must be"),
        ({"size": True}, "size must be"),
        ({"channels": 2}, "channels must be 1 .* got 2"),
        ({"channels": 4}, "channels must be 1.* got 4"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must be an integer of at least 0, got -1"),
        ({"val_size": -1}, "val_size must be"),
        ({"seed": "a"}, "seed must be an integer, got 'a'"),
    ],
)
def test_wrong_arguments_are_refused_by_the_constructor(options, message):
    for kind in (DigitsDataModule, MNISTDataModule):
        with pytest.raises(ValueError, match=message):
            kind(**options)


def test_values_that_only_the_data_can_judge_are_refused_before_training():
    with pytest.raises(ValueError, match=r"val_size must be less than the number of images .1797., got 1797"):
        DigitsDataModule(val_size=1797).setup()
    data = DigitsDataModule(batch_size=1700)
    data.setup()
    with pytest.raises(ValueError, match=r"batch_size=1700 .* 1600.*infinite"):
        data.train_dataloader()


def test_the_command_line_reads_every_argument(tmp_path):
    jsonargparse = pytest.importorskip("jsonargparse")
    from datamodules import ImageFolderDataModule

    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(L.LightningDataModule, "data")
    text = ["--data=datamodules.ImageFolderDataModule", f"--data.root={tmp_path}", "--data.size=[8, 16]"]
    parsed = parser.parse_args([*text, "--data.crop=3", "--data.fit=pad", "--data.num_workers=0"])
    data = parser.instantiate_classes(parsed).data
    assert isinstance(data, ImageFolderDataModule)
    assert (data.size, data.crop, data.fit) == ((8, 16), (3, 3), "pad")
    assert jsonargparse.ArgumentParser().dump is not None
    assert "!!python" not in parser.dump(parsed)
