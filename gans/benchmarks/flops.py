"""The arithmetic of a training step, in units of one forward pass of the discriminator.

A unit is a forward pass of the discriminator on the images of one player's batch, real or fake. A backward pass costs
one unit for the gradient of the inputs and one for that of the weights. Convolutions, matrix products and attention are
counted, by the formulas of `torch.utils.flop_counter` and those below.
"""

import argparse
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from gans.benchmarks.launches import CASES
from gans.benchmarks.models import Options, batch_of, build
from gans.benchmarks.once import third_step
from gans.commands.timing import quiet

SIZE, CHANNELS, BATCH = 32, 3, 4
WITHOUT = {"autoencoder", "vae", "imagetextencoder"}  # models without a discriminator


def convolution_backward(
    grad: Tensor,
    inputs: Tensor,
    weight: Tensor,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    output_mask: list[bool],
    out_val: Any = None,
) -> int:
    """Return the floating-point operations of the backward pass of a convolution.

    A convolution multiplies every weight with one number of each position, and adds: 2 x N x positions x weights. The
    positions are the pixels of the output, or of the input if the convolution is transposed. The weights
    `(out, in / groups, ...)` are those of all groups. The gradient of the input pairs the same numbers, and so does
    that of the weights: each costs as much as the forward pass. PyTorch's formula for the second ignores the groups.
    The gradient of the bias is not counted.
    """
    positions = (inputs if transposed else grad).shape[2:]
    return 2 * len(inputs) * prod(positions) * weight.numel() * sum(output_mask[:2])


def attention(query: Tensor, keys: Tensor, values: Tensor, *options: Any, out_val: Any = None, **more: Any) -> int:
    """Return the operations of attention: the scores, and the sum of values, for `(N, heads, positions, features)`."""
    pairs = prod(query.shape[:3]) * keys.shape[2]
    return int(2 * pairs * (query.shape[3] + values.shape[3]))


def attention_backward(
    grad: Tensor, query: Tensor, keys: Tensor, values: Tensor, *options: Any, out_val: Any = None, **more: Any
) -> int:
    """Return the operations of its backward pass: the scores again, and two products for each of the forward pass."""
    pairs = prod(query.shape[:3]) * keys.shape[2]
    return int(2 * pairs * (3 * query.shape[3] + 2 * values.shape[3]))


FORMULAS: dict[Any, Any] = {
    **flop_registry,
    torch.ops.aten.convolution_backward: convolution_backward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
}


class Flops(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts floating-point operations while it is active, in `total`.

    PyTorch's own counter follows modules, which fails when a gradient is differentiated.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it computes."""
        given = kwargs or {}
        out = func(*args, **given)
        if formula := FORMULAS.get(func._overloadpacket):
            self.total += formula(*args, **given, out_val=out)
        return out


class Cost(NamedTuple):
    """Floating-point operations of a step.

    Args:
        unit: of a forward pass of the discriminator on a player's batch; 0 if it is never called as a whole.
        generator: the same of the generator.
        players: of the step of each player, by its name.
        total: of the whole step.
    """

    unit: float
    generator: float
    players: dict[str, float]
    total: float


class Passes:
    """Counts the operations of the first forward pass of a network, for each row of its input."""

    def __init__(self, network: nn.Module, count: Flops) -> None:
        self.count, self.before, self.per_row = count, 0, 0.0
        network.register_forward_pre_hook(self.begin)
        network.register_forward_hook(self.end)

    def begin(self, network: nn.Module, inputs: Any) -> None:
        """Note the count before the pass."""
        self.before = self.count.total

    def end(self, network: nn.Module, inputs: Any, output: Any) -> None:
        """Note what the pass has added."""
        self.per_row = self.per_row or (self.count.total - self.before) / len(inputs[0])


def cost(case: str, batch_size: int = BATCH) -> Cost:
    """Return what a training step of one of `CASES` costs."""
    name, changes = CASES[case]
    model: Any = build(name, SIZE, CHANNELS, **changes).cpu()
    batch, count = batch_of(model, batch_size), Flops()
    networks = {part: Passes(getattr(model, part), count) for part in ("generator", "discriminator")}
    players: dict[str, float] = {}
    descend = model.descend

    def counted(loss: Any, optimizer: Any, **options: Any) -> None:
        descend(loss, optimizer, **options)
        player = model.players[model.player_optimizers().index(optimizer)]
        players[player] = players.get(player, 0) + count.total - sum(players.values())

    model.descend = counted
    third_step(model, batch, count)
    rows = len(model.shares(batch)[0][0]) if hasattr(model, "shares") else batch_size
    unit, generator = (rows * networks[part].per_row for part in ("discriminator", "generator"))
    return Cost(unit, generator, players, count.total)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this subcommand."""
    known = [case for case in CASES if CASES[case][0] not in WITHOUT]
    parser.add_argument("--models", nargs="+", default=known, choices=known, metavar="MODEL", help="default: all")


def run(options: Options) -> None:
    """Print the costs."""
    quiet()
    print(f"floating-point operations of a training step, {SIZE}x{SIZE}x{CHANNELS}, batch {BATCH}")
    print("units: forward passes of the discriminator on a player's images")
    for case in options.models:
        found = cost(case)
        parts = {"generator's forward pass": found.generator, **found.players, "step": found.total}
        units = {name: value / found.unit for name, value in parts.items() if value and found.unit}
        told = ", ".join(f"{name} {value:.2f}" for name, value in units.items())
        print(f"  {case:20} {found.total / 1e9:8.2f} GFLOP  {told}".rstrip(), flush=True)
