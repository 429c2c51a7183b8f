"""The bare loops that `scripts/benchmark.py step` compares with."""

import argparse

import lightning as L
import pytest
import torch
from torch._dynamo.utils import counters

from gans.benchmarks.loops import Plain, bare_loop
from gans.benchmarks.models import MODELS, batch_of
from gans.benchmarks.naive import naive_fit
from gans.benchmarks.step import build_other, built, step
from gans.benchmarks.turns import Pauses, alternate

RESTING = {"manifoldgan": "autoencoder", "texttoimage": "matcher"}  # in the stage that is measured


def options(model: str, **changes: object) -> argparse.Namespace:
    given = {"size": 32, "channels": 3, "batch_size": 8, "precision": "32-true", "rounds": 2, "steps": 2}
    given |= {"layout": "same", "against": "bare", "bare_precision": None, "compile": False}
    return argparse.Namespace(model=model, **{**given, **changes})


@pytest.mark.parametrize("name", MODELS)
def test_the_bare_loop_trains_every_player(name: str) -> None:
    model = built(options(name))
    batch, own = batch_of(model, 8), [parameter for _, parameter in model.named_parameters()]
    trained = [parameter for parameter in own if parameter.requires_grad]
    loop = bare_loop(model, batch, "32-true")
    optimizers = loop.optimizers if isinstance(loop, Plain) else [loop.optimizer_g, loop.optimizer_d]
    players = [[p for group in optimizer.param_groups for p in group["params"]] for optimizer in optimizers]
    names = getattr(model, "players", ("encoder",))
    players = [player for player, of in zip(players, names, strict=True) if of != RESTING.get(name)]
    before = [[p.detach().clone() for p in player] for player in players]
    loop.round(2)
    for player, old in zip(players, before, strict=True):
        assert any(not torch.equal(p, q) for p, q in zip(player, old, strict=True))
    assert all(parameter.requires_grad for parameter in trained)


@pytest.mark.parametrize(("name", "against"), [("srgan", "bare"), ("gan", "naive")])
def test_both_sides_take_turns(name: str, against: str) -> None:
    found = step(options(name, against=against))
    assert found["images/s, Lightning"] > 0
    assert found[f"images/s, {against}"] > 0
    assert found["ratio, first quartile"] <= found["ratio, third quartile"]


@pytest.mark.slow
def test_our_side_can_be_compiled() -> None:
    torch.compiler.reset()
    found = step(options("gan", compile=True))
    assert found["images/s, Lightning"] > 0
    assert counters["stats"]["unique_graphs"] >= 2


def test_rounds_of_a_run_in_a_thread_are_of_the_same_batches() -> None:
    model, order = built(options("gan")), []
    batch = batch_of(model, 8)

    class Spy(L.Callback):
        def __init__(self, side: str) -> None:
            self.side = side

        def on_train_batch_end(self, *args: object) -> None:
            order.append(self.side)

    naive = built(options("gan"))
    other = Pauses(lambda callback: naive_fit(naive, batch, 6, "32-true", Spy("naive"), callback), 6)
    found = alternate(model, batch, other, 2, 2, "32-true", Spy("ours"))
    assert order == ["ours", "naive", "naive", "ours"] * 3  # the other side runs at the end of our second batch
    assert not other.thread.is_alive()  # so it does not disturb what follows
    assert len(found.ours) == len(found.theirs) == 2


def test_a_failure_of_the_other_side_is_told() -> None:
    def fit(callback: L.Callback) -> None:
        raise ValueError("broken")

    with pytest.raises(RuntimeError, match="the other side has failed"):
        Pauses(fit, 1).round(1)


def test_the_naive_module_trains_both_networks() -> None:
    model = built(options("gan"))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    naive_fit(model, batch_of(model, 8), 2, "32-true")
    moved = {name.split(".")[0] for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"generator", "discriminator"}


@pytest.mark.parametrize("layout", ["same", "contiguous"])
def test_the_bare_loops_layout_is_the_one_asked_for(layout: str) -> None:
    bare = build_other(options("sngan", layout=layout))
    weight = bare.discriminator.blocks[1].conv1.weight
    assert weight.is_contiguous() == (layout == "contiguous")
