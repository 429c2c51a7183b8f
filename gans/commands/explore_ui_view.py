"""What the page of `gans explore ui` shows: images and commands for its settings, and the latents of pictures."""

import base64
import io
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from gans.checks import at_least
from gans.commands import sample_files
from gans.commands.explore_flags import feature_function_of
from gans.commands.explore_pictures import FEATURE_WEIGHT, STARTS, read_pictures, start_of
from gans.commands.explore_subject import Subject, components
from gans.engine.interface import class_names, classes, styled
from gans.explore import directions, walks
from gans.explore.generators import images as drawn
from gans.explore.inversion import decibels, invert, nearest_start, squares
from gans.explore.spaces import Space
from gans.pictures import images

AXES = 8  # of a point, or components of W, where no directions have been found
LIMIT = 3.0  # of truncation in deviations, where it is none


@dataclass(frozen=True)
class View:
    """The settings of the page.

    Args:
        seed: of the pictures.
        count: of them.
        truncation: of their latents, or psi of a style model; None for none.
        label: class of all of them; None lets classes take turns.
        codes: InfoGAN's, the same for all; none for other models.
        strengths: distance along each direction.
        start: point `(1, ...)` of an inverted picture, in place of those of the seed; or None.
    """

    seed: int = 0
    count: int = 16
    truncation: float | None = None
    label: int | None = None
    codes: tuple[float, ...] = ()
    strengths: tuple[float, ...] = ()
    start: Tensor | None = None


@dataclass(frozen=True)
class Found:
    """The result of an inversion.

    Args:
        point: the point `(1, ...)`.
        label: class that it was found with, or None.
        target: the picture in the shape of the model, `(1, C, H, W)`.
        rebuilt: the model's image of the point, `(1, C, H, W)`; of a clip the middle frame.
        decibels: peak signal-to-noise ratio of the two.
    """

    point: Tensor
    label: int | None
    target: Tensor
    rebuilt: Tensor
    decibels: float


@dataclass(frozen=True)
class Explorer:
    """A model and the directions in one of its spaces: from the settings of the page to what it shows.

    Args:
        subject: the model.
        directions: moves of `layered` points, by their names.
        file: of the directions; None for axes, or components of W.
        checkpoint: of the model.
        own: import path of the model's class, for a class of the user's own.
        features: extractor of inversions, as `--features` names it.
    """

    subject: Subject
    directions: dict[str, Tensor]
    file: Path | None
    checkpoint: Path
    own: str | None = None
    features: str | None = None

    @property
    def classes(self) -> int:
        """Number of classes, or of InfoGAN's categories; 0 for none."""
        return classes(self.subject.model)

    @property
    def codes(self) -> int:
        """Number of InfoGAN's codes, which are the last numbers of the latent; 0 for none."""
        return int(getattr(self.subject.model, "num_codes", 0))

    @property
    def truncations(self) -> tuple[float, float] | None:
        """Least and greatest truncation, of which the greatest is none; None for a model that has no truncation."""
        if styled(self.subject.model):
            return -1.0, 1.0
        return (0.1, LIMIT) if self.subject.model.prior == "normal" else None

    def points(self, view: View) -> Tensor:
        """Return the points `(N, ...)` of the images that are shown: one of an inverted picture, else `count`.

        Raises:
            ValueError: if seed, number or truncation is out of range.
        """
        at_least(0, seed=view.seed)
        at_least(1, count=view.count)
        subject = self.subject.at(view.label, view.truncation)
        points = subject.draws(range(view.count), view.seed) if view.start is None else view.start
        points = walks.with_codes(points, view.codes)
        if view.strengths:
            points = subject.network.layered(points)
        for strength, vector in zip(view.strengths, self.directions.values(), strict=bool(view.strengths)):
            points = points + strength * vector.to(points)
        return points

    @torch.no_grad()
    def images(self, view: View) -> Tensor:
        """Return the images `(N, C, H, W)`, or clips `(N, C, T, H, W)`, in [-1, 1] on the CPU."""
        network = self.subject.at(view.label, view.truncation).network
        return network.made(self.points(view)).float().clamp(-1, 1).cpu()

    def picture(self, view: View) -> str:
        """Return the images as a data URL: a PNG of one image or a grid, a GIF of clips."""
        made = self.images(view)
        if self.subject.clips:
            return url(images.gif(made), "gif")
        if len(made) == 1:
            return png(images.to_uint8(made[0]))
        kinds = list(range(self.classes)) if view.label is None else [view.label]
        return png(images.grid(made, sample_files.columns(kinds)))

    def command(self, view: View) -> str | None:
        """Return the `gans sample` command that writes these images; None if there is none."""
        far = [(name, value) for name, value in zip(self.directions, view.strengths, strict=False) if value]
        if view.start is not None or (far and self.file is None):
            return None
        words = ["gans", "sample", str(self.checkpoint), "--seed", str(view.seed), "--num", str(view.count)]
        if self.own is not None:
            words += ["--model", self.own]
        if self.classes and view.label is not None:
            words += ["--labels", class_names(self.subject.model)[view.label]]
        if view.truncation is not None:
            words += ["--truncation", f"{view.truncation:g}"]
        if view.codes:
            words += ["--codes", *(f"{code:g}" for code in view.codes)]
        if far:
            words += ["--direction", *(f"{name}={value:g}" for name, value in far)]
            if self.file != self.subject.folder / directions.FILE:
                words += ["--directions", str(self.file)]
        return shlex.join([*words, "--out", "clips.gif"] if self.subject.clips else words)

    def inverted(self, path: Path, steps: int, watch: Callable[[int], None] | None = None) -> Found:
        """Return the point of a picture, found by gradient descent; for clips the middle frame is compared.

        Descent starts from the encoder's point, from the mean of W or, without either, from the nearest of many random
        images of all classes.

        Args:
            path: of the picture.
            steps: of the descent; 0 keeps the start.
            watch: called with the number of every step.

        Raises:
            ValueError: if the picture cannot be read.
        """
        target = read_pictures(path, self.subject.shape).images.to(self.subject.model.device)
        label, start = self.start(target)
        network = self.network(label)
        found = invert(
            network,
            target,
            start,
            steps=steps,
            features=feature_function_of(self.features, self.subject.model),
            feature_weight=FEATURE_WEIGHT,
            noise=network.jitter,
            limit=1.0 if network.uniform else None,
            watch=watch,
        )
        rebuilt = found.images.clamp(-1, 1)
        return Found(found.codes, label, target.cpu(), rebuilt.cpu(), float(decibels(squares(rebuilt, target))))

    def start(self, target: Tensor) -> tuple[int | None, Tensor]:
        """Return the start of the descent to a picture `(1, C, H, W)`: a class, or None, and a point `(1, ...)`."""
        if self.subject.encodes:
            return None, self.subject.encode(target)
        if self.subject.network.layers:
            return None, start_of(self.subject, target)
        kinds: list[int | None] = list(range(self.classes)) or [None]
        z = self.subject.draws(range(max(10, STARTS // len(kinds))), 0)
        starts = [nearest_start(self.network(kind), target, z) for kind in kinds]
        errors = [squares(drawn(self.network(kind), start), target) for kind, start in zip(kinds, starts, strict=True)]
        best = int(torch.cat(errors).argmin())
        return kinds[best], starts[best]

    def network(self, label: int | None) -> Space:
        """Return the network from points to images of a class, or to the middle frames of clips."""
        return self.subject.network.at(label, None)


def url(content: bytes, kind: str) -> str:
    """Return the content of a picture as a data URL."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def png(pixels: Tensor) -> str:
    """Return uint8 pixels `(C, H, W)` as the data URL of a PNG."""
    file = io.BytesIO()
    to_pil_image(pixels).save(file, "PNG")
    return url(file.getvalue(), "png")


def directions_of(model: Subject, given: Path | None) -> tuple[dict[str, Tensor], Path | None]:
    """Return directions as moves of `layered` points by their names, and the file that they are from.

    Without directions of the model's space in a file they are the strongest axes, or the components of W, and None.

    Args:
        model: whose points they move.
        given: the file; None takes that of the run, if there is one.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no directions of this space, or those of another model.
    """
    path, network = given or model.folder / directions.FILE, model.network
    if given or path.is_file():
        found = directions.fitting(path, network)
        if found:
            return found, path
        if given:
            raise ValueError(f"{path} holds no directions of the space {network.directions}; expected some")
    if network.layers:
        return {name: network.offset(vector) for name, vector in components(model, AXES).items()}, None
    axes = walks.strongest_axes(network, model.draws(range(2), 0), -model.reach, model.reach, model.dim)
    free = model.dim - int(getattr(model.model, "num_codes", 0))  # codes have sliders of their own
    chosen = [axis for axis in axes if axis < free][:AXES]
    return {f"axis {axis}": network.offset(torch.eye(model.dim)[axis]) for axis in chosen}, None
