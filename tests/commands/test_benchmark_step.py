"""The bare loops that `scripts/benchmark.py step` compares with."""

import argparse

import pytest
import torch

from gans.commands.benchmark_loops import bare_loop
from gans.commands.benchmark_models import MODELS, batch_of, build
from gans.commands.benchmark_step import build_bare, step


def options(model: str, layout: str = "same") -> argparse.Namespace:
    shape = {"size": 32, "channels": 3, "batch_size": 8, "precision": "32-true"}
    return argparse.Namespace(model=model, layout=layout, rounds=2, steps=1, **shape)


@pytest.mark.parametrize("name", MODELS)
def test_the_bare_loop_trains_both_players(name: str) -> None:
    model = build(options(name))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    given = {key for key, _ in model.named_parameters() if not key.startswith(("generator_ema", "matcher"))}
    bare_loop(model, batch_of(model, options(name)), "32-true").round(2)
    after = model.state_dict()
    moved = {key.split(".")[0] for key in given if not torch.equal(before[key], after[key])}
    assert {"generator", "discriminator"} <= moved
    assert all(parameter.requires_grad for name_, parameter in model.named_parameters() if name_ in given)


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
