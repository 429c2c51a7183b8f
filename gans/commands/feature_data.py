"""Data sets for training extractors: MNIST, moving and captioned digits, class folders, LightningDataModules."""

from pathlib import Path
from typing import NamedTuple

import torch
from lightning import LightningDataModule
from torch import Tensor
from tqdm import tqdm

from datamodules.base import BatchDataset
from datamodules.captioned_digits import (
    ATTRIBUTES,
    BACKGROUNDS,
    COLOURS,
    DIGITS,
    POSITIONS,
    SIZES,
    CaptionedDigits,
    CaptionedDigitsDataModule,
)
from datamodules.folder import ImageFolderDataModule
from datamodules.mnist import MNISTDataModule
from datamodules.moving import Labels, MovingDigitsDataModule, Source
from datamodules.order import Key, mix
from gans.metrics.features import joined
from gans.metrics.rows import stored

SOURCES: tuple[Source, ...] = ("mnist", "digits")
TOLD: tuple[Labels, ...] = ("digit", "direction")
# The attributes of captioned digits, and the names of their classes.
ASKED = dict(zip(ATTRIBUTES, (DIGITS, tuple(COLOURS), SIZES, POSITIONS, tuple(BACKGROUNDS)), strict=False))
VIEWS = 8  # pictures of each digit of scikit-learn, because there are few
HELD_OUT = 0.1  # share of a folder, without a folder of test images


class Labelled(NamedTuple):
    """Images `(N, C, H, W)` uint8, or clips `(N, C, T, H, W)`, and labels `(N,)`, or None for clips without classes."""

    images: Tensor
    labels: Tensor | None


class Data(NamedTuple):
    """Training and test data of a classifier; `unframed` is the size of images without a black frame."""

    train: Labelled
    test: Labelled
    num_classes: int
    unframed: tuple[int, int]
    description: str


def gathered(dataset: BatchDataset, what: str) -> tuple[Tensor, Tensor]:
    """Return a whole data set in memory."""
    rows = tqdm(torch.split(torch.arange(len(dataset)), 500), f"reading {what}", disable=None)
    parts = [dataset.__getitems__(some.tolist()) for some in rows]
    return torch.cat([images for images, _ in parts]), torch.cat([labels for _, labels in parts])


def attribute(dataset: CaptionedDigits, name: str, views: int, what: str) -> tuple[Tensor, Tensor]:
    """Return pictures of captioned digits, `views` of each digit, and one attribute of each picture."""
    keys: list[Key] = [(row, mix(row, view)) for view in range(views) for row in range(len(dataset))]
    rows = tqdm(range(0, len(keys), 500), f"reading {what}", disable=None)
    images = torch.cat([dataset.__getitems__(keys[start : start + 500])[0] for start in rows])
    return images, dataset.drawn(keys)[1][:, ATTRIBUTES.index(name)]  # whether or not the sentence names it


def captioned(root: str, size: int, label: str) -> Data:
    """Return captioned digits of MNIST and of scikit-learn in all colours, labelled by one attribute."""
    parts: list[list[tuple[Tensor, Tensor]]] = [[], []]
    for source in SOURCES:
        val_size, views = (0, 1) if source == "mnist" else (None, VIEWS)
        made = CaptionedDigitsDataModule(source, root, size, val_size=val_size, held_out=False)
        made.prepare_data()
        train, _, test = made.splits()
        assert isinstance(train, CaptionedDigits)
        assert isinstance(test, CaptionedDigits)
        parts[0].append(attribute(train, label, views, f"pictures of {source}"))
        parts[1].append(attribute(test, label, 1, f"test pictures of {source}"))
    learned, judged = (Labelled(*map(torch.cat, zip(*part, strict=True))) for part in parts)
    description = f"captioned digits of MNIST and scikit-learn ({label})"
    return Data(learned, judged, len(ASKED[label]), (size, size), description)


def mnist(root: str, size: int, channels: int) -> Data:
    """Return the 60,000 and 10,000 digits of MNIST; at size 32 they have a black frame."""
    data = MNISTDataModule(root, size, channels, val_size=0)
    data.prepare_data()
    train, _, test = data.splits()
    side = 28 if size == 32 else size
    parts = Labelled(*gathered(train, "training images")), Labelled(*gathered(test, "test images"))
    return Data(*parts, 10, (side, side), "MNIST")


def folder(root: str, test_root: str | None, size: int, channels: int, seed: int) -> Data:
    """Return the images of the class folders in `root`. Test images are those of `test_root`, or a tenth of `root`.

    Raises:
        ValueError: if there are fewer than two classes, or the test images have others.
    """

    def read(flag: str, root: str, val_fraction: float) -> ImageFolderDataModule:
        if not Path(root).is_dir():
            expected = "mnist or a folder" if flag == "--data" else "a folder"
            raise ValueError(f"{flag} is {root}; expected {expected} with one folder of images per class")
        found = ImageFolderDataModule(root, size, channels, val_fraction=val_fraction, seed=seed, num_workers=0)
        if len(found.classes) < 2:
            raise ValueError(f"{root} holds images of {len(found.classes)} class folders; expected at least 2")
        return found

    data = read("--data", root, 0 if test_root else HELD_OUT)
    train, test, _ = data.splits()
    if test_root:
        other = read("--test", test_root, 0)
        if other.classes != data.classes:
            raise ValueError(f"{test_root} has not the classes of {root}: {', '.join(data.classes)}")
        test = other.splits()[0]
    name = f"{Path(root).resolve().name} ({', '.join(data.classes[:20])})"
    parts = Labelled(*gathered(train, "training images")), Labelled(*gathered(test, "test images"))
    return Data(*parts, data.num_classes, (size, size), name)


def module(name: str, arguments: list[str]) -> Data:
    """Return the training and held-out images, or clips, of a LightningDataModule.

    Raises:
        ValueError: if none are held out, or images have fewer than two classes.
    """
    from gans.commands.parser import Parser  # imports Lightning and the models, which folders of images do not need
    from gans.commands.splits import sets

    flags = Parser(prog="train_features")
    flags.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True, required=True)
    data = flags.instantiate_classes(flags.parse_args(["--data", name, *arguments])).data
    data.prepare_data()
    data.setup()
    train, held, _ = sets(data, "train")
    if held is None:
        raise ValueError(f"{name} holds out nothing to judge the classifier by")
    images, test = (Labelled(*joined(list(stored(some, range(len(some)))))) for some in (train, held))
    classes = 0 if images.labels is None else int(images.labels.max()) + 1
    if classes < 2:
        if images.images.dim() == 4:
            raise ValueError(f"{name} gives images without classes; expected 2 classes or more")
        images, test, classes = Labelled(images.images, None), Labelled(test.images, None), 0
    height, width = images.images.shape[-2:]
    return Data(images, test, classes, (height, width), name)


def moving(root: str, size: int, channels: int) -> Data:
    """Return clips of moving digits, half of them MNIST's; classes are the pairs of digit and first direction."""
    parts: list[list[tuple[Tensor, Tensor]]] = [[], []]
    for source in SOURCES:
        kinds = [
            MovingDigitsDataModule(root, source, size, channels, labels=labels, test_clips=2500) for labels in TOLD
        ]
        kinds[0].prepare_data()
        for part, digits, directions in zip(parts, kinds[0].splits()[::2], kinds[1].splits()[::2], strict=True):
            (clips, first), (_, second) = (gathered(some, f"clips of {source}") for some in (digits, directions))
            part.append((clips, first * kinds[1].num_classes + second))
    train, test = (Labelled(*map(torch.cat, zip(*part, strict=True))) for part in parts)
    count = kinds[0].num_classes * kinds[1].num_classes
    description = "moving digits of MNIST and scikit-learn (digit and direction)"
    return Data(train, test, count, (size, size), description)
