"""Arguments of models: the signature of a class, hyper-parameters, and checkpoints of classes that users derive."""

import copy
import functools
import inspect
import json
import pickle
import pydoc

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from gans import models
from gans.engine.arguments import UnknownArgumentError, open_ended
from gans.engine.checkpoint import Checkpoint, load_model
from gans.hub import config_of, from_pretrained, save_pretrained
from gans.models import DCGAN, WGAN
from gans.terms import R1, LeCam


class Closed(DCGAN):
    def __init__(self, width=2):
        super().__init__(size=16, channels=1, latent_dim=4, width=width)


class Deeper(Closed):
    def __init__(self, more=1, **options):
        super().__init__(**options)


class Sets(DCGAN):
    def __init__(self, width=2, **options):
        super().__init__(16, critic="mlp", batch_norm=False, augment="ada", width=width, **options)


class Changes(DCGAN):
    def __init__(self, scale=1.0, **options):
        options.setdefault("lr", 1e-3)
        super().__init__(width=int(2 * scale), **options)


class Starred(DCGAN):
    def __init__(self, scale=1.0, *args, **options):
        super().__init__(*args, **options)


class Explicit(DCGAN):
    def __init__(self, width=2, **options):
        DCGAN.__init__(self, width=width, **options)


class Required(DCGAN):
    def __init__(self, *, extra, **options):
        self.extra = extra
        super().__init__(size=16, **options)


def decorated(function):
    @functools.wraps(function)
    def inner(*args, **options):
        function(*args, **options)

    return inner


class Decorated(DCGAN):
    @decorated
    def __init__(self, width=2, **options):
        super().__init__(size=16, width=width, **options)
        del width


class Mixin:
    def __init__(self, flavour=1, **options):
        super().__init__(**options)


class Mixed(Mixin, DCGAN):
    def __init__(self, width=2, **options):
        super().__init__(width=width, **options)


SOURCELESS: dict = {"DCGAN": DCGAN}
CODE = """
class Sourceless(DCGAN):
    def __init__(self, more=1, **options):
        super().__init__(**options)
"""
exec(CODE, SOURCELESS)
Sourceless = SOURCELESS["Sourceless"]
Sourceless.__module__ = __name__

SMALL = {"size": 16, "channels": 1, "latent_dim": 4}
DERIVED = [
    (Closed, {"width": 3}, {"width": 3, "size": 16, "critic": "conv"}),
    (Deeper, {"width": 3, "more": 2}, {"width": 3, "more": 2, "size": 16}),
    (Sets, {"channels": 1, "latent_dim": 4}, {"width": 2, "size": 16, "critic": "mlp", "augment": "ada"}),
    (Changes, SMALL, {"scale": 1.0, "lr": 1e-3, "critic": "conv"}),
    (Starred, {**SMALL, "width": 2}, {"scale": 1.0, "width": 2, "critic": "conv"}),
    (Explicit, {**SMALL, "lr": 3e-3}, {"width": 2, "lr": 3e-3}),
    (Required, {"extra": 5, "channels": 1, "latent_dim": 4, "width": 2}, {"extra": 5, "width": 2}),
    (Decorated, {"channels": 1, "latent_dim": 4}, {"width": 2, "size": 16, "critic": "conv"}),
    (Mixed, {**SMALL, "flavour": 2}, {"flavour": 2, "width": 2, "batch_norm": True}),
    (Sourceless, {**SMALL, "width": 2, "more": 3}, {"more": 3, "width": 2, "critic": "conv"}),
]


def batches():
    return DataLoader(TensorDataset(torch.rand(8, 1, 16, 16) * 2 - 1), batch_size=8)


@pytest.mark.parametrize(("kind", "given", "held"), DERIVED, ids=[kind.__name__ for kind, *_ in DERIVED])
def test_a_derived_class_trains_and_loads(kind, given, held, trainer, tmp_path):
    """By each way: this framework's, Lightning's, the hub's; and as copies and pickles."""
    model = kind(**given)
    assert {name: model.hparams[name] for name in held} == held
    trainer(1, callbacks=[Checkpoint(1, str(tmp_path))], enable_checkpointing=True).fit(model, batches())
    save_pretrained(model, tmp_path / "hub")
    trainer(2).fit(kind(**given), batches(), ckpt_path=str(tmp_path / "last.ckpt"))
    again = {
        "load_model": load_model(tmp_path / "last.ckpt", model=kind),
        "Lightning": kind.load_from_checkpoint(tmp_path / "last.ckpt", map_location="cpu", weights_only=True),
        "hub": from_pretrained(str(tmp_path / "hub"), model=kind),
        "copy": copy.deepcopy(model),
        "pickle": pickle.loads(pickle.dumps(model)),
    }
    expected = model.sample(4, seed=0)
    for way, other in again.items():
        assert torch.equal(other.cpu().eval().sample(4, seed=0), expected), way
        assert {name: other.hparams[name] for name in held} == held, way


def test_a_checkpoint_has_the_arguments_that_the_class_takes():
    model = WGAN(size=16, width=2, terms=[LeCam(), R1(weight=2.0)])
    held: dict = {}
    model._trainer = L.Trainer(logger=False, accelerator="cpu")
    model.on_save_checkpoint(held)
    assert set(held["hyper_parameters"]) == set(inspect.signature(WGAN).parameters)
    assert "betas" not in held["hyper_parameters"]
    assert "betas" in model.hparams
    assert json.loads(json.dumps(config_of(model)))["arguments"]["terms"][1]["init_args"] == {"weight": 2.0, "every": 1}


def test_unknown_arguments_name_the_nearest():
    for kind, name, says in (
        (DCGAN, "learning_rate", r"DCGAN has no argument learning_rate \(did you mean lr\?\)"),
        (Mixed, "flavor", r"Mixed has no argument flavor \(did you mean flavour\?\)"),
        (WGAN, "betas", "WGAN has no argument betas"),
    ):
        with pytest.raises(UnknownArgumentError, match=says):
            kind(**{name: 1})


@pytest.mark.parametrize("kind", [getattr(models, name) for name in models.__all__], ids=models.__all__)
def test_no_model_takes_arguments_of_any_name(kind):
    """Else its checkpoints would lose those of its bases, such as the prior."""
    assert not open_ended(inspect.signature(kind))
    with pytest.raises(TypeError, match=r"argument '?nothing"):
        kind(nothing=1)


def test_help_lists_the_arguments_of_all_bases():
    text = pydoc.render_doc(WGAN, renderer=pydoc.plaintext)
    [head] = [line for line in text.splitlines() if line.startswith(" |  WGAN(size: ")]
    for name in ("clip", "terms", "gradient_clip"):
        assert f"{name}: " in head
    assert "betas: " not in head
