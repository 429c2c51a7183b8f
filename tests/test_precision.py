"""Where TF32 is allowed, and that a gradient penalty forbids it for its three passes."""

from operator import attrgetter

import pytest
import torch

from gans.penalties import zero_centered
from gans.precision import allow_tf32, reduced_precision

torch.set_num_threads(1)


class Backward(torch.autograd.Function):
    """The derivative of `Square`."""

    @staticmethod
    def forward(ctx, value, upstream, seen):
        seen["backward"] = reduced_precision()
        ctx.save_for_backward(value, upstream)
        ctx.seen = seen
        return 2 * value * upstream

    @staticmethod
    def backward(ctx, upstream):
        ctx.seen["double backward"] = reduced_precision()
        value, before = ctx.saved_tensors
        return 2 * before * upstream, 2 * value * upstream, None


class Square(torch.autograd.Function):
    """A square that notes whether products may be rounded where it is computed, and where its derivatives are."""

    @staticmethod
    def forward(ctx, value, seen):
        seen["forward"] = reduced_precision()
        ctx.save_for_backward(value)
        ctx.seen = seen
        return value.square()

    @staticmethod
    def backward(ctx, upstream):
        return Backward.apply(*ctx.saved_tensors, upstream, ctx.seen), None


def seen_by(penalised):
    """Return whether products may be rounded in a forward pass, its backward pass, and a double backward pass."""
    weight, seen = torch.ones(48, requires_grad=True), {}
    if penalised:
        zero_centered(lambda x: Square.apply(x.flatten(1) * weight, seen).sum(1), torch.randn(4, 3, 4, 4)).backward()
    else:
        Square.apply(weight, seen).sum().backward()
    return seen


def settings():
    backends = attrgetter("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv")(torch.backends)
    return [backend.fp32_precision for backend in backends]


@pytest.fixture
def precision():
    """Restore PyTorch's settings."""
    yield
    torch.backends.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.mkldnn.conv.fp32_precision = "none"


def newest_name():
    torch.backends.cudnn.allow_tf32 = False  # convolutions follow the name of everything
    torch.backends.fp32_precision = "tf32"


def newer_names():
    torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "tf32"


@pytest.mark.parametrize(
    "given",
    [
        lambda: allow_tf32(True),
        lambda: None,  # PyTorch's default: convolutions
        lambda: torch.set_float32_matmul_precision("medium"),
        newer_names,
        newest_name,
    ],
)
def test_a_penalty_is_computed_in_full_precision_and_leaves_settings_as_they_were(given, precision):
    given()
    before = settings()
    assert seen_by(penalised=True) == {"forward": False, "backward": False, "double backward": False}
    assert settings() == before
    assert seen_by(penalised=False) == {"forward": True, "backward": True}


@pytest.mark.parametrize(("allowed", "name"), [(True, "high"), (False, "highest")])
def test_tf32_is_allowed_by_all_names(allowed, name, precision):
    allow_tf32(allowed)
    for _ in range(2):
        assert torch.get_float32_matmul_precision() == name  # Lightning asks for it
        assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is allowed
        assert reduced_precision() is allowed
        assert any(seen_by(penalised=True).values()) is False
