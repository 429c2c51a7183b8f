"""What is explored: anything callable from latents `(N, D)` to images `(N, C, H, W)` in [-1, 1]."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gans.metrics.interface import Extractor
from gans.pictures.images import to_uint8

Generator = Callable[[Tensor], Tensor]
Space = Literal["latent", "codes"]

AT_ONCE = 250  # images, to bound memory


@torch.no_grad()
def images(generator: Generator, z: Tensor) -> Tensor:
    """Return the images `(N, C, H, W)` of latents `(N, D)`, however many, without a gradient."""
    return torch.cat([generator(piece) for piece in torch.split(z, AT_ONCE)])


def classified(generator: Generator, z: Tensor, classifier: Extractor) -> Tensor:
    """Return the classes `(N,)` that a classifier assigns to the images of latents `(N, D)`."""
    look = classifier.to(z.device)
    parts = torch.split(z, AT_ONCE)
    return torch.cat([look(to_uint8(images(generator, part)))[1].argmax(1) for part in parts])


def still(made: Tensor) -> Tensor:
    """Return images as they are, and of clips `(N, C, T, H, W)` the middle frames `(N, C, H, W)`."""
    return made[:, :, made.shape[2] // 2] if made.ndim == 5 else made


class Drawn(nn.Module):
    """A model of this framework as such a generator: its averaged weights, of one class, of clips the middle frame.

    Args:
        model: that makes the images.
        label: class of all of them, for conditional models; None lets classes take turns.
        space: `codes` takes whitened codes of an autoencoder for latents.
    """

    def __init__(self, model: Any, label: int | None = None, space: Space = "latent") -> None:
        super().__init__()
        self.model, self.label, self.space = model, label, space

    def forward(self, z: Tensor) -> Tensor:
        """Return the images, in [-1, 1] as far as the model keeps to it."""
        if self.space == "codes":
            generator = self.model.generator_ema
            shown: Tensor = generator.decoder(generator.codes.colour(z)).float()
            return shown
        given = None if self.label is None else torch.full((len(z),), self.label, device=z.device)
        return still(self.model(z, *self.model.conditions(len(z), given)).float())
