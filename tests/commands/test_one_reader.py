"""Pictures of unusual kinds are the same to training, `gans predict`, `gans explore invert` and `gans evaluate`."""

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import ImageFolderDataModule
from gans.commands import evaluate, predict_pictures
from gans.commands.explore_pictures import read_pictures
from gans.pictures.images import to_float, to_uint8

ORIENTATION = 0x0112


def integers(path):
    """A 32-bit TIFF of 0..255, as lying on its side."""
    values = np.linspace(0, 255, 12 * 8).reshape(8, 12)
    Image.fromarray(values.astype(np.int32)).save(path.with_suffix(".tif"), tiffinfo={ORIENTATION: 6})
    return torch.from_numpy(np.rot90(values, -1).astype(np.uint8).copy())[None], path.with_suffix(".tif")


def floats(path):
    """A 32-bit TIFF of -1..1."""
    values = np.linspace(-1, 1, 12 * 8, dtype=np.float32).reshape(12, 8)
    Image.fromarray(values).save(path.with_suffix(".tif"))
    return to_uint8(torch.from_numpy(values))[None], path.with_suffix(".tif")


def avif(path):
    """A kind of file that not long ago nobody knew."""
    Image.new("L", (8, 12), 200).save(path.with_suffix(".avif"), quality=100)
    return torch.full((1, 12, 8), 200, dtype=torch.uint8), path.with_suffix(".avif")


@pytest.mark.parametrize("make", [integers, floats, avif])
def test_every_reader_sees_the_same(tmp_path, make):
    if make is avif and ".avif" not in Image.registered_extensions():
        pytest.skip("this Pillow has no AVIF")
    expected, path = make(tmp_path / "a")
    data = ImageFolderDataModule(tmp_path, (12, 8), 1, val_size=0, num_workers=0)
    data.setup()
    trained = data._sets[0][0][0]
    assert (trained.int() - expected.int()).abs().max() <= 1
    assert torch.equal(predict_pictures.read_whole(path, 1), trained)
    files, inverted, *_ = read_pictures(tmp_path, (1, 12, 8))
    assert files == [path]
    assert torch.equal(inverted[0], to_float(trained))
    [(evaluated, _)] = evaluate.pictures_of(tmp_path, data, resize=False).images(1, seed=0)
    assert torch.equal(evaluated[0], trained)
