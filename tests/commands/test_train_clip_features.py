"""The command that trains feature extractors, on clips: with classes, without, and on bad input."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.moving import MovingDigitsDataModule
from gans.commands.train_features import data_of, main, parse
from gans.metrics import sanity
from gans.metrics.extractors import extractor
from gans.metrics.sequences import frozen, shuffled
from gans.networks.classifier import ClipClassifier

MOVING = "--data MovingDigitsDataModule --data.source digits --data.size 12 --data.frames 6 --data.clips 200"
FEW = "--data.test_clips 60 --width 2 --features 8 --epochs 1"


@pytest.fixture
def command(tmp_path, monkeypatch, capfd):
    """Run the command in a folder of its own; return exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GANS_TRACEBACK", raising=False)

    def run(line):
        capfd.readouterr()
        return (main(line.split()), *capfd.readouterr())

    return run


def film(folder, count, frames=6):
    """A square that moves to the right, in a folder of frames for each of its heights and speeds."""
    for clip in range(count):
        (folder / f"{clip:02}").mkdir(parents=True)
        for frame in range(frames):
            picture = np.zeros((16, 16, 3), np.uint8)
            picture[clip % 8 : clip % 8 + 5, frame * (1 + clip % 2) :][:, :4] = 255
            Image.fromarray(picture).save(folder / f"{clip:02}" / f"{frame}.png")


def test_clips_with_classes(command, tmp_path):
    before = torch.get_rng_state()
    code, out, err = command(f"{MOVING} {FEW} --out clips.pt")
    assert code in (0, 1), err
    assert torch.equal(torch.get_rng_state(), before)
    found, report = extractor("clips.pt"), json.loads((tmp_path / "clips.json").read_text())
    assert (found.name, found.num_features, found.num_classes, found.clips) == ("clips", 8, 10, True)
    assert (found.channels, found.resize) == (1, "12x12 bilinear antialias")
    assert found.sha256 == report["sha256"]
    assert report["frames"] == 6
    assert found.data == "MovingDigitsDataModule: 200 training and 60 test clips"

    _, _, test = MovingDigitsDataModule(source="digits", size=12, frames=6, clips=200, test_clips=60).splits()
    clips, labels = test.__getitems__(range(60))
    assert report["accuracy"] == (found(clips)[1].argmax(1) == labels).double().mean().item()
    assert set(report["accuracies"]) == {"classes", "order of frames"}
    read = data_of(parse([*f"{MOVING} {FEW} --out x".split()]))
    again = sanity.sanity(lambda some: found(some)[0], read.train.images, *read.test)
    assert report["fid"] == pytest.approx(again, rel=1e-4, abs=1e-7)
    assert {"one class alone", "frames shuffled", "first frame frozen", "reversed"} < set(report["fid"])
    assert (code == 0) == report["passes"] == sanity.passes(report["fid"])
    assert "frames shuffled is more than 5 times as far as blur 0.8: " in out
    assert " %, order of frames" in out


def test_runs_are_equal_and_seeds_differ(command, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert command(f"{MOVING} {FEW} --out {name}.pt --seed {seed}")[0] in (0, 1)
    a, b, c = (extractor(tmp_path / f"{name}.pt") for name in "abc")
    assert a.sha256 == b.sha256 != c.sha256


def test_a_folder_of_clips_needs_no_classes(command, tmp_path):
    film(tmp_path / "films", 40)
    data = "--data FrameFolderDataModule --data.root films --data.size 16 --data.frames 6 --data.val_size 12"
    code, out, err = command(f"{data} --data.num_workers 0 --out films.pt --width 2 --features 8 --epochs 2")
    assert code in (0, 1), err
    found = extractor("films.pt")
    assert (found.num_classes, found.channels, found.clips) == (None, 3, True)
    report = json.loads((tmp_path / "films.json").read_text())
    assert set(report["accuracies"]) == {"order of frames"}
    assert "one class alone" not in report["fid"]
    assert "order of frames" in out


@pytest.mark.slow
def test_the_order_of_frames_is_learnt(command, tmp_path):
    data = "--data MovingDigitsDataModule --data.source digits --data.size 16 --data.frames 8 --data.speed 2"
    flags = "--data.clips 1500 --data.test_clips 200 --width 6 --features 16 --epochs 4"
    code, out, err = command(f"{data} {flags} --out clips.pt")
    report = json.loads((tmp_path / "clips.json").read_text())
    assert report["accuracies"]["order of frames"] > 0.9, out + err
    assert sanity.sees(report["fid"], sanity.FROZEN)
    assert code == 1
    assert "one class alone is more than twice as far as blur 0.8: FAIL: these features do not know the classes" in out


def test_a_random_network_fails():
    train, _, test = MovingDigitsDataModule(source="digits", size=16, frames=8, clips=100, test_clips=100).splits()
    torch.manual_seed(0)
    network = ClipClassifier(1, 4, 16, 0).eval()

    def features(clips):
        with torch.no_grad():
            return network(clips / 127.5 - 1)[0]

    table = sanity.sanity(features, *(part.__getitems__(range(100))[0] for part in (train, test)), None)
    assert not sanity.passes(table)


def test_rows_in_time_are_what_they_say():
    """Features that are means, over clips, of the frames' brightness: FID is the squared distance of these."""
    frames = torch.arange(8) * 30
    clips = (frames[None] + torch.arange(50)[:, None] % 5)[:, None, :, None, None].expand(-1, 1, -1, 8, 8).byte()

    def at(which):
        return lambda some: some[:, :, which].double().mean((1, 2, 3))[:, None]

    def moved(name, which):
        table = sanity.sanity(at(which), clips, clips, None)
        return table[name] ** 0.5

    assert moved("reversed", 1) == pytest.approx(30 * 5)
    assert moved("half as fast", 7) == pytest.approx(30 * 4)
    assert moved("second half frozen", 7) == pytest.approx(30 * 3)
    assert moved("second half frozen", 4) == pytest.approx(0, abs=1e-4)
    assert moved("another second half", 7) == pytest.approx(0, abs=1e-4)
    assert moved("first frame frozen", 7) == pytest.approx(30 * 7)
    assert torch.equal(dict(sanity.in_time(clips, torch.Generator()))[sanity.FROZEN], frozen(clips))
    mixed = dict(sanity.in_time(clips, torch.Generator().manual_seed(0)))[sanity.SHUFFLED]
    assert torch.equal(mixed.sort(2).values, clips)
    assert not torch.equal(mixed, shuffled(clips, 1))


@pytest.mark.parametrize("name", [sanity.SHUFFLED, sanity.FROZEN])
def test_what_damage_in_time_has_to_cost(name):
    table = {"one class alone": 3.0, "blur 0.8": 1.0, sanity.SHUFFLED: 5.1, sanity.FROZEN: 5.1}
    assert sanity.passes(table)
    assert not sanity.passes({**table, name: 5.0})
    assert not sanity.passes({**table, name: float("nan")})
    assert sanity.sees(table, name)


ERRORS = [
    (f"{MOVING} --size 16 --out a.pt", "--size is not for MovingDigitsDataModule, whose arguments are --data.NAME"),
    (f"{MOVING} --root x --out a.pt", "--root is not for MovingDigitsDataModule"),
    (f"{MOVING} --data.smize 4 --out a.pt", "there is no key data.smize"),
    (f"{MOVING} --epoch 4 --out a.pt", "there is no key epoch"),
    (f"{MOVING} --data.labels speed --out a.pt", "labels"),
    (f"{MOVING} --data.frames 3 --out a.pt", "clips are 3 frames of 12x12; expected at least 4 of 8x8"),
    ("--data MovinDigitsDataModule --out a.pt", "MovingDigitsDataModule"),
    ("--data moving --root none --out a.pt", "MNIST is not in none/MNIST/raw"),
    ("--data moving --test x --out a.pt", "--test is x; expected none, for moving has test images of its own"),
    (f"{MOVING} --data.test_clips 0 --data.val_clips 0 --out a.pt", "holds out nothing to judge the classifier by"),
]


@pytest.mark.parametrize(("line", "message"), ERRORS)
def test_bad_input_is_one_sentence(command, tmp_path, monkeypatch, line, message):
    def offline(*_, **__):
        raise RuntimeError("no network")

    import datamodules.mnist

    offline.mirrors = ["https://example.com/"]
    monkeypatch.setattr(datamodules.mnist, "MNIST", offline)
    code, out, err = command(line)
    assert (code, out) == (2, ""), err
    assert err.startswith("train_features: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "a.pt").exists()
