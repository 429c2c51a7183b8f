"""`gans export` as a user runs it, and what it wrote in a Python that has neither this package nor Lightning."""

import importlib.util
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.utils import parametrize

import gans.models
from gans.checks import article
from gans.commands import export
from gans.commands.export import SUFFIX, baked
from gans.engine.interface import makes_images, translates
from gans.models import NextFrame, Pix2Pix, SequenceGAN, TextToImage
from gans.networks import dcgan
from gans.networks.spectral import normed_together, spectral_layers

SMALL = {"size": 8, "channels": 1, "latent_dim": 4, "width": 2}
OTHER = {
    "DCGAN": {"size": (12, 10), "channels": 3},  # cut to size
    "SAGAN": {"size": 16, "width": 8},
    "ContraGAN": {"size": 16, "width": 8, "embedding_dim": 16},
    "ReACGAN": {"size": 16, "width": 8, "embedding_dim": 16},
    "FastGAN": {"size": 16},
    "R3GAN": {"width": 16, "num_classes": 3},
    "GAT": {"preset": "tiny", "width": 16, "depth": 4, "num_classes": 3},
    "StyleGAN2": {"preset": "small", "num_classes": 3},
    "GridAutoencoder": {"latent_dim": None},
    "InfoGAN": {"latent_dim": 6},
    "SequenceGAN": {"frames": 3, "motion_dim": 2, "num_classes": 3},
    "VAE": {"network": "conv"},
}
KINDS = {name: getattr(gans.models, name) for name in gans.models.__all__}
DRAWING = [name for name, kind in KINDS.items() if makes_images(kind) and not translates(kind)]
# It stands in for an environment without these packages.
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, *_):
        if name.split(".")[0] in {blocked}:
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
import numpy as np
held = np.load("held.npz")
"""
ON_TORCH = """
with torch.no_grad():
    found = generator(*(torch.from_numpy(held[name]) for name in ("z", "labels") if name in held))
difference = np.abs(found.numpy() - held["images"]).max()
"""
ON_ONNX = """
[found] = session.run(None, {name: held[name] for name in ("z", "labels") if name in held})
difference = np.abs(found - held["images"]).max()
"""
REPORT = """
assert tuple(images.shape) == held["images"].shape, images.shape
assert not blocked & {name.split(".")[0] for name in sys.modules}
print(difference)
"""


def make(name):
    """A small model whose weights and statistics are unlike those of a fresh one."""
    torch.manual_seed(1)
    given = {**SMALL, **OTHER.get(name, {})}
    model = getattr(gans.models, name)(**{key: value for key, value in given.items() if value is not None})
    for name, tensor in model.state_dict().items():
        if "running" in name or name.endswith("mean"):
            tensor += 0.1 * torch.rand_like(tensor)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    with normed_together(spectral_layers(model.train())):  # the singular vectors of these weights
        pass
    model.generator_ema.load_state_dict(model.generator.state_dict())
    return model.eval()


@pytest.fixture
def checkpoint(saved, tmp_path):
    return lambda model: saved(model, tmp_path / "run")


def exported(gans, path, form):
    """Export to a file and return the lines that are printed to load it."""
    code, out, err = gans(f"export {path} --format {form} --out out{SUFFIX[form]}")
    assert (code, err) == (0, "")
    assert "checked      16 of its pictures differ" in out
    return out.partition("\n\n")[2]


def elsewhere(snippet, check, blocked):
    """Run the printed lines in a Python without some packages, and return how far the pictures are off."""
    code = f"blocked = {blocked}\n" + BLOCKED.format(blocked="blocked") + snippet + check + REPORT
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def hold(model):
    """Write 16 latents, their classes and the model's pictures of them."""
    conditions = model.conditions(16, None)
    z = torch.randn(16, model.latent_dim)
    with torch.no_grad():
        images = model(z, *conditions)
    assert images.std(0).mean() > 0.01
    np.savez("held.npz", z=z, images=images, **dict(zip(["labels"], conditions, strict=False)))


@pytest.mark.slow  # by default, the file of a translator stands for all
@pytest.mark.parametrize(
    ("form", "name"), [("torchscript", "SAGAN"), ("torch-export", "ConditionalGAN"), ("onnx", "InfoGAN")]
)
def test_a_file_runs_without_this_package(checkpoint, gans, form, name):
    if form == "onnx":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: the extra onnx")
        pytest.importorskip("onnxscript", reason="onnxscript is not installed: the extra onnx")
    model = make(name)
    lines = exported(gans, checkpoint(model), form)
    assert len(lines.splitlines()) == 3
    hold(model)
    onnx = form == "onnx"
    blocked = {"gans", "datamodules", "lightning", "pytorch_lightning", *(["torch"] if onnx else [])}
    assert elsewhere(lines, ON_ONNX if onnx else ON_TORCH, blocked) <= 1e-5


@pytest.mark.parametrize("name", DRAWING)
def test_torchscript_of_every_model(checkpoint, gans, name):
    assert "torch.jit.load" in exported(gans, checkpoint(make(name)), "torchscript")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["safetensors", "torch-export", "onnx"])
@pytest.mark.parametrize("name", DRAWING)
def test_every_model_in_every_other_format(checkpoint, gans, name, form):
    exported(gans, checkpoint(make(name)), form)


NOISY = [pytest.param(form, marks=pytest.mark.slow) for form in ("torch-export", "onnx")]


@pytest.mark.parametrize("form", ["torchscript", *NOISY])
def test_the_noise_of_layers_is_an_input_by_a_flag(checkpoint, gans, form):
    model = make("StyleGAN2")
    path, held = checkpoint(model), {}
    code, out, err = gans(f"export {path} --format {form} --noise input --out out{SUFFIX[form]}")
    assert (code, err) == (0, "")
    exec(out.partition("\n\n")[2], held)
    assert len(held["images"]) == 16
    z, labels, generator = torch.randn(3, model.latent_dim), torch.tensor([2, 0, 1]), model.generator_ema
    rows = torch.randn(2, 3, generator.noise_dim)
    rows[1] = generator.synthesis.noise
    for noise in rows:
        if form == "onnx":
            fed = {"z": z.numpy(), "labels": labels.numpy(), "noise": noise.numpy()}
            found = torch.from_numpy(held["session"].run(None, fed)[0])
        else:
            found = held["generator"](z, noise, labels)
        assert (found - generator(z, labels, noise)).abs().max() < 1e-5
    assert (found - model(z, labels)).abs().max() < 1e-5  # of the stored noise
    assert (generator(z, labels, rows[0]) - model(z, labels)).abs().max() > 0.01


# -- models that continue clips ----------------------------------------------------------------------------------------


def continuing(**options):
    """A small model that continues two frames, whose weights are unlike those of a fresh one."""
    torch.manual_seed(1)
    sizes = {"size": 16, "channels": 1, "frames": 5, "latent_dim": 4, "motion_dim": 3, "width": 2, "given": 2}
    model = SequenceGAN(**{**sizes, **options})
    for parameter in model.generator.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.generator_ema.load_state_dict(model.generator.state_dict())
    return model.eval()


def given_frames(count):
    """Frames of a square that comes into the frame, by one or by two pixels: it has four columns, and before three."""
    first = -torch.ones(count, 1, 2, 16, 16)
    for i in range(count):
        first[i, 0, 0, i : i + 5, :3] = first[i, 0, 1, i : i + 5, 1:5] = 1
    return first


CONTINUED = [(form, options) for form in ("torch-export", "onnx") for options in ({}, {"num_classes": 3})]


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("safetensors", {"motion_grid": 1}),
        ("torchscript", {"motion_grid": 1}),
        ("onnx", {"motion_grid": 1}),
        pytest.param("torch-export", {"motion_grid": 1}, marks=pytest.mark.slow),
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in CONTINUED),
    ],
)
def test_a_file_continues_clips_as_extend_does(checkpoint, gans, record_property, form, options):
    if form == "onnx":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: the extra onnx")
        pytest.importorskip("onnxscript", reason="onnxscript is not installed: the extra onnx")
    model, held = continuing(**options), {}
    code, out, err = gans(f"export {checkpoint(model)} --extend --format {form} --out out{SUFFIX[form]}")
    assert (code, err) == (0, "")
    assert "checked      16 continuations of 3 frames differ from the checkpoint's by at most " in out
    exec(out.partition("\n\n")[2], held)
    assert tuple(held["clips"].shape) == (16, 1, 5, 16, 16)
    for count in (1, 3):
        first, wanted = given_frames(count), model.extend(given_frames(count), 3, seed=4)
        noise = torch.cat([model.drawn(count, 3, 4, "extend", i) for i in range(5)], 1)
        if form == "onnx":
            found = torch.from_numpy(held["session"].run(None, {"first": first.numpy(), "noise": noise.numpy()})[0])
        else:
            found = held["generator"](first, noise) if "generator" in held else held["model"].extend(first, 3, seed=4)
        difference = float((found - wanted).abs().max())
        record_property(f"difference of {count}", difference)
        assert wanted[:, :, 2:].std() > 1e-3
        assert difference < 1e-4


@pytest.mark.parametrize("form", ["torchscript", pytest.param("onnx", marks=pytest.mark.slow)])
def test_a_model_that_continues_clips_also_generates_them(checkpoint, gans, form):
    model = continuing(motion_grid=1)
    lines = exported(gans, checkpoint(model), form)
    assert "randn" in lines
    assert "extend" not in lines


def test_extending_is_for_models_that_continue_clips(checkpoint, refused):
    for model in (make("GAN"), make("SequenceGAN"), translator("SRGAN")):
        path, held = checkpoint(model), article(type(model))
        says = f"extend is for models of clips that were trained with given, but {path} holds {held} without it"
        assert refused(f"export {path} --extend --format torchscript") == says
    path = checkpoint(NextFrame(size=16, frames=5, given=2, width=2))
    says = f"extend is for models with noise, but {path} holds a NextFrame: without extend, the file makes one frame"
    assert refused(f"export {path} --extend --format torchscript") == says
    path = checkpoint(continuing())
    assert refused(f"export {path} --extend --back --format torchscript").startswith("back and extend are given;")
    assert refused(f"export {path} --extend --noise input --format torchscript").startswith("noise is input, but ")


# -- models of images from images --------------------------------------------------------------------------------------

TRANSLATING = {
    "pix2pix": lambda: gans.models.Pix2Pix(32, 3, width=2),
    "pix2pix, colours": lambda: gans.models.Pix2Pix(8, 3, 1, width=2, space="lab"),
    "nextframe": lambda: gans.models.NextFrame(16, 1, frames=6, given=3, width=2),
    "pix2pix, residual": lambda: gans.models.Pix2Pix(16, 1, 4, width=2, network="resnet", norm="instance_affine"),
    "CUT": lambda: gans.models.CUT(16, 3, width=2, blocks=1),
    "CycleGAN": lambda: gans.models.CycleGAN(16, 3, 1, width=2, blocks=1, identity_weight=0),
    "SRGAN": lambda: gans.models.SRGAN(16, 3, scale=2, width=4, blocks=1),
    "RRDB": lambda: gans.models.SRGAN(16, 1, scale=1, width=4, blocks=1, network="rrdb", growth=2),
    "Inpainting": lambda: gans.models.Inpainting(16, 3, width=2),
    "SPADE": lambda: gans.models.SPADE(16, 3, classes=3, width=1, hidden=2),
    "Inpainting, attention": lambda: gans.models.Inpainting(16, 3, width=2, network="deepfill"),
    "Inpainting, Fourier": lambda: gans.models.Inpainting(16, 3, width=2, network="lama", blocks=1, base="pull_push"),
    "StyleTransfer": lambda: gans.models.StyleTransfer(16, 4, width=2, depth=2),
}


def translator(name):
    """A small translator whose weights are unlike those of a fresh one."""
    torch.manual_seed(1)
    model = TRANSLATING[name]()
    for parameter in model.generator.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    with normed_together(spectral_layers(model.train())):  # the singular vectors of these weights
        pass
    model.generator_ema.load_state_dict(model.generator.state_dict())
    return model.eval()


def translated(gans, path, form, flags=""):
    """Export a translator to a file and return the lines that are printed to load it."""
    code, out, err = gans(f"export {path} --format {form} --out out{SUFFIX[form]} {flags}")
    assert (code, err) == (0, "")
    assert "pixels differ from those of `gans predict` by at most " in out
    return out.partition("\n\n")[2]


def agrees(lines, model, sizes=((2, 21, 34), (1, 16, 16), (1, 50, 9))):
    """Run the printed lines here, then give what they loaded other sizes, and compare."""
    held = {}
    exec(lines, held)
    assert len(lines.splitlines()) == 3
    draw = torch.Generator().manual_seed(0)
    for n, height, width in sizes:
        inputs = [torch.rand(n, model.source_channels, height, width, generator=draw) * 2 - 1]
        if "mask" in model.extras:
            inputs.append(torch.rand(n, 1, height, width, generator=draw).round())
        if "style" in model.extras:
            inputs.append(torch.rand(n, model.source_channels, 40, 30, generator=draw))
        if "session" in held:
            names = ["source", *model.extras]
            fed = {name: part.numpy() for name, part in zip(names, inputs, strict=True)}
            found = torch.from_numpy(held["session"].run(None, fed)[0])
        else:
            found = held["generator"](*inputs) if "generator" in held else held["model"].translate(*inputs)
        wanted = model.translate(*inputs)
        assert wanted.std() > 0.01
        assert (found - wanted).abs().max() < 1e-3


@pytest.mark.parametrize("name", TRANSLATING)
def test_torchscript_of_every_translator(checkpoint, gans, name):
    model = translator(name)
    agrees(translated(gans, checkpoint(model), "torchscript"), model)


FORMS = [(form, name) for form in ("safetensors", "torch-export", "onnx") for name in TRANSLATING]
SOME = [("safetensors", "CUT"), ("onnx", "SRGAN")]


@pytest.mark.parametrize(
    ("form", "name"), [pytest.param(*pair, marks=() if pair in SOME else pytest.mark.slow) for pair in FORMS]
)
def test_every_translator_in_every_other_format(checkpoint, gans, form, name):
    if form == "onnx":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: the extra onnx")
        pytest.importorskip("onnxscript", reason="onnxscript is not installed: the extra onnx")
    model = translator(name)
    agrees(translated(gans, checkpoint(model), form), model)


def test_a_translators_file_runs_without_this_package(checkpoint, gans):
    """What it makes is the picture of `gans predict`, in a Python that has neither this package nor Lightning."""
    path = checkpoint(translator("pix2pix"))
    lines = translated(gans, path, "torchscript")
    pixels = np.random.default_rng(0).integers(0, 256, (37, 45, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("a.png")
    assert gans(f"predict {path} --input a.png --output made")[0] == 0
    source = (torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1).numpy()
    np.savez("held.npz", z=source, images=np.asarray(Image.open("made/a.png")).transpose(2, 0, 1)[None] / 127.5 - 1)
    check = ON_TORCH + "images = found\n"
    blocked = {"gans", "datamodules", "lightning", "pytorch_lightning"}
    assert elsewhere(lines, check, blocked) <= 1.01 / 255  # rounded to 8 bits


def test_the_other_way_is_exported(checkpoint, gans, refused):
    model = translator("CycleGAN")
    path, held = checkpoint(model), {}
    exec(translated(gans, path, "torchscript", "--back"), held)
    target = torch.rand(2, 3, 19, 22) * 2 - 1
    assert (held["generator"](target) - model.back(target)).abs().max() < 1e-3
    for name in ("SRGAN", "GAN"):
        path = checkpoint(make(name) if name == "GAN" else translator(name))
        assert refused(f"export {path} --format torchscript --back").startswith("back ")


# -- weights, and what goes wrong --------------------------------------------------------------------------------------


def test_weights_come_back_through_this_package(checkpoint, gans):
    model, held = make("ManifoldGAN"), {}
    exec(exported(gans, checkpoint(model), "safetensors"), held)
    assert torch.equal(held["images"], model.sample(16, seed=0))


def test_baking_leaves_the_function_and_the_original():
    generator = make("SAGAN").generator_ema
    plain, z = baked(generator), torch.randn(3, 4)
    assert any(map(parametrize.is_parametrized, generator.modules()))
    assert not any(map(parametrize.is_parametrized, plain.modules()))
    assert torch.allclose(plain(z), generator(z), atol=1e-6)
    generator = make("ManifoldGAN").generator_ema
    assert torch.allclose(baked(generator)(z), generator(z), atol=1e-6)


def test_the_default_is_beside_the_run(checkpoint, gans, tmp_path):
    path = checkpoint(make("GAN"))
    assert gans(f"export {path} --format torchscript")[0] == 0
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == ["checkpoints", "generator.pt"]


def test_a_program_tells_nothing_of_this_machine(checkpoint, gans, tmp_path):
    exported(gans, checkpoint(make("GAN")), "torch-export")
    assert str(Path(dcgan.__file__).parents[2]).encode() not in (tmp_path / "out.pt2").read_bytes()


def test_the_suffix_says_the_format(checkpoint, gans, tmp_path):
    code, out, _ = gans(f"export {checkpoint(make('GAN'))} --out a.pt2")
    assert (code, (tmp_path / "a.pt2").is_file(), "torch.export.load" in out) == (0, True, True)


def test_wrong_flags_are_refused(checkpoint, refused, tmp_path, monkeypatch):
    path = checkpoint(make("GAN"))
    without = f"noise is input, but {path} holds a GAN without noise"
    assert refused(f"export {path} --format torchscript --noise input") == without
    (tmp_path / "folder.pt").mkdir()
    (tmp_path / "file").touch()
    for flags, says in [
        ("", "format must be given, or --out with one of the suffixes .safetensors (safetensors), .pt (torchscript), "),
        (
            "--out a.tflite",
            "out is a.tflite; expected one of the suffixes .safetensors (safetensors), .pt (torchscript)",
        ),
        ("--format onxx", "format is onxx (did you mean onnx?); expected one of 'safetensors', "),
        ("--format safetensors --noise input", "noise is input, but safetensors are weights, which have no inputs"),
        ("--format torchscript --noise drawn", "noise is drawn; expected one of"),
        ("--format torchscript --out a.pt2", "out is a.pt2; expected a name that ends with .pt"),
        ("--format torch-export --out a", "out is a; expected a name that ends with .pt2"),
        ("--format torchscript --out folder.pt", "out is folder.pt, which is a folder; expected a file"),
        ("--format torchscript --out file/a.pt", "cannot write under file: "),
        ("--format torchscript --out /proc/a/b.pt", "cannot write under /proc/a: "),
    ]:
        assert refused(f"export {path} {flags}").startswith(says)
    assert refused("export none.ckpt --format torchscript").startswith("there is no checkpoint none.ckpt: ")
    find = importlib.util.find_spec
    there = {"onnx": find("json"), "onnxscript": None, "onnxruntime": find("json")}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: there[name] if name in there else find(name, *a))
    assert refused(f"export {path} --format onnx") == 'onnx needs onnxscript: pip install "lightning-gans[onnx]"'


class Undecided(nn.Module):
    """A generator whose path depends on its input."""

    def __init__(self, images):
        super().__init__()
        self.images = images

    def forward(self, z):
        return self.images(z) if z.sum() > 0 else -self.images(z)


def test_what_cannot_be_captured_is_not_written(checkpoint, refused, monkeypatch):
    path = checkpoint(make("GAN"))
    plain = export.baked
    monkeypatch.setattr(export, "baked", lambda generator: Undecided(plain(generator)))
    says = refused(f"export {path} --format torch-export --out new/folder/a.pt2")
    assert says.startswith("the generator of GAN cannot be written as torch-export: ")
    monkeypatch.setattr(export, "baked", lambda generator: nn.Sequential(plain(generator), nn.Hardtanh(-0.01, 0.01)))
    assert refused(f"export {path} --format torchscript").startswith("the torchscript file gives other pictures, by ")


@pytest.mark.parametrize(
    "line",
    [
        "sample {} --num 1",
        "explore interpolate {}",
        "explore traverse {}",
        "explore directions {} --method sefa",
        "explore arithmetic {} 0",
        "explore invert {} --image a.png",
        "explore neighbours {} --data DigitsDataModule",
        "explore spectrum {} --data DigitsDataModule",
        "explore path-length {}",
    ],
)
def test_a_model_of_images_from_images_has_no_latents(checkpoint, refused, line):
    path = checkpoint(Pix2Pix(size=16, channels=1, width=4))
    says = f"{path} holds a Pix2Pix, which makes images of what it is given: use"
    assert refused(line.format(path)) == f"{says} `gans predict CKPT --input photos --output results`"


def test_a_model_of_images_from_text_is_not_exported(checkpoint, refused):
    path = checkpoint(TextToImage(size=8, channels=1, width=2, latent_dim=4, vocabulary=["red"]))
    says = refused(f"export {path} --format torchscript")
    assert says.startswith(f"{path} holds a TextToImage, whose input is no image; export takes models")


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("boom"),))


@pytest.mark.parametrize(
    "line",
    [
        "sample {} --num 1",
        "export {} --format torchscript",
        "explore interpolate {}",
        "evaluate {} --data DigitsDataModule",
        "fit dcgan-digits --ckpt_path {}",
        "test dcgan-digits --ckpt_path {}",
    ],
)
def test_a_checkpoint_that_would_run_is_refused(checkpoint, refused, tmp_path, line):
    path = checkpoint(make("GAN"))
    held = torch.load(path, weights_only=True)
    for name, content in [("whole", Bomb()), ("inside", {**held, "more": Bomb()})]:
        torch.save(content, tmp_path / f"{name}.ckpt")
        assert refused(line.format(f"{name}.ckpt")).startswith(f"{name}.ckpt is not a ")
    (tmp_path / "bare.ckpt").write_bytes(pickle.dumps(Bomb()))
    assert refused(line.format("bare.ckpt")).startswith("bare.ckpt is not a ")
    assert not (tmp_path / "boom").exists()


def test_a_checkpoint_cannot_name_what_is_called(checkpoint, refused, tmp_path):
    held = torch.load(checkpoint(make("GAN")), weights_only=True)
    held["hyper_parameters"]["_instantiator"] = "os.system"
    torch.save(held, tmp_path / "a.ckpt")
    says = refused("sample a.ckpt")
    assert says == "a.ckpt wants os.system to be called, which no checkpoint of this framework does"
