"""What was trained, by every name that commands take, on the real command line."""

import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml

from gans.hub import save_pretrained
from gans.models import DCGAN, GridAutoencoder
from gans.recipes.named import local

RUN = "runs/dcgan-digits/version_"
TINY = "--model.width 2 --data.size 8 --data.batch_size 4 --trainer.accelerator cpu --trainer.enable_progress_bar false"
SHORT = " ".join(f"--trainer.limit_{part}_batches 1" for part in ("val", "test", "predict"))
SCORED = "--evaluate.features mnist --evaluate.samples 10 --evaluate.reference 10"


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Two runs of a recipe, the older one written last but for its checkpoint; one of a file; a pretrained folder."""
    monkeypatch.chdir(tmp_path)
    for time, path in enumerate(
        [
            f"{RUN}0/checkpoints/best.ckpt",
            f"{RUN}0/checkpoints/last.ckpt",
            f"{RUN}1/checkpoints/last.ckpt",
            f"{RUN}1/checkpoints/best.ckpt",
            "runs/my/version_0/checkpoints/last.ckpt",
            f"{RUN}0/config.yaml",
            "runs/scored/version_0/checkpoints/best.ckpt",
            "saved/model.safetensors",
            "my.yaml",
            "odd:best",
        ]
    ):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
        os.utime(path, (time, time))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (f"{RUN}0/checkpoints/last.ckpt", f"{RUN}0/checkpoints/last.ckpt"),
        (f"{RUN}0/checkpoints/last.ckpt:best", f"{RUN}0/checkpoints/best.ckpt"),
        (f"{RUN}0", f"{RUN}0/checkpoints/last.ckpt"),
        (f"{RUN}0:best", f"{RUN}0/checkpoints/best.ckpt"),
        (f"{RUN}0/checkpoints", f"{RUN}0/checkpoints/last.ckpt"),
        (f"{RUN}0/config.yaml", f"{RUN}0/checkpoints/last.ckpt"),
        ("runs/dcgan-digits", f"{RUN}1/checkpoints/last.ckpt"),
        ("dcgan-digits", f"{RUN}1/checkpoints/last.ckpt"),
        ("dcgan-digits:last", f"{RUN}1/checkpoints/last.ckpt"),
        ("dcgan-digits:best", f"{RUN}1/checkpoints/best.ckpt"),
        ("dcgan-digits/version_0:best", f"{RUN}0/checkpoints/best.ckpt"),
        ("my", "runs/my/version_0/checkpoints/last.ckpt"),
        ("my.yaml", "runs/my/version_0/checkpoints/last.ckpt"),
        ("my:best", None),
        ("saved", "saved/model.safetensors"),
        ("saved/model.safetensors", "saved/model.safetensors"),
        ("saved:best", None),
        ("odd:best", "odd:best"),
        ("dcgan-mnist", None),
        ("someone/something", None),
    ],
)
@pytest.mark.usefixtures("kept")
def test_every_name_stands_for_its_file(name, path):
    found = local(Path(name))
    assert (found and str(found)) == path


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("my:best", "my:best has no best.ckpt: runs/my/version_0/checkpoints holds last.ckpt"),
        ("saved:best", "saved:best has no best.ckpt: saved holds model.safetensors"),
        (
            "runs/scored/version_0",
            "runs/scored/version_0 holds no last.ckpt, but best.ckpt: give runs/scored/version_0:b",
        ),
        ("dcgan-mnist", "there is no checkpoint of dcgan-mnist under runs/dcgan-mnist: fit it, or give a file"),
        ("dcgan-mnist:best", "there is no checkpoint of dcgan-mnist under runs/dcgan-mnist: fit it, or give a file"),
        ("dcgan-digit:best", "there is no checkpoint dcgan-digit:best (did you mean dcgan-digits?)"),
        ("scord", "there is no checkpoint scord (did you mean scored?)"),
        ("runs/dcgan-digts", "there is no checkpoint runs/dcgan-digts (did you mean runs/dcgan-digits?)"),
        (f"{RUN}0/checkpoints/lst.ckpt", f"(did you mean {RUN}0/checkpoints/last.ckpt?)"),
        (
            "dcgan-digits/version_7",
            "there is no checkpoint dcgan-digits/version_7 (did you mean dcgan-digits/version_1?)",
        ),
        ("my/version_7", "there is no checkpoint my/version_7 (did you mean my/version_0?)"),
        ("none.ckpt", "there is no checkpoint none.ckpt"),
    ],
)
@pytest.mark.usefixtures("kept")
def test_a_name_that_stands_for_nothing(refused, name, says):
    assert says in refused(f"sample {name}")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a run of dcgan-digits that has a best checkpoint before its last."""
    from gans.__main__ import main

    folder, here = tmp_path_factory.mktemp("named"), Path.cwd()
    os.chdir(folder)
    try:
        line = f"fit dcgan-digits {TINY} {SHORT} {SCORED} --evaluate.every_n_steps 2 --trainer.max_steps 2"
        assert main(line.split()) == 0
    finally:
        os.chdir(here)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """The same runs in the folder of a test."""
    shutil.copytree(trained / "runs", tmp_path / "runs")
    return tmp_path


COMMANDS = [
    "sample {} --num 1",
    "evaluate {} --samples 10 --reference 10 --scores fid --features random",
    "explore traverse {} --axes 0 --steps 2",
    "export {} --format safetensors",
    "blend {} dcgan-digits:last 0.5 --out blend.ckpt",
    "validate {}",
]
SLOW = [  # as validate, and as fit of a repository below
    "test dcgan-digits --ckpt_path {}",
    "predict dcgan-digits --ckpt_path {} --data.batch_size 2",
    "fit dcgan-digits --init_from {} " + TINY + " --trainer.max_steps 1",
]


@pytest.mark.parametrize("command", [*COMMANDS, *(pytest.param(line, marks=pytest.mark.slow) for line in SLOW)])
def test_commands_take_the_best_of_a_recipe(gans, run, command):
    """Verbs on a recipe also take the arguments of the run: its width is not the recipe's."""
    code, out, err = gans(command.format("dcgan-digits:best"))
    assert code == 0, err
    assert f"{RUN}0/checkpoints/best.ckpt" in out + err


def test_the_last_word_on_verbs_of_a_recipe(gans, refused, run):
    code, out, _ = gans("validate dcgan-digits --ckpt_path best")
    assert (code, f"from {RUN}0/checkpoints/best.ckpt" in out) == (0, True)
    code, out, _ = gans(f"test {RUN}0")
    assert (code, f"from {RUN}0/checkpoints/last.ckpt" in out) == (0, True)
    (run / f"{RUN}0" / "checkpoints" / "best.ckpt").unlink()
    assert "has no best.ckpt: evaluate.features makes one" in refused("validate dcgan-digits --ckpt_path best")
    told = "gans fit dcgan-digits --ckpt_path last resumes it, --init_from starts from its weights"
    assert refused(f"fit {RUN}0") == f"{RUN}0 is a run; expected a recipe or a YAML file: {told}"


@pytest.mark.usefixtures("kept")
def test_verbs_of_a_recipe_say_what_a_run_lacks(refused):
    (best := Path(f"{RUN}1/checkpoints/best.ckpt")).unlink()
    for line in ("validate {}", "test {}", "validate dcgan-digits --ckpt_path {}"):
        for name in ("dcgan-digits:best", f"{RUN}1:best"):
            says = f"{name} has no best.ckpt: {best.parent} holds last.ckpt"
            assert refused(line.format(name)) == says
    assert refused("test saved/..").startswith("saved/.. holds no last.ckpt; expected a checkpoint, the folder of a")
    assert refused("validate " + "x" * 300).startswith("there is no recipe xxx")
    assert refused("sample my.yml") == "there is no checkpoint my.yml: No such file or directory"
    says = "there is no checkpoint saved/model.safetensors: config.json is not beside it"
    assert refused("sample saved/model.safetensors") == says
    Path("other.yaml").touch()
    assert refused("sample other.yaml") == "there is no checkpoint other.yaml"  # not: did you mean other.yaml?


def test_parts_of_a_model_have_the_same_names(gans, refused, saved, tmp_path):
    """The run notes the file, because the newest run of a recipe changes."""
    model = GridAutoencoder(size=16, channels=1, code_channels=2, factor=2, width=8)
    file = saved(model, tmp_path / "runs" / "gridautoencoder")
    flags = f"--data DigitsDataModule {TINY} --data.size 16 --trainer.max_steps 1"
    code, _, err = gans(f"fit --model ManifoldDCGAN {flags} --model.autoencoder gridautoencoder")
    assert code == 0, err
    found = yaml.safe_load((tmp_path / "runs" / "run" / "version_0" / "config.yaml").read_text())
    assert found["model"]["init_args"]["autoencoder"] == str(file.relative_to(tmp_path))
    says = "there is no checkpoint gridautoencodr (did you mean gridautoencoder?)"
    assert refused(f"fit --model ManifoldDCGAN {flags} --model.autoencoder gridautoencodr") == says
    says = f"gridautoencoder:best has no best.ckpt: {file.parent.relative_to(tmp_path)} holds last.ckpt"
    assert refused("data encode . codes --autoencoder gridautoencoder:best") == says


class Hub:
    """A repository as huggingface_hub fetches it."""

    def __init__(self, folder):
        self.folder = folder

    def snapshot_download(self, name, revision, token, allow_patterns, local_dir):
        if name != "me/digits":
            raise RuntimeError("404 Client Error")
        shutil.copytree(self.folder, local_dir, dirs_exist_ok=True)
        return str(local_dir)


def test_a_folder_and_the_hub_are_the_model(gans, refused, tmp_path, monkeypatch):
    model = DCGAN(size=8, channels=1, width=2).eval()
    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub(save_pretrained(model, tmp_path / "saved")))
    for name in ("saved", "me/digits"):
        code, out, err = gans(f"sample {name} --num 1")
        assert code == 0, err
    assert (tmp_path / "runs" / "me" / "digits" / "model_seed0_num1.png").read_bytes() == (
        tmp_path / "saved" / "model_seed0_num1.png"
    ).read_bytes()
    code, out, err = gans(f"fit dcgan-digits {TINY} --trainer.max_steps 1 --init_from me/digits")
    assert (code, "weights      runs/me/digits/model.safetensors" in out) == (0, True), err
    flags = f"{TINY} --trainer.limit_val_batches 1"
    assert gans(f"validate dcgan-digits --ckpt_path saved {flags}")[0] == 0
    data = "--data DigitsDataModule --data.size 8 --samples 10 --reference 10 --features random --scores fid"
    code, out, err = gans(f"evaluate me/digits {data} --out scores.json")
    assert code == 0, err
    assert "there is no run or folder me/other, and the Hub does not give me/other: 404" in refused("sample me/other")
    assert refused("sample me/digits:best").startswith(
        "me/digits:best names one checkpoint of a run; expected me/digits"
    )
    assert refused("validate saved") == "saved holds no config.yaml: give a recipe, and --ckpt_path saved"


def test_weights_of_a_folder_are_those_of_the_checkpoint(saved, tmp_path):
    from gans.engine.checkpoint import load_model

    model = DCGAN(size=8, channels=1, width=2)
    model.images_seen, model.class_names = 12, ["a", "b"]
    ours = load_model(saved(model, tmp_path))
    found = load_model(save_pretrained(model, tmp_path / "saved") / "model.safetensors")
    assert found.state_dict().keys() == ours.state_dict().keys()
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in found.state_dict().items())
    assert (found.images_seen, found.class_names) == (12, ["a", "b"])
