"""Digits in two forms without pairs: what is beside what, whose labels, order over processes, and what is refused."""

import pytest
import torch

from datamodules import DigitsDataModule, UnpairedDigitsDataModule
from datamodules.order import StreamSampler


def module(degrade="invert", **options):
    data = UnpairedDigitsDataModule(degrade, **{"size": 8, "batch_size": 16, **options})
    data.setup()
    return data


def names(images):
    return [bytes(image.flatten().tolist()) for image in images]


@pytest.fixture(scope="module")
def plain():
    data = DigitsDataModule(size=8)
    data.setup()
    return data._sets


@pytest.mark.parametrize("direction", ["a_to_b", "b_to_a"])
def test_one_side_is_changed_and_labels_are_of_the_source(plain, direction):
    known = dict(zip(names(plain[0].images), plain[0].labels.tolist(), strict=True))
    sources, targets = set(), set()
    for source, target, labels in module(direction=direction).train_dataloader():
        assert source.dtype == target.dtype == torch.uint8
        if direction == "a_to_b":
            source = 255 - source
        else:
            target = 255 - target
        assert [known[name] for name in names(source)] == labels.tolist()
        sources |= set(names(source))
        targets |= set(names(target))
    assert targets <= known.keys()
    assert not sources & targets  # the same digit is not there in both forms
    assert len(sources) > 750
    assert len(targets) > 400  # drawn with repetitions


def test_held_out_images_are_there_in_both_forms_beside_others(plain):
    data = module()
    [*batches] = data.val_dataloader()
    source, target, labels = (torch.cat(part) for part in zip(*batches, strict=True))
    assert torch.equal(255 - source, plain[1].images)
    assert torch.equal(labels, plain[1].labels)
    assert torch.equal(target, plain[1].images.roll(-1, 0))
    one = data._sets[1][3]
    assert torch.equal(one[0], source[3])
    assert one[2] == labels[3]
    assert len(data._sets[1]) == 197


def test_targets_are_drawn_anew_each_time():
    data = module()
    train = data._sets[0]
    (_, one, _), (_, other, _) = (train.__getitems__([(5, word), (6, word + 100)]) for word in (1, 2))
    assert not torch.equal(one, other)
    assert torch.equal(one, train.__getitems__([(5, 1), (6, 101)])[1])


def test_processes_see_the_same_batches():
    train = module("rotate 0..90, noise 20")._sets[0]

    def batch(size, world):
        samplers = [StreamSampler(train, size, num_replicas=world, rank=rank, seed=5) for rank in range(world)]
        return [torch.cat(part) for part in zip(*(train.__getitems__(s.share(1)) for s in samplers), strict=True)]

    for one, other in zip(batch(4, 1), batch(2, 2), strict=True):
        assert torch.equal(one, other)


def test_colours_need_three_channels():
    source, target, _ = module("tint", channels=3)._sets[0].__getitems__([(0, 1), (1, 2)])
    assert not torch.equal(source[:, 0], source[:, 1])
    assert torch.equal(target[:, 0], target[:, 1])
    with pytest.raises(ValueError, match="expected 3 channels for tint"):
        module("tint")


@pytest.mark.parametrize(
    ("degrade", "options", "says"),
    [
        ("mask brush", {}, "degrade is mask brush; expected steps that leave images of the same size, such as invert"),
        ("downscale 2", {}, "degrade is downscale 2; expected steps that leave images of the same size"),
        ("negate", {}, "degrade names negate; expected steps of"),
        ("invert", {"direction": "up"}, "direction must be one of a_to_b, b_to_a, got 'up'"),
    ],
)
def test_wrong_options(degrade, options, says):
    with pytest.raises(ValueError, match=says):
        module(degrade, **options)
