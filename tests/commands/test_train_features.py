"""The command that trains feature extractors: on digits in class folders, on MNIST's layout, and on bad input."""

import json

import numpy as np
import pytest
import torch
from mnist_files import write_mnist
from PIL import Image
from sklearn.datasets import load_digits

import datamodules.mnist
from datamodules.captioned_digits import BACKGROUNDS
from gans.commands import feature_data, train_features
from gans.commands.train_features import augmented, main
from gans.metrics.classifiers import Classifier
from gans.metrics.extractors import extractor
from gans.metrics.sanity import passes, sanity
from gans.networks import classifier

torch.set_num_threads(1)
FLAGS = ["--size", "12", "--channels", "1", "--width", "8", "--features", "32"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Scikit-learn's digits as 8x8 PNG files in class folders, a sixth of them for tests."""
    root, data = tmp_path_factory.mktemp("digits"), load_digits()
    for i, (image, label) in enumerate(zip(data.images, data.target, strict=True)):
        path = root / ("test" if i % 6 == 0 else "train") / f"digit {label}" / f"{i:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15.9).astype(np.uint8)).save(path)
    return root


@pytest.fixture
def command(tmp_path, monkeypatch, capfd):
    """Run the command in a folder of its own; return exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GANS_TRACEBACK", raising=False)

    def run(*words):
        capfd.readouterr()
        code = main([str(word) for word in words])
        return (code, *capfd.readouterr())

    return run


def test_class_folders(command, digits, tmp_path):
    data = ["--data", digits / "train", "--test", digits / "test"]
    before = torch.get_rng_state()
    code, out, err = command(*data, "--out", "new/digits.pt", *FLAGS, "--epochs", 4)
    assert code == 0, err
    assert torch.equal(torch.get_rng_state(), before)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["digits.json", "digits.pt"]

    found, report = extractor("new/digits.pt"), json.loads((tmp_path / "new" / "digits.json").read_text())
    assert (found.name, found.num_features, found.num_classes) == ("digits", 32, 10)
    assert found.resize == "12x12 bilinear antialias"
    assert found.sha256 == report["sha256"]
    assert report["passes"] is True
    assert report["arguments"]["epochs"] == 4
    assert report["fid"]["one class alone"] > 2 * report["fid"]["blur 0.8"]
    assert report["versions"]["torch"] == torch.__version__
    assert "train (digit 0, digit 1," in found.data
    assert found.data.endswith("1497 training and 300 test images")

    read = train_features.data_of(train_features.parse([*map(str, data), "--out", "x", *FLAGS]))
    again = sanity(lambda images: found(images)[0], read.train.images, *read.test)
    assert report["fid"] == pytest.approx(again, rel=1e-5)
    images, labels = read.test
    accuracy = (found(images)[1].argmax(1) == labels).double().mean().item()
    assert accuracy == found.accuracy == report["accuracy"] > 0.9
    lines = out.splitlines()
    assert lines[0] == f"test accuracy {100 * accuracy:.2f} %"
    assert lines[-2] == "one class alone is more than twice as far as blur 0.8: pass"
    assert "wrote new/digits.pt and digits.json, sha256" in lines[-1]
    assert f"  none                {report['fid']['none']:10.3f}" in lines


def test_a_random_network_fails_the_semantic_test(digits):
    options = train_features.parse(
        ["--data", str(digits / "train"), "--test", str(digits / "test"), "--out", "x", *FLAGS]
    )
    data = train_features.data_of(options)
    torch.manual_seed(0)
    network = classifier.Classifier(1, 8, 32, 10).eval()
    table = sanity(lambda images: train_features.outputs(network, images)[0], data.train.images, *data.test)
    assert not passes(table)
    assert table["one class alone"] < table["blur 0.8"]


def test_runs_are_equal_and_seeds_differ(command, digits, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        flags = [*FLAGS, "--epochs", 1, "--seed", seed, "--flip"]
        assert command("--data", digits / "test", "--out", f"{name}.pt", *flags)[0] in (0, 1)
    a, b, c = (Classifier(tmp_path / f"{name}.pt") for name in "abc")
    assert a.sha256 == b.sha256 != c.sha256
    assert a.data.endswith("270 training and 30 test images"), "a tenth is held out"


def test_useless_features_are_written_but_told(command, digits, monkeypatch, tmp_path):
    monkeypatch.setattr(train_features, "train", lambda network, *_: network.eval())
    code, out, _ = command("--data", digits / "test", "--out", "a.pt", *FLAGS)
    assert code == 1
    assert "blur 0.8: FAIL: these features do not know the classes" in out
    assert json.loads((tmp_path / "a.json").read_text())["passes"] is False


def shapes(count):
    """Images of ten simple shapes, and which they are."""
    labels = np.arange(count, dtype=np.uint8) % 10
    images = np.zeros((count, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4 + 2 * label : 8 + 2 * label, 4:24] = 255
    return images, labels


@pytest.mark.parametrize(
    ("size", "resize"), [(32, "28x28 bilinear antialias, black frame to 32x32"), (20, "20x20 bilin")]
)
def test_mnist_is_framed_at_32(command, tmp_path, size, resize):
    write_mnist(tmp_path / "data", shapes(200), shapes(40))
    flags = ["--width", 2, "--features", 8, "--epochs", 1, "--size", size]
    code, _, err = command("--data", "mnist", "--out", "a.pt", *flags)
    assert code in (0, 1), err
    assert extractor(tmp_path / "a.pt").resize.startswith(resize)
    assert extractor(tmp_path / "a.pt").data == "MNIST: 200 training and 40 test images"


@pytest.mark.parametrize(
    ("label", "classes"), [(None, 10), ("colour", 8), ("size", 2), ("position", 5), ("background", 4)]
)
def test_captioned_digits_are_asked_for_one_attribute(command, tmp_path, monkeypatch, label, classes):
    monkeypatch.setattr(feature_data, "VIEWS", 1)
    monkeypatch.setattr(feature_data, "SOURCES", ("mnist",) if label else ("mnist", "digits"))
    write_mnist(tmp_path / "data", shapes(200), shapes(40))
    asked = ["--label", label] if label else []
    flags = ["--data", "captioned-digits", *asked, "--out", "a.pt", "--epochs", "1", "--size", "16"]
    data = train_features.data_of(train_features.parse(flags))
    assert data.num_classes == classes
    assert len(data.train.images) == (200 if label else 1800)
    assert data.train.images.shape[1:] == (3, 16, 16)
    assert data.train.labels.unique().tolist() == data.test.labels.unique().tolist() == list(range(classes))
    if label == "background":
        corners = data.test.images[:, :, 0, 0]
        assert torch.equal(corners, torch.tensor([*BACKGROUNDS.values()])[data.test.labels])
    if label == "colour":  # trained on few
        code, _, err = command(*flags, "--width", 2, "--features", 8)
        assert code in (0, 1), err
        found = extractor(tmp_path / "a.pt")
        assert (found.channels, found.num_classes, found.resize) == (3, classes, "16x16 bilinear antialias")
        assert found.data.endswith("scikit-learn (colour): 200 training and 40 test images")


def test_captioned_digits_come_in_all_pairs_of_digit_and_colour(monkeypatch):
    monkeypatch.setattr(feature_data, "VIEWS", 1)
    monkeypatch.setattr(feature_data, "SOURCES", ("digits",))
    flags = ["--data", "captioned-digits", "--out", "a.pt", "--size", "16", "--label"]
    digit, colour = (train_features.data_of(train_features.parse([*flags, name])) for name in ("digit", "colour"))
    assert torch.equal(digit.train.images, colour.train.images)
    for one, other in ((digit.train, colour.train), (digit.test, colour.test)):
        assert len((8 * one.labels + other.labels).unique()) > 70
    assert len((8 * digit.train.labels + colour.train.labels).unique()) == 80


@pytest.mark.parametrize("flip", [False, True])
def test_augmented_images_are_shifted_with_their_edges_repeated(flip):
    images = torch.randint(0, 256, (200, 2, 16, 32), dtype=torch.uint8)
    found = augmented(images, flip, torch.Generator().manual_seed(0))
    assert found.dtype == torch.uint8
    padded = torch.nn.functional.pad(images.float(), (2, 2, 2, 2), mode="replicate").to(torch.uint8)
    seen = set()
    for i, image in enumerate(found):
        options = {
            (down, right, mirrored): padded[i, :, 2 + down : 18 + down, 2 + right : 34 + right].flip(
                -1 if mirrored else ()
            )
            for down in range(-2, 3)
            for right in range(-2, 3)
            for mirrored in ([False, True] if flip else [False])
        }
        [which] = [key for key, option in options.items() if torch.equal(option, image)]
        seen.add(which)
    assert len(seen) > 0.9 * (50 if flip else 25), "all shifts happen"


def one_class(root):
    for name in ("a", "b"):
        (root / "two" / name).mkdir(parents=True)
        (root / "one" / "a").mkdir(parents=True, exist_ok=True)
        for i in range(6):
            Image.new("L", (8, 8), 40 * i).save(root / "two" / name / f"{i}.png")
            Image.new("L", (8, 8), 40 * i).save(root / "one" / "a" / f"{i}.png")
    return root


ERRORS = [
    ("--data two/a --out a.pt", "two/a holds images of 0 class folders; expected at least 2"),
    ("--data one --out a.pt", "one holds images of 1 class folders; expected at least 2"),
    ("--data none --out a.pt", "--data is none; expected mnist or a folder with one folder of images per class"),
    ("--data two --test none --out a.pt", "--test is none; expected a folder with one folder of images per class"),
    ("--data two --test one --out a.pt", "one holds images of 1 class folders"),
    ("--data two --test other --out a.pt", "other has not the classes of two: a, b"),
    ("--data two --out two", "--out is two; expected a file such as two.pt"),
    ("--data two --out a.json", "--out is a.json; expected a file such as a.pt"),
    ("--data two --out two/a/0.png/a.pt", "cannot write two/a/0.png/a.pt: Not a directory"),
    ("--data two --out a.pt --size 7", "argument --size: 7 is no integer of at least 8"),
    ("--data two --out a.pt --epochs 0", "argument --epochs: 0 is no integer of at least 1"),
    ("--data two --out a.pt --width x", "argument --width: x is no integer of at least 1"),
    ("--data two --out a.pt --channels 4", "argument --channels: invalid choice: 4"),
    ("--data two --out a.pt --size 1000000", "reading 500 images of size 1000000 at once needs"),
    ("--data two --out a.pt --width 10000000", "the classifier of width 10000000 needs"),
    ("--data two --out a.pt --epoch 3", "unrecognized arguments: --epoch 3"),
    ("--data two", "the following arguments are required: --out"),
    ("--data mnist --test two --out a.pt", "--test is two; expected none, for mnist has test images of its own"),
    ("--data mnist --label colour --out a.pt", "--label is colour; expected none, for only captioned-digits has sev"),
    ("--data captioned-digits --label held_out --out a.pt", "argument --label: invalid choice: 'held_out'"),
    ("--data captioned-digits --channels 1 --out a.pt", "--channels is 1; expected 3, for captioned-digits is in col"),
    ("--data captioned-digits --test two --out a.pt", "--test is two; expected none, for captioned-digits has test"),
    ("--data captioned-digits --size 12 --out a.pt", "size must be at least 16 for a small digit to be legible"),
    ("--data captioned-digits --root none --out a.pt", "MNIST is not in none/MNIST/raw and downloading them failed"),
    ("--data mnist --root none --out a.pt", "MNIST is not in none/MNIST/raw and downloading them failed (no network)"),
]


@pytest.mark.parametrize(("line", "message"), ERRORS)
def test_bad_input_is_one_sentence(command, tmp_path, monkeypatch, line, message):
    def offline(*_, **__):
        raise RuntimeError("no network")

    offline.mirrors = ["https://example.com/"]
    monkeypatch.setattr(datamodules.mnist, "MNIST", offline)
    for name in ("a", "c"):
        (tmp_path / "other" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "other" / name / "0.png")
    one_class(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = command(*(f"--channels 1 {line}" if "two" in line[:13] or "one" in line[:13] else line).split())
    assert (code, out) == (2, "")
    assert err.startswith("train_features: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_an_interrupted_or_failed_run_leaves_the_old_file(command, digits, tmp_path, monkeypatch):
    (tmp_path / "a.pt").write_text("old")

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(train_features, "train", stop)
    code, _, err = command("--data", digits / "test", "--out", "a.pt", *FLAGS)
    assert (code, err) == (130, "train_features: stopped; nothing was written\n")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_features, "train", lambda network, *_: network.eval())
    monkeypatch.setattr(train_features.torch, "save", stop)
    assert command("--data", digits / "test", "--out", "a.pt", *FLAGS)[0] == 130
    assert (tmp_path / "a.pt").read_text() == "old"


def test_help(command):
    code, out, _ = command("--help")
    assert code == 0
    assert "--data" in out
