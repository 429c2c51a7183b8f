"""`load`: a recipe in Python is the run of the command line, and a wrong keyword is told with the nearest."""

import inspect
import re

import lightning as L
import pytest
import torch

from gans.engine.checkpoint import InitFrom
from gans.models import GAN, SNGAN, GridAutoencoder
from gans.recipes import load
from gans.recipes.experiment import Loaded
from gans.runs.recipes import recipes
from gans.terms import R1

TINY = {"model": {"width": 4, "betas": (0.5, 0.9)}, "data": {"batch_size": 8}}
TRAINER = {"max_steps": 3, "accelerator": "cpu", "enable_progress_bar": False}
FLAGS = "--data.size 16 --model.width 4 --model.betas [0.5,0.9] --data.batch_size 8 --trainer.max_steps 3"
FLAGS += " --trainer.accelerator cpu --trainer.enable_progress_bar false --grid.samples 4"


class Mine(GAN):
    """A model of a notebook."""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_run_in_python_is_the_run_of_the_command_line(gans, tmp_path):
    assert gans(f"fit dcgan-digits {FLAGS}")[0] == 0
    recipe = load("dcgan-digits", size=16, **TINY, trainer=TRAINER, grid={"samples": 4})
    L.Trainer(**recipe.trainer).fit(recipe.model, recipe.data)
    first, second = (tmp_path / "runs" / "dcgan-digits" / f"version_{i}" for i in range(2))
    names = [sorted(path.name for path in run.iterdir() if "events" not in path.name) for run in (first, second)]
    assert names[0] == names[1]
    assert {"checkpoints", "config.yaml", "hparams.yaml", "run.json", "samples"} <= set(names[0])
    assert (first / "config.yaml").read_text() == (second / "config.yaml").read_text()
    a, b = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (first, second))
    assert a["state_dict"].keys() == b["state_dict"].keys()
    assert all(torch.equal(value, b["state_dict"][name]) for name, value in a["state_dict"].items())
    assert a["hyper_parameters"] == b["hyper_parameters"]
    assert [kind.partition("{")[0] for kind in a["callbacks"]] == [kind.partition("{")[0] for kind in b["callbacks"]]
    assert (first / "samples" / "step_0000003.png").read_bytes() == (
        second / "samples" / "step_0000003.png"
    ).read_bytes()


def test_every_flag_of_fit_is_a_keyword():
    made = Loaded("fit", "run", ["--config", str(recipes()["dcgan-digits"]), "--model.width=4"])
    flags = {key.partition(".")[0] for key in dict(made.config.fit.items())}
    keywords = set(inspect.signature(load).parameters) - {"name", "size", "channels", "unknown"}
    assert flags - {"config", "ckpt_path", "weights_only"} == keywords  # the last two are of `trainer.fit`


def test_classes_terms_and_nested_values():
    recipe = load("dcgan-digits", model={"class_path": SNGAN, "width": 8}, data={"batch_size": 4})
    assert (type(recipe.model), recipe.model.hparams["width"], recipe.data.batch_size) == (SNGAN, 8, 4)
    assert type(load("dcgan-digits", model={"class_path": Mine}).model) is Mine
    recipe = load("dcgan-digits", model={"batch_norm": False, "terms": [R1(weight=3, every=2)], "width": 4})
    assert recipe.model.hparams["terms"] == [{"class_path": "gans.terms.R1", "init_args": {"weight": 3.0, "every": 2}}]


def test_epochs_alone_lift_the_steps_of_the_recipe():
    assert load("dcgan-digits", trainer={"max_epochs": 2}).trainer["max_steps"] == -1


def test_the_callbacks_are_those_of_the_command_line_in_their_order():
    """Also where the model adds one, after which Lightning sorts its list again."""
    scores = {"features": "mnist", "every_n_steps": 2, "samples": 10, "reference": 10}
    recipe = load("dcgan-digits", **TINY, trainer=TRAINER | {"max_time": "01:00:00:00"}, evaluate=scores)
    recipe.model.configure_callbacks = lambda: [L.Callback()]
    trainer = L.Trainer(**recipe.trainer)
    trainer.fit(recipe.model, recipe.data)
    names = [type(callback).__name__ for callback in trainer.callbacks]
    assert names[:2] == ["InOrder", "RunFolder"]
    assert names[-4:] == ["Evaluate", "Best", "Checkpoint", "Recorder"]
    assert {"ImageGrid", "Health", "Explore", "SaveConfig", "Timer"} < set(names)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"modle": {}}, "load has no keyword modle (did you mean model?)"),
        ({"width": 3}, "the model's arguments go into model=dict(width=...)"),
        ({"model": {"widht": 3}}, "there is no key model.widht (did you mean model.width?)"),
        ({"model": 3}, "model is 3; expected its arguments, as in model=dict(...)"),
        ({"model": {"init_args": 3}}, "model.init_args is 3; expected its arguments, as in model=dict(...)"),
        ({"model": {"size": 3}}, "model.size follows data.size"),
        ({"model": {"class_path": "SNGANN"}}, "model is SNGANN (did you mean SNGAN?)"),
        ({"model": {"lr": torch.ones(1)}}, "model.lr is an object of Tensor"),
        ({"trainer": {"max_step": 3}}, "there is no key trainer.max_step (did you mean trainer.max_steps?)"),
        ({"trainer": {"gradient_clip_val": 1.0}}, "give --model.gradient_clip 1.0"),
        ({"trainer": {"logger": object()}}, "put it into `recipe.trainer['logger']`, of what"),
        ({"trainer": {"strategy": "fsdp"}}, "trainer.strategy is fsdp; expected ddp"),
        ({"size": "big"}, "data.size is big; expected int"),
        ({"size": 0}, "0"),
        ({"trainer": {"logger": [object()]}}, "trainer.logger holds an object of object; expected"),
        ({"trainer": {"callbacks": [3]}}, "trainer.callbacks is 3; expected the import path of a class of Callback"),
        ({"trainer": {"callbacks": [object()]}}, "put it into `recipe.trainer['callbacks']`, of what `load` returns"),
        ({"trainer": {"callbacks": [torch.nn.Linear]}}, "torch.nn.modules.linear.Linear, which is no Callback"),
        ({"model": {"help": "DCGAN"}}, "model has no argument help: `gans fit --model.help NAME` prints"),
        ({"model": {"terms.help": "R1"}}, "model has no argument terms.help"),
        ({"init_from": "dcgan-digit"}, "there is no checkpoint dcgan-digit (did you mean dcgan-digits?)"),
    ],
)
def test_what_no_flag_takes_is_told(options, told):
    with pytest.raises(ValueError, match=re.escape(told)) as error:
        load("dcgan-digits", **options)
    assert "\0" not in str(error.value)


@pytest.mark.slow
def test_two_processes_of_a_notebook_are_one():
    weights = []
    for count in (1, 2):
        data = {"class_path": "DigitsDataModule", "batch_size": 16 // count, "size": 8}
        own = TRAINER | ({"devices": 2, "strategy": "ddp_notebook"} if count > 1 else {})
        recipe = load("gan-mnist", model={"width": 4}, data=data, trainer=own, evaluate={"features": None})
        L.Trainer(**recipe.trainer).fit(recipe.model, recipe.data)
        weights.append(torch.nn.utils.parameters_to_vector(recipe.model.parameters()).detach())
    torch.testing.assert_close(*weights, atol=1e-6, rtol=1e-5)


def test_a_name_of_no_recipe():
    with pytest.raises(ValueError, match=r"there is no recipe dcgan-digit .did you mean dcgan-digits"):
        load("dcgan-digit")


@pytest.mark.parametrize("name", ["--help", "-h", "--print_config", "--config=x.yaml"])
def test_a_flag_is_no_recipe(name, capsys):
    with pytest.raises(ValueError, match=f"name is {name}; expected a recipe or a YAML file"):
        load(name)
    assert capsys.readouterr().out == ""


def test_callbacks_may_be_objects():
    own = L.Callback()
    for held in (own, [own, {"class_path": "TQDMProgressBar"}], (own,)):
        recipe = load("dcgan-digits", **TINY, trainer=TRAINER | {"callbacks": held})
        assert recipe.trainer["callbacks"].count(own) == 1
        described = [type(callback).__name__ for callback in recipe.trainer["callbacks"]]
        assert described.count("TQDMProgressBar") == int(isinstance(held, list))
        assert "Checkpoint" in described


def test_checkpoints_have_the_names_of_the_command_line(saved, tmp_path):
    part = GridAutoencoder(size=16, channels=1, code_channels=2, factor=2, width=8)
    file = saved(part, tmp_path / "runs" / "gridautoencoder")
    data = {"class_path": "DigitsDataModule", "size": 16, "channels": 1, "batch_size": 4}
    found = []
    for name in ("gridautoencoder", file):
        model = {"class_path": "ManifoldDCGAN", "width": 4, "autoencoder": name}
        found.append(load("manifold-cifar10", model=model, data=data).model.hparams["autoencoder"])
    assert found[0] == found[1]
    with pytest.raises(ValueError, match=r"no checkpoint gridautoencodr .did you mean gridautoencoder"):
        load("manifold-cifar10", model={"autoencoder": "gridautoencodr"}, data=data)
    recipe = load("dcgan-digits", init_from="gridautoencoder:last")
    (start,) = (callback for callback in recipe.trainer["callbacks"] if isinstance(callback, InitFrom))
    assert start.path == str(file.relative_to(tmp_path))
