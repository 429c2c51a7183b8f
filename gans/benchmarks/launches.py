"""The kernels of a training step: operations of PyTorch that compute something, counted on a CPU.

Each is about one kernel launch of eager PyTorch on a GPU. Operations that return a view, or memory without content,
launch nothing and are not counted. The count is that of the third step, so optimizers have their state.
"""

import argparse
from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from gans.benchmarks.models import MODELS, Options, batch_of, build
from gans.benchmarks.once import third_step
from gans.commands.timing import quiet
from gans.terms import ApproximateR1

SIZE, CHANNELS, BATCH = 32, 3, 4

# Operations that launch no kernel.
VIEWS = """
    view _unsafe_view _reshape_alias reshape unflatten expand t transpose permute squeeze unsqueeze diagonal as_strided
    select slice narrow split split_with_sizes chunk unbind detach alias lift_fresh view_as_real is_same_size
    empty empty_like empty_strided new_empty set_ resize_
"""

# Besides the models as they are: a model with arguments changed.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "dcgan-ada": ("dcgan", {"augment": "ada"}),
    "stylegan2-cifar": ("stylegan2", {"preset": "cifar", "num_classes": 10}),
    "sngan-r1": ("sngan", {"r1": 1.0}),
    "sngan-approximate": ("sngan", {"terms": [ApproximateR1(1.0)]}),
    "r3gan-approximate": ("r3gan", {"penalty_sigma": 0.01}),
    "r3gan-cifar10": ("r3gan", {"preset": "cifar10", "num_classes": 10}),
    "r3gan-cifar10-ada": ("r3gan", {"preset": "cifar10", "num_classes": 10, "augment": "ada"}),
}
CASES = {**{name: (name, {}) for name in MODELS}, **VARIANTS}


class Launches(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that launch a kernel while it is active, by name in `counts`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()
        self.views = frozenset(VIEWS.split())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count an operation and run it."""
        name = func._schema.name.partition("::")[2]
        if name not in self.views:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def launches(case: str) -> Counter[str]:
    """Return the operations of a training step of one of `CASES` that launch a kernel, by name."""
    name, changes = CASES[case]
    model, counter = build(name, SIZE, CHANNELS, **changes).cpu(), Launches()
    third_step(model, batch_of(model, BATCH), counter)
    return counter.counts


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this subcommand."""
    parser.add_argument("--models", nargs="+", default=[*CASES], choices=[*CASES], metavar="MODEL", help="default: all")
    parser.add_argument("--top", type=int, default=0, help="also print that many of the most frequent operations")


def run(options: Options) -> None:
    """Print the counts."""
    quiet()
    print(f"operations of a training step, {SIZE}x{SIZE}x{CHANNELS}, batch {BATCH}")
    for case in options.models:
        counts = launches(case)
        often = ", ".join(f"{name} {count}" for name, count in counts.most_common(max(0, options.top)))
        print(f"  {case:20} {counts.total():6,}  {often}".rstrip(), flush=True)
