"""Names of classes: from the data into the checkpoint, and from the command line to labels and grids."""

import numpy as np
import pytest
import torch
from PIL import Image

from gans.commands import labels
from gans.hub import from_pretrained, save_pretrained
from gans.models import DCGAN, ConditionalGAN
from gans.pictures.captions import headed

MODEL = {"size": 8, "latent_dim": 8, "width": 4}
LINE = (
    "fit conditionalgan-mnist --data ImageFolderDataModule --data.root d --data.size 8 --data.channels 3 "
    "--data.num_workers 0 --data.batch_size 4 --data.val_size 2 --model.width 4 --trainer.accelerator cpu "
    "--trainer.max_steps 1 --grid.samples 9 --trainer.enable_progress_bar false --evaluate.features null"
)


def fill(root, names=("cat", "dog", "fish"), count=4):
    for i, name in enumerate(names):
        (root / name).mkdir(parents=True, exist_ok=True)
        for j in range(count):
            Image.new("RGB", (8, 8), (50 * i, 10 * j, 90)).save(root / name / f"{j}.png")
    return root


def named(*names):
    model = ConditionalGAN(num_classes=len(names), **MODEL)
    model.class_names = list(names)
    return model


def test_a_run_names_its_data_and_the_checkpoint_its_classes(gans, tmp_path):
    fill(tmp_path / "d")
    (tmp_path / "d" / "empty").mkdir()
    (tmp_path / "d" / "cat" / "notes.txt").write_text("x")
    code, out, err = gans(f"{LINE} --model.num_classes 5")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[1:4] == [
        "data         10 images to train on, 2 for validation and tests",
        "classes      3: 0 cat, 1 dog, 2 fish",
        "left out     1 .txt",
    ]
    assert "empty in d contains no images and is not a class" in err
    assert "num_classes is 5, but the data have 3 classes; 2 classes are never trained: give --model.num" in err
    checkpoint = "runs/conditionalgan-mnist/version_0/checkpoints/last.ckpt"
    held = torch.load(checkpoint, weights_only=True)
    assert held["adversarial"]["classes"] == ["cat", "dog", "fish"]
    code, out, err = gans(f"sample {checkpoint} --labels fish,cat --num 4 --out named.png")
    assert code == 0, err
    assert "classes      2 fish, 0 cat\n" in out
    code, out, err = gans(f"sample {checkpoint} --labels 2,0 --num 4 --out numbered.png")
    assert (tmp_path / "named.png").read_bytes() == (tmp_path / "numbered.png").read_bytes()
    code, _, err = gans(f"explore traverse {checkpoint} --label dog --out walk.png")
    assert code == 0, err
    code, _, err = gans(f"sample {checkpoint} --labels dgo")
    assert code == 2
    assert "labels is dgo (did you mean dog?); expected cat, dog, fish, or classes from 0 to 4" in err
    code, _, err = gans(f"explore traverse {checkpoint} --label cat,dog")
    assert (code, "label is cat,dog; expected one class" in err) == (2, True)
    code, _, err = gans(f"{LINE.replace('fit', 'validate', 1)} --model.num_classes 5 --ckpt_path {checkpoint}")
    assert (code, "never trained" in err) == (0, False), err
    (tmp_path / "d" / "cat").rename(tmp_path / "d" / "zebra")
    code, out, err = gans(f"{LINE} --model.num_classes 5 --ckpt_path {checkpoint} --trainer.max_steps 2")
    assert code == 0, err
    assert "class 0 is cat in the checkpoint and dog in the data: the names of the data are kept" in err


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_other_verbs_say_the_same(gans, tmp_path, verb):
    code, out, err = gans(
        f"{verb} dcgan-digits --data.size 8 --model.width 4 --trainer.accelerator cpu --ckpt_path last"
    )
    assert code == 2, "nothing is trained yet"
    gans("fit dcgan-digits --data.size 8 --model.width 4 --trainer.accelerator cpu --trainer.max_steps 1")
    code, out, err = gans(f"{verb} dcgan-digits --data.size 8 --model.width 4 --trainer.accelerator cpu")
    assert code == 0, err
    assert "data         1,600 images to train on, 197 for validation and tests\n" in out


def test_a_stray_picture_is_named_to_who_needs_classes(gans, tmp_path):
    fill(tmp_path / "d")
    Image.new("RGB", (8, 8)).save(tmp_path / "d" / "preview.png")
    code, _, err = gans(f"{LINE} --model.num_classes 3")
    assert code == 2
    assert "but the data have no classes: preview.png is directly in d, next to the folders cat, dog, fish" in err


PARSED = [
    (("cat", "dog", "fish"), "dog", [1]),
    (("cat", "dog", "fish"), "fish, cat", [2, 0]),
    (("cat", "dog", "fish"), "0-1,fish", [0, 1, 2]),
    (("cat", "dog", "fish"), None, [0, 1, 2]),
    (("1", "10", "2"), "2", [2]),
    (("1", "10", "2"), "0", [0]),
    (("0", "1", "10", "11", "2"), "0-2", [0, 1, 4]),
    (("t-shirt", "0-1", "a,b"), "t-shirt,0-1", [0, 1]),
    (("t-shirt", "0-1", "a,b"), "a,b", [2]),
    ((), "1-2", [1, 2]),
]


@pytest.mark.parametrize(("names", "text", "found"), PARSED)
def test_labels_are_names_or_numbers(names, text, found):
    model = named(*names) if names else ConditionalGAN(num_classes=3, **MODEL)
    assert labels.parsed(text, model) == found


@pytest.mark.parametrize("text", ["3", "0-3", "2-1", "0-99999999999999", "bird", "", "-1", "1,,2"])
def test_what_is_no_label_is_refused(text):
    with pytest.raises(ValueError, match=r"^labels is .*; expected cat, dog, fish, or classes from 0 to 2"):
        labels.parsed(text, named("cat", "dog", "fish"))


def test_labels_of_a_model_without_classes_are_refused():
    with pytest.raises(ValueError, match="label is cat; expected none, for DCGAN has no classes"):
        labels.parsed("cat", DCGAN(**MODEL), "label")


def test_a_published_model_knows_its_classes(tmp_path):
    save_pretrained(named("cat", "dog"), tmp_path / "x")
    assert from_pretrained(tmp_path / "x").class_names == ["cat", "dog"]


@pytest.mark.parametrize(("width", "channels"), [(200, 1), (30, 3), (30, 4)])
def test_columns_have_headings(width, channels):
    picture = torch.zeros(channels, 20, 3 * width + 2, dtype=torch.uint8)
    found = headed(picture, ["cat", "an animal of a very long name", "x"])
    above = found[0, :-20]
    assert torch.equal(found[:, -20:], picture)
    ink = [int((above[:, 2 + i * width : (i + 1) * width] < 128).sum()) for i in range(3)]
    assert ink[1] > ink[0] > ink[2] > 0
    assert above.shape[0] < 25 if width == 200 else above.shape[0] > 60, "long names are turned"
    if channels == 4:
        assert np.unique(found[3, :-20]).tolist() == [255]
    assert headed(picture, []) is picture
