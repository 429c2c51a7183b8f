"""The interface of a frozen autoencoder of images, in whose codes a GAN plays: `encode`, `decode`, and its identity."""

import hashlib
import json
from typing import Any, Self

import torch
from torch import Tensor, nn


class Coder(nn.Module):
    """Images `(N, C, H, W)` in [-1, 1] to normalised codes `(N, c, h, w)` and back. Its weights are frozen.

    Each channel of codes has mean 0 and variance about 1. A coder whose codes are random keeps something else on disk,
    such as their mean and standard deviation: `stored_shape`, `stored` and `drawn` say what.

    Subclasses set both shapes, and define `encode`, `decode` and `description`. They call `sealed` when their weights
    are loaded.

    Args:
        image_shape: (C, H, W) of an image.
        code_shape: (c, h, w) of a code.
    """

    image_shape: tuple[int, int, int]
    code_shape: tuple[int, int, int]
    seal: Tensor
    derived: tuple[str, ...] = ()  # names of buffers that follow from others, and are not part of the digest

    def __init__(self, image_shape: tuple[int, int, int], code_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.image_shape, self.code_shape = image_shape, code_shape
        # In the state, so that the digest is the same after a load, and in another dtype.
        self.register_buffer("seal", torch.zeros(32, dtype=torch.uint8))
        self.training = False

    @property
    def factor(self) -> int:
        """Pixels along a side of an image for one place of a code."""
        return self.image_shape[1] // self.code_shape[1]

    @property
    def stored_shape(self) -> tuple[int, int, int]:
        """Shape of what is kept on disk for an image."""
        return self.code_shape

    def encode(self, images: Tensor) -> Tensor:
        """Return codes `(N, c, h, w)` of images `(N, C, H, W)` in [-1, 1], without gradients."""
        raise NotImplementedError

    def decode(self, codes: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1] of codes `(N, c, h, w)`, differentiable in the codes."""
        raise NotImplementedError

    def stored(self, images: Tensor) -> Tensor:
        """Return what is kept on disk for images `(N, C, H, W)` in [-1, 1]: `(N, *stored_shape)`."""
        return self.encode(images)

    def drawn(self, stored: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return codes `(N, c, h, w)` of what is on disk, a draw by N(0, 1) `noise` `(N, c, h, w)` for random codes."""
        return stored

    def description(self) -> dict[str, Any]:
        """Return plain values from which `gans.models.coders.coder_of` builds equal networks without any file."""
        raise NotImplementedError

    def identity(self) -> dict[str, Any]:
        """Return plain values that the digest depends on besides the weights."""
        return {"class": type(self).__name__, "image_shape": self.image_shape, "code_shape": self.code_shape}

    @property
    def digest(self) -> str:
        """Hash of class, shapes and weights, 64 hexadecimal digits; the same after a save and load."""
        if not bool(self.seal.any()):
            self.sealed()
        return bytes(self.seal.tolist()).hex()

    def sealed(self) -> Self:
        """Compute the digest of the current weights, keep it, freeze the weights, and return the coder."""
        found = hashlib.sha256(json.dumps(self.identity()).encode())
        for name, tensor in sorted(self.state_dict().items()):
            if name not in ("seal", *self.derived):
                found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
                found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        self.seal.copy_(torch.tensor(list(found.digest()), dtype=torch.uint8))
        self.requires_grad_(False)
        return self

    def train(self, mode: bool = True) -> Self:
        """Return the coder, which stays in eval mode."""
        return super().train(False)
