"""Windows of images at native resolution: their pixels, their order, whole images, and what is refused."""

import json
import os
import re
import warnings
import weakref
import zipfile
from math import inf

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image

import datamodules.reader
from datamodules import (
    CaptionedDataModule,
    DegradedFolderDataModule,
    ImageFolderDataModule,
    PairedFolderDataModule,
    UnpairedFoldersDataModule,
)
from datamodules.decode import Target, read_image, read_whole
from datamodules.palette import Palette
from datamodules.windows import Windows

torch.set_num_threads(1)


def picture(height, width, number=0):
    """An image `(3, H, W)` whose channels are the row and the column of a pixel, and a number."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns, torch.full_like(rows, number)]).to(torch.uint8)


def fill(root, sizes):
    """Write images of these (height, width), numbered in the blue channel."""
    root.mkdir(parents=True, exist_ok=True)
    for number, (height, width) in enumerate(sizes):
        Image.fromarray(picture(height, width, number).permute(1, 2, 0).numpy()).save(root / f"{number:03}.png")
    return root


def module(root, kind=ImageFolderDataModule, **options):
    given = {"size": 16, "batch_size": 8, "num_workers": 0, "fit": "window", "val_size": 2} | options
    data = kind(root, **given)
    data.setup()
    return data


def batches(data, count):
    return [batch for _, batch in zip(range(count), data.train_dataloader(), strict=False)]


def numbers(images):
    return images[:, 2, 0, 0].tolist()


# -- one window ----------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("scale", [0.5, 2])
def test_the_zoom_is_the_scale(scale):
    image = (picture(96, 96).float() * 2).to(torch.uint8)
    for number in range(20):
        window = Windows((scale, scale))(image, (0, number), Target(3, (16, 16))).float()
        inside = window[:, 4:12, 4:12]  # at the edges the kernel has fewer pixels
        assert (inside[0, 1:] - inside[0, :-1]).mean().item() == pytest.approx(2 / scale, abs=0.1)
        assert (inside[1, :, 1:] - inside[1, :, :-1]).mean().item() == pytest.approx(2 / scale, abs=0.1)


def test_scales_are_drawn_from_the_whole_range():
    image = picture(96, 96)
    sizes = [Windows((0.5, 2.0))(image, (0, number), Target(3, (16, 16)))[1, 8] for number in range(300)]
    steps = torch.stack([(row[12].float() - row[4].float()) / 8 for row in sizes])
    assert steps.min() < 0.55
    assert steps.max() > 1.8
    assert 1.1 < (1 / steps).mean() < 1.4  # scales are uniform: their mean is 1.25


def test_turns_are_quarter_turns_in_training_alone():
    image = picture(16, 16)
    turned = [image.rot90(quarters, (1, 2)) for quarters in range(4)]
    drawn = [Windows(turn=True)(image, (0, number), Target(3, (16, 16))) for number in range(80)]
    counts = [sum(torch.equal(one, window) for window in drawn) for one in turned]
    assert sum(counts) == 80
    assert min(counts) > 8
    assert all(torch.equal(Windows(turn=True)(image, row, Target(3, (16, 16))), image) for row in range(8))


def test_smaller_images_are_enlarged_and_a_warning_counts_them(tmp_path):
    root = fill(tmp_path, [(40, 40)] * 5 + [(8, 40)])
    with pytest.warns(UserWarning, match=r"^1 of 6 images in .* that were checked are smaller than windows of 16x16"):
        data = module(root, val_size=1)
    for images, _ in batches(data, 2):
        assert images.shape == (8, 3, 16, 16)
    image = picture(8, 40)
    window = Windows()(image, (0, 1), Target(3, (16, 16))).float()
    assert (window[0, -1].mean() - window[0, 0].mean()).item() == pytest.approx(7, abs=1)  # all of its rows
    assert (window[1, :, -1].mean() - window[1, :, 0].mean()).item() == pytest.approx(7, abs=1)  # a fifth of its width


def test_a_zoom_beyond_a_pixel_shows_one(tmp_path):
    window = Windows((100, 100))(picture(24, 24), (0, 1), Target(3, (16, 16)))
    assert window.shape == (3, 16, 16)
    assert len(window.flatten(1).unique(dim=1)[0]) == 1


def test_the_windows_of_a_label_map_have_the_colours_of_classes_alone():
    colours = ((0, 0, 222), (255, 80, 0))
    label = torch.tensor(colours, dtype=torch.uint8).T[:, torch.arange(64) // 32][:, None].expand(3, 48, 64)
    for number in range(20):
        window = Windows((0.5, 2.0))(label, (0, number), Target(3, (16, 16), palette=Palette(colours)))
        assert set(map(tuple, window.permute(1, 2, 0).reshape(-1, 3).tolist())) <= set(colours)


def test_large_photographs_are_decoded_in_full_and_draws_differ(tmp_path):
    random = torch.randint(0, 256, (1, 3, 96, 96), generator=torch.Generator().manual_seed(0)).float()
    photo = torch.nn.functional.interpolate(random, (384, 384), mode="bicubic").clamp(0, 255)[0].to(torch.uint8)
    Image.fromarray(photo.permute(1, 2, 0).numpy()).save(tmp_path / "0.jpg", quality=95)
    data = module(tmp_path, DegradedFolderDataModule, degrade="noise 5", size=32, batch_size=50, val_size=0)
    targets = torch.cat([target for _, target in batches(data, 4)])
    assert len(targets.flatten(1).unique(dim=0)) > 195  # resized images would have one target
    full = read_whole(tmp_path / "0.jpg", 3)
    places = full[:, :353, :353]
    for target in targets[:3]:
        found = (places == target[:, :1, :1]).all(0).nonzero().tolist()
        assert any(torch.equal(full[:, top : top + 32, left : left + 32], target) for top, left in found)


# -- the order ------------------------------------------------------------------------------------------------------


def test_the_rows_of_a_file_stay_together_and_the_file_is_decoded_once(tmp_path, monkeypatch):
    data, read = module(fill(tmp_path, [(24, 24)] * 8), windows=4), []
    original = datamodules.reader.converted
    monkeypatch.setattr(
        datamodules.reader, "converted", lambda file, target: read.append(file.filename) or original(file, target)
    )
    assert data.describe()["data"].startswith("24 windows of 6 images to train on, 8 for validation")
    seen = [images for images, _ in batches(data, 3)]
    for images in seen:
        found = numbers(images)
        assert found == [found[0]] * 4 + [found[4]] * 4
        assert len({tuple(window[:2, 0, 0].tolist()) for window in images[:4]}) > 1
    assert len(set(numbers(torch.cat(seen)))) == 6  # an image does not occur twice in a pass
    assert len(read) == 6


@pytest.mark.parametrize("kind", [ImageFolderDataModule, PairedFolderDataModule, UnpairedFoldersDataModule])
def test_one_decoded_image_of_each_side_is_in_memory(tmp_path, monkeypatch, kind):
    for side in "AB":
        fill(tmp_path / side, [(24, 24)] * 8)
    data, seen, alive = module(tmp_path, kind, windows=2, batch_size=12), [], []
    original = datamodules.reader.converted

    def read(file, target):
        alive.append(sum(image() is not None for image in seen))
        image = original(file, target)
        seen.append(weakref.ref(image))
        return image

    monkeypatch.setattr(datamodules.reader, "converted", read)
    batches(data, 1)
    assert len(alive) >= 6
    assert max(alive) == (kind is not ImageFolderDataModule)  # of the other side


def unpaired(root, **options):
    return module(fill(root / "A", [(40, 40)] * 10), UnpairedFoldersDataModule, target_root=root / "B", **options)


@pytest.mark.parametrize("kind", [ImageFolderDataModule, DegradedFolderDataModule, PairedFolderDataModule, unpaired])
def test_any_number_of_processes_sees_the_same_windows(tmp_path, monkeypatch, kind):
    options = {"windows": 4, "scale_range": (0.5, 1.5), "turn": True, "flip": True}
    fill(tmp_path / "B", [(36, 40)] * 7)
    root = tmp_path if kind is unpaired else fill(tmp_path / "x", [(40, 40)] * 10)

    def of(rank, world, batch_size):
        data = (
            kind(root, batch_size=batch_size, **options)
            if kind is unpaired
            else module(root, kind, batch_size=batch_size, **options)
        )
        monkeypatch.setattr(data, "_world", lambda: (world, rank))
        return batches(data, 3)

    one, shares = of(0, 1, 12), [of(rank, 2, 6) for rank in (0, 1)]  # a share splits the windows of an image
    for number, batch in enumerate(one):
        for part, whole in enumerate(batch):
            assert torch.equal(torch.cat([share[number][part] for share in shares]), whole)


class Recorder(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.layer, self.seen = torch.nn.Linear(1, 1), []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch)
        self.manual_backward(self.layer(batch[0].new_ones(1, 1)).sum())
        self.optimizers().step()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_a_resumed_run_continues_with_the_next_windows(tmp_path):
    root = fill(tmp_path / "x", [(40, 40)] * 10)

    def fit(steps, **options):
        data = module(root, DegradedFolderDataModule, degrade="noise 20", windows=4, batch_size=6, turn=True)
        keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=3, save_top_k=-1)
        trainer = L.Trainer(
            accelerator="cpu",
            logger=False,
            callbacks=[keep],
            max_steps=steps,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
        )
        model = Recorder()
        trainer.fit(model, datamodule=data, **options)
        return model.seen

    whole, resumed = fit(6), fit(6, ckpt_path=tmp_path / "step=3.ckpt")
    assert len(resumed) == 3
    assert all(
        torch.equal(one, other)
        for a, b in zip(whole[3:], resumed, strict=True)
        for one, other in zip(a, b, strict=True)
    )


# -- pairs and captions ---------------------------------------------------------------------------------------------


def test_both_images_of_a_pair_show_the_same_window(tmp_path):
    fill(tmp_path / "A", [(40, 50), (50, 40)] * 4)
    fill(tmp_path / "B", [(40, 50), (50, 40)] * 4)
    options = {"windows": 4, "scale_range": (0.5, 1.5), "turn": True, "flip": True, "size": 24}
    data = module(tmp_path, PairedFolderDataModule, **options)
    for source, target in [*batches(data, 4), *data.val_dataloader()]:
        assert torch.equal(source, target)
    assert len(source) == 8  # the fixed windows of two pairs
    assert len({tuple(window[:2].flatten().tolist()) for window in source}) == 8


def test_pairs_in_one_file_and_grey_sources(tmp_path):
    for number in range(6):
        both = torch.cat([picture(40, 40, number)] * 2, 2)
        Image.fromarray(both.permute(1, 2, 0).numpy()).save(tmp_path / f"{number}.png")
    data = module(tmp_path, PairedFolderDataModule, source_channels=1, turn=True)
    for source, target in batches(data, 3):
        luma = (target * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
        assert (source.float() - luma).abs().max() <= 1


def test_the_windows_of_unpaired_images_are_independent_and_have_one_partner(tmp_path, monkeypatch):
    fill(tmp_path / "A", [(40, 40)] * 8)
    fill(tmp_path / "B", [(40, 40)] * 6)
    data = module(tmp_path, UnpairedFoldersDataModule, windows=4)
    assert data.describe()["data"].startswith("24 windows of 6 images of the larger side to train on")
    partners = set()
    for source, target in batches(data, 12):
        assert all(len(set(numbers(part[start : start + 4]))) == 1 for part in (source, target) for start in (0, 4))
        assert not torch.equal(source[:, :2], target[:, :2])
        partners |= set(zip(numbers(source), numbers(target), strict=True))
    assert len(partners) > 8
    source, _ = next(iter(data.val_dataloader()))
    assert source.shape == (8, 3, 16, 16)


def test_the_windows_of_an_image_have_its_captions(tmp_path):
    fill(tmp_path, [(40, 40)] * 8)
    (tmp_path / "captions.json").write_text(json.dumps({f"{n:03}.png": f"number n{n}" for n in range(8)}))
    data = module(tmp_path, CaptionedDataModule, windows=4)
    for images, tokens, _ in batches(data, 3):
        assert [data.tokenizer.decode(row) for row in tokens] == [f"number n{number}" for number in numbers(images)]
    assert len(next(iter(data.val_dataloader()))[0]) == 8
    with pytest.raises(ValueError, match=r"^val_fit is whole; expected window, crop, pad or stretch for images"):
        module(tmp_path, CaptionedDataModule, val_fit="whole")


def test_a_degraded_image_is_that_of_the_window(tmp_path):
    data = module(fill(tmp_path, [(40, 40)] * 4), DegradedFolderDataModule, degrade="downscale 4 box")
    source, target = next(iter(data.train_dataloader()))
    assert (source.shape, target.shape) == ((8, 3, 4, 4), (8, 3, 16, 16))
    means = target.float().unfold(2, 4, 4).unfold(3, 4, 4).mean((-1, -2))
    assert (source - means).abs().max() <= 1


# -- held-out images ------------------------------------------------------------------------------------------------

SIZES = [(40, 40)] * 4 + [(41, 62), (63, 40), (41, 62), (30, 31), (24, 33)]


def held(root, **options):
    fill(root / "train", SIZES[:4])
    fill(root / "val", SIZES[4:])
    return module(root, **{"val_size": None} | options)


@pytest.mark.filterwarnings("ignore:.*smaller than windows")
def test_whole_images_smaller_than_the_scale_are_refused(tmp_path):
    fill(tmp_path / "train", [(40, 40)] * 2)
    fill(tmp_path / "val", [(40, 3)])
    data = module(tmp_path, DegradedFolderDataModule, degrade="downscale 4", val_fit="whole", val_size=None)
    with pytest.raises(OSError, match=r"^An image has 3x40 pixels; expected at least 4 a side, the scale in degrade"):
        next(iter(data.val_dataloader()))


@pytest.mark.parametrize("kind", [PairedFolderDataModule, UnpairedFoldersDataModule])
def test_pairs_need_no_validation(tmp_path, kind):
    for side in "AB":
        fill(tmp_path / side, [(24, 24)] * 4)
    data = module(tmp_path, kind, val_size=0)
    assert len(batches(data, 1)[0][0]) == 8
    assert list(data.val_dataloader()) == []


@pytest.mark.filterwarnings("ignore:.*smaller than windows")
def test_whole_images_come_one_a_batch_in_multiples_of_the_scale(tmp_path):
    data = held(tmp_path, kind=DegradedFolderDataModule, degrade="downscale 4", val_fit="whole", windows=4)
    found = list(data.val_dataloader())
    assert [tuple(target.shape) for _, target in found] == [
        (1, 3, height - height % 4, width - width % 4) for height, width in SIZES[4:]
    ]
    for number, (source, target) in enumerate(found):
        assert tuple(source.shape[-2:]) == tuple(side // 4 for side in target.shape[-2:])
        assert torch.equal(target[0], picture(*SIZES[4 + number], number)[:, : target.shape[2], : target.shape[3]])


def test_whole_images_have_masks_and_pairs_of_their_own_size(tmp_path):
    data = held(tmp_path / "x", kind=DegradedFolderDataModule, degrade="mask centre", val_fit="whole")
    assert all(mask.shape[-2:] == image.shape[-2:] for image, mask in data.val_dataloader())
    data = held(tmp_path / "x", kind=DegradedFolderDataModule, degrade="downscale 2, enlarge", val_fit="whole")
    assert [tuple(part.shape[-2:]) for part in next(iter(data.val_dataloader()))] == [(41, 62)] * 2
    for side in "AB":
        fill(tmp_path / "y" / side / "train", SIZES[:4])
        fill(tmp_path / "y" / side / "val", SIZES[4:])
    data = held(tmp_path / "y", kind=PairedFolderDataModule, val_fit="whole")
    shapes = [(tuple(source.shape[-2:]), tuple(target.shape[-2:])) for source, target in data.val_dataloader()]
    assert shapes == [(size, size) for size in SIZES[4:]]
    data = held(tmp_path / "y", kind=UnpairedFoldersDataModule, val_fit="whole")
    assert [tuple(target.shape[-2:]) for _, target in data.val_dataloader()] == SIZES[4:]


@pytest.mark.parametrize(("world", "counts"), [(2, [5, 5]), (5, [1] * 5), (1, [5])])
def test_all_processes_have_as_many_whole_images(tmp_path, monkeypatch, world, counts):
    data, seen = held(tmp_path, val_fit="whole"), []
    for rank, count in enumerate(counts):
        monkeypatch.setattr(data, "_world", lambda rank=rank: (world, rank))
        found = [numbers(images)[0] for images, _ in data.val_dataloader()]
        assert len(found) == count
        seen += found
    assert {number: seen.count(number) for number in range(5)} == dict.fromkeys(range(5), 2 if world == 2 else 1)


def test_what_needs_batches_of_whole_images_gets_windows(tmp_path):
    data = held(tmp_path, kind=DegradedFolderDataModule, degrade="noise 5", val_fit="whole", windows=2)
    windows = data.val_dataloader().dataset.pictures()
    source, target = windows.__getitems__(range(10))
    assert source.shape == target.shape == (10, 3, 16, 16)
    assert numbers(target) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    data = held(tmp_path, kind=DegradedFolderDataModule, degrade="noise 5", windows=2)
    again = data.val_dataloader().dataset.__getitems__(range(10))
    assert all(map(torch.equal, again, (source, target)))


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_held_out_images_can_be_resized(tmp_path, fit):
    data = held(tmp_path, val_fit=fit, windows=4)
    images = torch.cat([images for images, _ in data.val_dataloader()])
    expected = [read_image(tmp_path / "val" / f"{number:03}.png", Target(3, (16, 16), fit)) for number in range(5)]
    assert torch.equal(images, torch.stack(expected))


# -- the cache ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("packed", "workers"), [(False, 1), (True, 0)])
def test_the_cache_keeps_the_bytes_of_files(tmp_path, packed, workers):
    root = fill(tmp_path / "x", [(40, 40), (30, 50)] * 4)
    size = sum(os.path.getsize(path) for path in root.iterdir())
    if packed:
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            for path in root.iterdir():
                archive.write(path, path.name)
        root = tmp_path / "x.zip"
    plain = batches(module(root, windows=4), 4)
    data = module(root, windows=4, cache=True, num_workers=workers, val_size=2)
    assert len(data._readers[0]._encoded.bytes) == size
    first = batches(data, 4)
    for path in [root] if packed else root.iterdir():
        path.unlink()
    data.num_workers = 0
    second = batches(data, 4)
    for images, once, again in zip(plain, first, second, strict=True):
        assert torch.equal(images[0], once[0])
        assert torch.equal(images[0], again[0])


def test_a_cache_of_pairs_and_one_that_does_not_fit(tmp_path, monkeypatch):
    for side in "AB":
        fill(tmp_path / side, [(40, 40)] * 6)
    data = module(tmp_path, PairedFolderDataModule, cache=True)
    plain = module(tmp_path, PairedFolderDataModule)
    assert all(all(map(torch.equal, *both)) for both in zip(batches(data, 3), batches(plain, 3), strict=True))
    monkeypatch.setattr(datamodules.reader, "free_memory", lambda shared: 100)
    with pytest.raises(
        ValueError, match=r"^cache=true needs .* GiB for the 6 image files in .*A, but .* GiB of memory are fr"
    ):
        module(tmp_path / "A", cache=True)


def test_a_file_that_changes_under_the_cache_is_read_again(tmp_path):
    data = module(fill(tmp_path, [(40, 40)] * 4), cache=True, val_size=0)
    files = data._readers[0]
    Image.fromarray(picture(50, 50, 9).permute(1, 2, 0).numpy()).save(tmp_path / "002.png")
    files._state[2] = datamodules.reader.UNKNOWN
    assert files.read(2).shape == files.read(2).shape == (3, 50, 50)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale_range": (2, 1)}, "scale_range is [2, 1]; expected two factors above 0, the smaller one first"),
        ({"scale_range": (0, 1)}, "scale_range is [0, 1]; expected two factors above 0, the smaller one first"),
        ({"scale_range": (1, inf)}, "scale_range is [1, inf]; expected two factors above 0, the smaller one first"),
        ({"size": (8, 16), "turn": True}, "turn is true and size 8x16; expected square windows for quarter turns"),
        ({"windows": 0}, "windows must be an integer of at least 1, got 0."),
        ({"fit": "crop", "windows": 2}, "windows is 2, but fit is crop; expected fit window with it"),
        ({"fit": "crop", "turn": True}, "turn is true, but fit is crop; expected fit window with it"),
        ({"fit": "pad", "scale_range": (1, 2)}, "scale_range is [1, 2], but fit is pad; expected fit window with it"),
        ({"fit": "crop", "val_fit": "whole"}, "val_fit is whole, but fit is crop; expected fit window with it"),
        ({"val_fit": "all"}, "val_fit must be one of None, window, whole, crop, pad, stretch, got 'all'."),
        ({"cache": "device"}, "cache is device; expected true or false, because windows are taken on the CPU."),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        module(fill(tmp_path, [(24, 24)] * 4), **options)


def test_jitter_is_refused_with_windows(tmp_path):
    for side in "AB":
        fill(tmp_path / side, [(24, 24)] * 4)
    for kind in (PairedFolderDataModule, UnpairedFoldersDataModule):
        with pytest.raises(ValueError, match=r"^jitter is 4; expected 0 for windows"):
            module(tmp_path, kind, jitter=4)


def test_no_warning_about_images_that_are_large_enough(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module(fill(tmp_path, [(24, 24)] * 4))
