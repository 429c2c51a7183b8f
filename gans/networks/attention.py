"""Self-attention between the pixels of a feature map, Zhang et al. 2019 (SAGAN, arXiv 1805.08318)."""

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import max_pool2d, scaled_dot_product_attention

from gans.networks.layers import Size, image_size
from gans.networks.spectral import xavier


def resolution(size: Size) -> int:
    """Return the default side of the feature map for attention: 32, or half the side of images smaller than 64.

    The paper's ablation on 128x128 images finds 32 and 64 better than 8 and 16. 32 costs a sixteenth of 64.
    """
    return min(32, max(1, min(image_size(size)) // 2))


def attended(sides: list[int], resolutions: tuple[int, ...], size: tuple[int, int]) -> list[bool]:
    """Return for each feature map, given its shorter side in `sides`, whether attention follows it.

    A resolution selects the largest map that does not exceed it, and the first one of that size. Generator and
    discriminator have different sides if the image size is not a power of two.

    Raises:
        ValueError: if a resolution is smaller than the smallest map, or not smaller than the image. The
            discriminator has no map of the image's size.
    """
    for side in resolutions:
        if not min(sides) <= side < min(size):
            raise ValueError(f"attention is {side}; expected a side from {min(sides)} to {min(size) - 1}")
    chosen = {sides.index(max(side for side in sides if side <= limit)) for limit in resolutions}
    return [level in chosen for level in range(len(sides))]


class SelfAttention(nn.Module):
    """Self-attention with a residual connection on maps `(N, channels, H, W)`. It is the identity at initialisation.

    Args:
        channels: channels of the feature map.
        spectral_norm: use spectral normalisation in the four 1x1 convolutions, as the paper does in both networks.
    """

    def __init__(self, channels: int, spectral_norm: bool = False) -> None:
        super().__init__()
        keys, values = max(1, channels // 8), max(1, channels // 2)

        def pointwise(inputs: int, outputs: int) -> nn.Conv2d:
            return xavier(nn.Conv2d(inputs, outputs, 1, bias=False), spectral_norm=spectral_norm)

        self.theta, self.phi = pointwise(channels, keys), pointwise(channels, keys)
        self.g, self.output = pointwise(channels, values), pointwise(values, channels)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """Return `features + gamma * attention(features)`, `(N, C, H, W)`.

        As in the authors' code, keys and values are max-pooled over 2x2 pixels. The last pixels of an odd side are
        pooled too.
        """
        query = self.theta(features)
        key, value = (max_pool2d(layer(features), 2, ceil_mode=True) for layer in (self.phi, self.g))
        query, key, value = (tensor.flatten(2).mT.unsqueeze(1) for tensor in (query, key, value))  # (N, 1, pixels, C)
        # The fused kernels cannot be differentiated twice, which gradient penalties need. The layer cannot know in
        # advance whether there will be a penalty, so it always uses the plain kernel.
        with sdpa_kernel(SDPBackend.MATH):
            mixture = scaled_dot_product_attention(query, key, value, scale=1.0)  # the paper's logits are not scaled
        mixed = mixture.squeeze(1).mT.reshape(features.shape[0], -1, *features.shape[-2:])
        result: Tensor = features + self.gamma * self.output(mixed)
        return result
