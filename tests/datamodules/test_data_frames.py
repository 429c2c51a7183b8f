"""Folders of clips: layouts, windows, splits, short and broken clips, videos, and errors that come before training."""

import os
import sys
import warnings
from itertools import pairwise

import lightning as L
import pytest
import torch
from broken_images import BROKEN
from PIL import Image

from datamodules import FrameFolderDataModule
from datamodules.order import mix


def fill(folder, count, clip=0, size=(8, 8), name="frame{}.png"):
    """Frames whose red is their number and whose green is that of their clip, brighter on the left in blue."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        image = Image.new("RGB", size, (i, clip, 0))
        image.paste((i, clip, 200), (0, 0, size[0] // 2, size[1]))
        image.save(folder / name.format(i))
    return folder


def animation(path, count, clip=0):
    """A GIF of grey frames, each 4 brighter than the one before."""
    images = [Image.new("L", (8, 8), 4 * i + clip) for i in range(count)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=100)


def video(path, count, codec, options=(), rotation=0):
    """A video of frames each 8 brighter than the one before, white on the left."""
    av = pytest.importorskip("av", reason="av is not installed: the extra video")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options=dict(options))
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        if rotation:
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip("this PyAV cannot write a rotation")
            stream.set_display_rotation(rotation)
        for i in range(count):
            image = Image.new("RGB", (32, 16), (8 * i,) * 3)
            image.paste((255, 255, 255), (0, 0, 8, 16))
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())


def folder(root, **options):
    return FrameFolderDataModule(root, **({"size": 8, "frames": 3, "batch_size": 4, "num_workers": 0} | options))


def made(root, **options):
    data = folder(root, **options)
    data.setup()
    return data


def numbers(window):
    """The frame numbers and the clip number of a window (C, T, H, W)."""
    (clip,) = window[1, :, 0, 0].unique().tolist()
    return window[0, :, 0, 0].tolist(), clip


@pytest.fixture
def root(tmp_path):
    """Twenty clips of 5 to 24 frames."""
    for i in range(20):
        fill(tmp_path / "clips" / f"{i:02}", 5 + i, i)
    return tmp_path / "clips"


def test_batches_are_uint8_until_they_are_on_the_device(root):
    data = made(root, size=(8, 12))
    assert (data.image_shape, data.frames, data.size, data.channels) == ((3, 8, 12), 3, (8, 12), 3)
    clips, labels = next(iter(data.train_dataloader()))
    assert (clips.shape, clips.dtype) == ((4, 3, 3, 8, 12), torch.uint8)
    assert (labels.tolist(), labels.dtype) == ([0] * 4, torch.int64)
    scaled, same = data.on_after_batch_transfer((clips, labels), 0)
    assert torch.equal(scaled, clips.float() / 127.5 - 1)
    assert same is labels
    assert len(data.train_dataloader()) == 100
    assert made(root, channels=1)._sets[0][0][0].shape == (1, 3, 8, 8)


def test_frames_are_in_natural_order_and_windows_consecutive(tmp_path):
    fill(tmp_path / "a", 12)
    fill(tmp_path / "b", 12, 1, name="{:03}.png")
    train = made(tmp_path, frames=12, val_size=0)._sets[0]
    assert [numbers(train[row][0]) for row in (0, 1)] == [(list(range(12)), 0), (list(range(12)), 1)]


@pytest.mark.parametrize(("frames", "every", "middle"), [(3, 1, [4, 5, 6]), (3, 4, [1, 5, 9]), (2, 10, [0, 10])])
def test_training_windows_are_everywhere_and_others_in_the_middle(tmp_path, frames, every, middle):
    fill(tmp_path / "a", 11)
    fill(tmp_path / "b", 11, 1)
    data = made(tmp_path, frames=frames, every=every, val_size=1)
    assert numbers(data._sets[1][0][0])[0] == middle
    windows = [numbers(data._sets[0][(0, key)][0])[0] for key in range(100)]
    assert all(b - a == every for window in windows for a, b in pairwise(window))
    assert {window[0] for window in windows} == set(range(11 - (frames - 1) * every))


def test_a_pass_takes_other_windows_than_the_one_before_and_the_same_in_every_run(root):
    runs = []
    for workers, batch_size in ((0, 4), (2, 4), (0, 8)):
        torch.manual_seed(workers)
        data = made(root, num_workers=workers, batch_size=batch_size, infinite=False, val_size=4, flip=True)
        loader = data.train_dataloader()
        runs.append([])
        for epoch in (0, 1):
            loader.sampler.set_epoch(epoch)
            runs[-1].append(torch.cat([clips for clips, _ in loader]))
    assert all(torch.equal(*pair) for run in runs[1:] for pair in zip(run, runs[0], strict=True))
    first, second = (dict(sorted((clip, at) for at, clip in map(numbers, part.flip(-1)))) for part in runs[0])
    assert first.keys() == second.keys()
    assert len(first) == 16
    assert sum(first[clip] != second[clip] for clip in first) > 8


def test_any_number_of_processes_sees_the_same_batches(root, monkeypatch):
    expected = [clips for clips, _ in made(root, batch_size=8, infinite=False).train_dataloader()]
    data, shares = made(root, batch_size=4, infinite=False), []
    for rank in (0, 1):
        monkeypatch.setattr(data, "_world", lambda rank=rank: (2, rank))
        shares.append([clips for clips, _ in data.train_dataloader()])
    for batch, *parts in zip(expected, *shares, strict=True):
        assert torch.equal(batch, torch.cat(parts))


def test_a_run_resumed_in_mid_epoch_goes_on_with_the_next_batch(root, trainer, tmp_path):
    class Recorder(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer, self.seen = torch.nn.Linear(1, 1), []

        def training_step(self, batch, batch_idx):
            self.seen += [numbers(((clip + 1) * 127.5).round().int()) for clip in batch[0]]
            return self.layer(batch[0].mean().view(1, 1)).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-4)

    def run(steps, path=None):
        runner, model = trainer(steps, limit_val_batches=0), Recorder()
        runner.fit(model, datamodule=folder(root, infinite=False), ckpt_path=path)
        return runner, model.seen

    _, seen = run(9)  # of four batches an epoch
    runner, first = run(6)
    runner.save_checkpoint(tmp_path / "six.ckpt")
    assert first + run(9, tmp_path / "six.ckpt")[1] == seen


def test_a_flip_is_the_same_for_all_frames_and_half_of_the_clips(tmp_path):
    fill(tmp_path / "a", 9)
    data = made(tmp_path, flip=True)
    mirrored = []
    for key in range(200):
        clip, _ = data._sets[0][(0, key)]
        sides = (clip[2, :, 0, 0] == 0).tolist()
        assert len(set(sides)) == 1
        mirrored.append(sides[0])
        assert mirrored[-1] == bool(mix(key) & 1)
    assert 70 < sum(mirrored) < 130
    assert not (data._sets[0][0][0][2, :, 0, 0] == 0).any(), "no key, no flip"


def test_class_folders_give_labels_in_sorted_order(tmp_path):
    for i, name in enumerate(("b", "a", "Z")):
        fill(tmp_path / name / "one", 4, i)
        fill(tmp_path / name / "deeper" / "two", 4, i)
        fill(tmp_path / name, 1)  # a picture of the class
    animation(tmp_path / "a" / "three.gif", 4)
    animation(tmp_path / "a" / "one" / "preview.gif", 4)
    fill(tmp_path / ".hidden" / "clip", 4)
    (tmp_path / "Z" / "one" / ".thumb.png").write_text("x")
    (tmp_path / "Z" / "one" / "notes.txt").write_text("x")
    data = folder(tmp_path, val_size=0)
    assert (data.num_classes, data.classes) == (3, ["Z", "a", "b"]), "known before setup"
    data.setup()
    assert data._sets[0].files.paths == [
        f"{name}/{clip}" for name in "Zab" for clip in ("deeper/two", "one", "three.gif")[: 3 if name == "a" else 2]
    ]
    _, labels = data._sets[0].__getitems__(range(7))
    assert labels.tolist() == [0, 0, 1, 1, 1, 2, 2]
    fill(tmp_path / "flat", 4)
    assert folder(tmp_path).num_classes == 1


def test_links_are_followed_but_not_in_circles(tmp_path):
    fill(tmp_path / "elsewhere", 4)
    (tmp_path / "root" / "class").mkdir(parents=True)
    (tmp_path / "root" / "class" / "clip").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "class" / "loop").symlink_to(tmp_path / "root")
    assert [clip.path for clip in folder(tmp_path / "root")._clips] == ["class/clip"]


def test_the_split_depends_on_the_seed_alone(root):
    def parts(**options):
        data = made(root, frames=2, **options)
        return [[numbers(part[i][0])[1] for i in range(len(part))] for part in data._sets]

    train, val, test = parts()
    assert sorted(train + val) == list(range(20))
    assert (len(val), test) == (1, val)
    train, val, test = parts(val_size=3, test_size=4)
    assert sorted(train + val + test) == list(range(20))
    assert (len(val), len(test)) == (3, 4)
    assert parts(val_size=3, test_size=4, batch_size=7, num_workers=1) == [train, val, test]
    assert parts(val_size=3, seed=1)[1] != val
    assert parts(val_size=0)[1] == []
    with pytest.raises(ValueError, match=r"val_size and test_size .* clips \(20\), got 12 and 8"):
        made(root, val_size=12, test_size=8)


def test_a_single_clip_is_for_training(tmp_path):
    fill(tmp_path / "a", 4)
    data = made(tmp_path)
    assert [len(part) for part in data._sets] == [1, 0, 0]
    assert data.val_dataloader() == []


def test_short_clips_are_left_out_with_one_warning(root):
    with pytest.warns(UserWarning, match="skipping") as caught:
        data = made(root, frames=5, every=3, val_size=0)
    (message,) = [str(warning.message) for warning in caught]
    assert message == "skipping 8 of 20 clips with fewer than 13 frames: 00 (5), 01 (6), 02 (7), ..."
    assert sorted(numbers(data._sets[0][i][0])[1] for i in range(len(data._sets[0]))) == list(range(8, 20))


@pytest.mark.parametrize(
    ("options", "needed"),
    [({"frames": 25}, "frames = 25"), ({"frames": 9, "every": 4}, r"\(frames - 1\) x every \+ 1 = 8 x 4 \+ 1 = 33")],
)
def test_clips_that_are_all_too_short_are_an_error_that_names_the_longest(root, options, needed):
    with pytest.raises(ValueError, match=rf"{root} have at most 24 frames \(19\); expected at least {needed}\.$"):
        made(root, **options)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_frames_of_other_sizes_are_fitted_each_by_itself(tmp_path, fit):
    (tmp_path / "a").mkdir()
    for i, size in enumerate(((8, 8), (20, 8), (6, 31))):
        Image.new("RGB", size, "orange").save(tmp_path / "a" / f"{i}.png")
    clip, _ = made(tmp_path, fit=fit)._sets[0][0]
    assert clip.shape == (3, 3, 8, 8)
    black = (clip.amax(0) == 0).any(2).any(1)
    assert black.tolist() == [False, False, False] if fit != "pad" else [False, True, True]


@pytest.mark.parametrize("name", BROKEN)
def test_windows_with_a_broken_frame_are_replaced_by_the_next_clip(tmp_path, name):
    for i in range(3):
        fill(tmp_path / "clips" / str(i), 6, i)
    frame = tmp_path / "clips" / "1" / "frame4.png"
    BROKEN[name](tmp_path / name)
    frame.write_bytes((tmp_path / name).read_bytes())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train = made(tmp_path / "clips", val_size=0)._sets[0]
        windows = [numbers(train[(1, key)][0]) for key in range(60)]
    assert {window[0] for window, clip in windows if clip == 1} == {0, 1}
    assert {clip for _, clip in windows} == {1, 2}
    assert [str(warning.message).split(" (")[0] for warning in caught] == [f"skipping unreadable image {frame}"]
    assert [numbers(train[(1, key)][0]) for key in range(60)] == windows, "whatever was asked for before"

    def read_all():
        train = made(tmp_path / "clips", val_size=0, on_error="raise")._sets[0]
        return [train[(1, key)] for key in range(60)]

    with pytest.raises(OSError, match=r"Cannot read image .*frame4.png \(.*on_error=skip"):
        read_all()


def test_a_frame_that_disappears_is_a_broken_one(root):
    data = made(root, frames=2)
    clip = int(data._sets[0].rows[3])
    for path in (root / f"{clip:02}").iterdir():
        path.unlink()
    with pytest.warns(UserWarning, match=r"skipping unreadable image .* \(no such file\)"):
        window, _ = data._sets[0][3]
    assert numbers(window)[1] == int(data._sets[0].rows[4])


@pytest.mark.filterwarnings("ignore:skipping")
def test_no_readable_clip_is_an_error_that_names_the_folder(tmp_path):
    for name in ("a", "b"):
        for path in fill(tmp_path / name, 4).iterdir():
            path.write_bytes(path.read_bytes()[:60])  # a header alone
    with pytest.raises(OSError, match=f"None of the 2 clips in {tmp_path} can be read"):
        made(tmp_path)


def test_more_channels_than_there_are_is_an_error(root):
    with pytest.raises(ValueError, match="channels=4 needs images with an alpha channel"):
        made(root, channels=4)


@pytest.mark.filterwarnings("ignore:skipping 1 of 3 clips with fewer than 3 frames")
def test_gifs_are_clips(tmp_path):
    animation(tmp_path / "a.gif", 9)
    animation(tmp_path / "b.GIF", 7)
    animation(tmp_path / "still.gif", 1)
    with pytest.warns(UserWarning, match=r"skipping 1 of 3 clips with fewer than 5 frames: still.gif \(1\)"):
        data = made(tmp_path, channels=1, every=2, val_size=0)
    train = data._sets[0]
    assert train.files.lengths.tolist() == [9, 7, 1]
    assert train[0][0][0, :, 4, 4].tolist() == [8, 16, 24]
    starts = {tuple((train[(1, key)][0][0, :, 4, 4] // 4).tolist()) for key in range(40)}
    assert starts == {(0, 2, 4), (1, 3, 5), (2, 4, 6)}
    assert made(tmp_path, channels=3, val_size=0)._sets[0][0][0].shape == (3, 3, 8, 8)


def test_broken_gifs_are_left_out_with_one_warning(tmp_path):
    animation(tmp_path / "good.gif", 9)
    BROKEN["headless.gif"](tmp_path / "headless.gif")
    BROKEN["text.jpg"](tmp_path / "text.gif")
    with pytest.warns(UserWarning, match="skipping") as caught:
        data = made(tmp_path)
    (message,) = [str(warning.message) for warning in caught]
    assert message.startswith("skipping 2 of 3 clips, unreadable videos: headless.gif (")
    assert message.endswith("text.gif (not an image)")
    assert len(data._sets[0]) == 1
    with pytest.raises(OSError, match=r"Cannot read video .*headless.gif \(.*on_error=skip"):
        made(tmp_path, on_error="raise")
    (tmp_path / "good.gif").unlink()
    with (
        pytest.warns(UserWarning, match="skipping 2 of 2"),
        pytest.raises(OSError, match=r"None of the 2 clips .* can be read"),
    ):
        made(tmp_path)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mov", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.webm", "libvpx-vp9")],
)
def test_videos_are_clips(tmp_path, name, codec):
    video(tmp_path / name, 20, codec)
    fill(tmp_path / "frames", 15)
    data = made(tmp_path, size=(8, 16), every=2, frames=8, val_size=0, channels=1)
    assert data._sets[0].files.lengths.tolist() == [20, 15]
    for key in range(10):
        clip, _ = data._sets[0][(0, key)]
        start = mix(key, 1) % 6
        expected = torch.tensor([8 * (start + 2 * i) for i in range(8)])
        assert (clip[0, :, 4, 12] - expected).abs().max() <= 4
        assert clip[0, :, 4, 1].min() > 245


def test_videos_are_turned_upright(tmp_path):
    video(tmp_path / "a.mp4", 4, "libx264", rotation=90)
    clip, _ = made(tmp_path, size=(32, 16))._sets[0][0]
    assert clip[:, :, 28, 8].min() > 240, "its left side, turned against the clock, is below"
    assert clip[:, :, 4, 8].max() < 100


def test_a_truncated_video_loses_its_end_alone(tmp_path):
    video(tmp_path / "a.avi", 30, "mpeg4")
    content = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(content[: content.index(b"movi") + (len(content) - content.index(b"movi")) // 2])
    fill(tmp_path / "b", 3, 99)
    data = made(tmp_path, val_size=0)
    assert data._sets[0].files.lengths[0] == 30, "as its header says"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        replaced = [int(data._sets[0][(0, key)][0][1, 0, 0, 4]) == 99 for key in range(30)]
        again = [int(data._sets[0][(0, key)][0][1, 0, 0, 4]) == 99 for key in range(30)]
    assert 5 < sum(replaced) < 25
    assert again == replaced
    (message,) = [str(warning.message) for warning in caught]
    assert message.startswith(f"skipping the unreadable part of video {tmp_path / 'a.avi'} (")
    with pytest.raises(OSError, match=r"Cannot read video .*a.avi \(.*on_error=skip"):
        [made(tmp_path, val_size=0, on_error="raise")._sets[0][(0, key)] for key in range(30)]


def test_a_file_that_is_no_video_is_left_out(tmp_path):
    pytest.importorskip("av", reason="av is not installed: the extra video")
    (tmp_path / "a.mp4").write_text("not a video")
    fill(tmp_path / "b", 3)
    with pytest.warns(UserWarning, match=r"skipping 1 of 2 clips, unreadable videos: a.mp4 \(Invalid data"):
        assert len(made(tmp_path)._sets[0]) == 1


def test_videos_without_pyav_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match=r'need PyAV: pip install "lightning-gans\[video\]"'):
        made(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 1}, "frames must be an integer of at least 2, got 1"),
        ({"every": 0}, "every must be an integer of at least 1, got 0"),
        ({"size": -1}, "size must be .* got -1"),
        ({"fit": "cover"}, "fit must be one of crop, pad, stretch, got 'cover'"),
        ({"on_error": "ignore"}, "on_error must be one of skip, raise, got 'ignore'"),
        ({"val_size": -1}, "val_size must be"),
        ({"test_size": -1}, "test_size must be"),
    ],
)
def test_wrong_arguments_are_refused_by_the_constructor(tmp_path, options, message):
    fill(tmp_path / "a", 1)
    with pytest.raises(ValueError, match=message):
        folder(tmp_path, **options)


def test_a_wrong_folder_is_refused_by_the_constructor(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"root .*{tmp_path / 'absent'} does not exist"):
        folder(tmp_path / "absent")
    (tmp_path / "file.png").write_text("x")
    with pytest.raises(NotADirectoryError, match=r"root .*file.png is a file"):
        folder(tmp_path / "file.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        FileNotFoundError, match=rf"root is {tmp_path / 'empty'}, which contains no clips .*mp4, .*gif\)\.$"
    ):
        folder(tmp_path / "empty")
    fill(tmp_path / "clip", 3)
    with pytest.raises(FileNotFoundError, match=r"contains no clips .*give the parent folder"):
        folder(tmp_path / "clip")


def test_workers_default_to_the_processors(root):
    assert FrameFolderDataModule(root).num_workers == min(8, os.cpu_count())


def test_train_val_and_test_are_sets_and_no_classes(tmp_path):
    for number, name in enumerate(("train", "val", "test")):
        for kind in ("walk", "run"):
            fill(tmp_path / name / kind / "1", 3, 10 * number)
            fill(tmp_path / name / kind / "2", 3, 10 * number)
    fill(tmp_path / "extra" / "1", 3)
    with pytest.warns(UserWarning, match=rf"1 clips outside the folders train, val, test in {tmp_path} are left out"):
        data = made(tmp_path)
    assert data.classes == ["run", "walk"]
    seen = [[(int(part[i][0][1, 0, 0, 0]), int(part[i][1])) for i in range(len(part))] for part in data._sets]
    assert seen == [[(10 * number, label) for label in (0, 0, 1, 1)] for number in range(3)]
    assert data.describe()["data"] == "4 clips to train on, 4 for validation, 4 for tests"


def test_an_archive_of_clips_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"x")
    with pytest.raises(NotADirectoryError, match=r"a.zip is a file, an archive: unpack it and give the folder"):
        folder(tmp_path / "a.zip")
