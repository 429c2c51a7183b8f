"""A pool of earlier fake images for the critic, Shrivastava et al. 2017 (arXiv 1612.07828).

Half of the critic's fake images come from the pool, which reduces oscillation between the players. CycleGAN (Zhu et al.
2017, arXiv 1703.10593) has a pool of 50 images.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

SHARE = 0.5  # share of the images that are exchanged with one of the pool


class ImagePool:
    """A pool of `size` images. It draws no random numbers itself.

    Args:
        size: number of images; 0 disables the pool.
    """

    def __init__(self, size: int = 50) -> None:
        self.size = size
        self.images: list[Tensor] = []

    def swap(self, images: Tensor, draws: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` for the critic, about half of them exchanged with images of the pool.

        Until the pool is full, all images are added to it and returned. Rows are processed in order, so an image may be
        returned in a later row of the same call.

        Args:
            images: new images `(N, C, H, W)`, without gradient.
            draws: random numbers `(N, 2)` in [0, 1): whether a row is exchanged, and with which image.
        """
        if not self.size:
            return images
        result = []
        for image, (chance, place) in zip(images, draws.tolist(), strict=True):
            if len(self.images) < self.size:
                self.images.append(image.clone())  # a view would keep the whole batch in memory
            elif chance < SHARE:
                slot = int(place * self.size)
                kept, self.images[slot] = self.images[slot].to(image.device), image.clone()
                image = kept
            result.append(image)
        return torch.stack(result)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the images `(n, C, H, W)`, or an empty dictionary for an empty pool."""
        return {"images": torch.stack(self.images)} if self.images else {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the first `size` images of another pool's state."""
        self.images = [image.clone() for image in state.get("images", ())][: self.size]
