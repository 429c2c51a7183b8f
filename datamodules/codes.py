"""Codes of images that an autoencoder has made once, see `gans data encode`, for training without the images."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.archive import is_file, is_folder
from datamodules.base import (
    Batch,
    BatchDataset,
    ImageDataModule,
    Size,
    integer,
    one_of,
    quiet_about_workers,
    split,
)
from datamodules.cached import CachedLoader
from datamodules.code_files import CodeFiles
from datamodules.decode import Target
from datamodules.files import ImageFiles, existing_folder
from datamodules.layout import layout
from datamodules.order import Key, mix
from datamodules.reader import Cache, free_memory
from datamodules.resident import ResidentLoader, sent
from datamodules.stored import StoredImages

SMALL = 2**31  # bytes of codes that are kept in memory without being asked


class CodeRows(Dataset[Batch]):
    """A subset of the codes in a folder.

    Args:
        files: All codes of the folder.
        rows: Indices of the codes in this set, `(N,)`.
        images: Function that returns the images of all codes.
        flip: Give half of the codes of mirrored images, chosen by their keys.
        both: Add the images to a batch.
    """

    def __init__(
        self,
        files: CodeFiles,
        rows: Tensor,
        images: Callable[[], ImageFiles],
        flip: bool = False,
        both: bool = False,
    ) -> None:
        self.files, self.rows, self.images, self.flip, self.both = files, rows, images, flip, both

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> Batch:
        """Return one code `(c, h, w)`, its label `()`, and with `both` its image `(C, H, W)`."""
        return tuple(part[0] for part in self.__getitems__([key]))

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return the codes `(N, c, h, w)` and labels `(N,)` of the keys, and with `both` the images `(N, C, H, W)`."""
        rows, mirrored = self.chosen(keys)
        batch = self.files.read(rows, mirrored), self.files.labels[rows]
        return (*batch, self.pictures().__getitems__(keys)[0]) if self.both else batch

    def resident(self, keys: Sequence[Key]) -> Batch:
        """Return the same codes and labels on the device that keeps the codes, see `datamodules.resident`."""
        rows, mirrored = self.chosen(keys)
        numbers = sent(torch.stack([rows, mirrored.long(), self.files.labels[rows]]), self.files.device)
        return self.files.read(numbers[0], numbers[1].bool()), numbers[2]

    def chosen(self, keys: Sequence[Key]) -> tuple[Tensor, Tensor]:
        """Return the indices of the keys' codes `(N,)`, and whether they are of mirrored images `(N,)` bool."""
        rows = self.rows[[key if isinstance(key, int) else key[0] for key in keys]]
        flips = [self.flip and not isinstance(key, int) and mix(key[1]) % 2 == 1 for key in keys]
        return rows, torch.tensor(flips, dtype=torch.bool)

    @property
    def missing(self) -> int:
        """Number of codes of this set that are not in memory."""
        return 0 if self.files.loaded and not self.both else len(self)

    def pictures(self) -> StoredImages:
        """Return the data set of the images of which these are the codes, for scores and pictures.

        Raises:
            ValueError: The folder of images is not there, or has changed.
        """
        return self._pictures

    @cached_property
    def _pictures(self) -> StoredImages:
        return StoredImages(self.images(), self.files.labels, self.rows, self.flip)


class CodesDataModule(ImageDataModule):
    """Codes of images and their labels, which `gans data encode` has written to a folder.

    Batches are `(codes, labels)`: float `(N, c, h, w)` on the device, in the dtype of the files in the dataloader. Of a
    random code it is what the model draws from, `(N, *stored_shape)`. Order, sets and mirrored images are those of
    `ImageFolderDataModule` with the same arguments. The images are read for scores alone: `pictures` of a data set
    returns them. `digest` identifies the autoencoder.

    Args:
        root: Folder that `gans data encode` has written.
        size: Height and width of the images that were encoded.
        channels: Channels of these images.
        batch_size: Codes per process and batch.
        flip: Mirror training images horizontally at random: their codes are in the folder.
        cache: true reads all codes into memory at the start, false reads those of a batch from the files, device keeps
            them on the device of each process. By default codes of at most 2 GiB are read into memory.
        pictures: Add the images, uint8 in the dataloader, as the third element of a batch.
        pictures_root: Folder or .zip of the images, if they have been moved.
        val_fraction: Share of the codes kept for validation if the folder of images had no folder for it, chosen by the
            seed. At least one is kept unless it is 0.
        val_size: Number of codes kept for validation, instead of `val_fraction`.
        infinite: Repeat the training codes until an epoch has at least 100 batches.
        seed: Seed of the split and, with the run's seed, of the training order and flips.
        num_workers: Processes that read codes which are not in memory, and images.
    """

    items = "codes"

    def __init__(
        self,
        root: str | Path,
        size: Size = 64,
        channels: int = 3,
        batch_size: int = 64,
        flip: bool = False,
        cache: Cache | None = None,
        pictures: bool = False,
        pictures_root: str | Path | None = None,
        val_fraction: float = 0.05,
        val_size: int | None = None,
        infinite: bool = True,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(size, channels, batch_size, num_workers, seed, infinite)
        self.root = Path(root).expanduser()
        self.flip, self.cache, self.pictures = flip, one_of("cache", cache, (None, False, True, "device")), pictures
        if pictures and cache == "device":
            raise ValueError("cache is device; expected true or false, because pictures are read on the CPU.")
        if not 0 <= val_fraction < 1:
            raise ValueError(f"val_fraction must be at least 0 and less than 1, got {val_fraction!r}.")
        self.val_fraction = val_fraction
        self.val_size = None if val_size is None else integer("val_size", val_size, least=0)
        self.files = CodeFiles(self.root)
        self.about = self.files.about
        if self.image_shape != self.about.image_shape:
            channels, *sides = self.about.image_shape
            given = f"size is {list(self.size)} and channels {self.channels}"
            written = sides[0] if sides[0] == sides[1] else f"[{sides[0]},{sides[1]}]"
            raise ValueError(
                f"{given}, but {self.root} holds codes of images of shape {self.about.image_shape}: give --data.size "
                f"{written} --data.channels {channels}"
            )
        if flip and self.about.forms == 1:
            raise ValueError(
                f"flip is true, but {self.root} has no codes of mirrored images: encode with --mirror true"
            )
        self.pictures_root = Path(pictures_root or self.about.pictures["root"]).expanduser()
        if pictures_root is not None:
            existing_folder(pictures_root, "pictures_root")
        quiet_about_workers()

    @property
    def digest(self) -> str:
        """Digest of the autoencoder that made the codes."""
        return str(self.about.autoencoder["digest"])

    @property
    def autoencoder(self) -> str:
        """Name of the autoencoder that made the codes, for messages."""
        held = self.about.autoencoder
        return f"{held.get('name', 'an autoencoder')} {held.get('path', '')} (digest {self.digest[:12]})"

    @property
    def code_shape(self) -> tuple[int, int, int]:
        """Shape `(c, h, w)` of a code."""
        return self.about.code_shape

    @property
    def stored_shape(self) -> tuple[int, int, int]:
        """Shape of an element of a batch: of a code, or of what a random code is drawn from."""
        return self.about.stored_shape

    @property
    def classes(self) -> list[str]:
        """Names of the classes in the order of their labels; empty for a flat folder."""
        return list(self.about.classes)

    @property
    def num_classes(self) -> int:
        """Number of classes; 1 if there are none."""
        return self.files.num_classes

    @property
    def unclassed(self) -> str:  # type: ignore[override]
        """Reason why there are no classes."""
        return self.about.unclassed

    @property
    def left_out(self) -> Counter[str]:
        """Number of files that were not encoded, by kind."""
        return Counter(self.about.left_out)

    def describe(self) -> dict[str, str]:
        """Return a summary in words: number of codes per set, their autoencoder, classes, unused files by kind."""
        lines = super().describe()
        mirrored = " and of mirrored ones" if self.about.forms == 2 else ""
        shape = "x".join(map(str, self.stored_shape))
        told = f"{shape} {self.about.dtype} of images{mirrored}, of {self.autoencoder}"
        return {"data": lines.pop("data"), "codes": told, **lines}

    def splits(self) -> tuple[BatchDataset, BatchDataset, BatchDataset]:
        """Return the training, validation and test codes. The last two may be the same.

        Raises:
            ValueError: The codes do not fit into memory, or images are asked for and are not there.
        """
        small = self.files.nbytes <= min(SMALL, free_memory(shared=False) // 4)
        if self.cache or (self.cache is None and small):
            self.check_fits()
            self.files.load()
        if self.pictures:
            self._images  # noqa: B018  # before workers start, which share what is known of the files
        ends = list(accumulate(self.about.sets.values()))
        parts = torch.arange(self.about.count).tensor_split(ends[:-1]) if ends else (torch.arange(self.about.count),)
        rows = dict(zip(self.about.sets or ("train",), parts, strict=True))
        train, held = rows.pop("train"), {name: self.rows_of(part) for name, part in rows.items()}
        if not held:
            kept, val = split(len(train), self._val_size(len(train)), self.seed)
            held["val"] = self.rows_of(train[val])
            train = train[kept]
        first = held["val"] if "val" in held else held["test"]
        return self.rows_of(train, self.flip), first, held.get("test", first)

    def rows_of(self, rows: Tensor, flip: bool = False) -> CodeRows:
        """Return the data set of some of the codes, by their indices `(N,)`."""
        return CodeRows(self.files, rows, lambda: self._images, flip, self.pictures)

    def everything(self) -> CodeRows:
        """Return the codes of all sets, not mirrored, with their labels."""
        return self.rows_of(torch.arange(self.about.count))

    def check_fits(self) -> None:
        """Check that the codes fit into the free memory.

        Raises:
            ValueError: They do not.
        """
        free = free_memory(shared=False)
        if self.files.nbytes > free:
            raise ValueError(
                f"cache={str(self.cache).lower()} needs {self.files.nbytes / 2**30:.3g} GiB for the codes of "
                f"{self.root}, but {free / 2**30:.3g} GiB of memory are free: use cache=false."
            )

    def loader(self, kind: type[DataLoader[Batch]], dataset: BatchDataset, **options: Any) -> DataLoader[Batch]:
        """Return a dataloader: without workers for codes in memory, and of codes on the device for `cache=device`."""
        if self.cache != "device" or self.trainer is None:
            return super().loader(CachedLoader, dataset, **options)
        self.files.load(self.trainer.strategy.root_device)
        return ResidentLoader(cast(Dataset[Batch], dataset), **options)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Convert the codes of a batch to the model's dtype, and scale its images to [-1, 1] in that dtype."""
        dtype = torch.get_default_dtype()
        if self.trainer is not None and self.trainer.lightning_module is not None:
            dtype = cast(torch.dtype, self.trainer.lightning_module.dtype)
        codes, *rest = batch
        return codes.to(dtype), *super().on_after_batch_transfer(rest, dataloader_idx)

    @cached_property
    def _images(self) -> ImageFiles:
        """The reader of the images that were encoded."""
        root, paths, held = self.pictures_root, self.files.files(), self.about.pictures
        if not is_folder(root):
            raise ValueError(
                f"the images of the codes are not in {root}, which is needed for scores: give --data.pictures_root"
            )
        if not is_file(root / paths[0]):
            root = layout(existing_folder(root, "pictures_root")).root  # an outer folder, as that which was encoded
        lost = [path for path in (paths[0], paths[-1]) if not is_file(root / path)]
        if lost:
            raise ValueError(f"{root} has no {lost[0]}, of which there is a code: give --data.pictures_root")
        crop = held.get("crop")
        target = Target(
            self.channels, self.size, held["fit"], None if crop is None else (crop[0], crop[1]), held.get("half")
        )
        files = ImageFiles(root, paths, target, "skip", shared=self.num_workers > 0)
        self._readers.append(files)
        files.check_readable()
        return files

    def _val_size(self, count: int) -> int:
        if self.val_size is not None:
            return self.val_size
        return min(count - 1, max(1, round(count * self.val_fraction))) if self.val_fraction else 0
