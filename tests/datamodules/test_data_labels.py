"""Label maps: their colours are read from a file or found, and every pixel of a batch has one of them."""

import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import PairedFolderDataModule
from datamodules.decode import Target, read_image
from datamodules.palette import Palette, read_palette

COLOURS = [(0, 0, 222), (0, 48, 255), (1, 128, 254), (255, 80, 0)]


def maps(folder, ending="png", size=(40, 32), count=6, colours=COLOURS, **options):
    """Write pairs side by side, a photograph and a map of four stripes, whose order differs."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(count):
        stripes = np.asarray([*colours[number % 2 :], *colours[: number % 2]], np.uint8)
        label = stripes[np.arange(size[0]) * len(colours) // size[0]][None].repeat(size[1], 0)
        photo = random.integers(0, 256, label.shape, dtype=np.uint8)
        Image.fromarray(np.concatenate([photo, label], 1)).save(folder / f"{number}.{ending}", **options)
    return folder


def module(root, **options):
    given = {"size": 16, "direction": "b_to_a", "num_workers": 0, "val_size": 2, "jitter": 3} | options
    return PairedFolderDataModule(root, **given)


@pytest.mark.parametrize("labels", ["auto", 4, "4"])
def test_maps_have_the_colours_of_classes_alone(tmp_path, labels):
    data = module(maps(tmp_path), labels=labels)
    data.setup()
    assert data.palette == Palette(tuple(sorted(COLOURS)))
    assert data.describe()["labels"].startswith("4 colours, of 6 maps: 0 #0000de 25 %, 1 #0030ff 25 %")
    source, target = next(iter(data.train_dataloader()))
    assert set(map(tuple, source.permute(0, 2, 3, 1).reshape(-1, 3).tolist())) == set(COLOURS)
    assert len(target.unique()) > 100  # photographs are as before


def test_colours_are_found_through_compression(tmp_path):
    data = module(maps(tmp_path, "jpg", (96, 64), quality=85), labels="auto")
    assert len(np.unique(np.asarray(Image.open(tmp_path / "0.jpg"))[:, 96:].reshape(-1, 3), axis=0)) > 50
    assert len(data.palette.colours) == 4
    for colour, goal in zip(data.palette.colours, sorted(COLOURS), strict=True):
        assert max(abs(a - b) for a, b in zip(colour, goal, strict=True)) <= 4


def test_maps_are_resized_by_nearest_neighbours(tmp_path):
    pixels = np.repeat(np.asarray([[0, 0, 222], [255, 80, 0]], np.uint8)[None], 32, 0).repeat(16, 1)
    Image.fromarray(pixels).save(tmp_path / "map.png")
    palette = Palette(((0, 0, 222), (120, 40, 110), (255, 80, 0)))  # the second is between the others
    for fit in ("crop", "stretch"):
        small = read_image(tmp_path / "map.png", Target(3, (11, 11), fit, palette=palette))
        assert palette.classes(small).unique().tolist() == [0, 2]
    assert palette.classes(read_image(tmp_path / "map.png", Target(3, (11, 11)))).unique().tolist() == [0, 1, 2]


def test_a_palette_is_read_from_a_file(tmp_path):
    file = tmp_path / "palette.json"
    file.write_text(json.dumps({"wall": "#0030ff", "sky": [0, 0, 222], "door": 7}))
    assert read_palette(file) == Palette(((0, 48, 255), (0, 0, 222), (7, 7, 7)), ("wall", "sky", "door"))
    data = module(maps(tmp_path / "data"), labels=str(file))
    with pytest.warns(UserWarning, match="unlike all 3 colours of labels; they become the nearest"):
        data.setup()
    assert data.describe()["labels"].startswith("3 colours, of 6 maps: wall #0030ff")


def test_grey_maps_of_class_numbers_have_a_channel(tmp_path):
    data = module(maps(tmp_path, colours=[(number,) * 3 for number in range(4)]), labels="auto", source_channels=1)
    data.setup()
    assert data.palette.colours == tuple((number,) * 3 for number in range(4))
    source, target = next(iter(data.train_dataloader()))
    assert source.shape[1:] == (1, 16, 16)
    assert source.unique().tolist() == [0, 1, 2, 3]
    assert target.shape[1:] == (3, 16, 16)


def test_colours_are_those_of_the_training_maps(tmp_path):
    maps(tmp_path / "train")
    maps(tmp_path / "val", colours=COLOURS[:2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = module(tmp_path, labels="auto")
        data.setup()
    assert len(data.palette.colours) == 4
    assert torch.equal(data.val_dataloader().dataset[0][0].unique(), torch.tensor([0, 48, 222, 255], dtype=torch.uint8))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("all", "labels is 'all'; expected auto, a number of classes from 2 to 256, or a .json file"),
        (1, "labels is 1; expected auto, a number of classes"),
        ("none.json", "labels is none.json, which does not exist"),
        (5, "labels expects 5 colours, but the label maps in .* have 4"),
        (3, "labels expects 3 colours, but the label maps in .* have 4"),
    ],
)
def test_wrong_labels_are_refused(tmp_path, labels, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        module(maps(tmp_path), labels=labels).setup()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "which is no JSON file"),
        ('["#000000"]', "does not hold 2 to 256 colours"),
        ('["#000000", "red"]', '"red" is no colour'),
        ("[[0, 0, 1], [0, 0, 300]]", r"\[0, 0, 300\] is no colour"),
        ('[0, "#000000"]', '"#000000" is there twice'),
    ],
)
def test_wrong_palettes_are_refused(tmp_path, text, message):
    (tmp_path / "palette.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_palette(tmp_path / "palette.json")


def test_windows_of_maps_have_no_colours_between_classes(tmp_path):
    data = module(maps(tmp_path, size=(60, 50)), labels="auto", fit="window", scale_range=[0.5, 2.0], jitter=0)
    data.setup()
    source, target = next(iter(data.train_dataloader()))
    assert source.shape == target.shape == (1, 3, 16, 16)
    assert set(map(tuple, source.permute(0, 2, 3, 1).reshape(-1, 3).tolist())) <= set(COLOURS)
