"""Pictures of a user: read in the shape of a model, and inverted to latents."""

import sys
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from datamodules.archive import is_folder
from datamodules.decode import Target, UnreadableImageError, dimensions, read_image
from datamodules.files import existing_folder, image_files
from gans.commands.explore_subject import Subject
from gans.explore.inversion import Inversion, Sizes, invert, nearest_start
from gans.explore.perceptual import FeatureFunction
from gans.pictures.images import to_float

STARTS = 1000  # random images, of which the nearest is where a descent starts
FEATURE_WEIGHT = 0.03  # of the features in the loss of an inversion

Method = Literal["optimise", "encoder", "hybrid"]


class Pictures(NamedTuple):
    """Pictures of a user.

    Args:
        files: those that could be read, sorted.
        images: `(N, C, H, W)` in [-1, 1], in the same order.
        skipped: how many could not be read.
    """

    files: list[Path]
    images: Tensor
    skipped: int


def read_pictures(path: Path, shape: tuple[int, int, int]) -> Pictures:
    """Return the pictures of a file or folder in the shape `(C, H, W)` of a model.

    Pictures of another size are resized, and unreadable ones in a folder are skipped. Both are said on stderr.

    Raises:
        ValueError: if there is none that can be read.
    """
    folder = is_folder(path)
    if folder:
        files = sorted(path / name for name in image_files(existing_folder(path)))
    elif path.is_file():
        files = [path]
    else:
        raise ValueError(f"there is no picture {path}")
    channels, height, width = shape
    read, pixels, others, wrong = [], [], [], []
    for file in files:
        try:
            pixels.append(read_image(file, Target(channels, (height, width))))
        except UnreadableImageError as error:
            wrong.append(f"{file}: {error}")
            continue
        read.append(file)
        across, down = dimensions(file)
        if (across, down) != (width, height):
            others.append(f"{file.name} is {across}x{down}")
    if not read:
        told = f"none of the {len(wrong)} pictures in {path} can" if folder else f"{path} cannot"
        raise ValueError(f"{told} be read: {wrong[0].removeprefix(f'{path}: ')}")
    for what in wrong:
        print(f"gans: skipped {what}", file=sys.stderr)
    if others:
        more = f", as are {len(others) - 1} more" if len(others) > 1 else ""
        print(f"{others[0]}{more}: resized to {width}x{height}, cut to its aspect", file=sys.stderr)
    return Pictures(read, to_float(torch.stack(pixels)), len(wrong))


def inverted(
    model: Subject,
    pictures: Tensor,
    method: Method,
    features: FeatureFunction | None,
    steps: int,
    lr: float = 0.1,
    feature_weight: float = FEATURE_WEIGHT,
    pixel_weight: float = 1.0,
    noise_sizes: Sizes = (),
) -> tuple[Tensor, Inversion | None]:
    """Return points `(N, ...)` of pictures `(N, C, H, W)`, and the descent that found them, if there was one.

    Args:
        model: makes the images.
        pictures: in [-1, 1].
        method: `encoder` takes the encoder's points. `hybrid` descends from these, and `optimise` from `start_of`.
        features: function from images to features that are compared in the loss; None compares pixels only.
        steps: of the descent.
        lr: its highest learning rate.
        feature_weight: of the features in its loss.
        pixel_weight: of the pixels in its loss.
        noise_sizes: (height, width) of noise inputs that are optimised too, see `gans.explore.inversion.invert`.

    Raises:
        ValueError: if the model has no encoder and needs one.
    """
    pictures = pictures.to(model.model.device)
    if method == "encoder":
        return model.encode(pictures), None
    start = model.encode(pictures) if method == "hybrid" else start_of(model, pictures)
    with tqdm(total=steps, desc="inversion", unit="step", disable=not sys.stderr.isatty()) as bar:
        found = invert(
            model.network,
            pictures,
            start,
            steps=steps,
            lr=lr,
            noise=model.network.jitter,
            features=features,
            feature_weight=feature_weight,
            pixel_weight=pixel_weight,
            limit=1.0 if model.network.uniform else None,
            noise_sizes=noise_sizes,
            watch=lambda step: bar.update(1) and None,
        )
    return found.codes, found


def start_of(model: Subject, pictures: Tensor) -> Tensor:
    """Return where descent to pictures `(N, C, H, W)` starts: the mean of W, or the nearest of many random images.

    Of a GAN on codes it is the latent whose code is the nearest to the picture's, by the encoder: nothing is decoded.
    """
    if model.network.layers:
        return torch.zeros(len(pictures), *model.network.shape, device=pictures.device)
    coder = getattr(model.model, "coder", None)
    if coder is not None:

        def codes(z: Tensor) -> Tensor:
            found: Tensor = model.model.codes(z, *model.network.given(len(z)))
            return found

        return nearest_start(codes, coder.encode(pictures), model.draws(range(STARTS), 0))
    return nearest_start(model.network, pictures, model.draws(range(STARTS), 0))
