"""The model that `gans explore` is about: from points to images, its draws, its encoder, and points by their names."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite, prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gans.checks import article
from gans.commands import labels
from gans.commands.device import chosen_device
from gans.commands.parser import own_model
from gans.engine.checkpoint import load_generator
from gans.engine.interface import classes, styled
from gans.explore import codes
from gans.explore.generators import images
from gans.explore.pca import pca_of_styles
from gans.explore.spaces import LayeredStyles, Space, space_of, usual_space
from gans.explore.styles import layers_named
from gans.metrics.sampling import latents
from gans.models.autoencoder import CodeModel
from gans.runs.folder import of_checkpoint
from gans.runs.memory import check_fits

COMPONENTS = 2000  # points whose principal components are found
FILE = re.compile(r"(.+\.safetensors)(?::(\d+))?")  # a point in a file of codes


@dataclass(frozen=True)
class Subject:
    """A model, in one of its spaces.

    Args:
        model: of the checkpoint, frozen.
        network: the space, a network from its points to images.
        folder: of the run.
        truncation: of draws; None for none.
    """

    model: Any
    network: Space
    folder: Path
    truncation: float | None

    @property
    def space(self) -> str:
        """Name of the space, see `gans.explore.spaces`."""
        return self.network.name

    @property
    def dim(self) -> int:
        """Length of a point, or of each of its layers."""
        return self.network.dim

    @property
    def reach(self) -> float:
        """How far walks go both ways by default: to the bound of a uniform prior, else three deviations."""
        return 1.0 if self.network.uniform else 3.0

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
        """Return the points `(len(rows), ...)` of these images of a seed, the same as in `gans sample`.

        Raises:
            ValueError: if they do not fit into memory.
        """
        check_fits(4 * len(rows) * prod(self.network.shape), f"drawing {len(rows)} points")
        limit = None if styled(self.model) else self.truncation
        return self.network.from_latents(latents(self.model, rows, seed, limit).to(self.model.device))

    def at(self, label: int | Tensor | None, truncation: float | None) -> "Subject":
        """Return this subject with another class and truncation."""
        return replace(self, network=self.network.at(label, truncation), truncation=truncation)

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Return the points `(N, ...)` of images `(N, C, H, W)`; for a distribution of codes its mean.

        Raises:
            ValueError: if the model has no encoder.
        """
        if not self.encodes:
            raise ValueError(f"method is encoder; expected optimise, for {type(self.model).__name__} has no encoder")
        found = self.model.encode(pictures)
        if isinstance(self.model, CodeModel):
            return self.network.accepted(self.model.generator_ema.codes.whiten(found), "codes")
        mean: Tensor = found[0]
        return self.network.accepted(mean, "latent")

    def point(self, text: str) -> Tensor:
        """Return the points `(N, ...)` of SEED, SEED:NUMBER, FILE.safetensors or FILE.safetensors:ROW.

        Raises:
            ValueError: for another text, and for codes of another model.
        """
        if found := re.fullmatch(r"(\d+)(?::(\d+))?", text):
            number = int(found[2] or 0)
            return self.draws(range(number, number + 1), int(found[1]))
        rows, _, space, _ = rows_of(text)
        try:
            return self.network.accepted(rows.to(self.model.device), space)
        except ValueError as error:
            raise ValueError(f"a code of {FILE.fullmatch(text)[1]} has {error}") from error  # type: ignore[index]

    def noise(self, texts: Sequence[str]) -> Tensor | None:
        """Return the noise inputs `(N, noise_dim)` of points, which files of codes may hold; None if none does.

        Points without noise of their own have the stored one.
        """
        held = [rows_of(text).noise if FILE.fullmatch(text) else None for text in texts]
        if all(noise is None for noise in held):
            return None
        stored, parts = self.model.stored_noise, []
        for text, noise in zip(texts, held, strict=True):
            if noise is not None and noise.shape[1:] != stored.shape:
                told = f"{noise.shape[1]} numbers of noise; expected {len(stored)}, which this model reads"
                raise ValueError(f"a code of {text} has {told}")
            parts.append(stored.expand(len(self.point(text)), -1) if noise is None else noise.to(stored))
        return torch.cat(parts)

    def layers(self, text: str | None) -> list[int] | None:
        """Return the layers that `--layers` names; None without it.

        Raises:
            ValueError: if the model has no such layers.
        """
        if text is None:
            return None
        if not self.network.layers:
            told = f"expected none, for {type(self.model).__name__} has no layers in the space {self.space}"
            raise ValueError(f"layers is {text}; {told}")
        return layers_named(text, self.network.layers)

    def pictures(self, points: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the images `(N, C, H, W)` of points `(N, ...)`, clipped to [-1, 1], on the CPU.

        Args:
            points: of the space.
            noise: inputs `(N, noise_dim)` of a style model; None takes the stored ones.

        Raises:
            ValueError: if they do not fit into memory.
        """
        check_fits(4 * len(points) * prod(self.shape), f"making {len(points)} pictures at once")
        inputs = (points,) if noise is None else (points, noise)
        return images(self.network, *inputs).clamp(-1, 1).cpu()


def style_subject(
    checkpoint: Path, own: str | None, label: str | None, truncation: float | None, device: str
) -> Subject:
    """Return the style model of a checkpoint in its space W+, like `subject`.

    Raises:
        ValueError: also if the model has no W.
    """
    found = subject(checkpoint, own, label, truncation, device)
    if not styled(found.model):
        raise ValueError(f"{checkpoint} holds {article(type(found.model))}; expected a style model, which has a W")
    return replace(found, network=LayeredStyles(found.model, found.network.label, truncation).eval())


def components(model: Subject, count: int) -> dict[str, Tensor]:
    """Return the first principal components of W as unit vectors `(w_dim,)`, by names such as `component 1`."""
    points = model.at(model.network.label, None).draws(range(COMPONENTS), 0)
    points = points[:, 0] if points.ndim == 3 else points  # of W+: all layers have the same w
    vectors, _ = pca_of_styles(points, min(count, model.dim))
    return {f"component {i}": vector for i, vector in enumerate(vectors, 1)}


def rows_of(text: str) -> codes.Codes:
    """Return what FILE.safetensors or FILE.safetensors:ROW holds; of the latter one row.

    Raises:
        ValueError: for another text, or if there is no such row.
    """
    found = FILE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text} is no point; expected SEED, SEED:NUMBER or FILE.safetensors:ROW")
    held = codes.read(found[1])
    if not found[2]:
        return held
    row = int(found[2])
    if row >= len(held.codes):
        raise ValueError(f"row is {row}; expected 0 to {len(held.codes) - 1}, which {found[1]} has")
    noise = None if held.noise is None else held.noise[row : row + 1]
    return codes.Codes(held.codes[row : row + 1], held.names[row : row + 1], held.space, noise)


def subject(
    checkpoint: Path,
    own: str | None,
    label: str | None,
    truncation: float | None,
    device: str,
    *,
    space: str | None = None,
    moved: bool = False,
    turns: bool = False,
) -> Subject:
    """Return the model of a checkpoint, as the flags of `gans.commands.explore_flags.parser_of` describe it.

    Args:
        checkpoint: its file.
        own: import path of the model's class, for a class of the user's own.
        label: class of all images by name or number. None is class 0, or all classes in turn.
        truncation: of draws; None for none.
        device: name of the device.
        space: name of the space; None is `codes` for an autoencoder, `w` for a style model, else `latent`.
        moved: whether points are moved along directions; then None is `latent` for an autoencoder.
        turns: without a label a class-conditional model uses all classes in turn.

    Raises:
        ValueError: if there is no such model, class, space or device, or the latents cannot be truncated.
    """
    model: Any = load_generator(checkpoint, chosen_device(device), model=own_model(own)).requires_grad_(False)
    kind = type(model).__name__
    if getattr(model, "generator_ema", None) is None or getattr(model, "image_shape", None) is None:
        raise ValueError(f"{checkpoint} holds {article(kind)}; expected a model with a generator of images")
    count = classes(model)
    number: int | None = None
    if label is not None:
        number, *more = labels.parsed(label, model, "label")
        if more:
            raise ValueError(f"label is {label}; expected one class")
    if truncation is not None and not isfinite(truncation):
        raise ValueError(f"truncation is {truncation}; expected a finite number")
    if truncation is not None and model.prior != "normal" and not styled(model):
        raise ValueError(f"truncation is {truncation}; expected none, for the latents are {model.prior}")
    network = space_of(model, space or usual_space(model, moved), number, truncation)
    if count and number is None and not turns:
        network = network.at(0, truncation)
        print(f"class {labels.shown(model, 0)} of {count}: --label chooses another", file=sys.stderr)
    return Subject(model, network, of_checkpoint(checkpoint), truncation)
