"""`gans evaluate`: scores of a checkpoint, or of a folder of images of any generator, with their protocol."""

import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import lightning as L
import torch
from jsonargparse import Namespace
from torch import Tensor

from datamodules.decode import Fit, dimensions, reason
from datamodules.files import existing_folder, image_files
from datamodules.folder import ImageFolderDataModule
from gans.commands import compare, controls, stability
from gans.commands.device import chosen_device
from gans.commands.parser import Parser, add_own_model, check_writable, own_model
from gans.commands.splits import Split, bar, classes_of, data_config, data_of, sets, shape_of, with_data
from gans.engine.checkpoint import fits, held_model, load_model
from gans.engine.interface import translates
from gans.engine.stored import stored
from gans.metrics.extractors import extractor
from gans.metrics.features import Reference
from gans.metrics.framed import Framed
from gans.metrics.interface import Extractor
from gans.metrics.report import MEANING, report, sha256, table, write
from gans.metrics.rows import Targets, chosen
from gans.metrics.sampling import BLOCK, Pictures, Samples, Subject, Translations
from gans.metrics.suite import PROTOCOLS
from gans.runs.environment import environment

# The flags that `--compare` takes for each of its checkpoints.
COMPARED = (
    *("features", "weights", "protocol", "seeds", "samples", "reference", "split", "truncation", "batch_size"),
    "device",
)


def parser() -> Parser:
    """Return the parser of the flags."""
    flags = Parser(prog="gans evaluate", description=__doc__)
    flags.add_argument(
        "checkpoint",
        nargs="?",
        type=Path,
        help="checkpoint, folder of a run, recipe, or user/name of the Hub",
    )
    add_own_model(flags)
    flags.add_argument(
        "--images",
        type=Path,
        help="folder of images, perhaps with class folders, instead of a checkpoint",
    )
    flags.add_argument("--runs", type=Path, nargs="+", help="folders of runs: summary of their curves of FID")
    flags.add_argument("--compare", type=Path, nargs="+", help="checkpoints: one table of their costs and scores")
    flags.add_argument(
        "--features",
        type=str,
        help="mnist, stacked, moving, captioned-digit, captioned-colour, inception, vgg19, random or FILE; by default "
        "moving for clips, mnist for grey images, inception for others",
    )
    flags.add_argument("--frames", type=str, help="mnist, inception or FILE: extractor for single frames of clips")
    flags.add_argument("--weights", type=Path, help="file of Inception's weights; by default in torch's cache")
    flags.add_argument(
        "--protocol", type=Literal["quick", "final"], default="quick", help="numbers of images and seeds"
    )
    flags.add_argument("--seeds", type=int, nargs="+", help="of the latents; by default 0, and 0 1 2 for final")
    flags.add_argument("--samples", type=int, help="number of generated images, instead of the protocol's")
    flags.add_argument("--reference", type=int, help="number of real images, instead of the protocol's")
    flags.add_argument("--split", type=Split, default="train", help="split of the real images")
    flags.add_argument("--resize", action="store_true", help="resize --images to the size of the data")
    flags.add_argument("--scores", type=str, nargs="+", help="only these; by default all that are possible")
    flags.add_argument("--truncation", type=float, help="of latents, or psi of a style model; by default none")
    flags.add_argument("--batch_size", type=int, default=BLOCK, help="of the extractor")
    flags.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:1")
    flags.add_argument("--out", type=Path, help="JSON file of the report, with all that is needed to repeat it")
    flags.add_lightning_class_args(L.LightningDataModule, "data", subclass_mode=True, required=False)
    return flags


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    options = parsed(args)
    if options.runs:
        result = stability.over_runs(options.runs, options.features)
    elif options.compare:
        result = compared(options)
    else:
        found = evaluated(options, options.checkpoint, own_model(options.model))
        result = found | {"command": shlex.join(["gans", "evaluate", *args])}
    if options.out:
        write(options.out, result)
        print(f"report       {options.out}")


def parsed(args: list[str]) -> Namespace:
    """Return the options, checked as far as possible before anything is read."""
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
    for name in options.scores or ():
        if name not in MEANING:
            raise ValueError(f"there is no score {name}; expected {', '.join(MEANING)}")
    if options.out:
        check_writable(options.out.parent)
        if options.out.is_dir():
            raise ValueError(f"cannot write {options.out}: it is a folder")
    return options


def evaluated(options: Namespace, checkpoint: Path | None, kind: type[L.LightningModule] | None) -> dict[str, Any]:
    """Print and return the report of a checkpoint, or of the pictures of `--images` if there is none.

    Args:
        options: of the command line.
        checkpoint: file of a model.
        kind: class of the model, for one that is not of `gans.models`.
    """
    device = chosen_device(options.device)
    data = data_of(options, parser())
    images, held_out, held_name = sets(data, options.split)
    about = {"data": data_config(options), "split": options.split, "held_out": held_name}
    reference = Reference(images, held_out, classes_of(images, data), about)
    network = extractor_of(shape_of(images), options.features, options.weights, options.frames)
    protocol, model, given = PROTOCOLS[options.protocol], None, None
    samples, seeds = protocol.samples, protocol.seeds
    if checkpoint is not None:
        model = load_model(checkpoint, device, model=kind)
        if translates(model):
            # Images that it was not trained on, if there are some.
            given = held_out if options.split == "train" and held_out is not None else images
            samples, seeds = min(samples, len(given)), (0,)
            others = None if held_out is None else Targets(held_out, model)
            reference = Reference(Targets(images, model), others, about=about)
        subject: Subject = samples_of(model, checkpoint, shape_of(images), given, options.truncation)
    else:
        subject = pictures_of(options.images, data, options.resize)
        samples, seeds = len(subject.dataset), (0,)
        chosen(samples, options.samples)  # raises an error if there are too few
    chosen(len(images), options.reference)
    protocol = replace(
        protocol,
        samples=options.samples or samples,
        reference=options.reference or protocol.reference,
        seeds=tuple(options.seeds or seeds),
    )
    beside = None
    if controls.autoencoder_of(model) is not None:
        beside = partial(controls.controls, model, images, held_out, protocol.samples, protocol.seeds[0], network)
    found = report(
        subject,
        reference,
        network,
        protocol,
        names=options.scores,
        controls=beside,
        device=device,
        batch_size=options.batch_size,
        bar=bar,
    )
    print(table(found))
    if beside:
        print(controls.table(found))
    return found


def compared(options: Namespace) -> dict[str, Any]:
    """Print and return what the models of `--compare` cost and how they score, in one table.

    Raises:
        ValueError: if a class was given that none of the checkpoints holds.
    """
    own, rows = own_model(options.model), []
    names = [held_model(path) for path in options.compare]
    if own is not None and not any(fits(name, own) for name in names):
        raise ValueError(f"model is {options.model}, which none of the checkpoints holds")
    for path, name in zip(options.compare, names, strict=True):
        kind = own if own is not None and fits(name, own) else None
        asked = with_data(parser(), [str(path)])  # with the data of its own run
        for flag in COMPARED:
            asked[flag] = options[flag]
        asked.data, asked.scores = options.get("data") or asked.get("data"), list(compare.SCORES)
        print(f"-- {path}")
        scored = evaluated(asked, path, kind)
        rows.append(compare.row(path, chosen_device(options.device), kind, scored))
    print(compare.table(rows))
    return {"models": rows, "environment": environment(chosen_device(options.device))}


def extractor_of(
    shape: tuple[int, ...], features: str | None, weights: Path | None = None, frames: str | None = None
) -> Extractor:
    """Return the extractor for data of a shape `(C, H, W)`, or `(C, T, H, W)` of clips.

    Args:
        shape: of an image, or of a clip.
        features: name or file; None chooses by the shape.
        weights: file of Inception's weights.
        frames: name or file of another extractor, for single frames of clips.

    Raises:
        ValueError: if it is for images and the data are clips, or the other way round.
    """
    clips = len(shape) == 4
    usual = "moving" if clips else "mnist" if shape[0] == 1 else "inception"
    network = extractor(features or usual, weights)
    if network.clips != clips:
        kinds = {True: "clips", False: "images"}
        wrong = f"{network.name}, which is for {kinds[network.clips]}"
        raise ValueError(f"features is {wrong}; the data are {kinds[clips]} of shape {shape}")
    return network if frames is None else Framed(network, extractor(frames))


def samples_of(
    model: L.LightningModule, checkpoint: Path, shape: tuple[int, ...], given: Any, truncation: float | None
) -> Samples | Translations:
    """Return the samples of a checkpoint's model, or its translations of the data set `given`.

    Raises:
        ValueError: if its images are not of the shape of the data, or it has no latents to truncate.
    """
    if given is not None and truncation is not None:
        raise ValueError(f"truncation is {truncation}; expected none, for {type(model).__name__} has no latents")
    makes = getattr(model, "image_shape", None)
    if makes is not None and tuple(makes) != shape:
        frames = ("frames, ", ", --data.frames") if len(shape) == 4 else ("", "")
        raise ValueError(
            f"{checkpoint} makes images of shape {tuple(makes)} (channels, {frames[0]}height, width), the data "
            f"are {shape}: give --data.size{frames[1]} and --data.channels"
        )
    about = {
        "checkpoint": str(checkpoint),
        "sha256": sha256(checkpoint),
        "model": type(model).__name__,
        "step": stored(checkpoint, mmap=True).get("global_step"),  # None for imported weights
        "images_seen": int(getattr(model, "images_seen", 0)),
        "classes": list(getattr(model, "class_names", ())),
        "weights": f"averaged, half-life {model.hparams.get('ema_halflife', 'default')} images",
        "batch_norm": "running statistics of the trained generator",
        "truncation": truncation,
        "latents": f"blocks of {BLOCK}, each from a key of (seed, block)" if given is None else "none: translated",
    }
    return Samples(model, truncation, about) if given is None else Translations(model, given, about)


def pictures_of(path: Path, data: Any, resize: bool) -> Pictures:
    """Return the pictures of a folder, of the size of the datamodule `data`.

    Raises:
        ValueError: if they are of other sizes and `resize` is false, or one cannot be read.
    """
    folder = existing_folder(path, "images")
    sizes: dict[tuple[int, int], str] = {}
    for name in image_files(folder):
        try:
            sizes.setdefault(dimensions(folder / name), name)
        except OSError as error:
            raise ValueError(f"{folder / name} cannot be read: {reason(folder / name, error)}") from error
    there = f"the data {data.size[1]}x{data.size[0]}"
    if len(sizes) > 1 and not resize:
        several = " and ".join(f"{name} is {width}x{height}" for (width, height), name in list(sizes.items())[:2])
        raise ValueError(f"the pictures in {folder} differ in size: {several}; --resize fits them to those of {there}")
    for width, height in sizes if not resize else ():
        if (height, width) != tuple(data.size):
            raise ValueError(
                f"the pictures in {folder} are {width}x{height}, {there}: give --data.size, or --resize to fit the "
                "pictures"
            )
    fit = getattr(data, "fit", "crop")
    fit = cast(Fit, "crop" if fit == "window" else fit)
    pictures = ImageFolderDataModule(
        folder, data.size, data.channels, fit=fit, val_fraction=0, num_workers=0, on_error="raise"
    )
    dataset = pictures.everything()
    about = {"images": str(folder), "count": len(dataset)}
    if resize:
        about["resized"] = f"to {data.size[1]}x{data.size[0]}, {fit}"
    return Pictures(dataset, numbers_of(pictures, data), about)


def numbers_of(pictures: ImageFolderDataModule, data: Any) -> Tensor | None:
    """Return the labels `(K,)` that the data have for the classes of pictures, found by the names of their folders.

    None if the pictures have no classes, or some that the data do not have.
    """
    names, known = pictures.classes, list(getattr(data, "classes", ()))
    if not names or not set(names) <= set(known):
        return None
    return torch.tensor([known.index(name) for name in names])
