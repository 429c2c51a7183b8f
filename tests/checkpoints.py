"""Comparison of checkpoints, for tests of runs that stop and resume, or that have several processes."""

import torch
from torch.nn.modules.batchnorm import _BatchNorm


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


def assert_near(one, other, atol=1e-9):
    """Compare two state dicts, up to rounding in double precision."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.allclose(value.double(), other[name].double(), rtol=1e-9, atol=atol), name


def freeze_batch_norm(model):
    """Make normalisation a function of one sample: statistics of a share of a batch are not those of the batch."""
    for part in model.modules():
        if isinstance(part, _BatchNorm):
            part.momentum, part.train = 0.0, lambda mode=True, part=part: part
            part.training = False
