"""Rows of a data set as batches of images, whatever its items are: an image, or a tuple with one in front."""

from collections.abc import Iterator, Sequence
from numbers import Number
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.utils.data import default_collate

from gans.checks import article
from gans.latent import key
from gans.metrics.ranges import SIGNED, check_range
from gans.pictures.images import to_float, to_uint8

READ = 250  # rows that are read at once; the hash of a data set's images depends on it

Labelled = tuple[Tensor, Tensor | None]  # images (n, C, H, W) as uint8, and their labels (n,) if they have some


def chosen(length: int, count: int | None, seed: int = 0) -> list[int]:
    """Return `count` of the rows 0..length-1, or all for None, in a random order that depends only on the seed.

    Raises:
        ValueError: if there are fewer rows than asked for.
    """
    if count is not None and count > length:
        raise ValueError(f"{count:,} images were asked for, but there are {length:,}")
    order = torch.randperm(length, generator=torch.Generator().manual_seed(key("rows", seed)))
    return order[:count].tolist()


def items(dataset: Any, rows: Sequence[int]) -> tuple[Any, ...]:
    """Return rows of a data set as a batch with the images in front; an item is an image, or a tuple with one in front.

    Of the other elements of items, tensors and numbers are kept.

    Raises:
        ValueError: if an image is not a tensor.
    """
    rows = list(rows)
    found = dataset.__getitems__(rows) if hasattr(dataset, "__getitems__") else [dataset[row] for row in rows]
    if not isinstance(found, list):
        return found if isinstance(found, tuple) else (found,)
    images, *more = zip(*(item if isinstance(item, tuple | list) else (item,) for item in found), strict=False)
    if not all(isinstance(image, Tensor) for image in images):
        kind = article(type(images[0]))
        raise ValueError(f"an item of the dataset is {kind}; expected an image tensor, or a tuple of one and a label")
    kept = [part for part in more if all(isinstance(value, Tensor | Number) for value in part)]
    return torch.stack(images), *(default_collate(list(part)) for part in kept)


def of_images(dataset: Any) -> Any:
    """Return the data set of images with which samples are compared: `dataset.pictures()` of codes, or the same.

    Raises:
        ValueError: if the images of the codes are not there.
    """
    pictures = getattr(dataset, "pictures", None)
    return pictures() if callable(pictures) else dataset


def stored(dataset: Any, rows: Sequence[int]) -> Iterator[Labelled]:
    """Yield these rows of a dataset as uint8 `(n, C, H, W)` with their labels `(n,)`, or None.

    An item is an image, or a tuple of one and a label; float images are in [-1, 1].
    """
    for start in range(0, len(rows), READ):
        images, labels, *_ = (*items(dataset, rows[start : start + READ]), None)
        if labels is not None and labels.numel() > len(images):
            raise ValueError("the data are pairs of images; expected images, alone or with labels")
        if images.is_floating_point():
            odd = check_range(images, SIGNED, "a data set of floats")
            if odd and start == 0:
                raise ValueError(f"{odd}, or uint8")
        labels = None if labels is None else labels.flatten().long()
        yield (images if images.dtype == torch.uint8 else to_uint8(images)), labels


def placed(batch: tuple[Any, ...], module: nn.Module) -> tuple[Any, ...]:
    """Return a batch on the device and in the type of a module: uint8 images become [-1, 1], masks 0 and 1."""
    like = next(module.parameters())

    def place(part: Any) -> Any:
        if not isinstance(part, Tensor):
            return part
        part = to_float(part) if part.dtype == torch.uint8 else part
        return part.to(like) if part.is_floating_point() or part.dtype == torch.bool else part.to(like.device)

    return tuple(map(place, batch))


class Targets:
    """The target images of a data set for a module that translates, as a data set of images without labels.

    Args:
        dataset: its items are the rows of batches.
        module: its `targets(batch)` returns the target images.
    """

    def __init__(self, dataset: Any, module: Any) -> None:
        self.dataset, self.module = dataset, module

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, rows: Sequence[int]) -> Labelled:
        """Return the images `(n, C, H, W)`, uint8 or floats in [-1, 1], and no labels."""
        return self.module.targets(items(self.dataset, rows)), None


def held_out(trainer: L.Trainer) -> Any:
    """Return the data set of the first validation dataloader, or None if there is none, or if it has no length.

    A data set of images of several sizes has a method `pictures`, which returns windows of one size.
    """
    try:  # `trainer.val_dataloaders` is set only in epochs with validation
        data = getattr(trainer, "datamodule", None)
        loaders = trainer.val_dataloaders if data is None else data.val_dataloader()
    except MisconfigurationException:  # the datamodule does not define `val_dataloader`
        return None
    loader = (loaders[0] if loaders else None) if isinstance(loaders, list) else loaders
    dataset: Any = of_images(getattr(loader, "dataset", None))
    return dataset if hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__") and len(dataset) else None
