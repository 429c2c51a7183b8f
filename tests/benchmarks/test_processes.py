"""`scripts/benchmark.py processes`: simulated time, and the table."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from gans.benchmarks import main as benchmark
from gans.benchmarks.processes import FEWER, Counted, Link, Simulated, afterwards


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--processes 1", "processes is 1; expected at least 2"),
        ("--links 10 -1", "links is -1.0; expected at least 0"),
        ("--parameters 0", "parameters is 0.0; expected at least 0.1"),
    ],
)
def test_bad_input_is_one_sentence(capsys: pytest.CaptureFixture[str], flags: str, says: str) -> None:
    assert benchmark.main(["processes", *flags.split()]) == 2
    assert f"error: {says}" in capsys.readouterr().err.splitlines()[-1]


def test_layers_take_the_time_of_their_operations() -> None:
    """A pass over images and weights costs twice a forward pass; a pass over frozen weights once."""
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1), nn.ConvTranspose2d(4, 5, 4, 2, 1))
    clock = Counted()
    simulated = Simulated(network, torch.zeros(3, 2, 8, 8, device="meta"), 1e-6, clock)
    operations = 2 * 3 * 16 * (2 * 4 * 9 + 4 * 5 * 16)  # images of 4x4 lie between the layers
    images = torch.zeros(3, 2, 8, 8, requires_grad=True)
    output = simulated(images)
    assert clock.now == pytest.approx(operations / 1e6)
    output.sum().backward()
    assert clock.now == pytest.approx(3 * operations / 1e6)
    simulated.requires_grad_(False)
    simulated(images).sum().backward()
    assert clock.now == pytest.approx(5 * operations / 1e6)
    assert sum(p.numel() for p in simulated.parameters()) == sum(-(-p.numel() // FEWER) for p in network.parameters())


def test_messages_follow_each_other_on_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    class Work:
        def wait(self) -> None:
            """Do nothing."""

    monkeypatch.setattr(torch.distributed, "all_reduce", lambda *args, **options: Work())
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 4)
    monkeypatch.setattr("gans.benchmarks.processes.LATENCY", 1.0)
    clock = Counted()
    link = Link(clock, fewer=10)
    link.rate = 60.0
    first, second = link(torch.zeros(2)), link(torch.zeros(4))  # 1.5 x 80 and 160 bytes: 2 and 4 seconds
    second.wait()
    assert clock.now == pytest.approx(8.0)
    first.wait()
    assert clock.now == pytest.approx(8.0)
    link(torch.zeros(2)).wait()
    assert clock.now == pytest.approx(11.0)


def test_means_of_one_message_are_views_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies would favour the buckets that the table compares with."""
    sent: list[torch.Tensor] = []

    def start_mean(whole: torch.Tensor) -> Callable[[], object]:
        sent.append(whole)
        return lambda: whole.mul_(0.5)

    monkeypatch.setattr("gans.benchmarks.processes.start_mean", start_mean)
    layers = nn.Linear(2, 3), nn.Linear(5, 1)  # the last has no gradient
    with afterwards(torch.optim.SGD([*layers[0].parameters(), *layers[1].parameters()], lr=1.0)):
        layers[0](torch.ones(4, 2)).sum().backward()
    for parameter in layers[0].parameters():
        assert parameter.grad is not None
        assert parameter.grad.untyped_storage().data_ptr() == sent[0].untyped_storage().data_ptr()
        assert torch.equal(parameter.grad, torch.full_like(parameter, 2.0))
    assert layers[1].weight.grad is None


@pytest.mark.slow
def test_the_table(capfd: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["processes", "--parameters", "5", "--links", "25", "--rounds", "2"]) == 0
    [*_, row] = capfd.readouterr().out.splitlines()
    millions, _, backward, link, after, during, ratio, quartiles = (cell.strip() for cell in row.strip("|").split("|"))
    assert float(millions) == 5
    assert float(during) < float(after)
    assert float(after) - float(during) < min(float(backward), float(link))
    assert quartiles == f"{ratio}, {ratio}"
