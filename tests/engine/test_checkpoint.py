"""What a checkpoint, or a file beside it, may make a command import and call: nothing that its user has not named."""

import contextlib
import sys

import pytest
import torch
import yaml

from gans.engine.checkpoint import load_model
from gans.models import GAN

SMALL = {"size": 8, "channels": 1, "latent_dim": 4, "width": 2}
MINE = """
from pathlib import Path

from datamodules import DigitsDataModule
from gans.models import GAN

Path("ran").touch()


class Model(GAN):
    def sample(self, n, **options):
        return super().sample(n, **options) * 0


class Data(DigitsDataModule):
    pass
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module in the current folder, which leaves a file when it is run; return whether it has been."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("GANS_CACHE", str(tmp_path / "cache"))
    yield (tmp_path / "ran").exists
    sys.modules.pop("mine", None)


@pytest.fixture
def written(saved, tmp_path):
    """Write the checkpoint of a model, changed, and return its path."""

    def write(change=lambda held: None, kind=GAN, **options):
        path = saved(kind(**(options or SMALL)), tmp_path / "run")
        held = torch.load(path, weights_only=True)
        change(held)
        torch.save(held, path)
        return path

    return write


def of_mine(held):
    held["adversarial"]["model"] = "mine.Model"


DIGITS = "--data DigitsDataModule --data.size 8 --samples 20 --reference 20"


@pytest.mark.parametrize(
    "line",
    [
        "sample CKPT",
        f"evaluate CKPT {DIGITS}",
        f"evaluate --compare CKPT {DIGITS}",
        "export CKPT --format onnx",
        "explore interpolate CKPT",
        "explore directions CKPT --method sefa",
        "predict CKPT --input . --output out",
        "fit manifold-mnist --model.autoencoder CKPT --data DigitsDataModule --data.size 8 --trainer.max_steps 1",
    ],
)
def test_a_checkpoint_gets_no_module_run(gans, mine, written, line):
    path = written(of_mine)
    code, _, err = gans(line.replace("CKPT", str(path)))
    assert code == 2, err
    assert err.count("\n") == 1, err
    assert f"{path} names mine.Model, which is not in gans.models" in err, err
    assert "give --model mine.Model" in err
    assert not mine()


def test_its_user_names_it(gans, mine, written):
    path = written(of_mine)
    code, _, err = gans(f"sample {path} --model mine.Model --num 4 --out grey.png")
    assert code == 0, err
    assert mine()
    sys.modules.pop("mine")
    for line in (
        f"evaluate {path} {DIGITS} --model mine.Model --scores fid",
        f"export {path} --format safetensors --model mine.Model --out g.safetensors",
        f"explore interpolate {path} --model mine.Model --out walk.png",
    ):
        code, out, err = gans(line)
        assert code == 0, err
        sys.modules.pop("mine")
    code, out, err = gans(f"export {path} --format safetensors --model mine.Model --out g.safetensors")
    assert "from mine import Model" in out
    assert 'from_pretrained("g.safetensors", model=Model)' in out


def test_another_class_than_the_one_named_is_refused(gans, mine, written, refused):
    said = refused(f"sample {written(of_mine)} --model ConditionalGAN")
    assert "holds a mine.Model; model is gans.models.conditionalgan.ConditionalGAN" in said
    code, _, err = gans(f"sample {written()} --model mine.Nothing")
    assert (code, err) == (2, "gans: error: mine has no Nothing\n")
    assert "model is GNA (did you mean GAN?)" in refused(f"sample {written()} --model GNA")
    assert "model is json.dumps, which is no LightningModule" in refused(f"sample {written()} --model json.dumps")


def test_the_config_beside_a_checkpoint_gets_no_module_run(gans, mine, written, tmp_path):
    path, config = written(), tmp_path / "run" / "config.yaml"
    config.write_text(yaml.safe_dump({"data": {"class_path": "mine.Data", "init_args": {"size": 8}}}))
    line = f"evaluate {path} --samples 20 --reference 20 --scores fid"
    code, _, err = gans(line)
    assert code == 2
    assert f"{config} names mine.Data, which is not in datamodules" in err
    assert "give --data mine.Data" in err
    assert not mine()
    code, _, err = gans(f"{line} --data mine.Data")  # with the size of the run
    assert code == 0, err


WRONG = {
    "model": [
        3,
        None,
        ["gans.models.gan.GAN"],
        {"name": "gans.models.gan.GAN"},
        "",
        "GAN.",
        "..",
        "gans.models..GAN",
        "os",
    ],
    "_instantiator": ["os.system", 3, None, ["os", "system"], torch.ones(2)],
    "hyper_parameters": [3, None, [1], {"width": "wide"}, {"width": -1}, {3: 4}, {"nothing": 1}],
    "state_dict": [3, None, {}, {"generator": 3}],
    "adversarial": [3, None, [], {}, "gans.models.gan.GAN"],
}


def test_fields_of_a_wrong_type_are_one_sentence_that_names_the_file(written):
    for name, values in WRONG.items():
        for value in values:

            def change(held, name=name, value=value):
                parts = {"model": held["adversarial"], "_instantiator": held["hyper_parameters"]}
                parts.get(name, held)[name] = value

            path = written(change)
            with pytest.raises(ValueError, match=r"last\.ckpt") as caught:
                load_model(path)
            assert "\n" not in str(caught.value), (name, value)
    for name in ("adversarial", "state_dict", "hyper_parameters"):
        with pytest.raises(ValueError, match=r"last\.ckpt"):
            load_model(written(lambda held, name=name: held.pop(name)))


def test_to_resume_from_a_checkpoint_of_a_wrong_type_is_refused_before_a_folder_is_made(written, refused):
    path = written(lambda held: held["adversarial"].update(model=3))
    flags = "--model GAN --model.width 2 --model.latent_dim 4 --data.size 8 --trainer.accelerator cpu"
    assert "the checkpoint holds no model of this framework" in refused(f"fit dcgan-digits {flags} --ckpt_path {path}")


def test_arguments_call_nothing(written, mine):
    """Lightning's instantiator imports classes that arguments name."""
    named = {"class_path": "mine.Model", "init_args": {}}
    maker = "lightning.pytorch.cli.instantiate_module"
    for arguments in ({"width": named}, {"augment_options": named}, {"augment_options": {"a": named}}):
        path = written(lambda held, more=arguments: held["hyper_parameters"].update(more, _instantiator=maker))
        with contextlib.suppress(ValueError):
            load_model(path)
        assert not mine()


BROKEN = """\
[
- a
3
data: 3
model: {}
data: {class_path: [a]}
data: {class_path: datamodules.DigitsDataModule, init_args: 3}
data: !!python/object/apply:os.system [ls]
data: {class_path: os.path}
data: {class_path: GAN}
"""


@pytest.mark.parametrize("text", BROKEN.splitlines())
def test_a_config_that_names_no_data_is_one_sentence(written, refused, tmp_path, monkeypatch, text):
    monkeypatch.setenv("GANS_CACHE", str(tmp_path / "cache"))
    path = written()
    (tmp_path / "run" / "config.yaml").write_text(text)
    said = refused(f"evaluate {path} --samples 20 --reference 20 --scores fid")
    assert f"{tmp_path / 'run' / 'config.yaml'} " in said
