"""Data sets of torchvision by name, in torchvision's own files and layout, with download."""

import contextlib
import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from inspect import signature
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision import datasets

from datamodules.base import one_of
from datamodules.decode import FORMATS, Target, UnreadableImageError, reason
from datamodules.reader import OnError, Reader, locked
from datamodules.stored import Contents, StoredImagesDataModule


def by_split(**names: str) -> dict[str, dict[str, Any]]:
    """Return the arguments of each set for a class with an argument `split`."""
    return {part: {"split": name} for part, name in names.items()}


BY_FLAG: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
BALANCED: dict[str, dict[str, Any]] = {part: {"split": "balanced", **given} for part, given in BY_FLAG.items()}
# Arguments of torchvision's classes for the sets train, val and test.
SETS: dict[str, dict[str, dict[str, Any]]] = {
    "CIFAR10": BY_FLAG,
    "CIFAR100": BY_FLAG,
    "CelebA": by_split(train="train", val="valid", test="test"),
    "EMNIST": BALANCED,
    "EuroSAT": {"train": {}},
    "FashionMNIST": BY_FLAG,
    "Flowers102": by_split(train="train", val="val", test="test"),
    "Food101": by_split(train="train", test="test"),
    "KMNIST": BY_FLAG,
    "MNIST": BY_FLAG,
    "OxfordIIITPet": by_split(train="trainval", test="test"),
    "STL10": by_split(train="train", test="test"),
    "SVHN": by_split(train="train", test="test"),
}
TARGETS = ("targets", "labels", "_labels")  # attributes that hold the labels of all items


class TorchvisionImages(Reader):
    """Reader of the images of torchvision's data sets.

    Args:
        place: Name of the data set, for messages.
        lock: Folder of its files.
        parts: Data sets whose items are an image and a target.
        target: Form to which images are converted.
        on_error: For broken images, skip (warn once) or raise.
        shared: Whether worker processes will read.
    """

    def __init__(
        self, place: str, lock: Path, parts: Sequence[Any], target: Target, on_error: OnError, shared: bool
    ) -> None:
        self._parts, self._ends = parts, list(accumulate(map(len, parts)))
        super().__init__(self._ends[-1], place, lock, target, on_error, shared)

    def name(self, index: int) -> str:
        """Return the number of an image."""
        return f"{index} of {self.place}"

    @contextmanager
    def opened(self, index: int, data: bytes | None = None) -> Iterator[Any]:
        """Open an image with Pillow."""
        part = bisect_right(self._ends, index)
        try:
            image, _ = self._parts[part][index - (self._ends[part - 1] if part else 0)]
            with image:
                yield image
        except Exception as error:  # decoders raise many kinds of exceptions for damaged files
            raise UnreadableImageError(reason(self.name(index), error)) from error


class TorchvisionDataModule(StoredImagesDataModule):
    """A data set of torchvision by name, with labels if it has classes.

    Its files are in torchvision's layout below `root`. If the data set has no set for validation, the test set is used
    for both. If it has neither, a random part of the images is used.

    Args:
        name: CIFAR10, CIFAR100, CelebA, EMNIST, EuroSAT, FashionMNIST, Flowers102, Food101, KMNIST, MNIST,
            OxfordIIITPet, STL10 or SVHN.
        root: Folder of the files, the argument `root` of torchvision's class.
        split: Training set by torchvision's name, such as `extra` of SVHN and `unlabeled` of STL10; by default the
            usual one.
        download: Download missing files.
        options: Arguments of `datamodules.stored.StoredImagesDataModule`.
    """

    def __init__(
        self,
        name: str,
        root: str | Path = "data",
        split: str | None = None,
        download: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.name = one_of("name", name, tuple(SETS))
        self.root, self.split, self.download = Path(root).expanduser(), split, download
        self.sets = dict(SETS[name])
        if split is not None:
            if "split" not in self.sets["train"]:
                raise ValueError(f"split is {split}; expected null, because {name} has one training set")
            # EMNIST has training and test images of each split.
            for part, given in SETS[name].items():
                if part == "train" or "train" in given:
                    self.sets[part] = given | {"split": split}

    def prepare_data(self) -> None:
        """Download missing files, in one process.

        Raises:
            FileNotFoundError: The download failed, or is not allowed.
        """
        try:
            self._opened(download=False)
            return
        except (OSError, RuntimeError) as error:
            if not self.download:
                raise self._missing("and download is false") from error
        made = [path for path in (self.root, *self.root.parents) if not path.exists()]
        self.root.mkdir(parents=True, exist_ok=True)
        try:
            with locked(self.root):
                self._opened(download=True)
        except (OSError, RuntimeError, ImportError) as error:
            for path in [*sorted(self.root.rglob("*"), reverse=True), *made]:
                with contextlib.suppress(OSError):  # files, and folders that are not empty
                    path.rmdir()
            raise self._missing(f"and downloading it failed ({first_line(error)})") from error

    def _opened(self, download: bool) -> dict[str, Any]:
        """Return torchvision's data sets by the names of the sets."""
        kind = getattr(datasets, str(self.name))
        # Lazily opened files are decoded as those of a folder are.
        more = {"loader": lazily} if "loader" in signature(kind).parameters else {}
        return {part: kind(self.root, download=download, **given, **more) for part, given in self.sets.items()}

    @cached_property
    def parts(self) -> dict[str, Any]:
        """Data sets of torchvision by the names of the sets.

        Raises:
            FileNotFoundError: Files are missing.
            ValueError: There is no such split.
        """
        try:
            return self._opened(download=False)
        except (OSError, RuntimeError) as error:
            raise self._missing("and this step does not download it") from error

    @cached_property
    def contents(self) -> Contents:
        """Labels, classes and sets of the images."""
        counts = [len(part) for part in self.parts.values()]
        rows = torch.split(torch.arange(sum(counts)), counts)
        sets = dict(zip(self.parts, rows, strict=True))
        found = [labels_of(part) for part in self.parts.values()]
        if any(labels is None or int(labels.min()) < 0 for labels in found):
            why = f"{self.name} has images without classes"
            return Contents(torch.zeros(sum(counts), dtype=torch.long), [], sets, Counter(), why)
        labels = torch.cat([labels for labels in found if labels is not None])
        count = int(labels.max()) + 1
        names = [str(name) for name in getattr(self.parts["train"], "classes", [])]
        return Contents(labels, names if len(names) >= count else [str(i) for i in range(count)], sets, Counter(), "")

    def reader(self) -> TorchvisionImages:
        """Return a new reader of all images."""
        parts = list(self.parts.values())
        return TorchvisionImages(str(self.name), self.root, parts, self.target, self.on_error, self.num_workers > 0)

    def _missing(self, why: str) -> FileNotFoundError:
        return FileNotFoundError(
            f"{self.name} is not in {self.root} {why}: put its files there, in the layout of "
            f"torchvision.datasets.{self.name}, or set root."
        )


def lazily(path: str | os.PathLike[str]) -> Image.Image:
    """Open an image file, whose pixels are decoded when they are asked for."""
    return Image.open(path, formats=FORMATS)


def labels_of(part: Any) -> Tensor | None:
    """Return the labels `(N,)` int64 of a data set of torchvision, or None if it has none."""
    held = next((getattr(part, name) for name in TARGETS if hasattr(part, name)), None)
    return None if held is None else torch.as_tensor(held).long().flatten()


def first_line(error: BaseException) -> str:
    """Return the last line of an error's text, or its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
