"""The bare loops that `scripts/benchmark.py step` compares with."""

import argparse

import pytest
import torch

from gans.commands.benchmark_loops import Plain, bare_loop
from gans.commands.benchmark_models import MODELS, batch_of
from gans.commands.benchmark_step import build_bare, built, step

RESTING = {"manifoldgan": "autoencoder", "texttoimage": "matcher"}  # in the stage that is measured


def options(model: str, layout: str = "same") -> argparse.Namespace:
    shape = {"size": 32, "channels": 3, "batch_size": 8, "precision": "32-true"}
    return argparse.Namespace(model=model, layout=layout, rounds=2, steps=1, **shape)


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


def test_both_sides_take_turns() -> None:
    found = step(options("srgan"))
    assert found["images/s, Lightning"] > 0
    assert found["images/s, bare loop"] > 0
    assert found["ratio, first quartile"] <= found["ratio, third quartile"]


@pytest.mark.parametrize("layout", ["same", "contiguous"])
def test_the_bare_loops_layout_is_the_one_asked_for(layout: str) -> None:
    bare = build_bare(options("sngan", layout))
    weight = bare.discriminator.blocks[1].conv1.weight
    assert weight.is_contiguous() == (layout == "contiguous")
