"""Windows of images at native resolution: their pixels, their order, and what is refused."""

import re

import pytest
import torch
from PIL import Image

from datamodules import DegradedFolderDataModule, ImageFolderDataModule
from datamodules.decode import Target
from datamodules.windows import Windows

torch.set_num_threads(1)


def picture(height, width, seed=0):
    """An image `(3, H, W)` whose first two channels are the row and the column of a pixel."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns, torch.full_like(rows, seed)]).to(torch.uint8)


def fill(root, sizes):
    root.mkdir(exist_ok=True)
    for number, (height, width) in enumerate(sizes):
        pixels = picture(height, width, number).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(root / f"{number:03}.png")
    return root


def module(root, kind=ImageFolderDataModule, **options):
    given = {"size": 16, "batch_size": 8, "num_workers": 0, "fit": "window", "val_size": 2} | options
    data = kind(root, **given)
    data.setup()
    return data


def test_a_window_is_a_part_of_the_image_and_keys_draw_all_places():
    image, places = picture(40, 60), set()
    for number in range(400):
        window = Windows()(image, (0, number), Target(3, (16, 20)))
        top, left = window[0, 0, 0].item(), window[1, 0, 0].item()
        assert torch.equal(window, image[:, top : top + 16, left : left + 20])
        places.add((top, left))
    assert len(places) > 300
    assert {top for top, _ in places} == set(range(25))
    assert {left for _, left in places} == set(range(41))


def test_a_key_decides_and_a_row_has_one_fixed_window():
    def window(key):
        return Windows((0.5, 1.5), turn=True)(picture(40, 40), key, Target(3, (16, 16)))

    assert torch.equal(window((3, 7)), window((5, 7)))
    assert not torch.equal(window((3, 7)), window((3, 8)))
    assert torch.equal(window(3), window(3))
    assert not torch.equal(window(3), window(4))


def test_the_rows_of_a_file_stay_together_and_the_file_is_decoded_once(tmp_path, monkeypatch):
    data = module(fill(tmp_path / "x", [(24, 24)] * 8), windows=4)
    train, read = data._sets[0], []
    monkeypatch.setattr(
        data._readers[0], "read", lambda index, old=data._readers[0].read: read.append(index) or old(index)
    )
    assert len(train) == 24
    batches = [batch[0] for _, batch in zip(range(3), data.train_dataloader(), strict=False)]
    for batch in batches:
        numbers = batch[:, 2, 0, 0].tolist()
        assert numbers == [numbers[0]] * 4 + [numbers[4]] * 4
        assert len({tuple(window[:2, 0, 0].tolist()) for window in batch[:4]}) > 1
    assert len(read) == 6


def test_a_degraded_image_is_that_of_the_window(tmp_path):
    data = module(fill(tmp_path / "x", [(40, 40)] * 4), DegradedFolderDataModule, degrade="downscale 4 box")
    source, target = next(iter(data.train_dataloader()))
    assert (source.shape, target.shape) == ((8, 3, 4, 4), (8, 3, 16, 16))
    means = target.float().unfold(2, 4, 4).unfold(3, 4, 4).mean((-1, -2))
    assert (source - means).abs().max() <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale_range": (2, 1)}, "scale_range is [2, 1]; expected two factors above 0, the smaller one first"),
        ({"size": (8, 16), "turn": True}, "turn is true and size 8x16; expected square windows for quarter turns"),
        ({"windows": 0}, "windows must be an integer of at least 1, got 0."),
        ({"fit": "crop", "windows": 2}, "windows is 2, but fit is crop; expected fit window with it"),
        ({"fit": "crop", "turn": True}, "turn is true, but fit is crop; expected fit window with it"),
        ({"val_fit": "all"}, "val_fit must be one of None, window, whole, crop, pad, stretch, got 'all'."),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        module(fill(tmp_path / "x", [(24, 24)] * 4), **options)
