"""The bare loops that `scripts/benchmark.py` compares with."""

import argparse

import pytest
import torch

from gans.commands import benchmark


def options(model: str, layout: str = "same") -> argparse.Namespace:
    shape = {"size": 32, "channels": 3, "batch_size": 8, "precision": "32-true"}
    return argparse.Namespace(model=model, layout=layout, rounds=2, steps=1, **shape)


@pytest.mark.parametrize("name", benchmark.MODELS)
def test_the_bare_loop_trains_both_players(name: str) -> None:
    model = benchmark.build(options(name))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    given = {key for key, _ in model.named_parameters() if not key.startswith(("generator_ema", "matcher"))}
    benchmark.bare_loop(model, benchmark.batch_of(model, options(name)), "32-true").round(2)
    after = model.state_dict()
    moved = {key.split(".")[0] for key in given if not torch.equal(before[key], after[key])}
    assert {"generator", "discriminator"} <= moved
    assert all(parameter.requires_grad for name_, parameter in model.named_parameters() if name_ in given)


def test_both_sides_take_turns() -> None:
    found = benchmark.step(options("srgan"))
    assert found["images/s, Lightning"] > 0
    assert found["images/s, bare loop"] > 0
    assert found["ratio, first quartile"] <= found["ratio, third quartile"]


@pytest.mark.parametrize("layout", ["same", "contiguous"])
def test_the_bare_loops_layout_is_the_one_asked_for(layout: str) -> None:
    bare = benchmark.build_bare(options("sngan", layout))
    weight = bare.discriminator.blocks[1].conv1.weight
    assert weight.is_contiguous() == (layout == "contiguous")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--rounds 0", "rounds is 0; expected at least 2"),
        ("--size 0", "size is 0; expected at least 1"),
        ("--batch_size -1", "batch_size is -1; expected at least 1"),
        ("--channels 7", "channels is 7; expected 1 (grey), 3 (RGB) or 4 (RGBA)"),
        ("--size 100000000", "a batch of 64 images of shape (3, 100000000, 100000000) needs"),
    ],
)
def test_bad_input_is_one_sentence(capsys: pytest.CaptureFixture[str], flags: str, says: str) -> None:
    with pytest.raises(SystemExit) as end:
        benchmark.main(["step", *flags.split()])
    assert end.value.code == 2
    assert f"error: {says}" in capsys.readouterr().err.splitlines()[-1]
