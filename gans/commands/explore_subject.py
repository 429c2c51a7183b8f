"""A checkpoint as `gans.explore` wants it: a network from latents to images, its draws, and what encodes pictures."""

import re
import sys
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jsonargparse import Namespace
from torch import Tensor, nn

from gans.commands import labels
from gans.commands.device import chosen_device
from gans.commands.parser import Parser, add_own_model, check_writable, own_model
from gans.engine.checkpoint import load_generator
from gans.engine.interface import classes
from gans.explore import codes
from gans.explore.generators import Drawn, Space, images
from gans.explore.inversion import invert
from gans.explore.perceptual import Eyes, eyes
from gans.metrics.extractors import extractor
from gans.metrics.interface import Extractor
from gans.metrics.sampling import latents
from gans.models.autoencoder import Autoencoder
from gans.runs.folder import of_checkpoint
from gans.runs.memory import check_fits

MATCHED = 200  # steps to the latent of a code, which need no picture


class Point(NamedTuple):
    """Latents that a user has named."""

    name: str
    z: Tensor  # (N, D)


@dataclass(frozen=True)
class Subject:
    """What is explored.

    Args:
        model: of the checkpoint, its weights at rest.
        network: from latents to images.
        space: `codes` are the whitened codes of an autoencoder.
        folder: of the run.
        truncation: of draws, or None.
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
        """Whether latents are U(-1, 1), and so end there."""
        return self.space == "latent" and self.model.prior == "uniform"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images."""
        shape = self.model.image_shape
        return shape[0], shape[-2], shape[-1]

    def draws(self, rows: range, seed: int) -> Tensor:
        """Return the latents `(len(rows), D)` of these pictures of a seed, those of `gans sample`.

        Raises:
            ValueError: if they could not fit in memory.
        """
        check_fits(4 * len(rows) * self.dim, f"drawing {len(rows)} latents")
        z = latents(self.model, rows, seed, self.truncation).to(self.model.device)
        with torch.no_grad():
            return self.model.generator_ema.latent(z) if self.space == "codes" else z

    def encodes(self) -> bool:
        """Return whether the model has an encoder."""
        return callable(getattr(self.model, "encode", None))

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Return the latents `(N, D)` of pictures `(N, C, H, W)` in this space; of a distribution of codes the mean.

        Raises:
            ValueError: if the model has no encoder.
        """
        if not self.encodes():
            raise ValueError(f"method is encoder; expected optimise, for {type(self.model).__name__} has no encoder")
        found = self.model.encode(pictures)
        if isinstance(self.model, Autoencoder):
            return self.converted(self.model.generator_ema.codes.whiten(found), "codes")
        mean: Tensor = found[0]
        return mean

    @torch.no_grad()
    def converted(self, z: Tensor, space: str) -> Tensor:
        """Return latents `(N, D)` of another space in this one.

        Of a GAN on the codes of an autoencoder a network lies between latents and codes, near the identity.
        """
        if space == self.space:
            return z
        between: nn.Module = self.model.generator_ema.latent
        if space == "latent":
            made: Tensor = between(z)
            return made
        return z if isinstance(between, nn.Identity) else invert(between, z, z, steps=MATCHED).codes

    def point(self, text: str) -> Point:
        """Return the latents that a text names: SEED, SEED:NUMBER, or FILE.safetensors of `invert`, whole or :ROW.

        Raises:
            ValueError: for another text, and for codes of another model.
        """
        if found := re.fullmatch(r"(\d+)(?::(\d+))?", text):
            number = int(found[2] or 0)
            return Point(text, self.draws(range(number, number + 1), int(found[1])))
        if found := re.fullmatch(r"(.+\.safetensors)(?::(\d+))?", text):
            rows, _, space = codes.load(found[1])
            both = isinstance(self.model, Autoencoder) and space in ("latent", "codes")
            if rows.shape[1] != self.dim or not (both or space == self.space):
                told = f"{rows.shape[1]} numbers of the space {space}; expected {self.dim} of the space {self.space}"
                raise ValueError(f"a code of {found[1]} has {told}")
            if found[2] and int(found[2]) >= len(rows):
                raise ValueError(f"row is {found[2]}; expected 0 to {len(rows) - 1}, which {found[1]} has")
            chosen = rows[int(found[2])].unsqueeze(0) if found[2] else rows
            return Point(Path(text).name, self.converted(chosen.to(self.model.device), space))
        raise ValueError(f"{text} is no point; expected SEED, SEED:NUMBER or FILE.safetensors:ROW")

    def pictures(self, z: Tensor) -> Tensor:
        """Return the images `(N, C, H, W)` of latents, clipped to [-1, 1], on the CPU.

        Raises:
            ValueError: if they could not fit in memory.
        """
        check_fits(4 * len(z) * prod(self.shape), f"making {len(z)} pictures at once")
        return images(self.network, z).clamp(-1, 1).cpu()


def flags(verb: str, description: str | None) -> Parser:
    """Return the parser of what all verbs take."""
    parser = Parser(prog=f"gans explore {verb}", description=description)
    parser.add_argument("checkpoint", type=Path, help="checkpoint, folder of a run, or recipe")
    add_own_model(parser)
    parser.add_argument(
        "--label",
        "--labels",
        type=str,
        help="class of all pictures, by name or number, for conditional models; by default 0, or all if it makes sense",
    )
    parser.add_argument("--truncation", type=float, help="of drawn latents; by default none")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:1")
    return parser


def add_features(parser: Parser) -> None:
    """Add the flag of the network that looks at features."""
    parser.add_argument(
        "--features", type=str, help="mnist, FILE of train_features, or none; by default mnist for grey images"
    )


def subject(options: Namespace, space: Space | None = None, turns: bool = False) -> Subject:
    """Return what the options name; by default in the space of codes where there is an autoencoder.

    Without `--label` a conditional model makes class 0, or, for what is about all pictures, classes in `turns`.

    Raises:
        ValueError: for a file that is no checkpoint, a label that there is not, and a truncation without a meaning.
    """
    device, own = chosen_device(options.device), own_model(options.model)
    model: Any = load_generator(options.checkpoint, device, model=own).requires_grad_(False)
    kind = type(model).__name__
    if getattr(model, "generator_ema", None) is None or getattr(model, "image_shape", None) is None:
        raise ValueError(f"{options.checkpoint} holds a {kind}; expected a model with a generator of images")
    count = classes(model)
    label: int | None = None
    if options.label is not None:
        label, *more = labels.parsed(options.label, model, "label")
        if more:
            raise ValueError(f"label is {options.label}; expected one class")
    if count and label is None and not turns:
        label = 0
        print(f"class {labels.shown(model, 0)} of {count}: --label chooses another", file=sys.stderr)
    if options.truncation is not None and model.prior != "normal":
        raise ValueError(f"truncation is {options.truncation}; expected none, for the latents are {model.prior}")
    space = space or ("codes" if isinstance(model, Autoencoder) else "latent")
    return Subject(
        model, Drawn(model, label, space).eval(), space, of_checkpoint(options.checkpoint), options.truncation
    )


def place(out: Path | None, checkpoint: Path, name: str) -> Path:
    """Return where a result goes: what `--out` says, or the name in the folder `explore` of the checkpoint's run.

    Raises:
        ValueError: if nothing can be written there.
    """
    path = out or of_checkpoint(checkpoint) / "explore" / name
    check_writable(path.parent)
    return path


def network_of(options: Namespace, channels: int) -> Extractor | None:
    """Return the extractor of `--features`, None for none; by default that for digits, for grey images."""
    if options.features == "none" or (options.features is None and channels != 1):
        return None
    return extractor(options.features or "mnist")


def eyes_of(options: Namespace, model: Any) -> Eyes | None:
    """Return the features that have a gradient, on the model's device, or None."""
    network = network_of(options, model.image_shape[0])
    return None if network is None else eyes(network.to(model.device))
