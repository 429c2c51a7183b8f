"""Means over all processes with one all-reduce each, on torch.distributed alone."""

import torch
from torch import Tensor, distributed, nn


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Replace the gradients of `parameters` by their mean over all processes, with one all-reduce a dtype.

    The gradients become views of the reduced buffer, so nothing is copied back.
    """
    present = [p for p in parameters if p.grad is not None]
    for dtype in dict.fromkeys(p.grad.dtype for p in present if p.grad is not None):  # in one order on all processes
        group = [p for p in present if p.grad is not None and p.grad.dtype == dtype]
        flat = torch.cat([p.grad.flatten() for p in group if p.grad is not None])
        distributed.all_reduce(flat)
        flat /= distributed.get_world_size()
        for parameter, gradient in zip(group, torch.split(flat, [p.numel() for p in group]), strict=True):
            parameter.grad = gradient.view_as(parameter)


@torch.no_grad()
def average(tensors: list[Tensor]) -> None:
    """Replace `tensors`, in place, by their mean over all processes with one all-reduce."""
    if not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for tensor, mean in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))
