"""Minibatch standard deviation, Karras et al. 2018 (arXiv 1710.10196): it shows the critic the variation of samples."""

import torch
from torch import Tensor, nn


def deviation(minibatch_std: int) -> "MinibatchStd | None":
    """Return the layer for groups of `minibatch_std` samples; None for 0.

    Raises:
        ValueError: for a group of one sample, or a negative number.
    """
    if minibatch_std == 1 or minibatch_std < 0:
        raise ValueError(f"minibatch_std is {minibatch_std}; expected 0, for none, or at least 2 samples to compare")
    return MinibatchStd(minibatch_std) if minibatch_std else None


class MinibatchStd(nn.Module):
    """Append a channel to maps `(N, C, H, W)`: the standard deviation over a group of samples, averaged over features.

    This layer mixes samples: a logit depends on the other samples of its group. So a gradient penalty on the sum of
    logits has terms between images, as in StyleGAN2. Neighbours in a batch form a group, where the authors take samples
    i, i + N / g, i + 2 N / g and so on. So neither the number of processes nor gradient accumulation changes the
    groups, if the group size divides the rows of every process and piece.

    Args:
        group_size: samples per group. If it does not divide the batch, the next larger divisor of the batch is used.
    """

    mixes_samples = True

    def __init__(self, group_size: int = 4) -> None:
        super().__init__()
        if group_size < 2:
            raise ValueError(f"group_size is {group_size}; expected at least 2 samples to compare")
        self.group_size = group_size

    def forward(self, features: Tensor) -> Tensor:
        """Return `(N, C + 1, H, W)`. The first g samples form a group, the next g another, and so on."""
        count, _, height, width = features.shape
        group = next(g for g in range(min(self.group_size, count), count + 1) if count % g == 0)
        full = torch.promote_types(features.dtype, torch.float32)  # half precision would lose the 1e-8
        groups = features.to(full).view(count // group, group, *features.shape[1:])
        spread = (groups.var(1, correction=0) + 1e-8).sqrt().mean((1, 2, 3)).to(features.dtype)  # (N / g,)
        channel = spread[:, None].expand(-1, group).reshape(-1, 1, 1, 1).expand(-1, 1, height, width)
        return torch.cat([features, channel], 1)
