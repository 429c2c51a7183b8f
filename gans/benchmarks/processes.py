"""What it gains to average gradients while the backward pass runs, by model size and link.

Processes train DCGAN's networks. They average gradients in two ways, in turns: in buckets during the backward pass, as
a training run does, and in one message after it. Device and link are simulated: a layer takes the time of its
floating-point operations, a message that of its bytes on the link and 50 microseconds. That time is counted and does
not pass, so the result does not depend on this machine. With `--teraflops 0` the networks run on this CPU, Gloo sends
over loopback, and time passes. A message then takes the time of the link besides; `--links 0` adds none.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, autograd, distributed, nn

from gans.benchmarks.models import Options
from gans.checks import at_least
from gans.engine import buckets
from gans.engine.buckets import Averages
from gans.engine.distributed import start_mean
from gans.networks import dcgan

SIZE, LATENT = 64, 100
FEWER = 100
"""Simulated parameters have so many times fewer numbers, which saves the memory of large models."""
LATENCY = 50e-6
"""Seconds of a message besides those of its bytes."""


class Counted:
    """Time that is counted, with the functions of Python's `time`."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        """Return the seconds so far."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Count seconds."""
        self.now += seconds


class Link:
    """Replaces `torch.distributed.all_reduce`: messages take as long as on a link, one after the other.

    A process sends and receives `2 (n - 1) / n` times the bytes of a tensor in a ring of n processes.
    """

    def __init__(self, clock: Any, fewer: int) -> None:
        self.clock = clock
        self.fewer = fewer  # how many times fewer numbers a tensor has than what it stands for
        self.rate = float("inf")  # bytes per second
        self.free = 0.0  # when the messages so far have passed
        self.busy = 0.0  # seconds
        self.reduce = distributed.all_reduce

    def __call__(self, tensor: Tensor, *args: Any, **options: Any) -> Any:
        """Start a message, and return its handle."""
        world = distributed.get_world_size()
        seconds = 2 * (world - 1) / world * tensor.nbytes * self.fewer / self.rate
        seconds += LATENCY if seconds else 0.0
        self.free = max(self.free, self.clock.perf_counter()) + seconds
        self.busy += seconds
        return Passing(self.reduce(tensor, *args, **options), self.free, self.clock)


class Passing:
    """A message on its way."""

    def __init__(self, work: Any, until: float, clock: Any) -> None:
        self.work, self.until, self.clock = work, until, clock

    def wait(self) -> None:
        """Wait until the tensor is averaged and the link's time has passed."""
        self.work.wait()
        self.clock.sleep(max(0.0, self.until - self.clock.perf_counter()))


class Timed(autograd.Function):
    """A layer that only takes time: once in the forward pass, and once for each kind of gradient in the backward."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, clock: Any, seconds: float, *weights: Tensor) -> Tensor:
        """Return the input."""
        ctx.clock, ctx.seconds = clock, seconds
        ctx.save_for_backward(*weights)
        clock.sleep(seconds)
        return images.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Return zeros as the gradients of the weights."""
        images, _, _, *weights = ctx.needs_input_grad
        ctx.clock.sleep(ctx.seconds * (images + any(weights)))
        return gradients[0], None, None, *(torch.zeros_like(weight) for weight in ctx.saved_tensors)


class Simulated(nn.Module):
    """A network whose layers take the time of their operations.

    Args:
        network: is simulated, on the meta device.
        inputs: a batch of it, on that device.
        teraflops: operations per second, in 10^12.
        clock: counts the time.
    """

    def __init__(self, network: nn.Module, inputs: Tensor, teraflops: float, clock: Any) -> None:
        super().__init__()
        self.clock = clock
        self.seconds: list[float] = []
        self.weights = nn.ModuleList()

        def note(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            operations = 0
            if isinstance(layer, nn.ConvTranspose2d | nn.Conv2d):
                # The weight multiplies each position of the output, or of the input of a transposed convolution.
                images = given[0] if isinstance(layer, nn.ConvTranspose2d) else output
                operations = 2 * len(images) * images[0, 0].numel() * layer.weight.numel()
            self.seconds.append(operations / (teraflops * 1e12))
            small = [nn.Parameter(torch.zeros(-(-p.numel() // FEWER))) for p in layer.parameters()]
            self.weights.append(nn.ParameterList(small))

        for layer in network.modules():
            if [*layer.parameters(recurse=False)]:
                layer.register_forward_hook(note)
        network(inputs)

    def forward(self, images: Tensor) -> Tensor:
        """Return a number `(1,)`, whatever the input."""
        images = images.flatten()[:1]
        for seconds, weights in zip(self.seconds, self.weights, strict=True):
            images = Timed.apply(images, self.clock, seconds, *cast(nn.ParameterList, weights))
        return images


class Player:
    """A network with what it needs to be trained."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.parameters = list(network.parameters())
        self.optimizer = torch.optim.SGD(self.parameters, lr=1e-6)


Way = Callable[[torch.optim.Optimizer], Any]


@contextmanager
def afterwards(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Average gradients in one message after the backward pass. They become views of it, which saves a copy back."""
    yield
    pairs = [(p, p.grad) for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    whole = torch.cat([gradient.flatten() for _, gradient in pairs])
    start_mean(whole)()
    means = torch.split(whole, [gradient.numel() for _, gradient in pairs])
    for (parameter, gradient), mean in zip(pairs, means, strict=True):
        parameter.grad = mean.view_as(gradient)


class Game:
    """Networks of about `millions` of parameters, and a batch."""

    def __init__(self, millions: float, options: Options, clock: Any) -> None:
        torch.manual_seed(0)
        self.teraflops, self.clock = options.teraflops, clock
        self.real = torch.randn(options.batch_size, 3, SIZE, SIZE)
        self.z = torch.randn(options.batch_size, LATENT)
        width = 64
        for _ in range(3):  # the count grows with the square of the width, nearly
            self.count = self.build(width)
            width = max(1, round(width * (millions * 1e6 / self.count) ** 0.5))

    def build(self, width: int) -> int:
        """Build networks of a width, and return the number of their parameters."""
        with torch.device("meta" if self.teraflops else "cpu"):
            generator: nn.Module = dcgan.Generator(LATENT, SIZE, 3, width)
            critic: nn.Module = dcgan.Discriminator(SIZE, 3, width)
        count = sum(p.numel() for network in (generator, critic) for p in network.parameters())
        if self.teraflops:
            generator = Simulated(generator, self.z.to("meta"), self.teraflops, self.clock)
            critic = Simulated(critic, self.real.to("meta"), self.teraflops, self.clock)
        self.generator, self.critic = Player(generator), Player(critic)
        return count

    def step(self, way: Way) -> tuple[float, float]:
        """Update both networks, and return the seconds of the step, and of backward passes and averaging in it."""
        distributed.barrier()
        start = self.clock.perf_counter()
        fake = self.generator.network(self.z).detach()
        critic = self.critic.network
        inner = self.update(way, self.critic, self.generator, lambda: critic(fake).mean() - critic(self.real).mean())
        inner += self.update(way, self.generator, self.critic, lambda: -critic(self.generator.network(self.z)).mean())
        return self.clock.perf_counter() - start, inner

    def update(self, way: Way, player: Player, rest: Player, loss: Callable[[], Tensor]) -> float:
        """Take one step of a player, and return the seconds of its backward pass and averaging."""
        for parameter in rest.parameters:
            parameter.requires_grad_(False)
        value = loss()
        player.optimizer.zero_grad()
        start = self.clock.perf_counter()
        with way(player.optimizer):
            autograd.backward(value)
        seconds: float = self.clock.perf_counter() - start
        player.optimizer.step()
        for parameter in rest.parameters:
            parameter.requires_grad_(True)
        return seconds


def measure(game: Game, link: Link, gigabits: float, rounds: int) -> list[str]:
    """Return a row of the table."""
    averages = Averages()

    def during(optimizer: torch.optim.Optimizer) -> Any:
        return averages.during_backward(optimizer, [], last=True)

    link.rate = gigabits * 1e9 / 8 if gigabits else float("inf")
    ways: Sequence[Way] = (afterwards, during)
    times: list[list[tuple[float, float]]] = [[], []]
    sent = 0.0
    for _ in range(rounds + 1):
        for way, side in zip(ways, times, strict=True):
            link.busy = 0.0
            side.append(game.step(way))
            sent = sent or link.busy  # in one message
    averages.clear()
    after, with_pass = ([seconds for seconds, _ in side[1:]] for side in times)  # the first round is a warm-up
    backward = statistics.median(inner for _, inner in times[0][1:]) - sent
    low, middle, high = statistics.quantiles([a / b for a, b in zip(after, with_pass, strict=True)], n=4)
    shown = [backward, sent, statistics.median(after), statistics.median(with_pass)]
    row = [f"{game.count / 1e6:.0f}", f"{gigabits:g}", *(f"{1000 * seconds:.1f}" for seconds in shown)]
    return [*row, f"{middle:.2f}", f"{low:.2f}, {high:.2f}"]


def work(rank: int, options: Options, folder: str) -> None:
    """Measure on one process; the first prints."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=options.processes)
    clock, fewer = (Counted(), FEWER) if options.teraflops else (time, 1)
    link = Link(clock, fewer)
    distributed.all_reduce = link
    buckets.FIRST, buckets.REST = buckets.FIRST // fewer, round(options.bucket * 2**20) // fewer
    for millions in options.parameters:
        game = Game(millions, options, clock)
        for gigabits in options.links:
            row = measure(game, link, gigabits, options.rounds)
            if rank == 0:
                print("| " + " | ".join(row) + " |", flush=True)
    distributed.destroy_process_group()


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this subcommand."""
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--parameters", type=float, nargs="+", default=[5, 20, 100], help="millions, of both networks")
    parser.add_argument("--links", type=float, nargs="+", default=[1, 10, 25, 100], help="Gb/s; 0 adds no time")
    parser.add_argument("--bucket", type=float, default=buckets.REST / 2**20, help="MiB that close a bucket")
    parser.add_argument("--batch_size", type=int, default=64, help="of each process")
    parser.add_argument("--teraflops", type=float, default=20, help="of the simulated device; 0: this CPU")
    parser.add_argument("--rounds", type=int, default=3)


def run(options: Options) -> None:
    """Print a table.

    Raises:
        ValueError: if a flag is out of range.
    """
    at_least(2, processes=options.processes, rounds=options.rounds)
    at_least(1, batch_size=options.batch_size)
    at_least(0, links=min(options.links), bucket=options.bucket, teraflops=options.teraflops)
    at_least(0.1, parameters=min(options.parameters))
    device = f"{options.teraflops:g} TFLOP/s" if options.teraflops else "this CPU"
    images = f"batch {options.batch_size} of {SIZE}x{SIZE} each"
    print(f"{options.processes} processes, {images}, {device}, {options.rounds} rounds; milliseconds of a step")
    heads = ["million parameters", "link, Gb/s", "backward", "on the link", "step, averaged after", "during", "ratio"]
    heads.append("quartiles")
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|", flush=True)
    ranks = range(options.processes)
    with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(len(ranks)) as pool:
        # A task waits for the others, so each process takes one.
        pool.starmap(work, [(rank, options, folder) for rank in ranks], chunksize=1)
