"""PatchNCE, Park et al. 2020 (arXiv 2007.15651): a place of a translation shall be told by what was there before.

Vectors of a network's maps at the same places of two images go through small heads; that of the translation shall be
nearer to the one of its own place than to those of other places of the same image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from gans.checks import at_least
from gans.networks.layers import Init, normal_init


class Heads(nn.Module):
    """Maps `(N, width, h, w)` of several stages, at places `(N, P)`, to unit vectors `(N, P, length)`.

    Args:
        widths: channels of the maps.
        length: of the vectors, and hidden units.
        init: how the weights begin.
    """

    def __init__(self, widths: Sequence[int], length: int = 256, init: Init = normal_init) -> None:
        super().__init__()
        at_least(1, length=length)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Linear(width, length), nn.ReLU(inplace=True), nn.Linear(length, length))
            for width in widths
        ).apply(init)

    def forward(self, maps: Sequence[Tensor], places: Sequence[Tensor]) -> list[Tensor]:
        """Return the vectors of each stage, for places counted row by row."""
        found = []
        for head, stage, where in zip(self.stages, maps, places, strict=True):
            flat = stage.flatten(2)
            picked = flat.gather(2, where[:, None].expand(-1, flat.shape[1], -1)).transpose(1, 2)
            found.append(normalize(head(picked), dim=2))
        return found


def patch_nce(query: Tensor, key: Tensor, temperature: float = 0.07) -> Tensor:
    """Return `-log(exp(q_s.k_s / t) / sum_r exp(q_s.k_r / t))`, a scalar, over the places s, and r, of each image.

    Both are unit vectors `(N, P, D)`. Keys give no gradient, or both images would become alike by losing what differs.
    """
    with torch.autocast(query.device.type, enabled=False):
        wide = torch.promote_types(query.dtype, torch.float32)
        logits = query.to(wide) @ key.detach().to(wide).transpose(1, 2) / temperature
        own = torch.arange(query.shape[1], device=query.device).expand(len(query), -1)
        return cross_entropy(logits.flatten(0, 1), own.flatten())
