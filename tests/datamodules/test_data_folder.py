"""Folders of images: layouts, splits, broken files, caching, flips, and errors that come before training."""

import multiprocessing
import os
import re
import warnings
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from broken_images import BROKEN, photo
from lightning.pytorch.trainer.connectors import data_connector
from PIL import Image

import datamodules.files
import datamodules.reader
import datamodules.stored
from datamodules import ImageFolderDataModule

torch.set_num_threads(1)


def fill(root, count=12, size=(8, 8), mode="RGB", suffix="png"):
    """Images whose value is their number."""
    root.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        colour = i if mode == "L" else (i,) * len(mode)
        Image.new(mode, size, colour).save(root / f"{i:03}.{suffix}")
    return root


def folder(root, **options):
    return ImageFolderDataModule(root, **({"size": 8, "batch_size": 4, "num_workers": 0} | options))


def numbers(loader):
    return [int(image[0, 0, 0]) for images, _ in loader for image in images]


def count_decodes(monkeypatch, log):
    """Write the name of every decoded file to a log that workers share."""
    original = datamodules.reader.converted

    def counted(file, target):
        with open(log, "a") as names:
            names.write(f"{Path(file.filename).name}\n")
        return original(file, target)

    monkeypatch.setattr(datamodules.reader, "converted", counted)
    log.touch()
    return lambda: log.read_text().split()


def test_class_folders_give_labels_in_sorted_order(tmp_path):
    for name in ("b", "a", "Z"):
        fill(tmp_path / name, 4)
    fill(tmp_path / "a" / "deeper", 2)
    fill(tmp_path / ".hidden", 2)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("x")
    (tmp_path / "a" / ".thumb.png").write_text("x")
    data = folder(tmp_path, val_size=0)
    assert data.num_classes == 3, "known before setup, for the command line to pass on"
    assert data.classes == ["Z", "a", "b"]
    data.setup()
    train = data._sets[0]
    assert [train[i][1].item() for i in range(len(train))] == [0] * 4 + [1] * 6 + [2] * 4
    images, labels = next(iter(data.train_dataloader()))
    assert (images.dtype, labels.dtype, images.shape) == (torch.uint8, torch.int64, (4, 3, 8, 8))


def test_a_flat_folder_has_label_zero_everywhere(tmp_path):
    fill(tmp_path, 4)
    fill(tmp_path / "nested", 3)
    data = folder(tmp_path, val_size=0)
    data.setup()
    assert data.num_classes == 1
    assert len(data._sets[0]) == 7
    assert data._sets[0].labels.tolist() == [0] * 7


SAVED = ("jpg", "jfif", "jpe", "png", "apng", "avif", "bmp", "gif", "jp2", "pcx", "pnm", "ppm", "qoi", "tga", "tiff")


def test_every_extension_that_pillow_reads_is_found_in_either_case(tmp_path):
    Image.init()
    for suffix in SAVED:
        if Image.registered_extensions().get(f".{suffix}") not in Image.SAVE:
            continue  # a Pillow without that codec, or one that reads it only
        fill(tmp_path / suffix, 1, suffix=suffix)
        (tmp_path / suffix / f"000.{suffix}").rename(tmp_path / suffix / f"IMAGE.{suffix.upper()}")
    for suffix in ("pdf", "eps", "mpg", "wmf", "h5", "txt", ""):
        (tmp_path / f"000.{suffix}".rstrip(".")).write_text("x")
    data = folder(tmp_path, on_error="raise", val_size=0)
    data.setup()
    train = data._sets[0]
    assert len(train) == len(list(tmp_path.iterdir())) - 7 >= 10
    assert all(int(train[i][0].max()) < 8 for i in range(len(train))), "each can be decoded"
    assert data.left_out == dict.fromkeys([".pdf", ".eps", ".mpg", ".wmf", ".h5", ".txt", "without extension"], 1)


def test_links_are_followed_but_not_in_circles(tmp_path):
    fill(tmp_path / "elsewhere", 3)
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").symlink_to(tmp_path / "elsewhere")
    (root / "loop").symlink_to(root)
    os.mkfifo(tmp_path / "pipe")
    (root / "pipe.png").symlink_to(tmp_path / "pipe")  # would be waited for
    assert sorted(datamodules.files.image_files(root)) == ["a/000.png", "a/001.png", "a/002.png"]


def test_the_split_depends_on_the_seed_alone(tmp_path):
    fill(tmp_path, 40)

    def parts(**options):
        data = folder(tmp_path, **options)
        data.setup()
        return [[int(part[i][0][0, 0, 0]) for i in range(len(part))] for part in data._sets[:2]]

    train, val = parts()
    assert sorted(train + val) == list(range(40))
    assert len(val) == 2
    assert parts(batch_size=7) == [train, val]
    assert parts(seed=1)[1] != val
    assert len(parts(val_size=7)[1]) == 7
    assert parts(val_fraction=0)[1] == []


@pytest.mark.parametrize(("count", "expected"), [(1, 0), (2, 1), (3, 1)])
def test_small_folders_have_a_validation_image_if_they_can(tmp_path, count, expected):
    fill(tmp_path, count)
    data = folder(tmp_path)
    data.setup()
    assert len(data._sets[1]) == expected
    assert len(data.val_dataloader()) == expected
    assert len(data.train_dataloader()) == 100


def test_without_infinite_a_small_folder_is_an_error(tmp_path):
    data = folder(fill(tmp_path, 9), batch_size=64, infinite=False)
    data.setup()
    with pytest.raises(ValueError, match=r"batch_size=64.* 8: .*infinite"):
        data.train_dataloader()


def test_broken_files_are_replaced_by_the_next_and_warned_of_once(tmp_path):
    fill(tmp_path, 12)
    for i, name in enumerate(BROKEN):
        BROKEN[name](tmp_path / f"{2 * i:03}b-{name}")  # sorted behind image 2 i
    data = folder(tmp_path, val_size=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data.setup()
        for _ in range(2):
            train = data._sets[0]
            found = [int(train[i][0][0, 0, 0]) for i in range(len(train))]
        data.teardown()
    expected = []
    for i in range(12):
        expected += [i] if i % 2 else [i, i + 1]
    assert found == expected
    first, summary = [str(warning.message) for warning in caught]
    assert re.match(rf"skipping unreadable image {tmp_path}/0\d\db-\S+ \(.*\); more are counted", first)
    assert summary.startswith(f"{len(BROKEN)} of the {12 + len(BROKEN)} image files in {tmp_path} could not be read: ")
    assert summary.endswith(f" and {len(BROKEN) - 5} more")


def test_the_last_broken_file_is_replaced_by_the_first_readable(tmp_path):
    fill(tmp_path, 3)
    (tmp_path / "zzz.png").write_text("x")
    data = folder(tmp_path, val_size=0)
    with pytest.warns(UserWarning, match=r"skipping unreadable image .*zzz.png \(not an image\)"):
        data.setup()
    assert data._sets[0][3][0][0, 0, 0] == 0


def test_workers_tell_each_other_which_files_are_broken(tmp_path, monkeypatch):
    fill(tmp_path / "images", 30)
    for i in range(10):
        (tmp_path / "images" / f"{3 * i:03}.png").write_text("x")
    log = tmp_path / "warnings"

    def note(message, *args, **kwargs):
        with open(log, "a") as file:
            file.write(f"{message}\n")

    monkeypatch.setattr(warnings, "showwarning", note)
    monkeypatch.setattr(warnings, "_showwarnmsg_impl", lambda msg: note(msg.message))
    warnings.simplefilter("always")
    data = folder(tmp_path / "images", num_workers=3, val_size=0)
    data.setup()
    seen = set(numbers(data.train_dataloader()))
    assert seen == {i for i in range(30) if i % 3}
    data.teardown()
    lines = [line for line in log.read_text().splitlines() if "image" in line]
    assert [line.split()[0] for line in lines] == ["skipping", "10", "10"], "the first, the tenth, the summary"
    assert "10 of the 30 image files" in lines[2]
    assert "could not be read: 000.png, 003.png, 006.png, 009.png, 012.png and 5 more" in lines[2]


def test_a_set_of_broken_files_alone_uses_other_images(tmp_path):
    fill(tmp_path, 2)
    data = folder(tmp_path, val_size=1)
    data.setup()
    (tmp_path / f"00{int(data._sets[1].rows)}.png").write_text("x")
    with pytest.warns(UserWarning, match="skipping"):
        assert numbers(data.val_dataloader()) == [int(data._sets[0].rows)]


def test_labels_and_replacements_stay_within_the_split(tmp_path):
    for label in range(3):
        for i in range(6):
            (tmp_path / str(label)).mkdir(exist_ok=True)
            Image.new("RGB", (8, 8), (label, i, 0)).save(tmp_path / str(label) / f"{i}.png")
    data = folder(tmp_path, val_size=9)
    data.setup()
    for loader in (data.train_dataloader(), data.val_dataloader()):
        for images, labels in loader:
            assert torch.equal(images[:, 0, 0, 0].long(), labels)
    part = next(part for part in data._sets[:2] if 0 not in part.rows)
    rows = part.rows.tolist()
    part.files.path(rows[-1]).write_text("x")
    with pytest.warns(UserWarning, match="skipping"):
        image, label = part[8]
    first = [int(value) for value in image[:2, 0, 0]]
    assert first == [rows[0] // 6, rows[0] % 6]
    assert label == rows[0] // 6


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_meets_a_broken_file_ends_with_one_sentence(gans, tmp_path, workers):
    fill(tmp_path / "photos", 40)
    BROKEN["truncated.png"](tmp_path / "photos" / "005.png")
    code, _, err = gans(
        "fit dcgan-folder --data.root photos --data.size 8 --data.batch_size 4 --data.on_error raise --data.val_size 0 "
        f"--data.num_workers {workers} --model.width 4 --trainer.max_steps 20 --trainer.accelerator cpu"
    )
    assert code == 1
    *_, last = err.strip().splitlines()
    assert last.startswith("gans: error: Cannot read image photos/005.png (")
    assert last.endswith("); on_error=skip would leave it out")
    assert "Traceback" not in err


# A worker that has raised is waited for when its loader is deleted: 10 s.
@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_on_error_raise_names_the_file(tmp_path, workers):
    fill(tmp_path, 12)
    BROKEN["truncated.png"](tmp_path / "005.png")
    data = folder(tmp_path, on_error="raise", num_workers=workers)
    with pytest.raises(OSError, match=r"Cannot read image .*005.png \(.*on_error=skip"):
        data.setup()
    fill(tmp_path, 12)
    data.setup()
    BROKEN["truncated.png"](tmp_path / "005.png")
    with pytest.raises(OSError, match=r"Cannot read image .*005.png \(.*on_error=skip"):
        list(data.train_dataloader())


@pytest.mark.filterwarnings("ignore:skipping")
@pytest.mark.parametrize("name", ["text.jpg", "truncated.jpg"])
def test_more_than_half_broken_is_an_error_that_names_folder_and_file(tmp_path, name):
    fill(tmp_path, 40)
    for i in range(41):
        BROKEN[name](tmp_path / f"{i}{name}")
    with pytest.raises(OSError, match=f"At least 41 of the 81 image files in {tmp_path} cannot be read.*{name}"):
        folder(tmp_path).setup()
    (tmp_path / f"0{name}").unlink()
    folder(tmp_path).setup()


@pytest.mark.parametrize(("workers", "flip"), [(0, False), (0, True), (2, False)])
def test_the_cache_decodes_every_image_once(tmp_path, monkeypatch, workers, flip):
    decoded = count_decodes(monkeypatch, tmp_path / "log")
    fill(tmp_path / "images", 20)
    data = folder(tmp_path / "images", cache=True, num_workers=workers, infinite=False, val_size=4, flip=flip)
    data.setup()
    loader = data.train_dataloader()
    first = numbers(loader)
    assert len(first) == 16
    before = len(decoded())
    loader.sampler.set_epoch(1)
    second = numbers(loader)
    assert sorted(first) == sorted(second)
    assert first != second
    assert len(decoded()) == before
    numbers(data.val_dataloader())
    assert sorted(decoded()) == sorted(set(decoded()))
    assert len(decoded()) == 20
    plain = folder(tmp_path / "images", infinite=False, val_size=4)
    plain.setup()
    assert numbers(plain.train_dataloader()) == first, "a cache changes nothing else"


def test_without_a_cache_images_are_decoded_again(tmp_path, monkeypatch):
    decoded = count_decodes(monkeypatch, tmp_path / "log")
    data = folder(fill(tmp_path / "images", 8), infinite=False, val_size=0)
    data.setup()
    for _ in range(2):
        numbers(data.train_dataloader())
    assert len(decoded()) == 8 + 16, "a few are tried first"


def test_a_cache_larger_than_memory_is_refused_with_its_size(tmp_path, monkeypatch):
    fill(tmp_path, 3)
    with pytest.raises(ValueError, match=r"cache=true needs 8.38e\+03 GiB for 3 images"):
        folder(tmp_path, size=1_000_000, cache=True, channels=3).setup()
    monkeypatch.setattr(datamodules.reader, "free_memory", lambda shared: 3 * 3 * 8 * 8)
    folder(tmp_path, cache=True).setup()
    with pytest.raises(ValueError, match="cache=true needs"):
        folder(tmp_path, cache=True, size=9).setup()


def test_free_memory_is_that_of_the_machine():
    assert 2**20 < datamodules.reader.free_memory(False) < 2**50


@pytest.mark.parametrize("cache", [False, True])
def test_flips_are_a_pure_function_of_the_key(tmp_path, cache):
    ramp = np.tile(np.arange(8, dtype=np.uint8) * 30, (8, 1))
    for i in range(8):
        Image.fromarray(ramp).save(tmp_path / f"{i}.png")
    runs = []
    for workers in (0, 0, 2):
        data = folder(tmp_path, channels=1, flip=True, num_workers=workers, val_size=1, cache=cache)
        data.setup()
        runs.append([int(image[0, 0, 0] > 0) for images, _ in data.train_dataloader() for image in images])
        torch.manual_seed(len(runs))
    assert runs[0] == runs[1] == runs[2]
    assert 150 < sum(runs[0]) < 250, "half of 400"
    image = data._sets[0][(0, next(key for key in range(9) if datamodules.stored.mix(key) & 1))][0]
    assert torch.equal(image[0], torch.from_numpy(ramp).flip(-1))
    assert {int(image[0, 0, 0]) for images, _ in data.val_dataloader() for image in images} == {0}
    plain = folder(tmp_path, channels=1)
    plain.setup()
    assert numbers(plain.train_dataloader()) == [0] * 400


@pytest.mark.parametrize(
    ("mode", "asked", "advice"),
    [("L", 4, "to 1"), ("RGB", 4, "to 3")],
)
def test_more_channels_than_there_are_is_an_error_with_the_right_value(tmp_path, mode, asked, advice):
    fill(tmp_path, 3, mode=mode)
    with pytest.raises(ValueError, match=f"channels={asked} .*{tmp_path}.*{advice}"):
        folder(tmp_path, channels=asked).setup()


@pytest.mark.parametrize(("mode", "asked"), [("RGB", 1), ("RGBA", 3), ("RGBA", 4), ("RGBA", 1), ("L", 1), ("LA", 1)])
def test_fewer_channels_are_a_conversion(tmp_path, mode, asked):
    data = folder(fill(tmp_path, 3, mode=mode), channels=asked)
    data.setup()
    assert next(iter(data.train_dataloader()))[0].shape == (4, asked, 8, 8)


def test_one_image_among_many_has_the_channels(tmp_path):
    fill(tmp_path, 100, mode="L")
    folder(tmp_path, channels=1).setup()
    with pytest.warns(UserWarning, match=f"all 100 images in {tmp_path} are grey: with channels=3 they have"):
        folder(tmp_path).setup()
    Image.new("LA", (8, 8)).save(tmp_path / "077.png")
    folder(tmp_path, channels=4).setup()
    Image.new("RGB", (8, 8)).save(tmp_path / "077.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder(tmp_path).setup()


def test_a_large_grey_folder_is_not_looked_through(tmp_path, monkeypatch):
    fill(tmp_path, 100, mode="L")
    Image.new("LA", (8, 8)).save(tmp_path / "077.png")
    looked, look_all = [], datamodules.files.look_all
    monkeypatch.setattr(datamodules.reader, "GREY", 10)
    monkeypatch.setattr(datamodules.reader, "LOOKED_AT", 4)
    monkeypatch.setattr(datamodules.files, "look_all", lambda paths: looked.extend(paths) or look_all(paths))
    with pytest.warns(UserWarning, match=f"all 10 images that were checked in {tmp_path} are grey"):
        folder(tmp_path).setup()
    assert sorted(path.name for path in looked) == [f"{i:03}.png" for i in range(0, 100, 10)]
    folder(tmp_path, channels=4).setup()  # alpha is looked for to the end


def test_grey_images_in_colour_have_three_equal_channels(tmp_path):
    data = folder(fill(tmp_path, 3, mode="L"), val_size=0)
    with pytest.warns(UserWarning, match="are grey"):
        data.setup()
    assert [image.unique().tolist() for image, _ in (data._sets[0][i] for i in range(3))] == [[0], [1], [2]]


@pytest.mark.parametrize(("size", "shape"), [(64, (64, 64)), ((48, 80), (48, 80)), ((7, 13), (7, 13))])
def test_rectangles_of_any_size(tmp_path, size, shape):
    photo(418, 418).convert("RGBA").save(tmp_path / "a.png")
    photo(80, 48).convert("RGBA").save(tmp_path / "b.png")
    for fit in ("crop", "pad", "stretch"):
        data = folder(tmp_path, size=size, channels=4, fit=fit, val_size=0)
        data.setup()
        assert next(iter(data.train_dataloader()))[0].shape == (4, *data.image_shape) == (4, 4, *shape)
    cropped = folder(tmp_path, size=8, crop=(20, 30), val_size=0)
    cropped.setup()
    assert cropped._sets[0][0][0].shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": -1}, "size must be .* got -1"),
        ({"channels": 2}, "channels must be .* got 2"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"num_workers": -2}, "num_workers must be"),
        ({"fit": "cover"}, "fit must be one of crop, pad, stretch, window, got 'cover'"),
        ({"on_error": "ignore"}, "on_error must be one of skip, raise, got 'ignore'"),
        ({"crop": 0}, "crop must be .* got 0"),
        ({"val_fraction": 1.0}, "val_fraction must be"),
        ({"val_size": -1}, "val_size must be"),
    ],
)
def test_wrong_arguments_are_refused_by_the_constructor(tmp_path, options, message):
    fill(tmp_path, 1)
    with pytest.raises(ValueError, match=message):
        folder(tmp_path, **options)


def test_a_wrong_folder_is_refused_by_the_constructor(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"root .*{tmp_path / 'absent'} does not exist"):
        folder(tmp_path / "absent")
    (tmp_path / "file.png").write_text("x")
    with pytest.raises(NotADirectoryError, match=r"root .*file.png is a file"):
        folder(tmp_path / "file.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("x")
    with pytest.raises(
        FileNotFoundError, match=f"root is {tmp_path / 'empty'}, which contains no images .*jpg, jpeg, png"
    ):
        folder(tmp_path / "empty")


def test_arguments_by_position_keep_their_order(tmp_path):
    fill(tmp_path, 4, (4, 4))
    given = (
        tmp_path,
        8,
        1,
        2,
        "window",
        (1.0, 2.0),
        True,
        2,
        "whole",
        "left",
        4,
        True,
        True,
        "raise",
        0.5,
        1,
        False,
        7,
        0,
    )
    data = ImageFolderDataModule(*given)
    assert (data.size, data.channels, data.batch_size, data.fit, data.windows) == ((8, 8), 1, 2, "window", 2)
    assert (data.whole, data.half, data.crop, data.flip, data.cache) == (True, "left", (4, 4), True, True)
    assert (data.on_error, data.val_fraction, data.val_size) == ("raise", 0.5, 1)
    assert (data.infinite, data.seed, data.num_workers) == (False, 7, 0)


def test_workers_default_to_the_processors_and_stay(tmp_path):
    fill(tmp_path, 4)
    data = ImageFolderDataModule(tmp_path)
    assert data.num_workers == min(8, os.cpu_count())
    data.setup()
    loader = data.train_dataloader()
    assert loader.persistent_workers
    assert not loader.pin_memory
    assert len(loader) == 100


def test_training_on_fifty_images_is_silent(tmp_path, monkeypatch):
    monkeypatch.setattr(data_connector, "suggested_max_num_workers", lambda devices: 8)  # as on a larger machine

    class Module(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3 * 64, 1)

        def training_step(self, batch, batch_idx):
            assert batch[0].shape == (64, 3, 8, 8)
            return self.layer(batch[0].flatten(1)).mean()

        def validation_step(self, batch, batch_idx):
            pass

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    data = folder(fill(tmp_path / "images", 50), batch_size=64, cache=True)
    options = {"accelerator": "cpu", "enable_progress_bar": False, "default_root_dir": tmp_path, "logger": False}
    trainer = L.Trainer(max_epochs=1, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("ignore", message=".*LeafSpec")  # between torch and Lightning
        trainer.fit(Module(), data)
    assert not [str(warning.message) for warning in caught]
    assert trainer.global_step == 100


def test_too_few_images_to_share_are_no_validation(tmp_path, monkeypatch):
    data = folder(fill(tmp_path), val_size=1)
    data.setup()
    assert len(data.val_dataloader()) == 1
    monkeypatch.setattr(data, "_world", lambda: (2, 0))
    assert data.val_dataloader() == []


@pytest.mark.filterwarnings("ignore:skipping")
def test_workers_end_when_all_images_are_cached_and_batches_stay_the_same(tmp_path):
    generator = np.random.default_rng(0)
    for i in range(51):
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / f"{i:02}.png")
    BROKEN["truncated.png"](tmp_path / "07.png")
    options = {"flip": True, "infinite": False, "val_size": 9, "batch_size": 5}  # an epoch omits three of 43
    cached, plain = (folder(tmp_path, **options, **more) for more in ({"cache": True, "num_workers": 2}, {}))
    for data in (cached, plain):
        data.setup()
    before = set(multiprocessing.active_children())
    loaders = [(data.train_dataloader(), data.val_dataloader()) for data in (cached, plain)]
    workers = []
    for epoch in range(3):
        for loader, other in zip(*loaders, strict=True):
            for each in (loader, other):
                each.sampler.set_epoch(epoch)
            found, expected = list(loader), list(other)
            assert len(found) == len(expected) > 0
            for batch, exact in zip(found, expected, strict=True):
                assert all(torch.equal(a, b) for a, b in zip(batch, exact, strict=True))
        workers.append(len(set(multiprocessing.active_children()) - before))
    assert workers == [4, 0, 0], "two of each loader"
