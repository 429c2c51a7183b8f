"""Comparison of checkpoints, for tests of runs that stop and resume."""

import torch


def assert_equal(one, other, path=""):
    """Compare nested dictionaries, lists and tensors, to the bit."""
    assert type(one) is type(other), path
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for name in one:
            assert_equal(one[name], other[name], f"{path}/{name}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, f"{path}/{index}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), path
    else:
        assert one == other, path


PARTS = ("state_dict", "optimizer_states", "adversarial", "global_step", "rng")
