"""Minibatch standard deviation, Karras et al. 2018 (arXiv 1710.10196): it shows the critic the variation of samples."""

import torch
from torch import Tensor, nn


class MinibatchStd(nn.Module):
    """Append a channel to maps `(N, C, H, W)`: the standard deviation over a group of samples, averaged over features.

    This layer mixes samples: a logit depends on the other samples of its group. So a gradient penalty on the sum of
    logits has terms between images, as in StyleGAN2. The groups depend on the batch, so the number of processes and
    gradient accumulation change the result.

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
        """Return `(N, C + 1, H, W)`. Samples i, i + N/g, i + 2N/g, ... form a group of g, as in the authors' code."""
        count, _, height, width = features.shape
        group = next(g for g in range(min(self.group_size, count), count + 1) if count % g == 0)
        full = torch.promote_types(features.dtype, torch.float32)  # half precision would lose the 1e-8
        groups = features.to(full).view(group, count // group, *features.shape[1:])
        spread = (groups.var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3)).to(features.dtype)  # (N / g,)
        channel = spread.repeat(group)[:, None, None, None].expand(-1, 1, height, width)
        return torch.cat([features, channel], 1)
