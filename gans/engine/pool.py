"""A pool of earlier fakes that a critic sees among the fresh ones, Shrivastava et al. 2017 (arXiv 1612.07828).

Half of what it shows a critic are images that the generator made some steps ago, so that the critic does not forget,
and the two do not chase each other. CycleGAN (Zhu et al. 2017, arXiv 1703.10593) has a pool of 50 images.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

SHARE = 0.5  # of the images that are exchanged for one of the pool


class ImagePool:
    """Keeps `size` images. What it shows is a function of its content, the images and the numbers given.

    Args:
        size: images kept; 0 shows all images as they come.
    """

    def __init__(self, size: int = 50) -> None:
        self.size = size
        self.images: list[Tensor] = []

    def swap(self, images: Tensor, draws: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` to show a critic, some of them from the pool, which keeps the ones they replace.

        Until the pool is full it takes what comes, and shows it. One row after the other: an image may come back to a
        later row of the same call.

        Args:
            images: fresh ones `(N, C, H, W)`, without gradient.
            draws: numbers `(N, 2)` in [0, 1): whether a row is exchanged, and for which of the pool.
        """
        if not self.size:
            return images
        shown = []
        for image, (chance, place) in zip(images, draws.tolist(), strict=True):
            if len(self.images) < self.size:
                self.images.append(image.clone())  # a row alone would keep its whole batch
            elif chance < SHARE:
                slot = int(place * self.size)
                kept, self.images[slot] = self.images[slot].to(image.device), image.clone()
                image = kept
            shown.append(image)
        return torch.stack(shown)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the images `(n, C, H, W)`; nothing for an empty pool."""
        return {"images": torch.stack(self.images)} if self.images else {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the images of another pool, the first `size` of them."""
        self.images = [image.clone() for image in state.get("images", ())][: self.size]
