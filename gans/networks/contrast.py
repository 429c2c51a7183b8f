"""PatchNCE, Park et al. 2020 (arXiv 2007.15651): a contrastive loss between an image and its translation.

A network's features at sampled positions of both images are projected by small heads. Each vector of the translation
must be closer to the input's vector at the same position than to those at other positions of the image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from gans.checks import at_least
from gans.networks.layers import Init, normal_init


class Heads(nn.Module):
    """Feature maps `(N, width, h, w)` of several stages, at positions `(N, P)`, to unit vectors `(N, P, length)`.

    Args:
        widths: channels of the maps of each stage.
        length: length of the vectors, and number of hidden units.
        init: initialisation of the weights.
    """

    def __init__(self, widths: Sequence[int], length: int = 256, init: Init = normal_init) -> None:
        super().__init__()
        at_least(1, length=length)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Linear(width, length), nn.ReLU(inplace=True), nn.Linear(length, length))
            for width in widths
        ).apply(init)

    def forward(self, maps: Sequence[Tensor], places: Sequence[Tensor]) -> list[Tensor]:
        """Return the vectors of each stage. The positions are indices into the flattened maps."""
        found = []
        for head, stage, where in zip(self.stages, maps, places, strict=True):
            flat = stage.flatten(2)
            picked = flat.gather(2, where[:, None].expand(-1, flat.shape[1], -1)).transpose(1, 2)
            found.append(normalize(head(picked), dim=2))
        return found


def patch_nce(query: Tensor, key: Tensor, temperature: float = 0.07) -> Tensor:
    """Return the mean of `-log(exp(q_s.k_s / t) / sum_r exp(q_s.k_r / t))` over the positions s of all images.

    Both are unit vectors `(N, P, D)`. No gradient flows into the keys: else both images could drop the features in
    which they differ.
    """
    with torch.autocast(query.device.type, enabled=False):
        wide = torch.promote_types(query.dtype, torch.float32)
        logits = query.to(wide) @ key.detach().to(wide).transpose(1, 2) / temperature
        own = torch.arange(query.shape[1], device=query.device).expand(len(query), -1)
        return cross_entropy(logits.flatten(0, 1), own.flatten())
