"""The protocols, and all scores of a set of generated images, each with the counts that it depends on."""

import math
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from gans.metrics.features import Features, Statistics
from gans.metrics.functional import (
    authenticity,
    class_fid,
    fid,
    fid_infinity,
    inception_score,
    kid,
    mode_counts,
    vendi,
)
from gans.metrics.moments import Gaussian, frechet
from gans.metrics.neighbours import neighbour_scores

# The number of the nearest neighbour that a score uses.
NEIGHBOURS = {"precision": 3, "recall": 3, "density": 5, "coverage": 5, "authenticity": 1, "one_nn_accuracy": 1}
# All scores, with the least number of real and of generated images.
LEAST = {
    "fid": 2,
    "fid_infinity": 20,  # enough points for a line
    "frame_fid": 1,
    "motion": 1,
    "class_fid": 4,
    "class_accuracy": 1,
    "kid": 2,
    "inception_score": 1,
    **{name: k + 1 for name, k in NEIGHBOURS.items()},
    "vendi": 1,
    "modes": 1,
    "mode_kl": 1,
}


@dataclass(frozen=True)
class Protocol:
    """How many images are used. Scores of different protocols do not compare.

    Args:
        name: of the protocol.
        samples: generated images.
        reference: real images that define the mean and covariance; None takes all.
        neighbours: real and generated images whose nearest neighbours are searched for.
        thorough: compare authenticity with all real images, and extrapolate FID to infinitely many samples.
        seeds: of the generated images. Scores are means over the seeds.
    """

    name: str
    samples: int
    reference: int | None
    neighbours: int
    thorough: bool
    seeds: tuple[int, ...] = (0,)


PROTOCOLS = {
    "quick": Protocol("quick", 5_000, 10_000, 5_000, False),
    "final": Protocol("final", 50_000, None, 10_000, True, (0, 1, 2)),
}


@dataclass(frozen=True)
class Score:
    """The value of a score, and what it depends on.

    Args:
        value: of the score.
        n_real: number of real images; 0 if none is used.
        n_fake: number of generated images.
        std: standard deviation over splits or seeds, or None.
        k: number of the nearest neighbour, or None.
    """

    value: float
    n_real: int
    n_fake: int
    std: float | None = None
    k: int | None = None

    def plain(self) -> dict[str, Any]:
        """Return the fields that are not None as a dictionary."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def scores(
    real: Statistics, fake: Features, protocol: Protocol, names: Collection[str] | None = None
) -> dict[str, Score]:
    """Return scores by their names.

    Args:
        real: statistics of the real images.
        fake: features of the generated images.
        protocol: how many images are used.
        names: compute these only; what cannot be computed is left out. None computes all that can be, and leaves out
            what needs more images.

    Raises:
        ValueError: if there are too few images for one of `names`, or a feature is not finite.
    """
    n_real, n_fake = real.gaussian.n, len(fake)
    few = min(protocol.neighbours, len(real.features), n_fake)
    due = set(names) if names is not None else {name for name, least in LEAST.items() if few >= least}
    near_real, near_fake = real.features.first(few), fake.first(few)
    found = {}
    if "fid" in due:
        found["fid"] = Score(float(frechet(real.gaussian, Gaussian.of(fake.features))), n_real, n_fake)
    if "kid" in due:
        found["kid"] = Score(float(kid(near_real.features, near_fake.features)), few, few)
    found |= of_neighbours(near_real, near_fake, due - {"authenticity"} if protocol.thorough else due)
    if protocol.thorough and "authenticity" in due:
        everything = real.features.features
        found["authenticity"] = Score(float(authenticity(everything, near_fake.features)), len(everything), few, k=1)
    if protocol.thorough and "fid_infinity" in due:
        found["fid_infinity"] = Score(float(fid_infinity(real.gaussian, fake.features)), n_real, n_fake)
    if "vendi" in due and bool(near_fake.features.any(1).all()):  # a row of zeros has no direction
        found["vendi"] = Score(float(vendi(near_fake.features)), 0, few)
    found |= of_classes(real, fake, due) | of_clips(real.features, fake, due)
    return found


def of_neighbours(real: Features, fake: Features, due: Collection[str]) -> dict[str, Score]:
    """Return those of the due scores that use nearest neighbours."""
    named = [name for name in NEIGHBOURS if name in due]
    if not named:
        return {}
    # No more neighbours than needed: few images have few.
    values = neighbour_scores(
        real.features,
        fake.features,
        max([1, *(NEIGHBOURS[name] for name in named if name in ("precision", "recall"))]),
        max([1, *(NEIGHBOURS[name] for name in named if name in ("density", "coverage"))]),
    )
    return {name: Score(values[name], len(real), len(fake), k=NEIGHBOURS[name]) for name in named}


def of_classes(real: Statistics, fake: Features, due: Collection[str]) -> dict[str, Score]:
    """Return those of the due scores that need the logits of a classifier, or the labels of images."""
    found = {}
    if fake.logits is not None and real.features.logits is not None:
        if "inception_score" in due:
            mean, deviation = inception_score(fake.logits, min(10, len(fake)))
            found["inception_score"] = Score(float(mean), 0, len(fake), float(deviation))
        if "modes" in due or "mode_kl" in due:
            classes = fake.logits.shape[1]
            modes, kl = mode_counts(fake.logits, classes, frequencies(real.features.logits.argmax(1), classes))
            counted = {"modes": float(modes), "mode_kl": float(kl)}
            for name, value in counted.items():
                # The divergence is infinite if all real images are of one class, and generated ones of another.
                if name in due and math.isfinite(value):
                    found[name] = Score(value, len(real.features), len(fake))
    labels = real.features.labels
    if fake.labels is None or labels is None or set_of(labels) != set_of(fake.labels):
        return found
    if "class_fid" in due and enough(labels) and enough(fake.labels):
        mean_fid = class_fid(real.features.features, labels, fake.features, fake.labels)[0]
        found["class_fid"] = Score(float(mean_fid), len(labels), len(fake))
    knows = fake.logits is not None and len(set_of(labels)) == fake.logits.shape[1]  # the extractor knows these classes
    if "class_accuracy" in due and knows and fake.logits is not None:
        found["class_accuracy"] = Score(float((fake.logits.argmax(1) == fake.labels).double().mean()), 0, len(fake))
    return found


def of_clips(real: Features, fake: Features, due: Collection[str]) -> dict[str, Score]:
    """Return those of the due scores that only clips have: FID of single frames, and motion."""
    found = {}
    counts = len(real), len(fake)
    if "frame_fid" in due and "stills" in fake.extras:  # `(N, frames, D)`
        frames = [part.extras["stills"].flatten(0, 1) for part in (real, fake)]
        found["frame_fid"] = Score(float(fid(*frames)), *counts)
    if "motion" in due and "motion" in fake.extras and float(real.extras["motion"].mean()) > 0:
        found["motion"] = Score(float(fake.extras["motion"].mean() / real.extras["motion"].mean()), *counts)
    return found


def frequencies(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Return an estimate of the frequencies `(K,)` of classes, given a sample of labels `(N,)`.

    The observed frequencies are shrunk towards equal ones: among 5,000 images of 1,000 classes some classes do not
    occur, and a divergence from a frequency of 0 is infinite.
    Source: the James-Stein estimator of Hausser and Strimmer 2009 (arXiv 0811.3579).
    """
    seen = torch.bincount(labels, minlength=classes).double() / len(labels)
    chance = (1 - seen.square().sum()) / (len(labels) - 1)
    share = (chance / (seen - 1 / classes).square().sum()).nan_to_num(1.0).clamp(max=1)
    return torch.lerp(seen, torch.full_like(seen, 1 / classes), share)


def set_of(labels: torch.Tensor) -> set[int]:
    """Return the set of labels."""
    return set(labels.tolist())


def enough(labels: torch.Tensor) -> bool:
    """Return whether there are at least two classes, and at least two images of each."""
    counts = labels.bincount()
    counts = counts[counts > 0]
    return len(counts) > 1 and int(counts.min()) >= 2


def over_seeds(runs: Iterable[dict[str, Score]]) -> dict[str, Score]:
    """Return the mean of each score over the seeds, and the standard deviation if there are several."""
    runs = list(runs)
    if len(runs) == 1:
        return runs[0]
    found = {}
    for name, first in runs[0].items():
        if not all(name in run for run in runs):
            continue
        values = torch.tensor([run[name].value for run in runs], dtype=torch.float64)
        found[name] = Score(float(values.mean()), first.n_real, first.n_fake, float(values.std()), first.k)
    return found


def plain(found: dict[str, Score]) -> dict[str, dict[str, Any]]:
    """Return scores as dictionaries of plain values."""
    return {name: score.plain() for name, score in found.items()}


def values(found: dict[str, Score]) -> dict[str, float]:
    """Return the values of scores."""
    return {name: score.value for name, score in found.items()}
