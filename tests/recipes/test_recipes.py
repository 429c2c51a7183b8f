"""Every recipe through the real command line, on tiny data of the layout that it asks for.

Recipes are found in the package. One on a data set that `MAKE` does not know fails until a rule is added there.
"""

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from mnist_files import random_mnist
from PIL import Image

from datamodules import ImageFolderDataModule
from gans.__main__ import main
from gans.callbacks.grid import columns, headings
from gans.engine.checkpoint import load_model
from gans.engine.interface import makes_images, translates
from gans.models import GridAutoencoder
from gans.pictures.captions import headed
from gans.runs.recipes import recipes

STEPS = 2


def mnist(root):
    """Write images in torchvision's layout."""
    random_mnist(root)
    return ["--data.val_size=16"]


def pictures(folder, size, ending, count=20):
    """Write colour images of (width, height) into a folder."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for i in range(count):
        pixels = random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:06d}.{ending}")


def flat(root):
    """Write a flat folder of images."""
    pictures(root, (40, 48), "png")
    return ["--data.val_size=4"]


def celeba(root):
    """Write the layout of CelebA: aligned JPEG files of 178x218 in one folder, text files beside it."""
    pictures(root / "img_align_celeba", (178, 218), "jpg")
    (root / "list_attr_celeba.txt").write_text("20\n")
    return []


def faces(root):
    """Write two sets of drawn faces in class folders of their styles."""
    for name in ("train/adventurer", "train/micah", "test/adventurer", "test/micah"):
        pictures(root / name, (64, 64), "webp", 6)
    return []


def classes(root):
    """Write ten class folders of two 32x32 colour images."""
    for name in range(10):
        pictures(root / f"class{name}", (32, 32), "jpg", 2)
    return []


def moving(root):
    """Write MNIST for moving digits."""
    random_mnist(root)
    return []


def clips(root):
    """Write two clips of 20 frames and one that is too short."""
    for name, frames in (("first", 20), ("second", 20), ("short", 5)):
        pictures(root / name, (40, 48), "png", frames)
    return []


def films(root):
    """Write clips of 16 frames in the folders of two sets."""
    for name in ("train/first", "train/second", "test/third"):
        pictures(root / name, (32, 32), "png", 16)
    return []


def sides(root, count=20):
    """Write pictures side by side in the folders of facades."""
    for name in ("train", "val", "test"):
        pictures(root / name, (96, 48), "jpg", count)
    return []


def captions(root):
    """Write a flat folder of images with a caption each."""
    flags = flat(root)
    words = ["red", "blue", "green"]
    lines = ", ".join(f'"{path.name}": "a {words[i % 3]} house"' for i, path in enumerate(sorted(root.glob("*.png"))))
    (root / "captions.json").write_text(f"{{{lines}}}")
    return flags


def kinds(root):
    """Write folders of two kinds of images, as CycleGAN's sets have them."""
    for name in ("trainA", "trainB", "testA", "testB"):
        pictures(root / name, (40, 48), "jpg", 6)
    return [
        "--data.batch_size=1",
        "--model.blocks=1",
        "--model.width=1",
    ]  # the paper's are large


def unpaired(root):
    """Write the folders of two sets without pairs."""
    for name in ("trainA", "trainB"):
        pictures(root / name, (40, 48), "png")
    return ["--data.val_size=4"]


def photographs(root):
    """Write the folders of facades, of which one half is looked at."""
    return [*sides(root), "--data.val_size=4"]


def filling(root):
    """Write pictures of any size; the authors' network is large."""
    return [*flat(root), "--model.width=1", "--model.discriminator_width=1", "--data.batch_size=2"]


# By the data part of a recipe's name, or by the whole name: writes the data below a folder, returns the flags that they
# need besides.
def berkeley(root):
    """Write the folders of BSDS500, of pictures larger than the windows."""
    for name in ("train", "val", "test"):
        pictures(root / name, (140, 130), "jpg", 10)
    return []


def esrgan(root):
    """Write a flat folder. The networks are large, and no weights of VGG19 are there."""
    return [*flat(root), "--model.blocks=1", "--model.growth=4", "--model.features=random"]


def labelled(root):
    """Write pairs side by side in the folders of facades: photographs, and maps of twelve classes."""
    random = np.random.default_rng(0)
    colours = np.asarray([(20 * number, 255 - 20 * number, 100) for number in range(12)], np.uint8)
    for name in ("train", "val", "test"):
        (root / name).mkdir(parents=True)
        for number in range(6):
            label = colours[random.permutation(12)].reshape(3, 4, 3).repeat(16, 0).repeat(12, 1)
            photo = random.integers(0, 256, label.shape, dtype=np.uint8)
            Image.fromarray(np.concatenate([photo, label], 1)).save(root / name / f"{number}.png")
    return ["--data.direction=b_to_a", "--model.width=1", "--model.hidden=2", "--model.features=random"]


def latents(root):
    """Write a flat folder of images, and beside it an `AutoencoderKL` of `diffusers` with few channels, factor 8."""
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: the extra latents")
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    network = diffusers.AutoencoderKL(**blocks, block_out_channels=(4, 4, 8, 8), norm_num_groups=4, sample_size=256)
    network.save_pretrained(root.with_name("kl"))
    return [*flat(root), f"--model.autoencoder={root.with_name('kl')}"]


def coded(write, size):
    """Return a rule that also writes an autoencoder of images of `size`, with codes of 3 x 16 x 16."""

    def make(root):
        model = GridAutoencoder(size, 3, code_channels=3, factor=size // 16, width=4)
        trainer = L.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
        trainer.strategy.connect(model)
        model.trainer = trainer
        path = root.with_name("coder.ckpt")
        trainer.save_checkpoint(path, weights_only=True)
        return [*write(root), f"--model.autoencoder={path}"]

    return make


MAKE = {
    "mnist": mnist,
    "stacked": mnist,
    "folder": flat,
    "celeba": celeba,
    "faces": faces,
    "cifar10": classes,
    "digits": None,
}
MAKE |= {"sequence-mnist": moving, "sequence-folder": clips, "facades": sides, "pix2pix-folder": sides}
MAKE |= dict.fromkeys(("spade-facades", "spade-folder"), labelled)
MAKE |= {"texttoimage-folder": captions, "gat-folder": latents}
MAKE |= dict.fromkeys(("manifold-cifar10", "manifold-r3gan-cifar10", "gat-tiny-cifar10"), coded(classes, 32))
MAKE |= {"gat-tiny-faces": coded(faces, 64)}
MAKE |= dict.fromkeys(("cyclegan-folder", "cyclegan-cifar10", "cut-folder", "cut-fast-folder", "cut-cifar10"), kinds)
MAKE |= {"styletransfer-folder": unpaired, "inpainting-facades": photographs, "inpainting-cifar10": flat}
MAKE |= {"inpainting-folder-256": filling}


MAKE |= dict.fromkeys(("sequence-continued-bsd", "nextframe-bsd"), films)
MAKE |= {"bsd": berkeley, "srgan-x4-folder": esrgan, "srgan-x4-real-folder": esrgan}


def layout(name):
    """Return the key of `MAKE` that a recipe's data go by."""
    return name if name in MAKE else name.rpartition("-")[2]


# Each has a smaller one of its model beside it.
LARGE = {"spade-folder", "pix2pix-edges-folder", "pix2pix-small-facades"}
LARGE |= {"cut-fast-folder", "cut-folder", "cyclegan-folder", "cyclegan-mnist", "pix2pix-folder", "sagan-folder"}
LARGE |= {
    "inpainting-folder-256",
    "sequence-folder",
    "sequence-mnist",
    "srgan-folder",
    "texttoimage-folder",
    "r3gan-cifar10",
}
LARGE |= {
    "stylegan2-cifar10",
    "stylegan2-folder",
    "projectiongan-cifar10",
    "sngan-cifar10",
    "wgangp-cifar10",
    "sagan-cifar10",
    "reacgan-cifar10",
}
LARGE |= {"contragan-cifar10"}
LARGE |= {"fastgan-folder", "gat-folder", "srgan-denoise-windows-folder", "srgan-x4-folder", "srgan-x4-real-folder"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in recipes()]
)
def test_a_recipe_runs(name, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    data = layout(name)
    assert data in MAKE, f"recipe {name}: add a rule to MAKE that writes tiny data for '{data}'"
    flags = ["--model.width=16" if "r3gan" in name else "--model.width=4", "--data.batch_size=4"]
    options = yaml.safe_load(recipes()[name].read_text())["model"]["init_args"]
    if options.get("discriminator_width"):
        flags += ["--model.discriminator_width=4"]
    # The second step is the generator's, and has a picture.
    flags += [f"--model.{stage}=1" for stage in ("text_steps", "autoencoder_steps") if stage in options]
    flags += [f"--data.root={tmp_path / 'data'}", *MAKE[data](tmp_path / "data")] if MAKE[data] else []
    flags += ["--data.num_workers=0", "--grid.samples=4", "--evaluate.samples=10", "--evaluate.reference=10"]
    code = main(["fit", name, *flags, f"--trainer.max_steps={STEPS}", "--trainer.accelerator=cpu"])
    out, err = capfd.readouterr()
    assert code == 0, err
    assert f"checkpoint   runs/{name}/version_0/checkpoints/last.ckpt" in out.splitlines()

    run = tmp_path / "runs" / name / "version_0"
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == STEPS
    assert all(tensor.isfinite().all() for tensor in saved["state_dict"].values() if tensor.is_floating_point())
    given, resolved = (yaml.safe_load(path.read_text()) for path in (recipes()[name], run / "config.yaml"))
    assert resolved["data"]["init_args"]["size"] == given["data"]["init_args"]["size"]  # tiny in all but the images
    kind = load_model(run / "checkpoints" / "last.ckpt")
    # four samples, in a square or in a row of classes, or clips in four rows, or triptychs, three in a row; two pixels
    # between
    if not makes_images(kind):
        return
    if hasattr(kind, "matcher"):
        with Image.open(run / "samples" / f"captions_{STEPS:07d}.png") as sheet:
            assert sheet.height > given["data"]["init_args"]["size"]
        return
    moving, side = "frames" in given["data"]["init_args"], given["data"]["init_args"]["size"]
    if moving and translates(kind):  # each held-out clip has a row of what is true, and one of what is made
        with Image.open(run / "samples" / f"continued_{STEPS:07d}.png") as film:
            assert film.height > 2
            assert film.height % (2 * (side + 2)) == 2
        return
    rows = 4 if moving else -(-4 // (columns(kind) or 2))
    word = "translations" if translates(kind) else "step"
    with Image.open(run / "samples" / f"{word}_{STEPS:07d}.png") as picture:
        grid = torch.zeros(3, rows * (given["data"]["init_args"]["size"] + 2) + 2, picture.width, dtype=torch.uint8)
        named = () if "frames" in given["data"]["init_args"] else headings(kind)  # of the columns' classes
        assert picture.height == headed(grid, named).shape[1]


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("manifold-cifar10", "gridautoencoder-cifar10"),
        ("manifold-r3gan-cifar10", "gridautoencoder-cifar10-8x8"),
        ("gat-tiny-cifar10", "gridautoencoder-cifar10"),
        ("gat-tiny-faces", "gridautoencoder-faces"),
        ("gat-folder", "gridautoencoder-folder"),
    ],
)
def test_a_game_on_codes_without_its_autoencoder_is_refused(refused, name, asked):
    told = refused(f"fit {name}")
    assert told.startswith("model.autoencoder is ")
    assert asked in told


def test_the_rules_are_all_used():
    assert {layout(name) for name in recipes()} == set(MAKE)
    assert recipes().keys() >= LARGE


PAPERS = ("stylegan2-cifar10", "sngan-cifar10", "wgangp-cifar10", "projectiongan-cifar10", "r3gan-cifar10")


@pytest.mark.parametrize("name", PAPERS)
def test_recipes_with_a_papers_numbers_train_on_all_images(name, tmp_path):
    """Papers compare with all 50,000 images and train on them, mirrored if theirs were."""
    recipe = yaml.safe_load(recipes()[name].read_text())
    classes(tmp_path)
    options = {**recipe["data"]["init_args"], "root": tmp_path, "num_workers": 0}
    data = ImageFolderDataModule(**options)
    data.setup("fit")
    assert len(data.train_dataloader().dataset) == 20
    assert data.flip == (name == "r3gan-cifar10")  # whose authors' command has --mirror=1
    model, batch = recipe["model"]["init_args"], options["batch_size"]
    if name == "r3gan-cifar10":  # 512 for each player, 250 M images of each
        assert batch == 2 * 512
        assert recipe["trainer"]["max_steps"] * 512 == pytest.approx(250e6, rel=1e-3)
        assert not {"schedule_images", "halflives", "lr", "gamma"} & model.keys()  # the class has the paper's
    elif name == "stylegan2-cifar10":  # 100 M images
        assert batch == 64
        assert recipe["trainer"]["max_steps"] * 64 == 100e6
    else:
        assert (batch, model["generator_batch"] * batch) == (64, 128)
