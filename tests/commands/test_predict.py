"""`gans predict CKPT`: whole pictures of any size and kind by their names, and what is wrong with them."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from gans.__main__ import main
from gans.models import DCGAN, SRGAN, CycleGAN, Pix2Pix
from gans.pictures.images import to_float, to_uint8


@pytest.fixture
def checkpoint(trainer, tmp_path):
    """A small translator of colour images, as training leaves it."""

    def make(**options):
        torch.manual_seed(0)
        model = Pix2Pix(**{"size": 16, "channels": 3, "width": 4, "norm": "none", **options})
        run = trainer(1)
        run.strategy.connect(model)
        model.trainer = run
        run.save_checkpoint(tmp_path / "model.ckpt", weights_only=True)
        return model.eval()

    return make


def picture(path, size=(40, 30), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(len(path.name))
    image = Image.fromarray(generator.integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)).convert(mode)
    image.save(path)
    return np.array(image.convert("RGB"))


class Largest(TorchDispatchMode):
    """Notes the bytes of the largest tensor that an operation makes."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for part in made if isinstance(made, tuple | list) else [made]:
            if isinstance(part, torch.Tensor):
                self.bytes = max(self.bytes, part.numel() * part.element_size())
        return made


def pixels(path):
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)


def test_a_folder_is_translated_by_its_names(gans, tmp_path, checkpoint):
    model = checkpoint()
    given = {name: picture(tmp_path / "in" / name) for name in ("a.png", "deep/b.png", "c.jpg")}
    picture(tmp_path / "in" / "grey.png", (21, 33), "L")
    picture(tmp_path / "in" / "d.gif", mode="P")
    code, out, err = gans("predict --input in model.ckpt --output out")
    assert (code, out) == (0, "pictures     out (5 of 5)\n"), err
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*"))
    assert found == ["a.png", "c.jpg", "d.gif.png", "deep/b.png", "grey.png"]
    assert Image.open(tmp_path / "out" / "grey.png").size == (21, 33)
    for name in ("a.png", "deep/b.png"):
        whole = model.translate(to_float(torch.from_numpy(given[name]).permute(2, 0, 1))[None])
        assert (pixels(tmp_path / "out" / name).int() - to_uint8(whole)[0].int()).abs().max() <= 1


def test_large_pictures_go_in_tiles(gans, tmp_path, checkpoint, monkeypatch):
    checkpoint()
    seen = []
    original = Pix2Pix.translate
    monkeypatch.setattr(Pix2Pix, "translate", lambda self, image: seen.append(image.shape) or original(self, image))
    picture(tmp_path / "big.png", (100, 70))
    for flags, least in [("", 1), ("--tile 40 --overlap 8", 6)]:
        seen.clear()
        code, _, err = gans(f"predict model.ckpt --input big.png --output out {flags}")
        assert code == 0, err
        assert len(seen) >= least
        assert Image.open(tmp_path / "out" / "big.png").size == (100, 70)
    assert all(max(shape[-2:]) <= 40 for shape in seen)


def test_a_model_of_both_ways_goes_back(gans, tmp_path, saved):
    torch.manual_seed(0)
    model = CycleGAN(16, 3, 1, width=2, blocks=1, identity_weight=0).eval()
    saved(model, tmp_path)
    given = picture(tmp_path / "a.png", (24, 20))
    for flags, channels in (("", 3), ("--back", 1)):
        code, _, err = gans(f"predict checkpoints/last.ckpt --input a.png --output out{flags} {flags}")
        assert code == 0, err
        assert np.array(Image.open(tmp_path / f"out{flags}" / "a.png")).reshape(20, 24, -1).shape[2] == channels
    whole = model.back(to_float(torch.from_numpy(given).permute(2, 0, 1))[None])
    found = torch.from_numpy(np.array(Image.open(tmp_path / "out--back" / "a.png")))
    assert (found.int() - to_uint8(whole)[0, 0].int()).abs().max() <= 1


def test_an_unreadable_picture_does_not_stop_the_others(gans, tmp_path, checkpoint):
    checkpoint()
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / "in" / name)
    (tmp_path / "in" / "b.png").write_bytes((tmp_path / "in" / "b.png").read_bytes()[:200])
    (tmp_path / "in" / "empty.jpg").write_bytes(b"")
    code, out, err = gans("predict model.ckpt --input in --output out")
    assert code == 1
    assert out == "pictures     out (2 of 4)\n"
    assert "gans: skipped in/b.png: " in err
    assert "gans: skipped in/empty.jpg: empty file" in err
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "c.png"]


@pytest.mark.parametrize("channels", [1, 4])
def test_pictures_get_the_channels_of_the_model(gans, tmp_path, checkpoint, channels):
    checkpoint(channels=channels)
    picture(tmp_path / "in" / "a.png")
    picture(tmp_path / "in" / "b.jpg")
    code, _, err = gans("predict model.ckpt --input in --output out")
    assert code == 0, err
    second = "b.jpg" if channels == 1 else "b.jpg.png"
    assert {Image.open(tmp_path / "out" / name).mode for name in ("a.png", second)} == {
        "L" if channels == 1 else "RGBA"
    }


# -- tiles -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"norm": "instance", "size": 32},
        {"norm": "instance_affine", "size": 32},
        {"norm": "instance", "network": "resnet", "width": 2},
        {"norm": "none", "size": 64, "width": 2},
    ],
    ids=str,
)
def test_tiles_show_what_the_whole_picture_shows(gans, tmp_path, trainer, options):
    """Within 2 of 255; uneven pictures, of which no tile has the mean and the contrast."""
    torch.manual_seed(0)
    model = Pix2Pix(**{"size": 16, "channels": 3, "width": 4, **options})
    for parameter in model.generator.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.generator_ema.load_state_dict(model.generator.state_dict())
    run = trainer(1)
    run.strategy.connect(model)
    model.trainer = run
    run.save_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    slope = np.linspace(0, 1, 150)[None, :, None]
    noise = np.random.default_rng(0).integers(0, 256, (131, 150, 3))
    Image.fromarray((noise * slope * np.array([1, 0.6, 0.3])).astype(np.uint8)).save(tmp_path / "a.png")
    for flags in ("", "--tile 64 --overlap 48"):
        code, _, err = gans(f"predict model.ckpt --input a.png --output out{len(flags)} {flags}")
        assert code == 0, err
    whole, tiled = (pixels(tmp_path / f"out{length}" / "a.png").int() for length in (0, 22))
    assert whole.float().std() > 5
    assert (whole - tiled).abs().max() <= 2


@pytest.mark.parametrize("options", [{"norm": "instance", "size": 32}, {"norm": "none"}], ids=str)
def test_batches_of_tiles_give_what_single_tiles_give(gans, tmp_path, checkpoint, monkeypatch, options):
    checkpoint(**options)
    picture(tmp_path / "a.png", (150, 131))
    seen, original = [], Pix2Pix.translate
    monkeypatch.setattr(Pix2Pix, "translate", lambda self, image: seen.append(len(image)) or original(self, image))
    for count in (1, 4):
        seen.clear()
        flags = f"--tile 64 --overlap 16 --batch {count}"
        code, _, err = gans(f"predict model.ckpt --input a.png --output out{count} {flags}")
        assert code == 0, err
        assert max(seen) == min(count, 3)  # columns
    one, several = (pixels(tmp_path / f"out{count}" / "a.png").int() for count in (1, 4))
    assert (one - several).abs().max() <= 1


@pytest.mark.parametrize("precision", ["bf16", "16"])
def test_half_precision_is_near(gans, tmp_path, checkpoint, precision):
    checkpoint(norm="instance", size=32)
    picture(tmp_path / "a.png", (100, 70))
    for flags in ("", f"--precision {precision} --tile 64 --overlap 16"):
        code, _, err = gans(f"predict model.ckpt --input a.png --output out{len(flags) > 0} {flags}")
        assert code == 0, err
    full, half = (pixels(tmp_path / f"out{half}" / "a.png").float() for half in (False, True))
    assert full.std() > 3
    assert 0 < (full - half).abs().mean() < 1.5


@pytest.mark.parametrize(
    ("factor", "size"), [("2", (80, 60)), ("3", (120, 90)), ("0.5", (20, 15)), ("2.51", (100, 75))]
)
def test_the_scale_of_the_results_is_the_users(gans, tmp_path, saved, factor, size):
    saved(SRGAN(16, 3, scale=2, width=4, blocks=1), tmp_path)  # a fresh one interpolates
    transparent(tmp_path / "a.png", (0, 0, 0), (40, 30))
    code, _, err = gans(f"predict checkpoints/last.ckpt --input a.png --output out --outscale {factor}")
    assert code == 0, err
    made = Image.open(tmp_path / "out" / "a.png")
    assert (made.size, made.mode) == (size, "RGBA")
    wanted = Image.open(tmp_path / "a.png").resize(size, Image.Resampling.BICUBIC)
    assert np.abs(np.array(made)[..., 3].astype(int) - np.array(wanted)[..., 3]).mean() < 2


@pytest.mark.parametrize("factor", [1e7, 1e9])
def test_an_outscale_beyond_memory_is_refused(gans, saved, tmp_path, factor):
    saved(SRGAN(8, 3, scale=2, width=2, blocks=1), tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    code, _, err = gans(f"predict checkpoints/last.ckpt --input a.png --output out --outscale {factor}")
    assert (code, err.count("\n")) == (2, 1), err
    assert "more than memory holds" in err


def test_memory_holds_no_floats_of_the_whole_result(gans, tmp_path, saved):
    """The largest tensor is the row of tiles that is being blended, or the 8-bit input."""
    saved(SRGAN(16, 3, scale=4, width=2, blocks=1), tmp_path)
    picture(tmp_path / "a.png", (160, 400))
    largest = Largest()
    with largest:
        code, _, err = gans("predict checkpoints/last.ckpt --input a.png --output out --tile 128 --overlap 16")
    assert code == 0, err
    assert Image.open(tmp_path / "out" / "a.png").size == (640, 1600)
    band = 3 * 640 * (128 + 112) * 4  # two rows of tiles at the moment at which the second begins
    assert 3 * 640 * 128 * 4 <= largest.bytes <= band < 3 * 640 * 1600 * 4 / 5


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_second_run_does_not_translate_what_the_first_one_made(gans, tmp_path, checkpoint):
    checkpoint()
    for name in ("a.png", "deep/b.png"):
        picture(tmp_path / "in" / name)
    for _ in range(2):
        code, out, err = gans("predict model.ckpt --input in --output in/deep/out")
        assert (code, out) == (0, "pictures     in/deep/out (2 of 2)\n"), err
    found = sorted(str(path.relative_to(tmp_path / "in/deep/out")) for path in (tmp_path / "in/deep/out").rglob("*.*"))
    assert found == ["a.png", "deep/b.png"]


def test_no_picture_is_written_over_another(gans, refused, tmp_path, checkpoint):
    model = checkpoint()
    given = {name: picture(tmp_path / "in" / name) for name in ("a.png", "a.bmp", "a.gif", "b.tif", "deep/a.bmp")}
    code, out, err = gans("predict model.ckpt --input in --output out --format png")
    assert (code, out) == (0, "pictures     out (5 of 5)\n"), err
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*"))
    assert found == ["a.bmp.png", "a.gif.png", "a.png", "b.png", "deep/a.png"]
    for name, made in (("a.png", "a.png"), ("a.bmp", "a.bmp.png")):
        whole = model.translate(to_float(torch.from_numpy(given[name]).permute(2, 0, 1))[None])
        assert (pixels(tmp_path / "out" / made).int() - to_uint8(whole)[0].int()).abs().max() <= 1
    picture(tmp_path / "in" / "a.gif.png")
    for form in ("png", "same"):
        says = refused(f"predict model.ckpt --input in --output other --format {form}")
        assert says == "a.gif and a.gif.png would both be written to a.gif.png; expected names of their own"
    picture(tmp_path / "a" / "b" / "b" / "c.png")
    picture(tmp_path / "a" / "b" / "c.png")
    says = refused("predict model.ckpt --input a/b --output a")
    assert says == "a/b/b/c.png would be written over a/b/c.png; expected another output folder"


@pytest.mark.parametrize(
    ("form", "names"),
    [
        ("same", ["a.jpg", "b.webp"]),
        ("png", ["a.png", "b.png"]),
        ("jpg", ["a.jpg", "b.jpg"]),
        ("webp", ["a.webp", "b.webp"]),
        ("tiff", ["a.tiff", "b.tiff"]),
        ("bmp", ["a.bmp", "b.bmp"]),
    ],
)
def test_the_format_is_the_users(gans, tmp_path, checkpoint, form, names):
    checkpoint()
    picture(tmp_path / "in" / "a.jpg")
    picture(tmp_path / "in" / "b.webp")
    code, _, err = gans(f"predict model.ckpt --input in --output out --format {form}")
    assert code == 0, err
    assert sorted(os.listdir(tmp_path / "out")) == names
    for name in names:
        kinds = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "tiff": "TIFF", "bmp": "BMP"}
        assert Image.open(tmp_path / "out" / name).format == kinds[name.split(".")[1]]


def transparent(path, hidden, size=(32, 24)):
    """A green disc that fades out, on fully transparent pixels of some colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[: size[1], : size[0]]
    alpha = np.clip(255 - 40 * (np.hypot(y - 12, x - 14) - 5), 0, 255)
    colours = np.where((alpha > 0)[..., None], (20, 200, 60), hidden)
    rgba = np.concatenate([colours, alpha[..., None]], 2).astype(np.uint8)
    Image.fromarray(rgba).save(path)
    return rgba


def test_alpha_is_enlarged_beside_the_colours(gans, tmp_path, saved):
    """Colours that nobody sees do not reach the rims of those that are seen."""
    saved(SRGAN(16, 3, scale=2, width=4, blocks=1), tmp_path)  # a fresh one interpolates
    given = transparent(tmp_path / "in" / "a.png", (0, 0, 0))
    for flags in ("", "--alpha drop", "--format jpg"):
        code, _, err = gans(f"predict checkpoints/last.ckpt --input in --output out{len(flags)} {flags}")
        assert code == 0, err
    made = np.array(Image.open(tmp_path / "out0" / "a.png"))
    wanted = np.array(Image.fromarray(given[..., 3]).resize((64, 48), Image.Resampling.BICUBIC))
    assert made.shape == (48, 64, 4)
    assert np.abs(made[..., 3].astype(int) - wanted).max() <= 2
    assert np.abs(made[made[..., 3] > 0][:, :3].astype(int) - (20, 200, 60)).max() <= 2
    dropped, jpeg = Image.open(tmp_path / "out12" / "a.png"), Image.open(tmp_path / "out12" / "a.jpg")
    assert (dropped.mode, jpeg.mode, jpeg.getpixel((0, 0))) == ("RGB", "RGB", (255, 255, 255))
    assert dropped.getpixel((0, 0)) == (255, 255, 255)
    over = np.array(Image.alpha_composite(Image.new("RGBA", (64, 48), "white"), Image.fromarray(made)).convert("RGB"))
    assert np.abs(over.astype(int) - np.array(jpeg)).mean() < 3  # compressed


@pytest.mark.parametrize("channels", [1, 4])
def test_alpha_of_grey_models_and_of_models_that_have_their_own(gans, tmp_path, checkpoint, channels):
    checkpoint(channels=channels)
    given = transparent(tmp_path / "in" / "a.png", (255, 0, 0))
    transparent(tmp_path / "in" / "b.webp", (255, 0, 0))
    code, _, err = gans("predict model.ckpt --input in --output out")
    assert code == 0, err
    made = Image.open(tmp_path / "out" / "a.png")
    assert (made.mode, Image.open(tmp_path / "out" / "b.webp").mode) == ("LA" if channels == 1 else "RGBA", "RGBA")
    assert np.array_equal(np.array(made)[..., -1], given[..., 3]) == (channels == 1)


def test_large_pictures_are_allowed_by_their_pixels(gans, tmp_path, checkpoint, monkeypatch):
    checkpoint()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    picture(tmp_path / "in" / "a.png", (30, 40))
    picture(tmp_path / "in" / "b.png", (20, 20))
    code, out, err = gans("predict model.ckpt --input in --output out")
    assert (code, out) == (1, "pictures     out (1 of 2)\n")
    assert "gans: skipped in/a.png: more than 800 pixels" in err
    assert "--max_pixels" in err
    code, out, err = gans("predict model.ckpt --input in --output out --max_pixels 1200")
    assert (code, out) == (0, "pictures     out (2 of 2)\n"), err
    assert Image.MAX_IMAGE_PIXELS == 400


def test_what_a_format_cannot_hold_is_reported(gans, tmp_path, checkpoint):
    checkpoint(width=1, size=8)
    Image.new("RGB", (16384, 1)).save(tmp_path / "wide.png")
    code, out, err = gans("predict model.ckpt --input wide.png --output out --tile 20000")
    assert code == 0, err
    (tmp_path / "in").mkdir()
    Image.new("L", (65536, 1)).save(tmp_path / "in" / "wide.png")
    code, out, err = gans("predict model.ckpt --input in --output out --tile 70000 --format jpg")
    assert (code, out) == (1, "pictures     out (0 of 1)\n")
    assert "gans: skipped in/wide.png: 65536x1 pixels cannot be written as .jpg: " in err


def test_what_is_no_picture_is_not_waited_for(gans, refused, tmp_path, checkpoint):
    """A pipe without a writer would be read for ever."""
    checkpoint()
    picture(tmp_path / "in" / "a.png")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    (tmp_path / "in" / "notes.txt").touch()
    code, out, err = gans("predict model.ckpt --input in --output out")
    assert (code, out) == (0, "pictures     out (1 of 1)\nleft out     1 .txt\n"), err
    says = refused("predict model.ckpt --input in/pipe.png --output other")
    assert says == "input is in/pipe.png, which is neither a file nor a folder"


def test_what_is_wrong_is_one_sentence(refused, tmp_path, checkpoint, trainer):
    checkpoint()
    picture(tmp_path / "in" / "a.png")
    (tmp_path / "bare").mkdir()
    (tmp_path / "broken.png").write_text("x")
    run = trainer(1)
    other = DCGAN(16, 1, width=2)
    run.strategy.connect(other)
    other.trainer = run
    run.save_checkpoint(tmp_path / "dcgan.ckpt", weights_only=True)
    cases = {
        "none.ckpt --input in --output out": "there is no checkpoint none.ckpt",
        "model.ckpt --input nowhere --output out": "input is nowhere, which does not exist",
        "model.ckpt --input bare --output out": "input is bare, which holds no pictures",
        "model.ckpt --input in --output in": "output is in, where the input is; expected another folder",
        "model.ckpt --input in --output made.png": "output is made.png; expected a folder, in which the result",
        "model.ckpt --input in": "output must be given",
        "model.ckpt --input in --output out --tile 8 --overlap 8": "overlap is 8; expected less than the tile, 8",
        "model.ckpt --input in --output out --batch 0": "batch is 0; expected at least 1",
        "model.ckpt --input in --output out --outscale 0": "outscale is 0.0; expected a number above 0",
        "model.ckpt --input in --output out --outscale nan": "outscale is nan; expected",
        "model.ckpt --input in --output out --precision 8": "precision is 8; expected one of '32', 'bf16', '16'",
        "model.ckpt --input in --output out --format gif": "format is gif; expected",
        "model.ckpt --input in --output out --strength 0.5": "strength is for style transfer, but model.ckpt",
        "model.ckpt --input in --output out --preserve_colour": "preserve_colour is for style transfer, but model.ckpt",
        "model.ckpt --input in --output out --device tpu9": "device is tpu9; expected auto, cpu",
        "model.ckpt --input in --output /proc/x": "cannot write under /proc/x",
        "model.ckpt --input in --output out --back": "back asks for the other way, but model.ckpt holds a Pix2Pix",
        "dcgan-digits --output out": "input must be given",
        "dcgan.ckpt --input in --output out": "dcgan.ckpt holds a DCGAN, which makes no images of images: use `gans s",
    }
    for line, says in cases.items():
        assert refused(f"predict {line}").startswith(says)


def test_one_unreadable_picture_alone_is_bad_input(gans, tmp_path, checkpoint):
    checkpoint()
    (tmp_path / "broken.png").write_text("x")
    code, _, err = gans("predict model.ckpt --input broken.png --output out")
    assert (code, err.strip()) == (2, "gans: error: broken.png cannot be read: not an image")
    assert not (tmp_path / "out").exists()


def test_a_recipe_is_still_predicted(gans, tmp_path):
    code, _, err = gans("predict dcgan-digits")
    assert code == 2
    assert "there is no checkpoint of dcgan-digits under runs/dcgan-digits" in err
    assert main(["predict"]) == 2


@pytest.mark.slow
def test_a_photograph_fits_into_memory(tmp_path, checkpoint):
    checkpoint(size=256, width=64, norm="instance")
    picture(tmp_path / "photo.png", (1000, 700))
    # In a process of its own, whose peak is nobody else's.
    script = (
        "import resource, sys; from gans.__main__ import main; code = main(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
    )
    line = [sys.executable, "-c", script, "predict", "model.ckpt", "--input", "photo.png", "--output", "out"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "out" / "photo.png").size == (1000, 700)
    kilobytes = int(done.stdout.split()[-1])
    assert 200_000 < kilobytes < 4_000_000
