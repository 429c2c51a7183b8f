"""Generated images beside real ones: the nearest neighbours of each, and the power spectra of both."""

from typing import NamedTuple

import torch
from torch import Tensor

from gans.commands.explore_real import RealImages
from gans.commands.explore_subject import Subject
from gans.explore.neighbours import Nearest, nearest
from gans.explore.spectrum import power_spectrum
from gans.metrics.interface import Extractor
from gans.metrics.sampling import BLOCK
from gans.pictures.images import to_float, to_uint8


class Neighbours(NamedTuple):
    """Generated images, each with the real images that are nearest to it."""

    images: Tensor  # (M, columns, C, H, W): the generated image, then for each measure a white one and the k nearest
    nearest: dict[str, Nearest]  # by the name of what is compared: `pixels`, or an extractor


class Spectra(NamedTuple):
    """Mean power of real and of generated images at each frequency, as in `gans.explore.spectrum`."""

    frequencies: Tensor  # (K,) in cycles per pixel
    real: Tensor  # (K,)
    generated: Tensor  # (K,)


def neighbours(
    model: Subject, real: RealImages, network: Extractor | None, samples: int, count: int, seed: int = 0
) -> Neighbours:
    """Return generated images with their nearest real ones, in pixels and in the features of an extractor.

    Args:
        model: generates the images.
        real: the images to compare with.
        network: an extractor of images; None compares pixels only.
        samples: number of generated images.
        count: number of neighbours of each.
        seed: of the latents.

    Raises:
        ValueError: for an extractor of clips.
    """
    if network is not None and network.clips:
        raise ValueError(f"features is {network.name}, which is for clips; expected an extractor of images")
    made = model.pictures(model.draws(range(samples), seed))
    found = {"pixels": nearest(pixels(to_uint8(made)), map(pixels, real.blocks("pixels")), count)}
    if network is not None:
        seen = (features(network, block) for block in real.blocks("features"))
        found[network.name] = nearest(features(network, to_uint8(made)), seen, count)
    columns = [made.unsqueeze(1)]
    for which in found.values():
        shown = to_float(real.images(which.rows.flatten().tolist())).view(len(made), -1, *made.shape[1:])
        columns += [torch.ones_like(made).unsqueeze(1), shown]
    return Neighbours(torch.cat(columns, 1), found)


def spectra(model: Subject, real: RealImages, samples: int, seed: int = 0) -> Spectra:
    """Return the power spectra of real images, and of generated ones.

    Args:
        model: generates the images.
        real: the images to compare with.
        samples: number of generated images.
        seed: of the latents.
    """
    frequencies, of_real = power_spectrum(map(to_float, real.blocks("real images")))
    _, of_fake = power_spectrum(
        model.pictures(model.draws(range(start, min(start + BLOCK, samples)), seed))
        for start in range(0, samples, BLOCK)
    )
    return Spectra(frequencies, of_real, of_fake)


def pixels(images: Tensor) -> Tensor:
    """Return uint8 images `(N, C, H, W)` as rows of float64."""
    return images.flatten(1).double()


def features(network: Extractor, images: Tensor) -> Tensor:
    """Return the features `(N, F)` of uint8 images `(N, C, H, W)`, on the CPU."""
    found: Tensor = network(images)[0].cpu()
    return found
