"""What `gans report` shows of one run, read from its folder as plain values."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from datamodules.reader import BrokenDataError
from gans.commands.explore_compared import Spectra, neighbours, spectra
from gans.commands.explore_flags import extractor_of, parser_of
from gans.commands.explore_real import RealImages, add_data
from gans.commands.explore_subject import subject
from gans.commands.report_pictures import Picture, encoded, grids, slides
from gans.commands.splits import data_of, sets, with_data
from gans.metrics.report import beside
from gans.pictures.images import grid
from gans.recipes.configuration import read
from gans.runs.curves import Curve, curves
from gans.runs.folder import newest
from gans.runs.record import Record
from gans.runs.record import read as read_record

GENERATED, NEAREST, IN_SPECTRUM = 8, 5, 256  # images with neighbours, neighbours of each, images of a spectrum


@dataclass(frozen=True)
class Explored:
    """The newest checkpoint of a run compared with its training images.

    Args:
        step: of the checkpoint.
        neighbours: a row for each generated image, then its nearest real images.
        measures: what neighbours are found by, in the order of the columns.
        copies: distance of each generated image to the nearest real one, root mean square of 255 a pixel.
        spectra: of real and of generated images.
        compared: number of real images that neighbours are sought in.
        there: number of all training images.
    """

    step: int
    neighbours: Picture
    measures: tuple[str, ...]
    copies: list[float]
    spectra: Spectra
    compared: int
    there: int


@dataclass(frozen=True)
class Run:
    """A run as the page shows it.

    Args:
        folder: of the run.
        name: recipe and version.
        record: what is known of it.
        curves: by their tags.
        slides: grids through training by their names.
        real: the grid of real images, if there is one.
        scores: reports of `gans evaluate` in its folder, by their file names.
        config: values of its config.yaml by dotted keys, as text.
        explored: comparison with the training images, or the sentence why there is none.
    """

    folder: Path
    name: str
    record: Record
    curves: dict[str, Curve]
    slides: dict[str, list[Picture]]
    real: Picture | None
    scores: dict[str, dict[str, Any]]
    config: dict[str, str] = field(default_factory=dict)
    explored: Explored | str = ""


def shown(folder: Path, name: str, budget: int, explore: int | None, own: str | None, device: str) -> Run:
    """Return what the page shows of a run.

    Args:
        folder: of the run.
        name: that the page calls it.
        budget: bytes of its pictures.
        explore: number of real images in which neighbours are sought; None leaves out neighbours and spectrum.
        own: import path of the model's class, for a class of the user's own.
        device: name of the device of the model.

    Raises:
        ValueError: if the folder is not that of a run, or one of its files is damaged.
    """
    found = read_record(folder)
    strips = grids(folder / "samples")
    real = folder / "samples" / "real.png"
    if explore is None:
        explored: Explored | str = "They were left out by --no_explore."
    else:
        try:
            explored = compared(folder, explore, own, device)
        except (ValueError, BrokenDataError) as error:  # the model or the data do not allow it
            explored = f"They could not be computed: {error}."
    config = folder / "config.yaml"
    return Run(
        folder,
        name,
        found,
        curves(folder),
        {kind: slides(files, budget // len(strips)) for kind, files in strips.items()},
        encoded(Image.open(real).convert("RGB"), 320) if real.is_file() else None,
        beside(folder) | beside(folder / "checkpoints"),
        flat(read(config)) if config.is_file() else {},
        explored,
    )


def flat(values: Any, key: str = "") -> dict[str, str]:
    """Return nested values as text by dotted keys such as `model.lr`: `init_args` and `class_path` are left out."""
    if isinstance(values, dict) and values:
        found: dict[str, str] = {}
        for name, value in values.items():
            within = key if name in ("init_args", "class_path") else f"{key}.{name}".strip(".")
            found |= flat(value, within)
        return found
    return {key: values if isinstance(values, str) else json.dumps(values, default=str)}


def compared(folder: Path, reference: int, own: str | None, device: str) -> Explored:
    """Return the newest checkpoint of a run compared with its training images.

    Raises:
        ValueError: if the run has no checkpoint, the model does not make images of latents, or its data are not there.
    """
    checkpoint = newest([folder / "checkpoints", folder])
    if checkpoint is None:
        raise ValueError("the run has no last.ckpt")
    flags = parser_of("report", "")
    add_data(flags)
    options = with_data(flags, [str(checkpoint)])
    model = subject(checkpoint, own, None, None, device, turns=True)
    dataset = sets(data_of(options, flags), "train")[0]
    real = RealImages(dataset, min(len(dataset), reference))
    real.check_shape(model.shape, checkpoint)
    count = min(NEAREST, len(real))
    shown, found = neighbours(model, real, extractor_of(None, model.shape[0]), GENERATED, count)
    picture = grid(shown.flatten(0, 1), shown.shape[1])
    few = RealImages(dataset, min(len(dataset), IN_SPECTRUM))
    step = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["global_step"]
    return Explored(
        int(step),
        encoded(Image.fromarray(picture.permute(1, 2, 0).numpy()), 1200),
        tuple(found),
        (found["pixels"].distances[:, 0] / shown[0, 0].numel() ** 0.5).tolist(),
        spectra(model, few, IN_SPECTRUM),
        len(real),
        len(dataset),
    )
