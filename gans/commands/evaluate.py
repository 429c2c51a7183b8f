"""`gans evaluate`: scores of a checkpoint, or of a folder of pictures from anyone's generator, with their protocol."""

import hashlib
import json
import shlex
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from jsonargparse import Namespace
from torch import Tensor

from datamodules.decode import Fit, dimensions, reason
from datamodules.files import existing_folder, image_files
from datamodules.folder import ImageFolderDataModule
from gans.commands import controls
from gans.commands.device import chosen_device
from gans.commands.parser import Parser, add_own_model, check_writable, own_model
from gans.commands.splits import Split, bar, data_config, data_of, sets, with_data
from gans.engine.checkpoint import load_model
from gans.engine.interface import conditions, translates
from gans.metrics import report
from gans.metrics.extractors import extractor
from gans.metrics.features import Features, extract, of_samples
from gans.metrics.framed import Framed
from gans.metrics.interface import Extractor
from gans.metrics.reference import FORMAT, Reference, cache_folder, read, reference, write
from gans.metrics.sampling import BLOCK, Targets, chosen, items, stored
from gans.metrics.suite import LEAST, PROTOCOLS, Protocol, Score, over_seeds, scores
from gans.models.autoencoder import Autoencoder
from gans.runs.memory import check_fits


def parser() -> Parser:
    """Return the parser of the flags."""
    flags = Parser(prog="gans evaluate", description=__doc__)
    flags.add_argument(
        "checkpoint",
        nargs="?",
        type=Path,
        help="checkpoint, folder of a run, or recipe",
    )
    add_own_model(flags)
    flags.add_argument(
        "--images",
        type=Path,
        help="folder of pictures, with a folder for each class if there are some, instead of a checkpoint",
    )
    flags.add_argument("--runs", type=Path, nargs="+", help="run folders: summarise their curves over seeds")
    flags.add_argument("--compare", type=Path, nargs="+", help="checkpoints: one table of costs and scores")
    flags.add_argument(
        "--features",
        type=str,
        help="mnist, stacked, moving, captioned-digit, captioned-colour, inception, vgg19, random or FILE; by default "
        "for grey digits or clips",
    )
    flags.add_argument("--frames", type=str, help="mnist, inception or FILE: of clips, single frames are looked at too")
    flags.add_argument("--weights", type=Path, help="file of Inception's weights; by default in torch's cache")
    flags.add_argument("--protocol", type=Literal["quick", "final"], default="quick", help="how much is looked at")
    flags.add_argument(
        "--seeds", type=int, nargs="+", help="of the latents; by default 0, and 0 1 2 for final if there are any"
    )
    flags.add_argument("--samples", type=int, help="generated images, instead of the protocol's")
    flags.add_argument("--reference", type=int, help="real images, instead of the protocol's")
    flags.add_argument("--split", type=Split, default="train", help="the real images to compare with")
    flags.add_argument("--resize", action="store_true", help="fit --images of any size to that of the data")
    flags.add_argument("--scores", type=str, nargs="+", help="only these; by default all that can be computed")
    flags.add_argument("--truncation", type=float, help="of the latents; by default none")
    flags.add_argument("--batch_size", type=int, default=BLOCK, help="images that the extractor sees at once")
    flags.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:1")
    flags.add_argument("--out", type=Path, help="JSON file with all it takes to repeat the numbers")
    flags.add_lightning_class_args(L.LightningDataModule, "data", subclass_mode=True, required=False)
    return flags


@dataclass(frozen=True)
class Subject:
    """What is evaluated.

    Args:
        describe: what the report says of it.
        features: of `count` images for a seed.
        classes: number of classes of the data that the images are of; 0 if they have no labels.
        model: that made them, if it is there.
    """

    describe: dict[str, Any]
    features: Callable[[int, int], Features]
    classes: int = 0
    model: L.LightningModule | None = None


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    options = parsed(args)
    if options.runs or options.compare:
        from gans.commands import compare

        compare.main(options)
        return
    result = evaluate(options, args)
    if options.out:
        report.write(options.out, result)
        print(f"report       {options.out}")


def parsed(args: list[str]) -> Namespace:
    """Return the options, checked as far as they can be before anything is read."""
    options = with_data(parser(), args, {"--data", "--images", "--runs", "--compare"})
    asked = [name for name in ("checkpoint", "images", "runs", "compare") if options[name]]
    if len(asked) != 1:
        raise ValueError(f"evaluate was given {' and '.join(asked) or 'nothing'}; expected CKPT or --images DIR")
    for name, least in [("samples", 10), ("reference", 10), ("batch_size", 1)]:
        if options[name] is not None and options[name] < least:
            raise ValueError(f"{name} is {options[name]}; expected at least {least}")
    if options.seeds and len(set(options.seeds)) < len(options.seeds):
        raise ValueError(f"seeds is {options.seeds}; expected each once")
    if options.truncation is not None and not options.checkpoint and not options.compare:
        raise ValueError(f"truncation is {options.truncation}; expected none, for pictures have no latents")
    if options.resize and not options.images:
        raise ValueError("resize is of the pictures of --images, which is not given")
    if options.scores and options.compare:
        raise ValueError("scores cannot be chosen for compare, whose columns are fixed")
    if options.out:
        check_writable(options.out.parent)
        if options.out.is_dir():
            raise ValueError(f"cannot write {options.out}: it is a folder")
    return options


def evaluate(options: Namespace, args: list[str]) -> dict[str, Any]:
    """Compute and print the scores, and return the report."""
    device = chosen_device(options.device)
    data = data_of(options, parser())
    real_set, held_set, held_name = sets(data, options.split)
    shape = shape_of(real_set)
    network = network_of(options, shape)
    check_scores(options.scores or (), network)
    own = own_model(options.model)
    model = load_model(options.checkpoint, device, model=own) if options.checkpoint else None
    given = None
    if model is not None and translates(model):
        # Made of images that were not trained on, where there are some; set beside the targets of the split.
        given = held_set if options.split == "train" and held_set is not None else real_set
        real_set, held_set = Targets(real_set, model), None if held_set is None else Targets(held_set, model)
    protocol = asked_protocol(options)
    if given is not None:
        protocol = replace(protocol, samples=options.samples or min(protocol.samples, len(given)))
    count = protocol.reference if options.reference else min(protocol.reference or len(real_set), len(real_set))
    if model is None:
        subject = images_of(options, data, network, device)
        protocol = replace(protocol, samples=options.samples or subject.describe["count"])
    else:
        subject = samples_of(model, options, shape, network, device, given)
    there = 0 if given is not None else labels_of(real_set, data)
    check_possible(options.scores, network, protocol, count or len(real_set), (there, subject.classes))
    keep = None if protocol.thorough else protocol.neighbours
    real = reference(real_set, network, count, keep, device, watch=bar("real images", count or len(real_set)))
    default = (0, 1, 2) if options.protocol == "final" and model is not None and given is None else (0,)
    seeds = tuple(options.seeds or default)
    names: list[str] | None = options.scores
    runs = [scores(real, subject.features(protocol.samples, seed), protocol, names) for seed in seeds]
    found, baseline = over_seeds(runs), real_baseline(real, held_set, network, protocol, device, names)
    for name in options.scores or ():
        if name not in found:
            raise ValueError(f"{name} cannot be computed by the {protocol.name} protocol for these images")
    if options.scores:
        found = {name: found[name] for name in options.scores}
    where = f"{real.gaussian.n:,} {options.split} images"
    print(f"{protocol.samples:,} samples against {where}, features: {network.name} ({network.resize})")
    print(report.table(found, baseline))
    beside: dict[str, dict[str, Score]] = {}
    if isinstance(subject.model, Autoencoder):
        judge = partial(scores, real, protocol=protocol, names=names)
        beside = controls.controls(subject.model, real_set, held_set, protocol.samples, seeds[0], network, judge)
        print(controls.table(type(subject.model).__name__, found, beside))
    return {
        "metrics": {name: score.plain() for name, score in found.items()},
        "baseline_real": {name: score.plain() for name, score in baseline.items()},
        "on_the_manifold": {name: {key: score.plain() for key, score in row.items()} for name, row in beside.items()},
        "protocol": {**asdict(protocol), "seeds": seeds, "seeds_apart": [plain(run) for run in runs]},
        "extractor": report.about(network),
        "reference": {
            "data": data_config(options),
            "split": options.split,
            "held_out": held_name,
            "n": real.gaussian.n,
            "fingerprint": real.images,
            "key": real.key,
        },
        "generator": subject.describe,
        "environment": report.environment(device),
        "command": shlex.join(["gans", "evaluate", *args]),
    }


def shape_of(dataset: Any) -> tuple[int, ...]:
    """Return the shape of the images of a data set, (C, H, W), or (C, T, H, W); of pairs that of the targets."""
    images, second, *_ = (*items(dataset, [0]), None)
    alone = second is None or second.ndim != images.ndim or second.dtype == torch.bool  # a mask belongs to the image
    return tuple((images if alone else second).shape[1:])


def network_of(options: Namespace, shape: tuple[int, ...]) -> Extractor:
    """Return the extractor for data of a shape (C, H, W), or (C, T, H, W): that of `--features` or the usual one.

    Raises:
        ValueError: if it is for images and the data are clips, or the other way round.
    """
    clips = len(shape) == 4
    usual = "moving" if clips else "mnist" if shape[0] == 1 else "inception"
    network = extractor(options.features or usual, options.weights)
    if network.clips != clips:
        names = {True: "clips", False: "images"}
        wrong = f"{network.name}, which is for {names[network.clips]}"
        raise ValueError(f"features is {wrong}; the data are {names[clips]} of shape {shape}")
    return network if options.frames is None else Framed(network, extractor(options.frames))


def check_scores(names: Iterable[str], network: Extractor) -> None:
    """Refuse scores that there are not, and those that the extractor gives nothing for.

    Raises:
        ValueError: if there is one.
    """
    for name in names:
        if name not in report.MEANING:
            raise ValueError(f"there is no score {name}; expected {', '.join(report.MEANING)}")
        if name in ("inception_score", "modes", "mode_kl", "class_accuracy") and network.num_classes is None:
            raise ValueError(f"{name} needs an extractor with logits; {network.name} has none")


def labels_of(dataset: Any, data: Any) -> int:
    """Return the number of classes of a set of real images; 0 if they have no labels."""
    _, labels, *_ = (*items(dataset, [0]), None)
    whole = labels is not None and labels.ndim == 1 and not labels.is_floating_point()
    count = int(getattr(data, "num_classes", 1))
    return count if whole and count > 1 else 0


def check_possible(
    names: list[str] | None, network: Extractor, protocol: Protocol, reals: int, classes: tuple[int, int]
) -> None:
    """Refuse scores that cannot be computed, before an image is generated.

    Args:
        names: of the scores; None are all that can be computed.
        network: the extractor.
        protocol: with the number of generated images.
        reals: number of real images.
        classes: number of the classes of the data, and of those of the generated images that are of the data's.

    Raises:
        ValueError: if one cannot.
    """
    check_fits(4 * protocol.samples * network.num_features, f"keeping the features of {protocol.samples} samples")
    few = min(protocol.samples, reals)
    for name in names or ["fid"]:
        least = LEAST[name]
        if few < least:
            told = f"{protocol.samples:,} generated and {reals:,} real"
            raise ValueError(f"{name} needs at least {least} images of both; there are {told}")
        if name == "fid_infinity" and not protocol.thorough:
            raise ValueError(f"{name} is of the final protocol; the protocol is {protocol.name}")
        if name in ("class_fid", "class_accuracy") and (not all(classes) or classes[0] != classes[1]):
            real, made = (str(count or "none") for count in classes)
            raise ValueError(f"{name} needs generated images of the classes of the data: {real} there, {made} here")
        if name == "class_accuracy" and network.num_classes != classes[0]:
            raise ValueError(
                f"{name} needs an extractor of {classes[0]} classes; {network.name} has {network.num_classes}"
            )
        if name == "motion" and not network.clips:
            raise ValueError("motion is of clips; the data are images")
        if name == "frame_fid" and not isinstance(network, Framed):
            raise ValueError("frame_fid is of clips and needs --frames")


def plain(run: dict[str, Score]) -> dict[str, float]:
    """Return the values of one seed."""
    return {name: score.value for name, score in run.items()}


def asked_protocol(options: Namespace) -> Protocol:
    """Return the protocol with the counts that were given; all pictures of `--images` are looked at besides."""
    protocol = PROTOCOLS[options.protocol]
    if options.reference:
        protocol = replace(protocol, reference=options.reference)
    if options.samples:
        protocol = replace(protocol, samples=options.samples)
    return protocol


def samples_of(
    model: L.LightningModule,
    options: Namespace,
    data: tuple[int, ...],
    network: Extractor,
    device: torch.device,
    given: Any,
) -> Subject:
    """Return the samples of a checkpoint's model, or what it makes of the data set `given`.

    Raises:
        ValueError: if the model makes images of another shape than that of the data, or has no latents to truncate.
    """
    if given is not None and options.truncation is not None:
        raise ValueError(
            f"truncation is {options.truncation}; expected none, for {type(model).__name__} has no latents"
        )
    shape = getattr(model, "image_shape", None)
    if shape is not None and tuple(shape) != data:
        frames = ("frames, ", ", --data.frames") if len(data) == 4 else ("", "")
        raise ValueError(
            f"{options.checkpoint} makes images of shape {tuple(shape)} (channels, {frames[0]}height, width), the data "
            f"are {data}: give --data.size{frames[1]} and --data.channels"
        )

    def features(count: int, seed: int) -> Features:
        watch = bar(f"samples, seed {seed}", count)
        truncated, batch = options.truncation, options.batch_size
        return of_samples(model, network, count, seed, truncated, 0, 1, device, batch, watch, given)

    describe = {
        "checkpoint": str(options.checkpoint),
        "sha256": report.sha256(options.checkpoint),
        "model": type(model).__name__,
        "step": int(torch.load(options.checkpoint, weights_only=True, mmap=True)["global_step"]),
        "images_seen": int(getattr(model, "images_seen", 0)),
        "classes": list(getattr(model, "class_names", ())),
        "weights": f"averaged, half-life {model.hparams.get('ema_halflife', 'default')} images",
        "batch_norm": "running statistics of the trained generator",
        "truncation": options.truncation,
        "latents": f"blocks of {BLOCK}, each from a key of (seed, block)" if given is None else "none: translated",
    }
    return Subject(describe, features, 0 if given is not None else conditions(model), model)


def images_of(options: Namespace, data: Any, network: Extractor, device: torch.device) -> Subject:
    """Return the pictures of a folder.

    Raises:
        ValueError: if they are not of one size, that of the data, or there are too few.
    """
    folder = existing_folder(options.images, "images")
    sizes: dict[tuple[int, int], str] = {}
    for name in image_files(folder):
        try:
            sizes.setdefault(dimensions(folder / name), name)
        except OSError as error:
            raise ValueError(f"{folder / name} cannot be read: {reason(folder / name, error)}") from error
    there = f"the data {data.size[1]}x{data.size[0]}"
    if len(sizes) > 1 and not options.resize:
        told = " and ".join(f"{name} is {width}x{height}" for (width, height), name in list(sizes.items())[:2])
        raise ValueError(f"the pictures in {folder} differ in size: {told}; --resize fits them to those of {there}")
    for width, height in sizes if not options.resize else ():
        if (height, width) != tuple(data.size):
            told = f"the pictures in {folder} are {width}x{height}, {there}"
            raise ValueError(f"{told}: give --data.size, or --resize to fit the pictures")
    fit: Fit = getattr(data, "fit", "crop")
    pictures = ImageFolderDataModule(
        folder, data.size, data.channels, fit=fit, val_fraction=0, num_workers=0, on_error="raise"
    )
    dataset, numbers = pictures.everything(), numbers_of(pictures, data)
    chosen(len(dataset), options.samples)  # complains of too few before anything is computed

    def features(count: int, seed: int) -> Features:
        rows = chosen(len(dataset), count, seed)
        blocks = (
            (block, None if numbers is None or labels is None else numbers[labels])
            for block, labels in stored(dataset, rows)
        )
        return extract(bar("pictures", count)(blocks), network, device, options.batch_size)

    resized = {"resized": f"to {data.size[1]}x{data.size[0]}, {fit}"} if options.resize else {}
    kinds = 0 if numbers is None else len(numbers)
    return Subject({"images": str(folder), "count": len(dataset), **resized}, features, kinds)


def numbers_of(pictures: ImageFolderDataModule, data: Any) -> Tensor | None:
    """Return the labels `(K,)` that the data have for the classes of pictures, which are told by their folders' names.

    None if the pictures have no classes, or such as the data have not.
    """
    names, known = pictures.classes, list(getattr(data, "classes", ()))
    if not names or not set(names) <= set(known):
        return None
    return torch.tensor([known.index(name) for name in names])


def real_baseline(
    real: Reference,
    held: Any,
    network: Extractor,
    protocol: Protocol,
    device: torch.device,
    names: list[str] | None = None,
) -> dict[str, Score]:
    """Return the scores of as many held-out real images, those of `names`, as far as possible; kept on the disk."""
    if held is None or len(held) < 10:
        return {}
    count = min(protocol.samples, len(held))
    if names is not None:
        names = sorted(name for name in names if count >= LEAST[name])
    other = reference(held, network, count, None, device, watch=bar("held-out images", count))
    facts = (FORMAT, real.key, other.key, asdict(protocol), names)
    path = cache_folder() / f"baseline-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()}.pt"
    if not path.is_file():
        found = scores(real, other.features, protocol, names)
        write(path, {name: score.plain() for name, score in found.items()})
    return {name: Score(**values) for name, values in read(path).items()}
