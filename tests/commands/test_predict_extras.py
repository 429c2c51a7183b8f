"""`gans predict CKPT --mask` and `--style`: what some models are given besides a picture, and what is wrong with it."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from gans.models import Inpainting, Pix2Pix, StyleTransfer

SIZE = (40, 30)


@pytest.fixture
def checkpoint(trainer, tmp_path):
    """Models as training leaves them."""

    def make(kind, **options):
        torch.manual_seed(0)
        run = trainer(1)
        model = kind(**{"size": 16, "channels": 3, "width": 4, **options})
        run.strategy.connect(model)
        model.trainer = run
        run.save_checkpoint(tmp_path / "model.ckpt", weights_only=True)

    return make


def picture(path, size=SIZE, mode="RGB", seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    image.save(path)
    return np.array(image)


def mask(path, size=SIZE, white=255, left=10):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0]), np.uint8)
    pixels[5:20, left : left + 15] = white
    Image.fromarray(pixels).save(path)
    return pixels > 0


def read(path):
    return np.array(Image.open(path))


@pytest.mark.parametrize("flags", ["", "--tile 16 --overlap 4"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_known_pixels_are_those_of_the_input(gans, tmp_path, checkpoint, flags, mode):
    checkpoint(Inpainting, channels=1 if mode == "L" else 3)
    given = {name: picture(tmp_path / "in" / name, mode=mode, seed=i) for i, name in enumerate(("a.png", "deep/b.png"))}
    holes = {"a.png": mask(tmp_path / "masks" / "a.png"), "deep/b.png": mask(tmp_path / "masks/deep/b.bmp", left=3)}
    code, out, err = gans(f"predict model.ckpt --input in --mask masks --output out {flags}")
    assert (code, out) == (0, "pictures     out (2 of 2)\n"), err
    for name, pixels in given.items():
        made, hole = read(tmp_path / "out" / name), holes[name]
        assert np.array_equal(made[~hole], pixels[~hole])
        assert (made[hole] != pixels[hole]).mean() > 0.5


def test_one_mask_for_all_and_masks_of_zeros_and_ones(gans, tmp_path, checkpoint):
    checkpoint(Inpainting)
    given = {name: picture(tmp_path / "in" / name, seed=i) for i, name in enumerate(("a.png", "b.png"))}
    for white in (255, 1):
        hole = mask(tmp_path / "one.png", white=white)
        code, _, err = gans(f"predict model.ckpt --input in --mask one.png --output out{white}")
        assert code == 0, err
        for name, pixels in given.items():
            changed = (read(tmp_path / f"out{white}" / name) != pixels).any(2)
            assert not changed[~hole].any()
            assert changed[hole].mean() > 0.5


def test_a_style_is_of_any_size_and_decides(gans, tmp_path, checkpoint, monkeypatch):
    checkpoint(StyleTransfer, depth=2)
    given = picture(tmp_path / "in" / "a.png", (50, 33))
    picture(tmp_path / "styles" / "a.jpg", (90, 21), seed=1)
    picture(tmp_path / "other.png", (9, 9), "L", seed=2)
    seen, original = [], StyleTransfer.translate

    def translate(self, *inputs):
        seen.append([tuple(part.shape[-2:]) for part in inputs])
        return original(self, *inputs)

    monkeypatch.setattr(StyleTransfer, "translate", translate)
    made = []
    for i, (style, flags) in enumerate((("styles", "--tile 30 --overlap 4"), ("other.png", ""))):
        code, _, err = gans(f"predict model.ckpt --input in --style {style} --output out{i} {flags}")
        assert code == 0, err
        made.append(read(tmp_path / f"out{i}" / "a.png"))
        assert made[-1].shape == given.shape
    assert not np.array_equal(*made)
    assert len(seen) == 9  # four tiles, twice: first for the statistics of the content
    assert {style for _, style in seen[:8]} == {(7, 30)}  # no larger than a tile, and whole
    assert max(max(piece) for piece, _ in seen[:8]) <= 30
    assert seen[8] == [(33, 50), (9, 9)]


def flat(path, colour, size=(24, 20)):
    Image.new("RGB", size, colour).save(path)


def test_styles_have_strength_weights_and_colours(gans, tmp_path, checkpoint):
    checkpoint(StyleTransfer, depth=2, width=8)
    picture(tmp_path / "a.png")
    for name, seed in (("one.png", 1), ("two.png", 2)):
        picture(tmp_path / name, (31, 17), seed=seed)
    flat(tmp_path / "dark.png", (20, 0, 0))
    made = {}
    lines = {
        "one": "--style one.png",
        "dark": "--style dark.png",
        "strength 1": "--style one.png --strength 1",
        "strength .5": "--style one.png --strength 0.5",
        "strength 0": "--style one.png --strength 0",
        "other at 0": "--style dark.png --strength 0",
        "1:0": "--style one.png dark.png --style_weights 2 0",
        "0:1": "--style one.png dark.png --style_weights 0 0.5 --tile 24 --overlap 8",
        "equal": "--style one.png dark.png",
        "one twice": "--style one.png one.png",
        "colours": "--style dark.png --preserve_colour",
    }
    for name, flags in lines.items():
        code, _, err = gans("predict model.ckpt --input a.png --output out", *flags.split())
        assert code == 0, err
        made[name] = read(tmp_path / "out" / "a.png").astype(int)

    def apart(first, second):
        return np.abs(made[first] - made[second]).mean()

    assert apart("one", "strength 1") == apart("strength 0", "other at 0") == 0
    assert apart("one", "1:0") < 0.6
    assert apart("one", "one twice") < 0.6
    assert apart("dark", "0:1") < 1.5
    assert apart("one", "dark") > 2
    for name, ends in (("strength .5", ("strength 1", "strength 0")), ("equal", ("one", "dark"))):
        assert 0 < apart(name, ends[0]) < apart(*ends) * 1.01
        assert 0 < apart(name, ends[1]) < apart(*ends) * 1.01
    assert apart("dark", "colours") > 2


def test_a_broken_mask_does_not_stop_the_others(gans, tmp_path, checkpoint):
    checkpoint(Inpainting)
    for name in ("a.png", "b.png"):
        picture(tmp_path / "in" / name)
        mask(tmp_path / "masks" / name)
    data = (tmp_path / "masks" / "b.png").read_bytes()
    (tmp_path / "masks" / "b.png").write_bytes(data[: len(data) - 30])
    code, out, err = gans("predict model.ckpt --input in --mask masks --output out")
    assert (code, out) == (1, "pictures     out (1 of 2)\n"), err
    assert "gans: skipped in/b.png: its mask masks/b.png: " in err


def test_what_is_wrong_is_one_sentence(refused, tmp_path, checkpoint):
    checkpoint(Inpainting)
    for name in ("a.png", "b.png"):
        picture(tmp_path / "in" / name)
    mask(tmp_path / "some" / "a.png")
    mask(tmp_path / "wrong" / "a.png", (20, 30))
    mask(tmp_path / "wrong" / "b.png")
    mask(tmp_path / "right.png")
    for name in ("a.png", "a.bmp", "b.bmp", "b.gif"):
        mask(tmp_path / "double" / name)
    (tmp_path / "text.png").write_text("x")
    os.mkfifo(tmp_path / "pipe.png")
    cases = {
        "": "Inpainting, which model.ckpt holds, needs a mask: give --mask FILE or DIR",
        "--mask nowhere": "mask is nowhere, which does not exist",
        "--mask pipe.png": "mask is pipe.png, which is neither a file nor a folder",
        "--mask double": "double has more than one mask for b.png: b.bmp, b.gif",
        "--mask some": "some has no mask for 1 of the pictures: b.png",
        "--mask wrong": "1 of the pictures have another size than the mask: a.png (40x30, its mask 20x30)",
        "--mask text.png": "mask is text.png, which cannot be read: not an image",
        "--mask right.png right.png": "mask is right.png, right.png; expected one file or folder",
        "--mask right.png --style right.png": "style is right.png; expected none, for Inpainting",
    }
    for flags, says in cases.items():
        assert refused(f"predict model.ckpt --input in --output out {flags}").startswith(says), flags
    checkpoint(Pix2Pix)
    assert refused("predict model.ckpt --input in --output out --mask right.png").startswith(
        "mask is right.png; expected none, for Pix2Pix, which model.ckpt holds"
    )
    checkpoint(StyleTransfer, depth=2)
    for flags, says in {
        "--style right.png --strength 2": "strength is 2.0; expected a number from 0 to 1",
        "--style a.png b.png --style_weights 1": "style_weights has 1 number; expected one for each of 2 styles",
        "--style right.png --style_weights -1": "style_weights is -1.0; expected numbers of at least 0, not all 0",
    }.items():
        assert refused(f"predict model.ckpt --input in --output out {flags}") == says
    says = refused("predict model.ckpt --input in --output out")
    assert says == "StyleTransfer, which model.ckpt holds, needs a style: give --style FILE or DIR"
