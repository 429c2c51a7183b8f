"""Bad input to the command line: one sentence, exit code 2, nothing left behind."""

import os
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from gans.models import DCGAN, ImageTextEncoder

ROOT = Path(__file__).parents[2]
TINY = "--model.width 4 --data.size 8 --grid.samples 4 --trainer.log_every_n_steps 2 --trainer.accelerator cpu"
GOOD = (ROOT / "gans" / "recipes" / "dcgan-digits.yaml").read_text()


COMMANDS = [
    ("fitt dcgan-digits", "there is no command fitt (did you mean fit?): `gans --help` lists them"),
    ("fit dcgan-digit", "there is no recipe dcgan-digit (did you mean dcgan-digits?): `gans recipes` lists them"),
    ("recipes dcgan-mnst", "there is no recipe dcgan-mnst (did you mean dcgan-mnist?): `gans recipes` lists them"),
    ("fit none.yaml", "there is no file none.yaml"),
    ("fit dcgan-digits --config none.yaml", "there is no file none.yaml"),
    ("fit", "fit needs a recipe or a YAML file: `gans recipes` lists the recipes"),
    ("fit --trainer.max_steps 3", "data and model must be given"),
    ("fit dcgan-digits gan-mnist", "gan-mnist stands alone; expected --key value, and a recipe only right after"),
    ("fit dcgan-digits --ckpt_path", "argument --ckpt_path: expected one argument"),
]
KEYS = [
    ("model.widht=3", "there is no key model.widht (did you mean model.width?)"),
    ("model.init_args.widht=3", "there is no key model.widht (did you mean model.width?)"),
    ("data.batchsize=3", "there is no key data.batchsize (did you mean data.batch_size?)"),
    ("trainer.max_step=3", "there is no key trainer.max_step (did you mean trainer.max_steps?)"),  # an abbreviation
    ("trainer.max_epoch=3", "there is no key trainer.max_epoch (did you mean trainer.max_epochs?)"),
    ("grid.every=3", "there is no key grid.every (did you mean grid.every_n_steps?)"),
    ("health.colapse=3", "there is no key health.colapse (did you mean health.collapse?)"),
    ("checkpoint.every_n=3", "there is no key checkpoint.every_n (did you mean checkpoint.every_n_steps?)"),
    ("modle.width=3", "there is no key modle.width (did you mean model.width?)"),
    ("lr=3", "there is no key lr (did you mean model.lr?)"),
    ("batch_size=3", "there is no key batch_size (did you mean data.batch_size?)"),
    ("ckpt_paht=3", "there is no key ckpt_paht (did you mean ckpt_path?)"),
    ("qqq=3", "there is no key qqq"),
    ("trainer.callbacks+=Foo", "trainer.callbacks is Foo; expected the import path of a class"),
    ("trainer.callbacks+=EarlyStopping", "trainer.callbacks.monitor must be given"),
    ("model.width=three", "model.width is three; expected int"),
    ("model.lr=fast", "model.lr is fast; expected float"),
    ("model.lr=null", "model.lr is None; expected a value"),
    ("model.objective=hinges", "model.objective is hinges (did you mean hinge?); expected one of 'minimax', "),
    ("trainer.max_steps=1.5", "trainer.max_steps is 1.5; expected int"),
    ("data.size=abc", "data.size is abc; expected int or tuple"),
    ("data.size=218x178", "data.size is 218x178; expected [218,178] for two numbers"),
    ("data.size=218,178", "data.size is 218,178; expected [218,178] for two numbers"),
    ("model.betas=0x1", "model.betas is 0x1; expected [0,1] for two numbers"),
    ("data.size=[1,2,3]", "data.size is [1, 2, 3]; expected int or tuple with 2 elements"),
    ("model=DCGANN", "model is DCGANN (did you mean DCGAN?); expected ACGAN, CUT, DCGAN, GAN"),
    ("model=os.path.join", "model is os.path.join, which is no LightningModule"),
    ("data=MNIST", "data is MNIST (did you mean MNISTDataModule?); expected Captioned"),
    ("model.size=3", "model.size follows data.size: give --data.size"),
    ("model.init_args.channels=3", "model.channels follows data.channels: give --data.channels"),
    ("trainer.precision=foo", "trainer.precision is foo; expected"),
]
VALUES = [
    ("data.size=0", "data.size is 0; expected a positive integer or (height, width)"),
    ("data.size=-3", "data.size is -3; expected a positive integer or (height, width)"),
    ("data.size=1", "data.size is 1x1; "),
    ("data.channels=2", "data.channels is 2; expected 1 (grey), 3 (RGB) or 4 (RGBA)"),
    ("data.channels=4", "data.channels must be 1, or 3"),
    ("data.batch_size=0", "data.batch_size must be an integer of at least 1, got 0"),
    ("data.batch_size=5000", "data.batch_size=5000 on 1 process(es) needs 5000 training images"),
    ("data.val_size=1797", "data.val_size must be less than the number of images (1797), got 1797"),
    ("model.latent_dim=0", "model.latent_dim is 0; expected at least 1"),
    ("model.width=0", "model.width is 0; expected at least 1"),
    ("grid.every_n_steps=0", "grid.every_n_steps is 0; expected at least 1"),
    ("health.every_n_steps=0", "health.every_n_steps is 0; expected at least 1"),
    ("checkpoint.every_n_steps=0", "checkpoint.every_n_steps is 0; expected at least 1"),
    ("trainer.devices=0", "trainer.accelerator is auto, trainer.devices is 0: "),
    ("trainer.devices=many", "trainer.accelerator is auto, trainer.devices is many: "),
    ("trainer.accelerator=gpuu", "trainer.accelerator is gpuu, trainer.devices is auto: "),
    ("trainer.num_nodes=0", "trainer.num_nodes must be a positive integer, but got 0"),
    ("trainer.strategy=fsdp", "trainer.strategy is fsdp; expected ddp, or auto for one device"),
    ("trainer.strategy=deepspeed", "trainer.strategy is deepspeed; expected ddp, or auto for one device"),
    ("trainer.gradient_clip_val=1", "trainer.gradient_clip_val does not work with two optimizers: give --model.grad"),
    ("trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches does not work with two optimizers: give"),
    ("trainer.default_root_dir=/proc/x", "cannot write under /proc/x/dcgan-digits: "),
    ("trainer.default_root_dir=/dev/null/x", "cannot write under /dev/null/x/dcgan-digits: Not a directory"),
    ("ckpt_path=none.ckpt", "there is no checkpoint none.ckpt"),
]


@pytest.mark.parametrize(("line", "says"), COMMANDS)
def test_a_wrong_command(refused, line, says):
    assert refused(line).startswith(says)


@pytest.mark.parametrize(("flag", "says"), KEYS + VALUES)
def test_a_wrong_flag(refused, flag, says):
    assert refused("fit dcgan-digits", f"--{flag}").startswith(says)


MEMORY = [
    ("model.width=100000000", "GiB of memory; this machine has"),
    ("model.latent_dim=1000000000000", "GiB of memory; this machine has"),
    (
        "model.critic_steps=1000000000000000000000",
        "model.critic_steps is 1000000000000000000000; expected a number below",
    ),
    ("data.size=100000", "a batch of data.batch_size 64 images of shape (1, 100000, 100000) needs"),
    ("data.num_workers=100000", "data.num_workers is 100000; expected at most"),
    ("grid.samples=1000000000000", "a grid of samples 1000000000000 needs"),
    ("trainer.log_every_n_steps=-1", "trainer.log_every_n_steps is -1; expected at least 1"),
    ("trainer.val_check_interval=0", "trainer.val_check_interval is 0; expected a number above 0"),
    ("trainer.num_sanity_val_steps=-7", "trainer.num_sanity_val_steps is -7; expected at least -1"),
    ("checkpoint.dirpath=/proc/x", "cannot write under /proc/x: "),
    ("model.dict_kwargs.foo=1", "DCGAN has no argument foo"),
    ("trainer.check_val_every_n_epoch=0", "trainer.check_val_every_n_epoch is 0; expected at least 1"),
]


@pytest.mark.parametrize(("flag", "says"), MEMORY)
def test_what_no_machine_can_hold(refused, flag, says):
    assert says in refused("fit dcgan-digits --model.width 4 --trainer.enable_progress_bar false", f"--{flag}")


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
BOMB += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
YAML = [
    (BOMB, "bad.yaml holds 1,234,567,9"),
    ("model: &a {class_path: DCGAN, init_args: *a}", "bad.yaml holds an alias of what it stands in, line 1"),
    (f"model: {'{a: ' * 2000}1{'}' * 2000}", "bad.yaml is nested too deep; expected at most a few levels of keys"),
    ("model: {class_path: DCGAN, init_args: 7}", "model.init_args is 7 in bad.yaml; expected keys and values below it"),
    ("data: {class_path: DigitsDataModule, init_args: [1]}", "data.init_args is [1] in bad.yaml; expected keys and"),
    ("model: !!python/object/apply:os.getcwd []", "bad.yaml, line 1, is not YAML: could not determine a constructor"),
    ("\x01", "bad.yaml is not YAML: "),
]


@pytest.mark.parametrize(("text", "says"), YAML, ids=range(len(YAML)))
def test_yaml_that_no_recipe_is(refused, tmp_path, text, says):
    (tmp_path / "bad.yaml").write_text(text)
    assert refused("fit bad.yaml").startswith(says)


def test_a_name_longer_than_any_file(refused):
    assert refused(f"fit {'a' * 300}.yaml") == f"there is no file {'a' * 40}...: File name too long"


MODULES = {
    "their_needs": "import no_such_package\nclass MyGAN: ...",
    "their_syntax": "class MyGAN(: ...",
    "their_error": "raise RuntimeError('no licence')",
    "theirs": "class MyGan: ...",
}


@pytest.mark.parametrize(
    ("flag", "name", "says"),
    [
        ("model=", "nowhere.MyGAN", "there is no module nowhere (PYTHONPATH=. before the command adds the current f"),
        ("data=", "their_needs.MyGAN", "their_needs needs no_such_package, which is not installed"),
        ("trainer.callbacks+=", "their_syntax.MyGAN", "SyntaxError in their_syntax: "),
        ("trainer.logger=", "their_error.MyGAN", "RuntimeError in their_error: no licence"),
        ("model=", "theirs.MyGAN", "theirs has no MyGAN (did you mean theirs.MyGan?)"),
    ],
)
def test_a_class_that_cannot_be_imported(refused, tmp_path, monkeypatch, flag, name, says):
    for module, text in MODULES.items():
        (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    complaint = refused("fit dcgan-digits", f"--{flag}{name}")
    assert complaint.startswith(f"{flag.rstrip('+=')}: ")
    assert says in complaint


@pytest.mark.parametrize("other", ["datamodules.py", "datamodules/__init__.py"])
def test_another_package_of_the_name_datamodules(tmp_path, other):
    (tmp_path / other).parent.mkdir(exist_ok=True)
    (tmp_path / other).touch()
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    code = "import sys; from gans.__main__ import main; sys.exit(main(['fit', 'dcgan-digits']))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    hides = tmp_path / Path(other).parts[0]
    assert ran.stderr == (
        f"gans: error: {hides} hides the package datamodules of {ROOT}: rename it, or take it from PYTHONPATH\n"
    )
    assert ran.returncode == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("devices", ["auto", "2"])
def test_a_gpu_that_is_not_there(refused, devices):
    says = refused(f"fit dcgan-digits --trainer.accelerator gpu --trainer.devices {devices}")
    assert says.startswith(f"trainer.accelerator is gpu, trainer.devices is {devices}: ")


def sides(folder, names, size=(32, 16)):
    for name in names:
        folder.mkdir(exist_ok=True)
        Image.new("RGB", size, (200, 0, 0)).save(folder / name)


PAIRS = [
    ("", "2 images have no partner of the same name in the other folder: a/3.png, b/2.png"),
    (
        "--data.target_root c",
        "2 of 2 pairs in a cannot be used, expected two images of one size each: 1.png (32x16 and",
    ),
    ("--data.target_root null --model.features vgg19", "vgg19-dcbb9e9d.pth is not in "),
    ("--data.target_root null --model.features inception", "model.features is inception, which has no maps to compare"),
    ("--data.target_root null --data.source_channels 2", "data.source_channels is 2; expected 1 (grey)"),
    ("--data.target_root null --model.source_channels 3", "model.source_channels follows data.source_channels"),
    (
        "--data.target_root null --data.direction c_to_d",
        "data.direction is c_to_d (did you mean b_to_a?); expected one of 'a_to_b', 'b_to_a'",
    ),
    ("--data.target_root null --data.size 4", "data.size is 4x4; a patch discriminator needs at least 6 pixels"),
    ("--data DegradedFolderDataModule --data.root a --data.degrade blurr", "data.degrade names blurr; expected steps"),
]


@pytest.mark.parametrize(("flags", "says"), PAIRS)
def test_wrong_pairs(refused, tmp_path, monkeypatch, flags, says):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    sides(tmp_path / "a", ["1.png", "3.png"])
    sides(tmp_path / "b", ["1.png", "2.png"])
    sides(tmp_path / "c", ["1.png", "3.png"], (32, 20))
    line = "fit pix2pix-facades --data.root a --data.target_root b --model.width 2 --trainer.accelerator cpu"
    if "DegradedFolder" in flags:
        line = "fit pix2pix-colour-folder --model.width 2 --trainer.accelerator cpu"
    assert refused(f"{line} {flags}").startswith(says)


FILES = [
    ("width: 32", "widht: 32", "there is no key model.widht (did you mean model.width?)"),
    ("batch_size:", "batchsize:", "there is no key data.batchsize (did you mean data.batch_size?)"),
    ("max_steps:", "max_step:", "there is no key trainer.max_step (did you mean trainer.max_steps?)"),
    ("grid:", "grd:", "there is no key grd.every_n_steps (did you mean grid.every_n_steps?)"),
    ("width: 32", "width: three", "model.width is three; expected int"),
    ("size: 32", "size: abc", "data.size is abc; expected int or tuple"),
    (
        "class_path: DCGAN",
        "class_path: DCGANN",
        "model is DCGANN (did you mean DCGAN?); expected ACGAN, CUT, DCGAN, GAN",
    ),
    ("class_path: Digits", "class_path: Digit", "data is DigitDataModule (did you mean DigitsDataModule?); expected"),
    ("width: 32", "size: 32", "model.size follows data.size: set that one in my.yaml"),
    ("width: 32", "width: [32", "my.yaml, line 8, is not YAML: "),
    ("  class_path: DCGAN", "\tclass_path: DCGAN", "my.yaml, line 5, is not YAML: "),
    (GOOD, "", "my.yaml holds no keys; expected model, data, trainer"),
    (GOOD, "word", "my.yaml holds no keys; expected model, data, trainer"),
    ("trainer:\n  max_steps: 1500\n  log_every_n_steps: 20", "trainer: 3", "trainer is 3 in my.yaml; expected keys"),
]


@pytest.mark.parametrize(("old", "new", "says"), FILES)
def test_a_wrong_file(refused, tmp_path, old, new, says):
    assert old in GOOD
    (tmp_path / "my.yaml").write_text(GOOD.replace(old, new, 1))
    assert refused("fit my.yaml").startswith(says)


def test_a_file_that_is_no_text(refused, tmp_path):
    (tmp_path / "my.yaml").write_bytes(b"\x80\xff")
    assert refused("fit my.yaml").startswith("my.yaml is not YAML: 'utf-8' codec can't decode byte")


def test_folders_without_what_was_asked(refused, tmp_path):
    for name in ("empty", "text", "colour"):
        (tmp_path / name).mkdir()
    (tmp_path / "text" / "a.txt").write_text("no image")
    Image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / "colour" / "a.png")
    for root, channels, says in [
        ("none", 3, "data.root must be a folder of images, but none does not exist"),
        ("text/a.txt", 3, "data.root must be a folder of images, a .zip or a .tar, but text/a.txt is a file"),
        ("empty", 3, "data.root is empty, which contains no images (looked for jpg, jpeg, png"),
        ("text", 3, "data.root is text, which contains no images (looked for jpg"),
        (
            "colour",
            4,
            "data.channels=4 needs images with an alpha channel, but those in colour have none: set channels",
        ),
    ]:
        assert says in refused(f"fit dcgan-folder --data.root {root} --data.channels {channels} --data.num_workers 0")


def test_mnist_that_cannot_be_fetched(refused, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr("torchvision.datasets.utils.urllib.request.urlopen", refuse)
    says = refused("fit gan-mnist --data.root none --trainer.accelerator cpu")
    assert says.startswith("MNIST is not in none/MNIST/raw and downloading them failed (Name or service not known)")


class Foreign(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_checkpoints_of_something_else(gans, refused, tmp_path):
    assert gans(f"fit dcgan-digits {TINY} --trainer.max_steps 1")[0] == 0
    last = "runs/dcgan-digits/version_0/checkpoints/last.ckpt"
    whole = (tmp_path / last).read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.ckpt").touch()
    torch.save([1, 2], "list.ckpt")
    torch.save({"weight": torch.zeros(2)}, "plain.ckpt")
    silent = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    trainer = L.Trainer(max_steps=1, accelerator="cpu", **silent)
    trainer.fit(Foreign(), DataLoader(TensorDataset(torch.zeros(1, 1))))
    trainer.save_checkpoint("foreign.ckpt")
    for name, says in [
        ("cut", "cut.ckpt is not a readable checkpoint"),
        ("empty", "empty.ckpt is not a readable checkpoint"),
        ("list", "list.ckpt: the checkpoint holds no model of this framework"),
        ("plain", "plain.ckpt: the checkpoint holds no model of this framework"),
        ("foreign", "foreign.ckpt: the checkpoint holds no model of this framework"),
    ]:
        for verb in ("fit", "test"):
            assert refused(f"{verb} dcgan-digits {TINY} --ckpt_path {name}.ckpt").startswith(says)
    says = refused(f"fit dcgan-digits {TINY} --model GAN --ckpt_path {last}")
    assert says.startswith(f"{last}: the checkpoint holds gans.models.dcgan.DCGAN; expected gans.models.gan.GAN")
    says = refused(f"fit dcgan-digits {TINY} --data.size 16 --ckpt_path last")
    assert says.startswith(f"{last}: the checkpoint's generator.layers.0.weight is (100, 4, 4, 4), the model's is")


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_there_is_nothing_to_look_at(refused, verb):
    says = "there is no checkpoint of dcgan-digits under runs/dcgan-digits: fit it, or give --ckpt_path"
    assert refused(f"{verb} dcgan-digits") == says


HOSTILE = [
    ("sample {} --num 1000000000000 --out s.png", "a grid of num 1000000000000 pictures needs"),
    ("sample {} --num 1000000000000 --out s", "num 1000000000000 files need at least"),
    ("explore interpolate {} --points 0 1 --steps 1000000000000", "steps 1000000000000 between two points needs"),
    ("explore traverse {} --steps 1000000000000", "a row of steps 1000000000000 needs"),
    ("explore directions {} --method pca --samples 1000000000000", "drawing 1000000000000 points needs"),
    ("explore directions {} --method sefa --out x.pt", "out is x.pt; expected a name that ends with .safetensors"),
    ("explore directions {} --method sefa --name a/b", "name is a/b; expected letters, digits, dots, dashes and un"),
    (
        "evaluate {} --data DigitsDataModule --data.size 8 --samples 1000000000000",
        "keeping the features of 1000000000000 samples needs",
    ),
]


@pytest.mark.parametrize(("line", "says"), HOSTILE, ids=range(len(HOSTILE)))
def test_more_pictures_than_fit(refused, saved, tmp_path, line, says):
    path = saved(DCGAN(size=8, channels=1, width=4), tmp_path)
    assert refused(line.format(path)).startswith(says)


def test_memory_that_runs_out_is_a_sentence(refused, monkeypatch):
    def allocate(self, stage=None):
        torch.empty(2**58)

    monkeypatch.setattr("datamodules.digits.DigitsDataModule.setup", allocate)
    says = refused("fit dcgan-digits --model.width 4 --trainer.enable_progress_bar false")
    assert says == "this machine is out of memory: 1,073,741,824.0 GiB were asked for"


GPU = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 1 has a total capacity of 9.50 GiB of which 1 GiB is free."


@pytest.mark.parametrize(("recipe", "cuts"), [("dcgan-digits", True), ("imagetextencoder-digits", False)])
def test_a_batch_that_is_too_large_for_a_gpu(refused, monkeypatch, recipe, cuts):
    """Also in the first batch, and on the GPU of a process that otherwise leaves words to the first one."""

    def allocate(self, batch, batch_idx):
        raise torch.OutOfMemoryError(f"{GPU} Including non-PyTorch memory, this process has 8.25 GiB memory in use.")

    for kind in (DCGAN, ImageTextEncoder):
        monkeypatch.setattr(kind, "training_step", allocate)
    monkeypatch.setattr("gans.commands.trainer_report.main_process", lambda: False)
    flags = "--data.size 16 --model.width 4 --trainer.accelerator cpu --trainer.enable_progress_bar false"
    says = f"the GPU is out of memory: {GPU.split('. ', 1)[1].rstrip('.')}: lower data.batch_size"
    cut = ", or cut each batch with --model.accumulate 2"
    assert refused(f"fit {recipe} {flags}") == says + cut * cuts


def test_a_key_that_stands_twice(refused, tmp_path):
    (tmp_path / "twice.yaml").write_text("model: DCGAN\ndata: DigitsDataModule\nmodel: GAN\n")
    assert refused("fit twice.yaml") == "twice.yaml holds model twice, below line 1"
