"""The interface of generators for `gans.explore`: any callable from latents `(N, D)` to images `(N, C, H, W)`."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gans.metrics.interface import Extractor
from gans.pictures.images import to_uint8

Generator = Callable[[Tensor], Tensor]
Space = Literal["latent", "codes"]

AT_ONCE = 250  # images per batch, to limit memory


@torch.no_grad()
def images(generator: Generator, z: Tensor) -> Tensor:
    """Return the images `(N, C, H, W)` of latents `(N, D)`, computed in batches without gradients."""
    return torch.cat([generator(piece) for piece in torch.split(z, AT_ONCE)])


def classified(generator: Generator, z: Tensor, classifier: Extractor) -> Tensor:
    """Return the classes `(N,)` that a classifier assigns to the images of latents `(N, D)`."""
    look = classifier.to(z.device)
    parts = torch.split(z, AT_ONCE)
    return torch.cat([look(to_uint8(images(generator, part)))[1].argmax(1) for part in parts])


def still(made: Tensor) -> Tensor:
    """Return images unchanged, and for clips `(N, C, T, H, W)` their middle frames `(N, C, H, W)`."""
    return made[:, :, made.shape[2] // 2] if made.ndim == 5 else made


class Drawn(nn.Module):
    """Adapter of a model of this framework: it uses the averaged weights, and the middle frames of clips.

    Args:
        model: the model.
        label: class of all images of a class-conditional model; None uses all classes in turn.
        space: `latent`, or `codes` for the whitened codes of an autoencoder as latents.
    """

    def __init__(self, model: Any, label: int | None = None, space: Space = "latent") -> None:
        super().__init__()
        self.model, self.label, self.space = model, label, space

    def forward(self, z: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` for latents `(N, D)`, not clipped to [-1, 1]."""
        if self.space == "codes":
            generator = self.model.generator_ema
            shown: Tensor = generator.decoder(generator.codes.colour(z)).float()
            return shown
        given = None if self.label is None else torch.full((len(z),), self.label, device=z.device)
        return still(self.model(z, *self.model.conditions(len(z), given)).float())
