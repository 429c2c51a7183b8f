"""The files of a folder of codes that an autoencoder made of images: what they are called, and how they are read.

`codes.json` describes them and is written last. `codes-00000.npy` and its successors hold the codes, `labels.npy` the
labels of all of them, `files.json` the paths of the images. Nothing in them is executed when they are read.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

VERSION = 1
ABOUT, UNFINISHED, LABELS, FILES = "codes.json", "encoding.json", "labels.npy", "files.json"
NUMBERS = {"float16": np.float16, "float32": np.float32}
MAKE = "`gans data encode`"


def shard_name(index: int) -> str:
    """Return the file name of a shard."""
    return f"codes-{index:05}.npy"


@dataclass(frozen=True)
class About:
    """What `codes.json` says."""

    count: int  # images
    forms: int  # 2 with the codes of mirrored images, else 1
    dtype: str  # float16 or float32
    image_shape: tuple[int, int, int]  # (C, H, W)
    code_shape: tuple[int, int, int]  # (c, h, w)
    stored_shape: tuple[int, int, int]  # of what is on disk for an image: the code, or its mean and deviation
    shards: tuple[int, ...]  # images in each
    sets: dict[str, int]  # images of train, val and test, in this order; empty without folders for them
    classes: list[str]  # names in the order of the labels
    unclassed: str  # reason why there are no classes
    autoencoder: dict[str, Any]  # digest, name, path and description
    pictures: dict[str, Any]  # root, fit, crop and half
    left_out: dict[str, int]  # number of files that were not encoded, by kind


def described(root: Path) -> About:
    """Return what the `codes.json` of a folder says.

    Raises:
        ValueError: There is none, it is damaged, or of another version.
    """
    path = root / ABOUT
    if not path.is_file():
        if (root / UNFINISHED).is_file():
            raise ValueError(f"root is {root}, whose codes are not complete: the same {MAKE} continues")
        told = "which does not exist" if not root.exists() else f"which holds no {ABOUT}"
        raise ValueError(f"root is {root}, {told}; expected a folder that {MAKE} has written")
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["version"] != VERSION:
            raise ValueError(f"{path} is of version {held['version']}; expected {VERSION}: encode the images again")
        shapes = {name: tuple(map(int, held[name])) for name in ("image_shape", "code_shape", "stored_shape", "shards")}
        about = About(**{part.name: held[part.name] for part in fields(About)} | shapes)
        whole = sum(about.shards) == about.count and sum(about.sets.values()) in (0, about.count)
        if not whole or about.dtype not in NUMBERS or about.forms not in (1, 2) or "digest" not in about.autoencoder:
            raise TypeError("its numbers do not agree")
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}): encode the images again") from error
    return about


class CodeFiles:
    """Reader of the codes in a folder: memory-mapped, or from memory after `load`.

    Args:
        root: The folder.

    Raises:
        ValueError: A file is missing, damaged or truncated, or does not fit the others.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.about = root, described(root)
        self._starts = np.cumsum([0, *self.about.shards])
        self._shards: list[Any] | None = None
        self._memory: Tensor | None = None
        self.labels = torch.from_numpy(self._array(LABELS, (self.about.count,), np.int64).copy())
        if self.about.count and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < max(1, self.num_classes):
            raise ValueError(f"{root / LABELS} has labels outside of the {self.num_classes} classes of {ABOUT}")
        self._mapped()

    @property
    def num_classes(self) -> int:
        """Number of classes; 1 if there are none."""
        return max(1, len(self.about.classes))

    @property
    def nbytes(self) -> int:
        """Size of all codes in bytes."""
        size = self.about.count * self.about.forms * int(np.prod(self.about.stored_shape))
        return size * np.dtype(NUMBERS[self.about.dtype]).itemsize

    @property
    def loaded(self) -> bool:
        """Whether the codes are in memory."""
        return self._memory is not None

    @property
    def device(self) -> torch.device:
        """Device on which the codes are."""
        return torch.device("cpu") if self._memory is None else self._memory.device

    def load(self, device: torch.device | str = "cpu") -> None:
        """Read all codes into the memory of a device. Later calls only move them."""
        if self._memory is None:
            memory = torch.empty(
                self.about.count, self.about.forms, *self.about.stored_shape, dtype=getattr(torch, self.about.dtype)
            )
            for start, shard in zip(self._starts, self._mapped(), strict=False):
                memory.numpy()[start : start + len(shard)] = shard
            self._memory = memory
        self._memory = self._memory.to(device)

    def read(self, rows: Tensor, mirrored: Tensor) -> Tensor:
        """Return what is stored of images, `(N, *stored_shape)`, in the dtype and on the device where it is kept.

        Args:
            rows: Indices of images, `(N,)`.
            mirrored: Whether to return the codes of the mirrored images, `(N,)` bool.
        """
        if self._memory is not None:
            flat = self._memory.flatten(0, 1)
            return flat.index_select(0, (rows * self.about.forms + mirrored).to(flat.device))
        shards, found = self._mapped(), rows.numpy()
        result = np.empty((len(found), *self.about.stored_shape), NUMBERS[self.about.dtype])
        which = np.searchsorted(self._starts, found, side="right") - 1
        for shard in np.unique(which):
            here = which == shard
            result[here] = shards[shard][found[here] - self._starts[shard], mirrored.numpy()[here].astype(np.int64)]
        return torch.from_numpy(result)

    def files(self) -> list[str]:
        """Return the paths of the images, relative to their folder.

        Raises:
            ValueError: The list is missing or damaged.
        """
        try:
            names = json.loads((self.root / FILES).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.root / FILES} cannot be read ({error}): encode the images again") from error
        if not isinstance(names, list) or len(names) != self.about.count:
            raise ValueError(f"{self.root / FILES} does not name the {self.about.count} encoded files")
        return [str(name) for name in names]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a worker process, which maps the shards itself."""
        return vars(self) | {"_shards": None}

    def _mapped(self) -> list[Any]:
        if self._shards is None:
            shape, kind = (self.about.forms, *self.about.stored_shape), NUMBERS[self.about.dtype]
            self._shards = [
                self._array(shard_name(i), (count, *shape), kind) for i, count in enumerate(self.about.shards)
            ]
        return self._shards

    def _array(self, name: str, shape: Sequence[int], kind: Any) -> Any:
        path = self.root / name
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError as error:
            raise ValueError(f"{path} is missing, which {ABOUT} counts: encode the images again") from error
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{path} is truncated or no array: encode the images again") from error
        if array.shape != tuple(shape) or array.dtype != np.dtype(kind):
            found = f"{array.dtype} of shape {array.shape}"
            raise ValueError(
                f"{path} holds {found}; expected {np.dtype(kind)} of shape {tuple(shape)}, as {ABOUT} says"
            )
        return array
