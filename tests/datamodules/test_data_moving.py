"""Moving digits: paths against a simulation, and whose digits are in which clip, whoever asks for it and when."""

import lightning as L
import numpy as np
import pytest
import torch
from mnist_files import write_mnist

from datamodules import DigitsDataModule, MovingDigitsDataModule
from datamodules.moving import COMPASS, bouncing, placed


def moving(**options):
    data = MovingDigitsDataModule(**{"source": "digits", "batch_size": 4, "clips": 40, "val_clips": 9, **options})
    data.setup()
    return data


def whole(data, part=0):
    dataset = data._sets[part]
    return dataset.__getitems__(range(len(dataset)))


def corners(clip):
    """Upper left corners (T, 2) of the box around the bright pixels of a clip (C, T, H, W)."""
    return torch.stack([torch.stack([frame.nonzero()[:, axis].min() for axis in (0, 1)]) for frame in clip[0] > 0])


@pytest.fixture
def solid(monkeypatch):
    """Digits without black edges, so that a clip shows where they are, with their labels as brightness."""

    def splits(self):
        sets = original(self)
        for part in sets:
            part.images = (20 * (part.labels + 1)).byte().view(-1, 1, 1, 1).expand_as(part.images)
        return sets

    original = DigitsDataModule.splits
    monkeypatch.setattr(DigitsDataModule, "splits", splits)


def test_batches_are_uint8_until_they_are_on_the_device():
    data = moving(frames=5, size=(32, 24), channels=3)
    assert (data.image_shape, data.frames, data.size, data.channels) == ((3, 32, 24), 5, (32, 24), 3)
    clips, labels = next(iter(data.train_dataloader()))
    assert (clips.shape, clips.dtype) == ((4, 3, 5, 32, 24), torch.uint8)
    assert (labels.shape, labels.dtype) == ((4,), torch.int64)
    assert torch.equal(clips[:, 0], clips[:, 2])
    assert clips.max() > 200
    scaled, same = data.on_after_batch_transfer((clips, labels), 0)
    assert torch.equal(scaled, clips.float() / 127.5 - 1)
    assert same is labels
    assert [len(data._sets[part]) for part in range(3)] == [40, 9, 1000]
    assert [len(labels) for _, labels in data.val_dataloader()] == [4, 4, 1]
    assert moving(val_clips=0).val_dataloader() == []


def simulated(start, velocity, room, frames):
    """Step by step, in plain numbers: a step that would leave the room is turned back at the wall."""
    path, (position, velocity) = [], (list(start), list(velocity))
    for _ in range(frames):
        path.append(tuple(position))
        for axis in (0, 1):
            position[axis] += velocity[axis]
            if position[axis] < 0:
                position[axis], velocity[axis] = -position[axis], -velocity[axis]
            elif position[axis] > room[axis]:
                position[axis], velocity[axis] = 2 * room[axis] - position[axis], -velocity[axis]
    return torch.tensor(path, dtype=torch.float64)


def test_bouncing_is_what_a_simulation_does():
    for start, velocity in (((3.25, 9.5), (2.5, -1.75)), ((0, 13), (-1.5, 12.5)), ((5, 0), (0, 3))):
        room = torch.tensor([13.0, 20.0], dtype=torch.float64)
        path = bouncing(torch.tensor(start, dtype=torch.float64), torch.tensor(velocity, dtype=torch.float64), room, 60)
        torch.testing.assert_close(path, simulated(start, velocity, room.tolist(), 60), atol=1e-9, rtol=0)


def test_digits_stay_inside_and_keep_their_speed_between_bounces(solid):
    data = moving(frames=40, size=(32, 40), speed=(1.5, 3))
    clips, _ = whole(data)
    assert {int(clip[:, t].count_nonzero()) for clip in clips for t in range(40)} == {19 * 19}, "never cut off"
    bounces = 0
    for i, clip in enumerate(clips[:10]):
        path = corners(clip).double()
        draws = data._sets[0]._draws(i)[0]
        speed, angle = 1.5 + 1.5 * float(draws[2]), 2 * np.pi * float(draws[1]) - np.pi / 8
        velocity = (-speed * np.cos(angle), speed * np.sin(angle))
        room = (13, 21)
        start = [float(draws[3 + i]) * (room[i] - abs(velocity[i])) + max(0, -velocity[i]) for i in (0, 1)]
        expected = simulated(start, velocity, room, 40)
        assert (path - expected).abs().max() <= 0.5 + 1e-9, "whole pixels nearest to the path"
        steps = (expected[1:] - expected[:-1]).norm(dim=1)
        straight = (steps - speed).abs() < 1e-9
        bounces += int((~straight).sum())
        moved = path[1:] - path[:-1]
        assert (moved[straight].norm(dim=1) - speed).abs().max() <= 2**0.5
    assert bounces > 50


def test_where_digits_overlap_the_brighter_pixel_counts():
    frames = placed(torch.tensor([[[7, 0], [0, 9]]]).byte(), torch.tensor([[[0, 0], [1, 2]]]), (3, 4))
    assert frames[0, 0].tolist() == [[7, 0, 0, 0], [0, 9, 0, 0], [0, 0, 0, 0]]
    assert frames[0, 1].tolist() == [[0, 0, 0, 0], [0, 0, 7, 0], [0, 0, 0, 9]]
    data = moving(digits=2, frames=6)
    dataset = data._sets[0]
    both = dataset[3][0]
    draws = dataset._draws(3)
    alone = []
    for i in (0, 1):
        dataset._draws = lambda row, i=i: draws[i : i + 1]
        alone.append(dataset[3][0])
    assert torch.equal(both, torch.maximum(*alone))
    assert not torch.equal(*alone)


def test_a_digit_is_labelled_as_itself(solid):
    clips, labels = whole(moving())
    assert torch.equal(clips.flatten(1).amax(1).long(), 20 * (labels + 1))
    assert (moving().num_classes, moving().unclassed, moving().objects) == (10, "", 1)
    assert len(labels.unique()) > 7


def test_clips_of_several_digits_have_no_classes(solid):
    data = moving(digits=2, clips=200)
    clips, labels = whole(data)
    shown = [set(clip.unique().tolist()) - {0} for clip in clips]
    assert any(len(values) == 2 for values in shown)
    assert not labels.any()
    assert (data.num_classes, data.classes, data.objects) == (1, [], 2)
    assert data.describe()["classes"] == "none: a clip has 2 digits"


def test_paths_are_where_the_digits_are(solid):
    data = moving(frames=30, size=(32, 40), clips=12)
    found = data._sets[0].paths(range(12))
    assert (found.shape, found.dtype) == ((12, 1, 30, 2), torch.float64)
    for clip, path in zip(whole(data)[0], found[:, 0], strict=True):
        assert torch.equal(corners(clip), path.round().long())
    several = moving(digits=3, frames=5, clips=4)._sets[0]
    assert several.paths([(2, 77), 1]).shape == (2, 3, 5, 2)
    assert torch.equal(several.paths([(2, 77)])[0], several.paths(range(4))[2])


def test_clips_of_tests_may_be_longer():
    short, long = moving(frames=4), moving(frames=4, test_frames=9)
    for part in (0, 1):
        assert torch.equal(whole(short, part)[0][:9], whole(long, part)[0][:9])
    assert whole(long, 2)[0].shape[2] == 9
    assert torch.equal(whole(short, 2)[0], whole(long, 2)[0][:, :, :4]), "they begin the same"
    assert long.frames == 4


def test_every_skips_frames(solid):
    """MoCoGAN's authors use every second frame. Digits that move twice as fast show the same."""
    data, faster = (moving(frames=9, **options) for options in ({"every": 2, "speed": (1, 2)}, {"speed": (2, 4)}))
    assert torch.equal(whole(data)[0], whole(faster)[0])
    start, velocity, room = torch.tensor([3.5, 9.0]), torch.tensor([1.5, -2.0]), torch.tensor([13.0, 13.0])
    assert torch.allclose(bouncing(start, velocity, room, 19)[::2], bouncing(start, 2 * velocity, room, 10), atol=1e-5)


def test_a_direction_is_the_way_a_digit_starts(solid):
    data = moving(labels="direction", frames=2, speed=10, clips=200)
    assert data.num_classes == len(data.classes) == 8
    clips, labels = whole(data)
    for clip, label in zip(clips, labels, strict=True):
        (down, across) = (corners(clip)[1] - corners(clip)[0]).tolist()
        name = data.classes[label]
        turned = (np.degrees(np.arctan2(across, -down)) - 45 * COMPASS.index(name) + 180) % 360 - 180
        assert abs(turned) < 22.5 + 6, "half an octant and a pixel's rounding at ten pixels"
        assert ("north" in name) <= (down < 0)
        assert ("east" in name) <= (across > 0)
        assert ("south" in name) <= (down > 0)
        assert ("west" in name) <= (across < 0)
    assert labels.unique().tolist() == list(range(8))
    assert torch.equal(clips, whole(moving(frames=2, speed=10, clips=200))[0]), "labels change no clip"


def test_a_clip_depends_on_the_seed_and_its_number_alone():
    data = moving(frames=3)
    clips, labels = whole(data)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = moving(frames=3, clips=17, batch_size=8)._sets[0]
    assert torch.equal(torch.get_rng_state(), before)
    some, numbers = again.__getitems__([(7, 123), 3, (7, 9)])
    assert torch.equal(some, clips[[7, 3, 7]])
    assert torch.equal(numbers, labels[[7, 3, 7]])
    assert torch.equal(again[(7, 5)][0], clips[7])
    assert again[7][1] == labels[7]
    assert not torch.equal(whole(moving(frames=3, seed=1))[0], clips)
    longer = whole(moving(frames=6))[0]
    assert torch.equal(longer[:, :, :3], clips), "a longer clip begins the same"
    val, test = (whole(data, part)[0][:9] for part in (1, 2))
    assert not torch.equal(val, clips[:9])
    assert not torch.equal(val, test)


def test_any_number_of_processes_and_workers_sees_the_same_batches(monkeypatch):
    one = moving(frames=2, batch_size=8)
    expected = [clips for clips, _ in one.train_dataloader()]
    two = moving(frames=2, batch_size=4)
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(two, "_world", lambda rank=rank: (2, rank))
        shares.append([clips for clips, _ in two.train_dataloader()])
    for batch, *parts in zip(expected, *shares, strict=True):
        assert torch.equal(batch, torch.cat(parts))
    workers = moving(frames=2, batch_size=8, num_workers=2)
    for batch, (clips, _) in zip(expected, workers.train_dataloader(), strict=True):
        assert torch.equal(batch, clips)


class Recorder(L.LightningModule):
    """A sum of each batch seen."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen = []

    def training_step(self, batch, batch_idx):
        clips, labels = batch
        assert clips.dtype == torch.float32
        assert clips.abs().max() == 1
        weights = torch.arange(clips.numel(), dtype=torch.float64).view_as(clips)
        self.seen.append((float((clips * weights).sum()), labels.tolist()))
        return self.layer(clips.mean().view(1, 1)).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-4)


def test_a_run_resumed_in_mid_epoch_goes_on_with_the_next_batch(trainer, tmp_path):
    def run(steps, path=None):
        runner, model = trainer(steps), Recorder()
        data = MovingDigitsDataModule(source="digits", frames=2, batch_size=8, clips=40, val_clips=0)
        runner.fit(model, datamodule=data, ckpt_path=path)
        return runner, model.seen

    _, seen = run(9)
    runner, first = run(3)
    runner.save_checkpoint(tmp_path / "three.ckpt")
    _, rest = run(9, tmp_path / "three.ckpt")
    assert first + rest == seen
    assert len({total for total, _ in seen}) == 9


def test_mnist_trains_on_its_training_digits_and_tests_on_its_test_digits(tmp_path):
    sets = []
    for count, value, first in ((60, 100, 0), (20, 200, 5)):  # no label is in both
        labels = (np.arange(count) % 5 + first).astype(np.uint8)
        sets.append((np.full((count, 28, 28), value, np.uint8), labels))
    write_mnist(tmp_path, *sets)
    data = moving(source="mnist", root=tmp_path, frames=2, test_clips=11)
    data.prepare_data()
    for part, count, value in ((0, 40, 100), (1, 9, 100), (2, 11, 200)):
        clips, labels = whole(data, part)
        assert len(clips) == count
        assert clips.unique().tolist() == [0, value]
        assert bool((labels >= 5).all()) == (part == 2)
    assert [len(part.sprites) for part in data._sets] == [55, 5, 20]
    assert whole(moving(source="mnist", root=tmp_path, size=64))[0].count_nonzero() == 40 * 16 * 28 * 28
    with pytest.raises(FileNotFoundError, match="MNIST is not in"):
        moving(source="mnist", root=tmp_path / "absent")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 1}, "frames must be an integer of at least 2, got 1"),
        ({"digits": 0}, "digits must be an integer of at least 1, got 0"),
        ({"source": "cifar"}, "source must be one of mnist, digits, got 'cifar'"),
        ({"labels": "speed"}, "labels must be one of digit, direction, got 'speed'"),
        ({"size": (32, 7)}, r"size must be at least 8 .*got \(32, 7\)"),
        ({"speed": 14}, "speed must be at most 13, .* got 14"),
        ({"speed": 0}, "speed must be a positive number .* got 0"),
        ({"every": 0}, "every must be an integer of at least 1, got 0"),
        ({"speed": (1, 5), "every": 3}, r"speed x every must be at most 13, .* got \(1, 5\) x 3"),
        ({"labels": "direction", "digits": 2}, "labels is direction, but 2 digits have no common one; expected digits"),
        ({"speed": (3, 2)}, r"speed must be .* got \(3, 2\)"),
        ({"speed": float("nan")}, "speed must be .* got nan"),
        ({"speed": "fast"}, "speed must be .* got 'fast'"),
        ({"channels": 4}, "channels must be 1, or 3"),
        ({"clips": 0}, "clips must be"),
        ({"val_clips": -1}, "val_clips must be"),
        ({"test_clips": 1.5}, "test_clips must be"),
        ({"test_frames": 1}, "test_frames must be an integer of at least 2, got 1"),
    ],
)
def test_wrong_arguments_are_refused_by_the_constructor(options, message):
    with pytest.raises(ValueError, match=message):
        MovingDigitsDataModule(**options)
