"""A test of an extractor: FID of images or clips with known damage, from slight to severe."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from gans.metrics.functional import fid
from gans.metrics.sequences import frozen, shuffled

SAMPLES = 5000  # at most, real and damaged
SIGMAS = (0.4, 0.8, 2.0)  # of the blur, in pixels
DEVIATIONS = (4, 16, 64)  # of the noise, of 255
DISTINCT = (500, 100, 5)
ALONE, SHUFFLED, FROZEN = "one class alone", "frames shuffled", "first frame frozen"
# How many times as far as blur .8 a damage must be. Random features of clips reach 0.8 to 2.4.
WORSE = {ALONE: 2, SHUFFLED: 5, FROZEN: 5}

Extract = Callable[[Tensor], Tensor]
Table = dict[str, float]


def sanity(extract: Extract, reference: Tensor, images: Tensor, labels: Tensor | None, seed: int = 0) -> Table:
    """Return the FID of intact and of damaged images to other images of the same data, by the name of the damage.

    More blur is a larger distance for random networks too. Only a network that knows the data ranks missing classes, or
    shuffled frames of clips, above a slight blur. `passes` checks that.

    Args:
        extract: returns features `(N, D)` of uint8 images `(N, C, H, W)`, or of clips `(N, C, T, H, W)`.
        reference: images that the others are compared with; they are never damaged.
        images: images to damage. At most 5,000 of each set are used.
        labels: of `images`, `(N,)`; clips need none.
        seed: of the choice of images, and of the damage.

    Raises:
        ValueError: if there are fewer than two classes.
    """
    clips = images.dim() == 5
    classes = [] if labels is None else sorted(set(labels.tolist()))
    if len(classes) < 2 and not (clips and labels is None):
        raise ValueError(f"labels have {len(classes)} classes; expected at least 2")
    generator = torch.Generator().manual_seed(seed)
    target = extract(drawn(reference, generator))
    sample = drawn(images, generator)
    table = {"none": float(fid(target, extract(sample)))}
    for sigma in SIGMAS:
        table[f"blur {sigma:g}"] = float(fid(target, extract(blurred(sample, sigma))))
    for deviation in DEVIATIONS:
        table[f"noise {deviation}"] = float(fid(target, extract(noisy(sample, deviation, generator))))
    if labels is not None:
        for name, missing in {"a class missing": 1, "half missing": len(classes) // 2, ALONE: len(classes) - 1}.items():
            kept = images[torch.isin(labels, torch.tensor(classes[missing:]))]
            table[name] = float(fid(target, extract(drawn(kept, generator))))
    for name, damaged in in_time(sample, generator) if clips else ():
        table[name] = float(fid(target, extract(damaged)))
    for count in DISTINCT:
        if count < len(sample):
            features = extract(sample[:count])
            table[f"{count} distinct"] = float(fid(target, features[torch.arange(len(sample)) % count]))
    return table


def passes(table: Table) -> bool:
    """Return whether the damages in `WORSE` are all far enough, compared with blur .8."""
    return all(sees(table, name) for name in WORSE if name in table)


def sees(table: Table, name: str) -> bool:
    """Return whether a damage is more than `WORSE` times as far as blur .8."""
    return table[name] > WORSE[name] * table["blur 0.8"]


def in_time(clips: Tensor, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    """Yield the names of temporal damages, and clips `(N, C, T, H, W)` with them."""
    frames = torch.arange(clips.shape[2])
    half = len(frames) // 2
    yield "reversed", clips.flip(2)  # no damage, if motion looks the same in both directions
    yield "half as fast", clips[:, :, frames // 2]
    yield "second half frozen", clips[:, :, frames.clamp(max=half)]
    others = clips[torch.randperm(len(clips), generator=generator)]
    yield "another second half", torch.cat([clips[:, :, :half], others[:, :, half:]], 2)
    yield SHUFFLED, shuffled(clips, generator)
    yield FROZEN, frozen(clips)


def drawn(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return at most 5,000 of the images `(N, ...)`, in random order."""
    return images[torch.randperm(len(images), generator=generator)[:SAMPLES]]


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Return uint8 images `(N, C, ..., H, W)` under a Gaussian blur of `sigma` pixels."""
    side = 2 * min(math.ceil(3 * sigma), min(images.shape[-2:]) - 1) + 1
    found: Tensor = gaussian_blur(images.flatten(1, -3), [side, side], [sigma, sigma])
    return found.view(images.shape)


def noisy(images: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Return uint8 images with normal noise added, rounded and clipped."""
    noise = torch.randn(images.shape, generator=generator) * deviation
    return (images + noise).round().clamp(0, 255).to(torch.uint8)
