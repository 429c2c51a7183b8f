"""Gradients in buckets, averaged over all processes while the backward pass runs.

The gradients of a bucket are views of one tensor. When the backward pass has made all of them, one message averages the
tensor, and the pass goes on meanwhile. Source of the method: Li et al., "PyTorch Distributed", 2020, arXiv 2006.15704.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gans.engine.distributed import start_average, start_mean

FIRST = 2**20
"""Bytes that close the first bucket of an optimizer. It is small, so that sending begins early."""
REST = 4 * 2**20
"""Bytes that close another bucket. PyTorch's 25 MiB would leave networks of this package one bucket or two."""


def split(parameters: Sequence[nn.Parameter], first: int, rest: int) -> list[list[nn.Parameter]]:
    """Return the parameters of each bucket, in the order in which the buckets are sent.

    A backward pass makes the gradients of the last layers first, so the last parameters come first. The order depends
    on the parameters only: one that followed the pass would change the order of floating-point sums after a resume.

    Args:
        parameters: in the order of the forward pass. A bucket holds one dtype.
        first: bytes that close the first bucket.
        rest: bytes that close another bucket.
    """
    full: list[list[nn.Parameter]] = []
    begun: dict[torch.dtype, list[nn.Parameter]] = {}
    for parameter in reversed(parameters):
        begun.setdefault(parameter.dtype, []).append(parameter)
        if sum(p.nbytes for p in begun[parameter.dtype]) >= (rest if full else first):
            full.append(begun.pop(parameter.dtype))
    return [*full, *begun.values()]


class Bucket:
    """The gradients of parameters of one dtype as views of one tensor, which one message averages.

    Behind the gradients the tensor holds a number for each parameter: the share of the processes that have a gradient.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        # Sizes that are multiples of 16 bytes come first: vectorised kernels need views that begin at such multiples.
        self.parameters = sorted(parameters, key=lambda p: p.nbytes % 16 > 0)
        self.awaited: set[int] = set()  # ids of the parameters whose gradients the pass has not made yet
        self.absent: list[int] = []  # indices of the parameters without a gradient on this process
        sizes = [p.numel() for p in self.parameters]
        self.whole = parameters[0].new_empty(sum(sizes) + len(sizes), requires_grad=False)
        *parts, self.shares = torch.split(self.whole, [*sizes, len(sizes)])
        # The strides of the parameters: a fused optimizer reads both in the order of the memory.
        strides = [torch.empty_like(p, device="meta").stride() for p in self.parameters]
        self.views = [
            part.as_strided(p.shape, stride) for part, p, stride in zip(parts, self.parameters, strides, strict=True)
        ]
        self._wait: Callable[[], None] | None = None

    def collect(self) -> None:
        """Make the gradients views of the bucket. Those that are not yet are copied, once."""
        pairs = [(p, view, p.grad) for p, view in zip(self.parameters, self.views, strict=True)]
        fresh = [(p, view, gradient) for p, view, gradient in pairs if gradient is not None and gradient is not view]
        if fresh:
            torch._foreach_copy_([view for _, view, _ in fresh], [gradient for _, _, gradient in fresh])
        for parameter, view, _ in fresh:
            parameter.grad = view

    def send(self) -> None:
        """Start the message. Zeros stand for gradients that this process lacks."""
        self.absent = [i for i, p in enumerate(self.parameters) if p.grad is None]
        self.collect()
        self.shares.fill_(1)
        for index in self.absent:
            self.views[index].zero_()
            self.shares[index] = 0
        self._wait = start_mean(self.whole)

    def receive(self) -> None:
        """Wait for the message. A gradient that no process has stays None, so that its parameter does not move."""
        if self._wait is not None:
            self._wait()
        shares = self.shares.tolist() if self.absent else []  # only a process that lacks a gradient waits for numbers
        for index in self.absent:
            if shares[index]:
                self.parameters[index].grad = self.views[index]


class Buckets:
    """The buckets of one optimizer."""

    def __init__(self) -> None:
        self.parameters: list[nn.Parameter] = []
        self.buckets: list[Bucket] = []
        self._handles: list[Any] = []
        self._active, self._last, self._sent = False, False, 0

    @contextmanager
    def averaging(self, parameters: Sequence[nn.Parameter], last: bool = True) -> Iterator[None]:
        """Average the gradients of the backward pass that runs in this context.

        Buckets are sent in the same order on all processes, also if one of them lacks gradients.

        Args:
            parameters: those of the optimizer, the same on all processes. Frozen ones are left out.
            last: whether the gradients are complete after this pass. If not, they are kept for the next.

        Raises:
            RuntimeError: if a gradient arrives twice in one pass.
        """
        trained = [p for p in parameters if p.requires_grad]
        if [id(p) for p in trained] != [id(p) for p in self.parameters]:
            self._build(trained)
        for bucket in self.buckets:
            bucket.awaited = {id(p) for p in bucket.parameters}
        self._active, self._last, self._sent = True, last, 0
        try:
            yield
        except BaseException:
            self.remove()  # messages on their way keep the memory of these buckets; the next pass gets new ones
            raise
        finally:
            self._active = False
        if last:
            self._send(complete=False)
            for bucket in self.buckets:
                bucket.receive()

    def remove(self) -> None:
        """Take the hooks off the parameters and let the memory go; gradients keep theirs."""
        for handle in self._handles:
            handle.remove()
        self.parameters, self.buckets, self._handles = [], [], []

    def _build(self, parameters: list[nn.Parameter]) -> None:
        self.remove()
        self.parameters = parameters
        self.buckets = [Bucket(part) for part in split(parameters, FIRST, REST)]
        for bucket in self.buckets:
            arrived = partial(self._arrived, bucket)
            for parameter in bucket.parameters:
                self._handles.append(parameter.register_post_accumulate_grad_hook(arrived))  # type: ignore[no-untyped-call]

    def _arrived(self, bucket: Bucket, parameter: Tensor) -> None:
        """Note that a gradient is complete, and send what can be sent. Autograd calls it during the backward pass."""
        if not self._active:  # the pass of another player, or of a caller of its own
            return
        if id(parameter) not in bucket.awaited:
            said = f"the gradient of a parameter of shape {tuple(parameter.shape)} arrived twice in one backward pass"
            raise RuntimeError(f"{said}; checkpointed layers need use_reentrant=False")
        bucket.awaited.remove(id(parameter))
        if not bucket.awaited:
            bucket.collect()
            if self._last:
                self._send(complete=True)

    def _send(self, complete: bool) -> None:
        """Send the buckets that follow in the order, up to the first that is not complete if it has to be."""
        while self._sent < len(self.buckets) and not (complete and self.buckets[self._sent].awaited):
            self.buckets[self._sent].send()
            self._sent += 1


class Averages:
    """The buckets of each optimizer of a run. A copy begins without: hooks and buckets belong to a running fit."""

    def __init__(self) -> None:
        self._buckets: dict[torch.optim.Optimizer, Buckets] = {}

    def __reduce__(self) -> tuple[type["Averages"], tuple[()]]:
        return type(self), ()

    @contextmanager
    def during_backward(
        self, optimizer: torch.optim.Optimizer, statistics: Sequence[Tensor], last: bool
    ) -> Iterator[None]:
        """Average the gradients that the backward pass in this context makes, and `statistics`.

        Args:
            optimizer: owns the parameters.
            statistics: tensors that the pass does not change.
            last: whether the gradients are complete after this pass. If not, they are kept for the next.
        """
        finish = start_average(statistics)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        with self._buckets.setdefault(optimizer, Buckets()).averaging(parameters, last):
            yield
        finish()  # after the pass, which may read the statistics

    def clear(self) -> None:
        """Remove all hooks and buckets."""
        for buckets in self._buckets.values():
            buckets.remove()
        self._buckets = {}
