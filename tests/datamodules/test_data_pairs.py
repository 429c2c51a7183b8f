"""Pairs of images: layouts, what is the same for both sides, splits, order over processes, and what is refused."""

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import PairedFolderDataModule, UnpairedFoldersDataModule
from datamodules.files import ImageFiles
from datamodules.order import StreamSampler


def gradient(number, height=16, width=16):
    """A picture that differs in every pixel, and from those of other numbers."""
    down, right = np.mgrid[:height, :width]
    return np.stack([down * 8, right * 8, np.full_like(down, number)], 2).astype(np.uint8)


def side_by_side(folder, count, first=0):
    """Write pictures whose right half is the left one, inverted."""
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        left = gradient(number)
        Image.fromarray(np.concatenate([left, 255 - left], 1)).save(folder / f"{number}.png")
    return folder


def single(folder, count, first=0, size=(16, 16), suffix="png"):
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        Image.fromarray(gradient(number, *size)).save(folder / f"{number:02}.{suffix}")
    return folder


def paired(root, **options):
    data = PairedFolderDataModule(root, **{"size": 16, "batch_size": 4, "num_workers": 0, **options})
    data.setup()
    return data


def numbers(images):
    return images[:, 2].flatten(1).amin(1).tolist()


def test_both_images_of_a_pair_are_cut_and_mirrored_alike(tmp_path):
    data = paired(side_by_side(tmp_path / "x", 8), size=12, jitter=4, flip=True, val_size=0)
    windows, mirrored = set(), set()
    loader = data.train_dataloader()
    for source, target in loader:
        assert source.dtype == target.dtype == torch.uint8
        assert source.shape == target.shape == (4, 3, 12, 12)
        assert torch.equal(target, 255 - source)
        for image in source:
            windows.add((int(image[0].min()), int(image[1].min())))
            mirrored.add(bool(image[1, 0, 0] > image[1, 0, -1]))
    assert len(windows) > 10
    assert mirrored == {True, False}


def test_held_out_pairs_are_whole_and_in_order(tmp_path):
    data = paired(side_by_side(tmp_path / "x", 8), jitter=6, val_size=3)
    [(source, target)] = list(data.val_dataloader())
    assert torch.equal(target, 255 - source)
    assert numbers(source) == sorted(numbers(source))
    assert source[:, 0, :, 0].tolist() == [[8 * i for i in range(16)]] * 3  # not cut, not mirrored


def test_direction_says_which_is_the_source(tmp_path):
    root = side_by_side(tmp_path / "x", 4)
    there, back = (paired(root, direction=way, flip=False, val_size=0) for way in ("a_to_b", "b_to_a"))
    for one, other in zip(there.train_dataloader(), back.train_dataloader(), strict=True):
        assert torch.equal(one[0], other[1])
        assert torch.equal(one[1], other[0])
        assert not torch.equal(one[0], one[1])


def test_two_folders_are_matched_by_name(tmp_path):
    single(tmp_path / "a", 6)
    single(tmp_path / "b", 6, suffix="bmp")
    data = paired(tmp_path / "a", target_root=tmp_path / "b", source_channels=1, val_size=0, cache=True)
    for source, target in data.train_dataloader():
        assert source.shape == (4, 1, 16, 16)
        grey = np.array([np.asarray(Image.fromarray(t.permute(1, 2, 0).numpy()).convert("L")) for t in target])
        assert torch.equal(source[:, 0], torch.from_numpy(grey))


@pytest.mark.parametrize("jitter", [0, 4])
@pytest.mark.parametrize("val_size", [0, 3])
@pytest.mark.parametrize("kind", [PairedFolderDataModule, UnpairedFoldersDataModule])
def test_an_image_is_kept_once(tmp_path, monkeypatch, kind, val_size, jitter):
    kept = []
    allocate = ImageFiles.allocate
    monkeypatch.setattr(ImageFiles, "allocate", lambda files: (kept.append(len(files)), allocate(files)))
    folders = [single(tmp_path / name, 8) for name in "ab"]
    options = {"size": 12, "batch_size": 4, "num_workers": 0, "jitter": jitter, "val_size": val_size}
    data, plain = (kind(*folders, cache=cache, **options) for cache in (True, False))
    for module in (data, plain):
        module.setup()
    assert sorted(kept) == sorted([8 - val_size, val_size] * 2)
    for _ in range(2):  # decoded, and then remembered
        for one, other in zip(data._sets[:2], plain._sets[:2], strict=True):
            assert len(one) == len(other)
            for row in range(len(one)):
                assert all(map(torch.equal, one[row], other[row]))


def test_folders_of_splits_are_the_sets(tmp_path):
    for first, (name, count) in enumerate([("train", 5), ("val", 2), ("test", 3)]):
        side_by_side(tmp_path / name, count, 10 * first)
    sets = paired(tmp_path)._sets
    assert [len(part) for part in sets] == [5, 2, 3]
    assert numbers(sets[2].__getitems__([0, 1, 2])[0]) == [20, 21, 22]
    (tmp_path / "val").rename(tmp_path / "other")
    assert [len(part) for part in paired(tmp_path)._sets] == [5, 3, 3]
    (tmp_path / "test").rename(tmp_path / "more")
    assert [len(part) for part in paired(tmp_path, val_size=2)._sets] == [3, 2, 2]


@pytest.mark.parametrize("names", ["A B", "a b", "trainA trainB", "train/A train/B", "A/train B/train"])
def test_folders_a_and_b_below_the_root_are_pairs(tmp_path, names):
    for number, name in enumerate(names.split()):
        single(tmp_path / name, 8)
        with_value = [path for path in (tmp_path / name).iterdir()]
        for path in with_value if number else ():
            Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    data = paired(tmp_path, flip=False, val_size=0)
    assert len(data._sets[0]) == 8
    source, target = data._sets[0].__getitems__(range(8))
    assert numbers(source) == list(range(8)), "whole pictures of A"
    assert torch.equal(target, 255 - source)
    if "train/A" not in names:
        sets = unpaired(tmp_path, flip=False, val_size=0)._sets
        assert numbers(sets[0].__getitems__(range(8))[0]) == list(range(8))


def test_what_lies_beside_folders_a_and_b_is_counted(tmp_path):
    for name in "A", "B", "AB":
        single(tmp_path / name, 3)
    (tmp_path / "notes.txt").write_text("x")
    described = paired(tmp_path, val_size=1).describe()
    assert described["data"] == "2 pairs to train on, 1 for validation and tests"
    assert described["left out"] == "1 .txt, 3 images outside the sets"


@pytest.mark.parametrize("kind", [PairedFolderDataModule, UnpairedFoldersDataModule])
def test_processes_see_the_same_batches(tmp_path, kind):
    single(tmp_path / "a", 8)
    single(tmp_path / "b", 8)
    data = kind(tmp_path / "a", tmp_path / "b", size=12, jitter=4, num_workers=0, val_size=0)
    data.setup()
    train = data._sets[0]

    def batch(size, world):
        samplers = [StreamSampler(train, size, num_replicas=world, rank=rank, seed=5) for rank in range(world)]
        parts = [train.__getitems__(sampler.share(1)) for sampler in samplers]
        return [torch.cat(side) for side in zip(*parts, strict=True)]

    for one, other in zip(batch(4, 1), batch(2, 2), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(batch(4, 1)[0], train.__getitems__(StreamSampler(train, 4, seed=6).share(1))[0])


def test_workers_make_the_same_pairs(tmp_path):
    root = side_by_side(tmp_path / "x", 8)
    batches = [list(paired(root, size=12, jitter=4, num_workers=n).train_dataloader()) for n in (0, 2)]
    assert len(batches[0]) == 100
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


@pytest.mark.parametrize("kind", [PairedFolderDataModule, UnpairedFoldersDataModule])
@pytest.mark.parametrize(("options", "turn"), [({"max_steps": 6}, 3), ({"max_epochs": 2, "limit_train_batches": 4}, 4)])
def test_the_jitter_ends_with_a_share_of_the_run(tmp_path, kind, options, turn):
    """From the middle on whole images are shown, still mirrored; a resumed run and two processes see the same."""
    folders = [single(tmp_path / name, 8) for name in "ab"]
    seen = []

    class Model(L.LightningModule):
        def training_step(self, batch, batch_idx):
            seen.append(((batch[0] + 1) * 127.5).round())
            return self.layer(batch[0].flatten(1)).mean()

        def configure_optimizers(self):
            self.layer = torch.nn.Linear(3 * 144, 1)
            return torch.optim.SGD(self.parameters(), 0.1)

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "limit_val_batches": 0}
    quiet |= {"enable_model_summary": False, "accelerator": "cpu", "devices": 1, "default_root_dir": tmp_path}
    data = kind(*folders, size=12, jitter=4, jitter_until=0.5, batch_size=4, num_workers=0)
    L.Trainer(**{"max_epochs": -1, **options}, **quiet).fit(Model(), data)
    plain = kind(*folders, size=12, jitter=4, batch_size=4, num_workers=0)
    small = kind(*folders, size=12, batch_size=4, num_workers=0)
    sets = []
    for module in (plain, small):
        module.setup()
        sets.append(module._sets[0])
    sampler = StreamSampler(sets[0], 4, seed=data.train_dataloader().sampler.seed, infinite=True)
    whole = sorted({int(image[0].max()) for image in small._sets[0].__getitems__(range(7))[0]})
    assert len(seen) == 2 * turn
    for batch, images in enumerate(seen):
        keys = sampler.share(batch)
        expected = sets[int(batch >= turn)].__getitems__(keys)[0]
        assert torch.equal(images, expected.float()), batch
        late = all(int(image[0].max()) in whole for image in images)
        assert late or batch < turn


def test_jitter_needs_a_run_with_an_end(tmp_path):
    data = paired(side_by_side(tmp_path / "x", 8), size=12, jitter=4, jitter_until=0.5)
    assert len(data._sets[0]) == 7
    assert len(data._readers) == 4  # those of the second size read the same files, which are counted once
    data.trainer = L.Trainer(max_epochs=-1, accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match=r"jitter_until is 0.5; expected trainer.max_steps or trainer.max_epochs"):
        data.train_dataloader()


def test_masks_and_images_reach_the_device_as_floats(tmp_path):
    data = paired(side_by_side(tmp_path / "x", 4))
    images, mask = data.on_after_batch_transfer((torch.tensor([0, 255], dtype=torch.uint8), torch.tensor([True])), 0)
    assert images.tolist() == [-1, 1]
    assert mask.tolist() == [1.0]
    assert mask.dtype == torch.float32


# -- two folders without pairs -----------------------------------------------------------------------------------------


def unpaired(root, **options):
    data = UnpairedFoldersDataModule(root, **{"size": 16, "batch_size": 3, "num_workers": 0, "val_size": 0, **options})
    data.setup()
    return data


@pytest.mark.parametrize(("first", "second"), [(4, 9), (9, 4), (9, 9)])
def test_an_epoch_has_all_of_the_larger_folder(tmp_path, first, second):
    single(tmp_path / "a", first)
    single(tmp_path / "b", second, 100)
    data = unpaired(tmp_path / "a", target_root=tmp_path / "b", infinite=False, flip=False)
    sources, targets, pairs = set(), set(), set()
    for epoch in range(4):
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        seen = [pair for batch in loader for pair in zip(*map(numbers, batch), strict=True)]
        assert len(seen) == 9
        larger = 0 if first >= second else 1
        assert len({pair[larger] for pair in seen}) == 9
        pairs |= set(seen)
        sources |= {pair[0] for pair in seen}
        targets |= {pair[1] for pair in seen}
    assert (len(sources), len(targets)) == (first, second)
    assert len(pairs) > 18  # not the same partners each time


def test_the_layout_of_cyclegan(tmp_path):
    for number, name in enumerate(["trainA", "trainB", "testA", "testB"]):
        single(tmp_path / name, 3 + number, 10 * number)
    sets = unpaired(tmp_path, direction="b_to_a")._sets
    assert [len(part) for part in sets] == [4, 6, 6]
    source, target = sets[2].__getitems__(range(6))
    assert numbers(source) == [30, 31, 32, 33, 34, 35]
    assert numbers(target) == [20, 21, 22, 23, 24, 20]


def test_sides_are_mirrored_independently(tmp_path):
    single(tmp_path / "a", 8)
    single(tmp_path / "b", 8)
    data = unpaired(tmp_path / "a", target_root=tmp_path / "b")
    both = {
        (bool(a[1, 0, 0] > 0), bool(b[1, 0, 0] > 0))
        for source, target in data.train_dataloader()
        for a, b in zip(source, target, strict=True)
    }
    assert len(both) == 4


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_names_without_a_partner_are_listed(tmp_path):
    single(tmp_path / "a", 8)
    single(tmp_path / "b", 1)
    with pytest.raises(ValueError, match=r"^7 images have no partner of the same name") as caught:
        paired(tmp_path / "a", target_root=tmp_path / "b")
    assert all(f"{number:02}.png" in str(caught.value) for number in range(1, 6))
    assert str(caught.value).endswith("and 2 more")


def test_pairs_of_unequal_size_are_listed(tmp_path):
    single(tmp_path / "a", 3)
    single(tmp_path / "b", 3)
    Image.fromarray(gradient(1, 16, 20)).save(tmp_path / "b" / "01.png")
    with pytest.raises(ValueError, match=r"^1 of 3 pairs .* two images of one size each: 01.png \(16x16 and 20x16\)$"):
        paired(tmp_path / "a", target_root=tmp_path / "b")


def test_broken_and_odd_pictures_are_listed(tmp_path):
    root = side_by_side(tmp_path / "x", 3)
    (root / "0.png").write_bytes(b"")
    Image.fromarray(gradient(1, 16, 31)).save(root / "1.png")
    with pytest.raises(ValueError, match=r"2 of 3 .* 0.png \(empty file\), 1.png \(31 pixels wide\)$"):
        paired(root)


def test_a_file_that_breaks_later_is_named_or_skipped(tmp_path):
    root = side_by_side(tmp_path / "x", 3)
    content = (root / "1.png").read_bytes()
    (root / "1.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(OSError, match=r"Cannot read image .*1\.png"):
        paired(root, val_size=0)._sets[0].__getitems__([0, 1, 2])
    with pytest.warns(UserWarning, match=r"skipping unreadable image .*1\.png"):
        data = paired(root, val_size=0, on_error="skip", flip=False)
    source, target = data._sets[0].__getitems__([0, 1, 2])
    assert numbers(source) == [0, 2, 2]
    assert torch.equal(target, 255 - source)


def test_one_folder_needs_cyclegans_names(tmp_path):
    single(tmp_path / "a", 2)
    with pytest.raises(ValueError, match="has no folders trainA and trainB; expected them, A and B, or"):
        unpaired(tmp_path)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"direction": "up"}, "direction must be one of"),
        ({"source_channels": 2}, "source_channels is 2; expected 1"),
        ({"jitter": -1}, "jitter must be"),
        ({"jitter": 4, "jitter_until": 0}, "jitter_until is 0; expected a share of the run above 0"),
        ({"jitter_until": 0.5}, "jitter_until is 0.5; expected 1, or jitter above 0"),
        ({"target_root": "nowhere"}, "nowhere does not exist"),
    ],
)
def test_wrong_options(tmp_path, option, says):
    with pytest.raises((ValueError, OSError), match=says):
        PairedFolderDataModule(side_by_side(tmp_path / "x", 2), **option)
