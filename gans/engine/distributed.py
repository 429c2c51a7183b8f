"""Averages over processes with one message each, and gathering of rows, with torch.distributed only."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, autograd, distributed


def start_mean(tensor: Tensor) -> Callable[[], None]:
    """Start to replace `tensor` by its mean over all processes. The returned function waits until it is there."""
    divides = "nccl" in distributed.get_backend_config() and tensor.is_cuda  # other backends can only sum
    operation = distributed.ReduceOp.AVG if divides else distributed.ReduceOp.SUM
    work = distributed.all_reduce(tensor, operation, async_op=True)

    def wait() -> None:
        work.wait()
        if not divides:
            tensor.div_(distributed.get_world_size())

    return wait


@torch.no_grad()
def start_average(tensors: Sequence[Tensor]) -> Callable[[], None]:
    """Start one message with `tensors`. The returned function waits, and replaces them by their means."""
    if not tensors:
        return lambda: None
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    wait = start_mean(flat)

    def finish() -> None:
        wait()
        means = torch.split(flat, [tensor.numel() for tensor in tensors])
        with torch.no_grad():
            for tensor, mean in zip(tensors, means, strict=True):
                tensor.copy_(mean.view_as(tensor))

    return finish


def average(tensors: Sequence[Tensor]) -> None:
    """Replace `tensors`, in place, by their means over all processes with one all-reduce."""
    start_average(tensors)()


def several() -> bool:
    """Return whether the run has several processes."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


@torch.no_grad()
def gather_rows(tensor: Tensor) -> Tensor:
    """Return the rows of all processes' tensors `(n, ...)`, ordered by rank. n may differ between them and be 0."""
    if not several():
        return tensor
    counts = [torch.zeros(1, dtype=torch.long, device=tensor.device) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, torch.tensor([len(tensor)], device=tensor.device))
    most = int(torch.stack(counts).max())
    padded = tensor.new_zeros(most, *tensor.shape[1:])
    padded[: len(tensor)] = tensor
    parts = [torch.zeros_like(padded) for _ in counts]
    distributed.all_gather(parts, padded)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])


class _Gathered(autograd.Function):
    """Rows of all processes. The gradient of each row is returned to its process."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        whole = gradients[0].contiguous()
        distributed.all_reduce(whole)
        return whole.chunk(distributed.get_world_size())[distributed.get_rank()]


def gathered(rows: Tensor) -> Tensor:
    """Return the rows `(world * n, ...)` of all processes, `n` from each, ordered by rank.

    It is differentiable: the gradient is that of the sum of all processes' losses. So the mean over processes of the
    parameters' gradients is the gradient of the mean loss.
    """
    if not several():
        return rows
    whole: Tensor = _Gathered.apply(rows)
    return whole


def next_rows(rows: Tensor) -> Tensor:
    """Return for each row `(n, ...)` its successor in the global batch. The first row follows the last."""
    first = 1 + (distributed.get_rank() * len(rows) if several() else 0)
    return gathered(rows).roll(-first, 0)[: len(rows)]
