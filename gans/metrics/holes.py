"""How well holes are filled: fidelity within the holes, and fillings without a network to compare with.

Masks are `(N, 1, H, W)`, 1 where there is a hole. Distances are of images in [-1, 1], one value for each image.
"""

from typing import Any

import torch
from torch import Tensor

from gans.metrics.pairs import Paired, Scores
from gans.networks.pullpush import pull_push


class Filled(Paired):
    """Scores of images with filled holes against the whole images, and of the holes alone.

    `val/hole_psnr` and `val/hole_l1` are of the holes. Three fillings without a network have the same scores, for
    comparison, such as `val/hole_psnr/smooth_fill`, which is that of `gans.networks.pullpush`.
    """

    def image_scores(self, model: Any, made: Tensor, target: Tensor, *inputs: Tensor) -> Scores:
        """Return the scores of whole images and of their holes, `(N,)` each; `inputs` are the images and masks."""
        masks = inputs[1].float()
        fillings = {
            "": made,
            "/mean_fill": mean_fill(target, masks),
            "/nearest_fill": nearest_fill(target, masks),
            "/smooth_fill": pull_push(target, masks),
        }
        found = super().image_scores(model, made, target, *inputs)
        for name, filled in fillings.items():
            found[f"hole_psnr{name}"], found[f"hole_l1{name}"] = hole_fidelity(filled, target, masks)
        return found


def hole_fidelity(made: Tensor, target: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return PSNR in decibels and L1, `(N,)` each, of the pixels within holes, of images `(N, C, H, W)`.

    PSNR is at most 100 decibels: that of holes without an error, and of images without a hole.
    """
    error = (made - target) * masks
    count = (masks.flatten(1).sum(1) * made.shape[1]).clamp(min=1)
    squares = error.square().flatten(1).sum(1) / count
    return (10 * (4 / squares).log10()).clamp(max=100.0), error.abs().flatten(1).sum(1) / count


def mean_fill(images: Tensor, masks: Tensor) -> Tensor:
    """Return images whose holes have the mean of the image's known pixels by channel, or 0 if all is a hole."""
    known = 1 - masks
    mean = (images * known).sum((-2, -1), keepdim=True) / known.sum((-2, -1), keepdim=True).clamp(min=1)
    return torch.where(masks > 0.5, mean, images)


def nearest_fill(images: Tensor, masks: Tensor) -> Tensor:
    """Return images whose holes have the values of the nearest known pixel, or 0 if all is a hole."""
    return torch.stack([_nearest(image, mask[0] > 0.5) for image, mask in zip(images, masks, strict=True)])


def _nearest(image: Tensor, hole: Tensor) -> Tensor:
    """Return an image `(C, H, W)` with its hole `(H, W)` filled; distances are Euclidean and exact.

    The nearest known pixel of each column first, then the nearest of these: H W W comparisons instead of (H W)^2.
    """
    height, width = hole.shape
    if hole.all():
        return torch.zeros_like(image)
    far = 4 * (height + width)  # squared, it is more than any distance within the image
    rows = torch.arange(height, device=hole.device)[:, None].expand(-1, width)
    columns = torch.arange(width, device=hole.device)
    above = rows.where(~hole, -far).cummax(0).values
    below = rows.where(~hole, far).flip(0).cummin(0).values.flip(0)
    nearest = torch.where(rows - above <= below - rows, above, below)
    away = (nearest - rows).square()[:, None] + (columns[:, None] - columns).square()  # (H, W, W), the last: of whom
    column = away.argmin(2)
    row = nearest.gather(1, column)
    return image[:, row, column]
