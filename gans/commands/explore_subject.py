"""The model that `gans explore` is about: from latents to images, its draws, its encoder, and points by their names."""

import re
import sys
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gans.commands import labels
from gans.commands.device import chosen_device
from gans.commands.parser import own_model
from gans.engine.checkpoint import load_generator
from gans.engine.interface import classes
from gans.explore import codes
from gans.explore.generators import Drawn, Space, images
from gans.explore.inversion import invert
from gans.metrics.sampling import latents
from gans.models.autoencoder import CodeModel
from gans.runs.folder import of_checkpoint
from gans.runs.memory import check_fits

MATCHED = 200  # steps of descent from a code to its latent, which needs no image


@dataclass(frozen=True)
class Subject:
    """A model, in one of its latent spaces.

    Args:
        model: of the checkpoint, frozen.
        network: from latents to images.
        space: `latent`, or `codes` for the whitened codes of an autoencoder.
        folder: of the run.
        truncation: of draws; None for none.
    """

    model: Any
    network: Drawn
    space: Space
    folder: Path
    truncation: float | None

    @property
    def dim(self) -> int:
        """Length of a latent."""
        return int(self.model.latent_dim)

    @property
    def uniform(self) -> bool:
        """Whether latents are from U(-1, 1), and therefore bounded."""
        return self.space == "latent" and self.model.prior == "uniform"

    @property
    def reach(self) -> float:
        """How far walks go both ways by default: to the bound of a uniform prior, else three deviations."""
        return 1.0 if self.uniform else 3.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images."""
        shape = self.model.image_shape
        return shape[0], shape[-2], shape[-1]

    @property
    def clips(self) -> bool:
        """Whether the model makes clips."""
        return len(self.model.image_shape) == 4

    @property
    def encodes(self) -> bool:
        """Whether the model has an encoder."""
        return callable(getattr(self.model, "encode", None))

    def draws(self, rows: range, seed: int) -> Tensor:
        """Return the latents `(len(rows), D)` of these images of a seed, the same as in `gans sample`.

        Raises:
            ValueError: if they do not fit into memory.
        """
        check_fits(4 * len(rows) * self.dim, f"drawing {len(rows)} latents")
        z = latents(self.model, rows, seed, self.truncation).to(self.model.device)
        with torch.no_grad():
            return self.model.generator_ema.latent(z) if self.space == "codes" else z

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Return the latents `(N, D)` of images `(N, C, H, W)` in this space; for a distribution of codes its mean.

        Raises:
            ValueError: if the model has no encoder.
        """
        if not self.encodes:
            raise ValueError(f"method is encoder; expected optimise, for {type(self.model).__name__} has no encoder")
        found = self.model.encode(pictures)
        if isinstance(self.model, CodeModel):
            return self.converted(self.model.generator_ema.codes.whiten(found), "codes")
        mean: Tensor = found[0]
        return mean

    @torch.no_grad()
    def converted(self, z: Tensor, space: str) -> Tensor:
        """Return latents `(N, D)` of another space in this one.

        A GAN on the codes of an autoencoder has a network from latents to codes, which is near the identity.
        """
        if space == self.space:
            return z
        between: nn.Module = self.model.generator_ema.latent
        if space == "latent":
            made: Tensor = between(z)
            return made
        return z if isinstance(between, nn.Identity) else invert(between, z, z, steps=MATCHED).codes

    def point(self, text: str) -> Tensor:
        """Return the latents `(N, D)` of SEED, SEED:NUMBER, FILE.safetensors or FILE.safetensors:ROW.

        Raises:
            ValueError: for another text, and for codes of another model.
        """
        if found := re.fullmatch(r"(\d+)(?::(\d+))?", text):
            number = int(found[2] or 0)
            return self.draws(range(number, number + 1), int(found[1]))
        if found := re.fullmatch(r"(.+\.safetensors)(?::(\d+))?", text):
            rows, _, space = codes.load(found[1])
            both = isinstance(self.model, CodeModel) and space in ("latent", "codes")
            if rows.shape[1] != self.dim or not (both or space == self.space):
                told = f"{rows.shape[1]} numbers of the space {space}; expected {self.dim} of the space {self.space}"
                raise ValueError(f"a code of {found[1]} has {told}")
            if found[2] and int(found[2]) >= len(rows):
                raise ValueError(f"row is {found[2]}; expected 0 to {len(rows) - 1}, which {found[1]} has")
            chosen = rows[int(found[2])].unsqueeze(0) if found[2] else rows
            return self.converted(chosen.to(self.model.device), space)
        raise ValueError(f"{text} is no point; expected SEED, SEED:NUMBER or FILE.safetensors:ROW")

    def pictures(self, z: Tensor) -> Tensor:
        """Return the images `(N, C, H, W)` of latents `(N, D)`, clipped to [-1, 1], on the CPU.

        Raises:
            ValueError: if they do not fit into memory.
        """
        check_fits(4 * len(z) * prod(self.shape), f"making {len(z)} pictures at once")
        return images(self.network, z).clamp(-1, 1).cpu()


def subject(
    checkpoint: Path,
    own: str | None,
    label: str | None,
    truncation: float | None,
    device: str,
    *,
    space: Space | None = None,
    turns: bool = False,
) -> Subject:
    """Return the model of a checkpoint, as the flags of `gans.commands.explore_flags.parser_of` describe it.

    Args:
        checkpoint: its file.
        own: import path of the model's class, for a class of the user's own.
        label: class of all images by name or number. None is class 0, or all classes in turn.
        truncation: of draws; None for none.
        device: name of the device.
        space: None is `codes` for an autoencoder, else `latent`.
        turns: without a label a class-conditional model uses all classes in turn.

    Raises:
        ValueError: if there is no such model, class or device, or the latents cannot be truncated.
    """
    model: Any = load_generator(checkpoint, chosen_device(device), model=own_model(own)).requires_grad_(False)
    kind = type(model).__name__
    if getattr(model, "generator_ema", None) is None or getattr(model, "image_shape", None) is None:
        raise ValueError(f"{checkpoint} holds a {kind}; expected a model with a generator of images")
    count = classes(model)
    number: int | None = None
    if label is not None:
        number, *more = labels.parsed(label, model, "label")
        if more:
            raise ValueError(f"label is {label}; expected one class")
    if count and number is None and not turns:
        number = 0
        print(f"class {labels.shown(model, 0)} of {count}: --label chooses another", file=sys.stderr)
    if truncation is not None and model.prior != "normal":
        raise ValueError(f"truncation is {truncation}; expected none, for the latents are {model.prior}")
    space = space or ("codes" if isinstance(model, CodeModel) else "latent")
    return Subject(model, Drawn(model, number, space).eval(), space, of_checkpoint(checkpoint), truncation)
