"""InterFaceGAN, Shen et al. 2020 (arXiv 1907.10786): the normal of a linear boundary between latents as a direction.

The boundary is found by logistic regression instead of the paper's support vector machine.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from gans.latent import key


class Boundary(NamedTuple):
    """A boundary between latents with and without an attribute."""

    normal: Tensor  # (D,), unit vector that points to latents with the attribute
    accuracy: float  # balanced accuracy on held-out latents


@torch.no_grad()
def of_scores(z: Tensor, scores: Tensor, share: float = 0.1) -> Boundary:
    """Return the boundary between the latents `z` `(N, D)` of the highest and the lowest `scores` `(N,)`.

    Args:
        z: latents.
        scores: scores of their images, higher for more of the attribute.
        share: share of the latents used at each end.

    Raises:
        ValueError: if this share is less than 10 latents.
    """
    few = int(share * len(z))
    if few < 10:
        raise ValueError(f"a share of {share} of {len(z)} latents is {few}; expected at least 10")
    order = scores.argsort(descending=True)
    ends = torch.cat([order[:few], order[-few:]])
    return of_classes(z[ends], torch.arange(2 * few, device=z.device) < few)


@torch.no_grad()
def of_classes(z: Tensor, positive: Tensor, decay: float = 1e-2) -> Boundary:
    """Return the boundary between latents with and without an attribute.

    70 % of the latents are used for training, the others for the accuracy. Both classes have the same total weight.

    Args:
        z: latents `(N, D)`.
        positive: whether each latent has the attribute, `(N,)`.
        decay: weight of half the squared norm of the normal, for standardised latents.

    Raises:
        ValueError: if there are fewer than 10 latents with or without the attribute.
    """
    positive = positive.bool()
    counts = [int(positive.sum()), int((~positive).sum())]
    if min(counts) < 10:
        raise ValueError(
            f"{counts[0]} latents have the attribute and {counts[1]} have not; expected at least 10 of each"
        )
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(key("boundary"))).to(z.device)
    mean, std = z.double().mean(0), z.double().std(0).clamp(min=1e-12)
    points, targets = ((z.double() - mean) / std)[order], positive[order].double()
    learnt = int(0.7 * len(z))
    weight, bias = regression(points[:learnt], targets[:learnt], decay)
    right = ((points[learnt:] @ weight + bias > 0) == (targets[learnt:] > 0.5)).double()
    held = targets[learnt:] > 0.5
    accuracy = float(torch.stack([right[part].mean() for part in (held, ~held) if part.any()]).mean())
    normal = weight / std
    return Boundary((normal / normal.norm().clamp(min=1e-12)).to(z), accuracy)


def regression(points: Tensor, targets: Tensor, decay: float) -> tuple[Tensor, Tensor]:
    """Return weight `(D,)` and bias `()` of a logistic regression of `targets` `(N,)`, 0 or 1, on `points` `(N, D)`.

    Both classes have the same total weight.
    """
    share = targets.mean().clamp(1e-6, 1 - 1e-6)
    importance = torch.where(targets > 0.5, 0.5 / share, 0.5 / (1 - share))
    weight = points.new_zeros(points.shape[1], requires_grad=True)
    bias = points.new_zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = binary_cross_entropy_with_logits(points @ weight + bias, targets, weight=importance)
        total: Tensor = value + decay / 2 * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
