"""The report of an evaluation: a subject compared with a reference, in the features of an extractor, by a protocol.

A report is a dictionary of plain values. It holds everything that is needed to repeat its numbers.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from gans.metrics import cache
from gans.metrics.features import FORMAT, Features, Reference, Statistics, Watch, of_subject, statistics
from gans.metrics.framed import Framed
from gans.metrics.interface import Extractor
from gans.metrics.sampling import BLOCK, Subject
from gans.metrics.suite import LEAST, Protocol, Score, over_seeds, plain, scores, values
from gans.runs import atomic
from gans.runs.environment import environment
from gans.runs.memory import check_fits

Rows = dict[str, dict[str, Score]]  # scores by their names, by what they are of
Judge = Callable[[Features], dict[str, Score]]
Bar = Callable[[str, int], Watch]  # makes a progress bar from what is looked at and how many images these are

# In the order of the table: what is better, and what the number is.
MEANING = {
    "fid": ("lower", "Fréchet distance between the features' Gaussians"),
    "fid_infinity": ("lower", "the same, extrapolated to infinitely many samples"),
    "frame_fid": ("lower", "the same between single frames of clips, which are blind to motion"),
    "motion": ("1", "how much clips change from frame to frame, over that of real ones"),
    "class_fid": ("lower", "the same within each class, averaged"),
    "class_accuracy": ("higher", "share of samples that the extractor takes for the class that was asked for"),
    "kid": ("lower", "kernel distance, unbiased (x 1000)"),
    "inception_score": ("higher", "exp of the information that a sample gives on its class"),
    "precision": ("higher", "share of samples near a real image"),
    "recall": ("higher", "share of real images near a sample"),
    "density": ("higher", "how many real neighbourhoods a sample is in; 1 is that of real images"),
    "coverage": ("higher", "share of real images with a sample in their neighbourhood"),
    "vendi": ("higher", "effective number of different samples"),
    "authenticity": ("higher", "% of samples that are no copy of a real image; near 0 is memorised"),
    "one_nn_accuracy": ("0.5", "how well a nearest neighbour tells real from fake; far under 0.5 are copies"),
    "modes": ("higher", "classes that occur"),
    "mode_kl": ("lower", "divergence of the classes from those of the real images"),
}


def report(
    subject: Subject,
    reference: Reference,
    extractor: Extractor,
    protocol: Protocol,
    *,
    names: Collection[str] | None = None,
    controls: Callable[[Judge], Rows] | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = BLOCK,
    bar: Bar = lambda what, count: iter,
) -> dict[str, Any]:
    """Return the scores of a subject, those of held-out real images as a baseline, and what they depend on.

    Args:
        subject: what is evaluated.
        reference: real images that it is compared with.
        extractor: network whose features are compared.
        protocol: the numbers of images, and the seeds.
        names: of the scores; None computes all that are possible.
        controls: returns the scores of what a model on a manifold is compared with, given `judge`, by their names.
        device: where the extractor runs.
        batch_size: images of the subject that the extractor sees at once.
        bar: makes progress bars.

    Raises:
        ValueError: if one of `names` is not possible, where it can be known before any image is looked at.
    """
    count = min(protocol.reference or len(reference.images), len(reference.images))
    check_possible(names, extractor, protocol, count, (reference.classes, subject.classes))
    keep = None if protocol.thorough else protocol.neighbours
    real = statistics(reference.images, extractor, count, keep, device, bar("real images", count))

    def judge(fake: Features) -> dict[str, Score]:
        return scores(real, fake, protocol, names)

    apart = []
    for seed in protocol.seeds:
        watch = bar(f"samples, seed {seed}", protocol.samples)
        found = of_subject(
            subject, extractor, protocol.samples, seed, device=device, batch_size=batch_size, watch=watch
        )
        apart.append(judge(found))
    whole = over_seeds(apart)
    for name in names or ():
        if name not in whole:
            raise ValueError(f"{name} cannot be computed by the {protocol.name} protocol for these images")
    if names:
        whole = {name: whole[name] for name in names}
    baseline = of_held_out(real, reference.held_out, extractor, protocol, names, device, bar)
    return {
        "metrics": plain(whole),
        "baseline_real": plain(baseline),
        "on_the_manifold": {name: plain(row) for name, row in (controls(judge) if controls else {}).items()},
        "protocol": asdict(protocol) | {"seeds_apart": [values(run) for run in apart]},
        "extractor": about(extractor),
        "reference": reference.about | {"n": real.gaussian.n, "fingerprint": real.images, "key": real.key},
        "generator": subject.about,
        "environment": environment(device),
    }


def of_held_out(
    real: Statistics,
    held_out: Any,
    extractor: Extractor,
    protocol: Protocol,
    names: Collection[str] | None,
    device: torch.device | str,
    bar: Bar,
) -> dict[str, Score]:
    """Return the scores of as many held-out real images, as far as they are possible; they are kept on the disk."""
    if held_out is None or len(held_out) < 10:
        return {}
    count = min(protocol.samples, len(held_out))
    if names is not None:
        names = sorted(name for name in names if count >= LEAST[name])
    other = statistics(held_out, extractor, count, None, device, bar("held-out images", count))
    numbers = {name: value for name, value in asdict(protocol).items() if name != "seeds"}
    facts = (FORMAT, real.key, other.key, numbers, names)
    path = cache.cache_folder() / f"baseline-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()}.pt"
    if not path.is_file():
        cache.write(path, plain(scores(real, other.features, protocol, names)))
    return {name: Score(**held) for name, held in cache.read(path).items()}


def check_possible(
    names: Collection[str] | None, extractor: Extractor, protocol: Protocol, count: int, classes: tuple[int, int]
) -> None:
    """Check that scores are possible, before any image is generated.

    Args:
        names: of the scores; None stands for all that are possible, and needs FID to be.
        extractor: network whose features are compared.
        protocol: with the number of generated images.
        count: number of real images.
        classes: number of classes of the real images, and of the generated ones.

    Raises:
        ValueError: if one is not.
    """
    check_fits(4 * protocol.samples * extractor.num_features, f"keeping the features of {protocol.samples} samples")
    few = min(protocol.samples, count)
    for name in names or ["fid"]:
        least = LEAST[name]
        if few < least:
            there = f"{protocol.samples:,} generated and {count:,} real"
            raise ValueError(f"{name} needs at least {least} images of both; there are {there}")
        if name in ("inception_score", "modes", "mode_kl", "class_accuracy") and extractor.num_classes is None:
            raise ValueError(f"{name} needs an extractor with logits; {extractor.name} has none")
        if name == "fid_infinity" and not protocol.thorough:
            raise ValueError(f"{name} is of the final protocol; the protocol is {protocol.name}")
        if name in ("class_fid", "class_accuracy") and (not all(classes) or classes[0] != classes[1]):
            real, made = (str(count or "none") for count in classes)
            raise ValueError(f"{name} needs generated images of the classes of the data: {real} there, {made} here")
        if name == "class_accuracy" and extractor.num_classes != classes[0]:
            raise ValueError(
                f"{name} needs an extractor of {classes[0]} classes; {extractor.name} has {extractor.num_classes}"
            )
        if name == "motion" and not extractor.clips:
            raise ValueError("motion is of clips; the data are images")
        if name == "frame_fid" and not isinstance(extractor, Framed):
            raise ValueError("frame_fid is of clips and needs --frames")


def table(report: dict[str, Any]) -> str:
    """Return lines to print: the scores, those of real images beside them, and what they mean."""
    protocol, extractor, reference = report["protocol"], report["extractor"], report["reference"]
    where = f"{reference['n']:,} {reference['split']} images"
    features = f"{extractor['name']} ({extractor['resize']})"
    lines = [
        f"{protocol['samples']:,} samples against {where}, features: {features}",
        f"{'score':16} {'model':>16} {'real images':>16}  better  meaning",
    ]
    for name, (better, meaning) in MEANING.items():
        if name in report["metrics"]:
            cells = [cell(name, report[side].get(name)) for side in ("metrics", "baseline_real")]
            lines.append(f"{name:16} {cells[0]:>16} {cells[1]:>16}  {better:6}  {meaning}")
    return "\n".join(lines)


def protocol(report: Mapping[str, Any]) -> str:
    """Return what the numbers of a report depend on besides the model, in words."""
    held, features, real = report["protocol"], report["extractor"], report["reference"]
    seeds = ", ".join(map(str, held.get("seeds", ())))
    return (
        f"{held['samples']:,} samples of seed {seeds} against {real['n']:,} images of the split {real['split']} "
        f"({str(real.get('fingerprint'))[:8]}), features {features['name']} ({str(features.get('sha256'))[:8]}, "
        f"{features['resize']}), protocol {held['name']}"
    )


def cell(name: str, score: dict[str, Any] | None) -> str:
    """Return a number with its deviation in few characters."""
    if score is None:
        return "-"
    unit = 1000 if name == "kid" else 1
    value, digits = score["value"] * unit, 1 if name in ("authenticity", "modes") else 3
    return f"{value:.{digits}f}" + (f" ± {score['std'] * unit:.{digits}f}" if "std" in score else "")


def about(extractor: Extractor) -> dict[str, Any]:
    """Return what identifies an extractor."""
    return {"name": extractor.name, "sha256": extractor.sha256, "resize": extractor.resize, "dtype": "float32"}


def sha256(path: Path) -> str:
    """Return the hash of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(path: Path, report: dict[str, Any]) -> None:
    """Write a report, whole or not at all.

    Raises:
        ValueError: if a number in it is not finite.
        UnwrittenError: if the file cannot be written.
    """
    try:
        text = json.dumps(report, indent=2, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"a score is not finite, nothing was written to {path}") from error
    atomic.write(path, f"{text}\n".encode())


def beside(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the reports of `gans evaluate` in a folder by the names of their files. Other JSON files are left out."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(held, dict) and held.keys() >= {"metrics", "protocol", "extractor", "reference"}:
            found[path.name] = held
    return found
