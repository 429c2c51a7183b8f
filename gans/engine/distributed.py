"""Averages over processes with one all-reduce each, and gathering of rows, with torch.distributed only."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, autograd, distributed, nn


@torch.no_grad()
def average_gradients(parameters: list[nn.Parameter], buffers: Iterable[Tensor] = ()) -> None:
    """Replace the gradients of `parameters`, and `buffers`, by their means over all processes.

    There is one all-reduce per dtype. Contiguous gradients become views of the reduced memory, which avoids a copy.
    Gradients in the `channels_last` format are copied back, because fused optimizers need weights and gradients in the
    same memory format.
    """
    present = [p for p in parameters if p.grad is not None]
    sent = [*(p.grad for p in present if p.grad is not None), *buffers]
    means: dict[int, Tensor] = {}
    for dtype in dict.fromkeys(tensor.dtype for tensor in sent):  # in the same order on all processes
        group = [tensor for tensor in sent if tensor.dtype == dtype]
        flat = torch.cat([tensor.flatten() for tensor in group])
        distributed.all_reduce(flat)
        flat /= distributed.get_world_size()
        for tensor, mean in zip(group, torch.split(flat, [tensor.numel() for tensor in group]), strict=True):
            means[id(tensor)] = mean.view_as(tensor)
    for parameter, gradient in zip(present, sent, strict=False):
        mean = means[id(gradient)]
        parameter.grad = mean if gradient.is_contiguous() else gradient.copy_(mean)
    for buffer in sent[len(present) :]:
        buffer.copy_(means[id(buffer)])


@torch.no_grad()
def average(tensors: list[Tensor]) -> None:
    """Replace `tensors`, in place, by their means over all processes with one all-reduce."""
    if not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for tensor, mean in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


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
