"""Compilation of the networks of a run, by `torch.compile`.

L.Trainer(callbacks=[Compile()])
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain
from typing import Any, Literal, get_args

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from gans.augment import Augmentation

Trainer = L.Trainer
Module = L.LightningModule
Compilation = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
# Graphs of one class of networks. Each player, each of several networks of the class, and each size of a batch has its
# own. PyTorch's limit is 8; above it, the network runs eagerly, after a warning.
GRAPHS = 64


class Compile(L.Callback):
    """Compiles the networks that a run trains, and its augmentation, for its training steps.

    Networks are compiled in place: parameters, `state_dict` and copies are those of the uncompiled network, so
    checkpoints do not depend on this callback. Validation, samples and averaged weights run eagerly, and so does a
    forward pass of a gradient penalty (`gans.penalties.twice_differentiable`). The first training steps compile, which
    takes seconds to minutes; PyTorch keeps the result in a cache for later runs.

    Args:
        mode: of `torch.compile`; `reduce-overhead` replays CUDA graphs.

    Raises:
        ValueError: if there is no such mode.
    """

    def __init__(self, mode: Compilation = "default") -> None:
        if mode not in get_args(Compilation):
            raise ValueError(f"compile is {mode}; expected true, false or one of {', '.join(get_args(Compilation))}")
        self.mode = mode
        self.run, self.eager = ExitStack(), ExitStack()

    def setup(self, trainer: Trainer, pl_module: Module, stage: str) -> None:
        """Check that this machine can compile, before anything is trained."""
        if stage == "fit":
            check_compiler(trainer.strategy.root_device)

    def on_fit_start(self, trainer: Trainer, pl_module: Module) -> None:
        """Compile the networks. They are traced when a training step first calls them."""
        if trainer.is_global_zero:
            print(f"{'compile':13}the first steps compile the networks: seconds to minutes", flush=True)
        self.run.enter_context(torch.compiler.config.patch(recompile_limit=GRAPHS))  # type: ignore[attr-defined]
        for network in compiled(pl_module):
            network.compile(mode=self.mode, dynamic=False)
            network._compiled_call_impl = without_gradients_if_frozen(network)
            self.run.callback(setattr, network, "_compiled_call_impl", None)

    def on_validation_start(self, trainer: Trainer, pl_module: Module) -> None:
        """Let networks run eagerly: they are in evaluation mode, and the last batch may be smaller."""
        self.eager.enter_context(torch.compiler.set_stance("force_eager"))

    def on_validation_end(self, trainer: Trainer, pl_module: Module) -> None:
        """Let them run compiled again."""
        self.eager.close()

    def on_train_batch_start(self, trainer: Trainer, pl_module: Module, batch: Any, batch_idx: int) -> None:
        """Tell CUDA graphs that the outputs of the last step may be overwritten."""
        if self.mode != "default":
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]

    def on_exception(self, trainer: Trainer, pl_module: Module, exception: BaseException) -> None:
        """Leave networks and compiler as they were before the run, as `teardown` does."""
        self.eager.close()
        self.run.close()

    def teardown(self, trainer: Trainer, pl_module: Module, stage: str) -> None:
        """Leave networks and compiler as they were before the run."""
        self.eager.close()
        self.run.close()


def compiled(module: Module) -> Iterator[nn.Module]:
    """Yield the networks of a module that it trains, and its augmentation, each with its parts.

    Parts are there because a training step may call them by themselves, such as a decoder. A part that its network
    calls becomes a part of the network's graph. PyTorch's own layers are too small for graphs of their own, and its
    recurrent layers cannot be compiled.
    """
    for child in module.children():
        if isinstance(child, Augmentation) or any(parameter.requires_grad for parameter in child.parameters()):
            for part in child.modules():
                own = part is child or not type(part).__module__.startswith("torch.")
                if own and not any(isinstance(layer, nn.RNNBase) for layer in part.modules()):
                    yield part


def without_gradients_if_frozen(network: nn.Module) -> Callable[..., Any]:
    """Return the compiled forward pass of a network, in `torch.no_grad` if neither weights nor inputs need gradients.

    The result is the same. But PyTorch 2.11 takes the graph of frozen weights for the same weights in training, so that
    they get no gradients. It does not mix up graphs with and without `torch.no_grad`.
    """
    run: Any = network._compiled_call_impl

    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return run(*args, **kwargs)
        parts = (part for part in tree_leaves((args, kwargs)) if isinstance(part, Tensor))
        learns = any(part.requires_grad for part in chain(network.parameters(), parts))
        with torch.set_grad_enabled(learns):
            return run(*args, **kwargs)

    return call


def check_compiler(device: torch.device) -> None:
    """Check that a function can be compiled for a device.

    Raises:
        ValueError: if not.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8, device=device))
    except Exception as error:  # of the compiler's many parts
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        needs = "a C++ compiler such as g++" if device.type == "cpu" else "Triton and a C compiler"
        failed = f"compile is true, but nothing can be compiled for {device.type} here ({reason})"
        raise ValueError(f"{failed}: install {needs}, or give --compile false") from error
