"""Stacked MNIST: whose digits are in which image, and what it promises besides."""

import struct

import numpy as np
import pytest
import torch

from datamodules import MNISTDataModule, StackedMNISTDataModule
from datamodules.mnist import FILES


@pytest.fixture
def root(tmp_path):
    """Return a folder of random MNIST files in which an image's first pixel is its row in the file."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name, count in zip(FILES, (60, 60, 20, 20), strict=True):
        shape = (count, 28, 28) if "images" in name else (count,)
        values = random.integers(0, 256 if "images" in name else 10, shape, dtype=np.uint8)
        if "images" in name:
            values[:, 0, 0] = np.arange(count)
        (raw / name).write_bytes(struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + values.tobytes())
    return tmp_path


def made(root, **options):
    data = StackedMNISTDataModule(root, **{"size": 28, "batch_size": 8, "val_size": 15, "count": 200, **options})
    data.setup()
    return data


def whole(data, part=0):
    dataset = data.splits()[part]
    return dataset.__getitems__(range(len(dataset)))


def test_every_channel_is_a_digit_and_the_class_their_number(root):
    images, labels = whole(made(root))
    assert (images.shape, images.dtype, labels.dtype) == ((200, 3, 28, 28), torch.uint8, torch.int64)
    digits = MNISTDataModule(root, val_size=0).splits()[0]
    rows = images[:, :, 0, 0].long()
    assert torch.equal(images, digits.images[rows, 0])
    hundreds, tens, ones = digits.labels[rows].unbind(1)
    assert torch.equal(labels, 100 * hundreds + 10 * tens + ones)
    assert all(len(rows[:, channel].unique()) > 35 for channel in range(3)), "all 45 digits, by chance not quite"
    assert not torch.equal(rows[:, 0], rows[:, 1])


def test_no_digit_is_in_two_sets(root):
    data = made(root, count=1000)
    train, val = (set(whole(data, part)[0][:, :, 0, 0].flatten().tolist()) for part in (0, 1))
    assert len(train) == 45  # the share of one digit in 3,000 draws
    assert len(val) <= 15
    assert not train & val
    assert [len(part) for part in data.splits()] == [1000, 15, 20]


def test_an_image_depends_on_the_seed_and_its_number_alone(root):
    images, labels = whole(made(root))
    again = made(root, count=50, batch_size=4)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert torch.equal(whole(again)[0], images[:50])
    assert torch.equal(torch.get_rng_state(), before)
    dataset = again.splits()[0]
    some, numbers = dataset.__getitems__([(7, 123), 3])  # a key may carry that of its random transforms
    assert torch.equal(some, images[[7, 3]])
    assert torch.equal(numbers, labels[[7, 3]])
    assert torch.equal(dataset[(7, 5)][0], images[7])
    assert dataset[7][1] == labels[7]
    assert not torch.equal(whole(made(root, seed=1))[0], images)


def test_batches_are_what_models_expect(root):
    data = made(root, size=32, num_workers=0)
    assert data.image_shape == (3, 32, 32)
    assert data.num_classes == 1000
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (8, 3, 32, 32)
    assert images.is_contiguous()
    assert images[:, :, :2].max() == 0
    assert labels.max() < 1000
    assert len(data.train_dataloader()) == 25
    assert len(data.test_dataloader()) == 3
    assert made(root, val_size=0).val_dataloader() == []


@pytest.mark.parametrize(
    ("option", "message"), [({"count": 0}, "count must be"), ({"channels": 1}, "channels must be one of 3, got 1")]
)
def test_wrong_arguments_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        StackedMNISTDataModule(**option)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="MNIST is not in"):
        StackedMNISTDataModule(tmp_path).setup()
