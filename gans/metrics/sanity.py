"""Whether an extractor's FID measures what it should: images damaged on purpose, from hardly to badly."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from gans.metrics.functional import fid

SAMPLES = 5000  # on each side
SIGMAS = (0.4, 0.8, 2.0)  # of the blur, in pixels
DEVIATIONS = (4, 16, 64)  # of the noise, of 255
DISTINCT = (500, 100, 5)
ALONE = "one class alone"

Extract = Callable[[Tensor], Tensor]
Table = dict[str, float]


def sanity(extract: Extract, reference: Tensor, images: Tensor, labels: Tensor, seed: int = 0) -> Table:
    """Return the FID of unharmed and of damaged images against others of the same data, by what was done to them.

    Random networks, too, see more blur as more distance. Only a network that knows the data finds it worse that all
    classes but one are missing than that edges are a little soft, which `passes` asks for.

    `extract` returns features `(N, D)` of uint8 images `(N, C, H, W)`; `reference` is never damaged. At most 5,000
    images, drawn by the seed, stand on each side.

    Raises:
        ValueError: if there are fewer than two classes.
    """
    classes = sorted(set(labels.tolist()))
    if len(classes) < 2:
        raise ValueError(f"labels have {len(classes)} classes; expected at least 2")
    generator = torch.Generator().manual_seed(seed)
    target = extract(drawn(reference, generator))
    sample = drawn(images, generator)
    table = {"none": float(fid(target, extract(sample)))}
    for sigma in SIGMAS:
        table[f"blur {sigma:g}"] = float(fid(target, extract(blurred(sample, sigma))))
    for deviation in DEVIATIONS:
        table[f"noise {deviation}"] = float(fid(target, extract(noisy(sample, deviation, generator))))
    for name, missing in {"a class missing": 1, "half missing": len(classes) // 2, ALONE: len(classes) - 1}.items():
        kept = images[torch.isin(labels, torch.tensor(classes[missing:]))]
        table[name] = float(fid(target, extract(drawn(kept, generator))))
    for count in DISTINCT:
        if count < len(sample):
            features = extract(sample[:count])
            table[f"{count} distinct"] = float(fid(target, features[torch.arange(len(sample)) % count]))
    return table


def passes(table: Table) -> bool:
    """Return whether one class alone is more than twice as far from the data as all of them under blur .8."""
    return table[ALONE] > 2 * table["blur 0.8"]


def drawn(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return at most 5,000 of the images `(N, C, H, W)`, in random order."""
    return images[torch.randperm(len(images), generator=generator)[:SAMPLES]]


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Return uint8 images under a Gaussian blur of `sigma` pixels."""
    side = 2 * min(math.ceil(3 * sigma), min(images.shape[-2:]) - 1) + 1
    found: Tensor = gaussian_blur(images, [side, side], [sigma, sigma])
    return found


def noisy(images: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Return uint8 images with normal noise added, rounded and clipped."""
    noise = torch.randn(images.shape, generator=generator) * deviation
    return (images + noise).round().clamp(0, 255).to(torch.uint8)
