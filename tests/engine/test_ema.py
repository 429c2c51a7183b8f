"""The averaged weights against a loop over numbers, and their horizon against its definition."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

from gans.engine import ema

torch.set_num_threads(1)


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 2, 1))
    )


@pytest.mark.parametrize(
    ("images", "seen", "halflife", "rampup", "expected"),
    [
        (64, 1_000_000, 10_000, 0.05, 2 ** (-64 / 10_000)),  # beyond the ramp
        (64, 200_000, 10_000, 0.05, 2 ** (-64 / 10_000)),  # at its end: 5 % of 200,000
        (64, 20_000, 10_000, 0.05, 2 ** (-64 / 1_000)),  # on it
        (64, 64, 10_000, 0.05, 2 ** (-64 / 3.2)),  # at its start
        (64, 64, 10_000, 0, 2 ** (-64 / 10_000)),  # no ramp
        (64, 0, 10_000, 0, 2 ** (-64 / 10_000)),
        (64, 0, 10_000, 0.05, 0),  # nothing seen, nothing to remember
        (64, 1_000_000, 0, 0.05, 0),  # no memory
        (64, 1_000_000, 0, 0, 0),
        (500, 1_000_000, 500, 0.05, 0.5),  # the definition
    ],
)
def test_decay_is_the_half_to_the_share_of_the_half_life(images, seen, halflife, rampup, expected):
    assert ema.decay(images, seen, halflife, rampup) == pytest.approx(expected, rel=1e-12)


def test_the_ramp_reaches_five_percent_of_the_images_by_default():
    assert ema.decay(10, 1_000, 10_000) == ema.decay(10, 1_000, 10_000, 0.05) == pytest.approx(2 ** (-10 / 50))


def test_decay_grows_with_the_clock_and_stays_below_one():
    decays = [ema.decay(64, seen, 10_000) for seen in range(64, 300_000, 64)]
    assert all(0 <= first <= second < 1 for first, second in pairwise(decays))
    assert decays[0] < decays[1000] < decays[3000] < decays[3200] == decays[-1]  # the ramp ends at 200,000


@pytest.mark.parametrize("batch", [1, 8, 100, 1_000])
def test_after_a_half_life_the_old_weights_count_half_whatever_the_batch(batch):
    average, model = nn.Linear(1, 1).double(), nn.Linear(1, 1).double()
    nn.init.ones_(average.weight)
    nn.init.zeros_(model.weight)
    for _ in range(1_000 // batch):
        ema.update(average, model, ema.decay(batch, 1_000_000, halflife=1_000))
    assert average.weight.item() == pytest.approx(0.5, rel=1e-9)


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999, 1.0])
def test_update_moves_every_parameter_like_a_loop(decay):
    average, model = network(0).double(), network(1).double()
    before = [p.detach().clone() for p in average.parameters()]
    kept = [p.detach().clone() for p in model.parameters()]
    assert len(before) == 6
    ema.update(average, model, decay)
    for parameter, old, other, new in zip(average.parameters(), before, kept, model.parameters(), strict=True):
        assert torch.equal(new, other)
        expected = torch.tensor(
            [decay * o + (1 - decay) * n for o, n in zip(old.flatten().tolist(), other.flatten().tolist(), strict=True)]
        )
        torch.testing.assert_close(parameter.flatten(), expected.double(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("decay", "source"), [(0.0, "model"), (1.0, "average")])
def test_the_ends_are_exact(decay, source):
    average, model = network(0), network(1)
    expected = copy.deepcopy({"model": model, "average": average}[source])
    ema.update(average, model, decay)
    for parameter, exact in zip(average.parameters(), expected.parameters(), strict=True):
        assert torch.equal(parameter, exact)


def test_buffers_are_copied():
    model = network(1)
    average = copy.deepcopy(model).eval()
    for _ in range(3):
        model(torch.randn(8, 3, 6, 6) * 5 + 2)
    ema.update(average, model, 0.9)
    names = [name for name, _ in model.named_buffers()]
    for word in ("running_mean", "running_var", "num_batches_tracked", "_u", "_v"):
        assert any(name.endswith(word) for name in names), names
    for (name, buffer), other in zip(average.named_buffers(), model.buffers(), strict=True):
        assert torch.equal(buffer, other), name
        assert buffer.data_ptr() != other.data_ptr(), name
    assert average[1].num_batches_tracked == 3
    assert average[1].num_batches_tracked.dtype == torch.int64
    model(torch.randn(8, 3, 6, 6))
    assert average[1].num_batches_tracked == 3


def test_update_works_in_place_and_records_no_graph():
    average, model = network(0), network(1)
    where = [p.data_ptr() for p in average.parameters()]
    ema.update(average, model, 0.5)
    assert [p.data_ptr() for p in average.parameters()] == where
    assert all(p.grad_fn is None and p.is_leaf for p in average.parameters())
    frozen = copy.deepcopy(average).requires_grad_(False)
    ema.update(frozen, model, 0.5)
    assert not any(p.requires_grad for p in frozen.parameters())


def test_a_pair_follows_buffers_that_are_replaced():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("steps", torch.zeros(()))
            self.register_buffer("absent", None)

        def forward(self):
            self.steps = self.steps + 1

    model = Counting()
    average = copy.deepcopy(model)
    pair = ema.Pair(average, model)
    for step in (1, 2):
        model()
        pair.update(0.9)
        assert average.steps == step


def test_networks_without_parameters_or_buffers_are_fine():
    ema.update(nn.Tanh(), nn.Tanh(), 0.5)
    ema.update(nn.Linear(1, 1), nn.Linear(1, 1), 0.5)
    ema.update(nn.BatchNorm2d(2, affine=False), nn.BatchNorm2d(2, affine=False), 0.5)


def test_different_networks_are_refused():
    with pytest.raises(RuntimeError):
        ema.update(nn.Linear(2, 2), nn.Linear(3, 3), 0.5)
    with pytest.raises(RuntimeError):
        ema.update(nn.Linear(2, 2), nn.Linear(2, 2, bias=False), 0.5)
