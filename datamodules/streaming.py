"""Images of a data set of LitData, in a folder or in a bucket, for what no disk holds.

Only the order is ours, see `datamodules.order.ChunkSampler`. LitData downloads chunks, and removes them when its cache
is full. A batch is a function of (seed, epoch, position) alone. So any number of processes and workers gives the same
run for the same global batch size, and a resumed run continues with the next batch. The order differs from that of a
folder of the same images, because neighbours in the order are stored together.
"""

import io
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.base import Batch, BatchDataset, ImageDataModule, Size, integer, one_of, pair, split
from datamodules.decode import Fit, Half, Target, UnreadableImageError, converted, picture
from datamodules.layout import SETS
from datamodules.order import ChunkSampler, Key, StreamSampler, mix
from datamodules.reader import BrokenDataError, OnError
from datamodules.shards import NAMES, UNFINISHED

INDEX = "index.json"
IMAGES = ("image", "jpg", "png", "webp", "img", "x")  # names of the image in an item
LABELS = ("label", "cls", "class", "y")
HELD = 1_000  # maximum number of images that are held out by default


class Streams:
    """The items of one data set of LitData by number. Each process opens the data set itself.

    Args:
        root: Folder or address of the data set.
        cache_dir: Folder of downloaded chunks; None for that of LitData.
        cache_size: Maximum size of downloaded chunks, such as 50GB; None for three quarters of the free disk.

    Raises:
        ValueError: The package is missing, or there is no data set.
    """

    def __init__(self, root: str, cache_dir: str | None, cache_size: str | None) -> None:
        self.root, self.cache_dir, self.cache_size = root, cache_dir, cache_size
        self._opened: tuple[int, Any] | None = None
        try:
            chunks = self.opened.region_of_interest
        except ImportError as error:
            raise ValueError('data sets of LitData need the package: pip install "lightning-gans[litdata]"') from error
        except Exception as error:  # of the package, of clients of buckets
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise ValueError(f"root is {root}, which is no readable data set of LitData ({reason[0]})") from error
        self.sizes = torch.tensor([end - start for start, end in chunks], dtype=torch.int64)

    def __len__(self) -> int:
        return int(self.sizes.sum())

    @property
    def opened(self) -> Any:
        """The data set, opened by this process."""
        if self._opened is None or self._opened[0] != os.getpid():
            os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")  # else it asks for newer versions
            from litdata import StreamingDataset

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = StreamingDataset(self.root, self.cache_dir, max_cache_size=self.cache_size)
                found[0:0]  # an access by a range makes it keep whole chunks, not single items
            self._opened = os.getpid(), found
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a worker process, which opens the data set itself."""
        return vars(self) | {"_opened": None}

    def item(self, number: int) -> tuple[Any, int | None]:
        """Return the image of an item as it is stored, and its label, if it has one.

        Raises:
            BrokenDataError: The chunk cannot be read.
            ValueError: The item has no image, or its label is no number.
        """
        try:
            found = self.opened[number]
        except Exception as error:  # of the package, of clients of buckets
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise BrokenDataError(f"Cannot read item {number:,} of {self.root} ({reason[0]}).") from error
        if isinstance(found, Mapping):
            image = next((found[name] for name in IMAGES if name in found), None)
            label = next((found[name] for name in LABELS if name in found), None)
        else:
            image, label, *_ = [*(list(found) if isinstance(found, tuple | list) else [found]), None]
        if image is None:
            names = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
            raise ValueError(f"items of {self.root} have {names}; expected an image as one of {', '.join(IMAGES)}")
        try:
            return image, None if label is None else int(label)
        except (TypeError, ValueError) as error:
            raise ValueError(f"item {number:,} of {self.root} has the label {label!r}; expected a number") from error


def encoded(image: Any) -> bytes:
    """Return an image of an item as the bytes of an image file."""
    if isinstance(image, bytes | bytearray):
        return bytes(image)
    if not isinstance(image, Image.Image):
        values = np.asarray(image)
        if values.ndim == 3 and values.shape[0] in (1, 3, 4) and values.shape[-1] not in (1, 3, 4):
            values = values.transpose(1, 2, 0)  # (C, H, W)
        if values.dtype != np.uint8 or values.ndim not in (2, 3):
            raise UnreadableImageError(f"an array of {values.dtype} {values.shape}; expected uint8 (C, H, W)")
        image = Image.fromarray(values.squeeze(-1) if values.shape[-1] == 1 else values)
    held = io.BytesIO()
    image.save(held, "PNG", compress_level=0)
    return held.getvalue()


class StreamedImages(Dataset[Batch]):
    """A set of images of a data set of LitData.

    Args:
        streams: All items.
        rows: Numbers of the items in this set, `(N,)`, in order.
        target: Form to which images are converted.
        classes: Number of classes; labels are 0 without classes.
        flip: Mirror half of the images, chosen by their keys.
        on_error: For broken images, skip (use the next one and warn once) or raise.
    """

    def __init__(
        self, streams: Streams, rows: Tensor, target: Target, classes: int, flip: bool, on_error: OnError
    ) -> None:
        self.streams, self.rows, self.target, self.classes = streams, rows, target, classes
        self.flip, self.on_error = flip, on_error
        self._warned = False

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def sizes(self) -> Tensor:
        """Number of images of this set in each chunk, `(chunks,)`."""
        chunk = torch.searchsorted(self.streams.sizes.cumsum(0), self.rows, right=True)
        return torch.bincount(chunk, minlength=len(self.streams.sizes))

    def __getitem__(self, key: Key) -> Batch:
        """Return an image `(C, H, W)` and its label `()`."""
        images, labels = self.__getitems__([key])
        return images[0], labels[0]

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return the images `(N, C, H, W)` and labels `(N,)` of the keys."""
        rows = [key if isinstance(key, int) else key[0] for key in keys]
        read = {row: self._readable(row) for row in sorted(set(rows))}  # in the order of the chunks
        images, labels = torch.stack([read[row][0] for row in rows]), torch.tensor([read[row][1] for row in rows])
        if self.flip:
            mirrored = torch.tensor([not isinstance(key, int) and mix(key[1]) % 2 == 1 for key in keys])
            images[mirrored] = images[mirrored].flip(-1)
        return images, labels

    def _readable(self, row: int) -> tuple[Tensor, int]:
        """Return image and label of the first readable row from a row on."""
        for number in (int(self.rows[(row + i) % len(self)]) for i in range(len(self))):
            image, label = self.streams.item(number)
            name = f"item {number:,} of {self.streams.root}"
            if self.classes and not 0 <= (-1 if label is None else label) < self.classes:
                raise BrokenDataError(f"{name} has the label {label}; expected one of {self.classes} classes.")
            try:
                with picture(name, encoded(image)) as file:
                    return converted(file, self.target), (label or 0) if self.classes else 0
            except UnreadableImageError as error:
                if self.on_error == "raise":
                    raise BrokenDataError(f"Cannot read {name} ({error}); on_error=skip would leave it out.") from error
                if not self._warned:
                    warnings.warn(f"skipping unreadable {name} ({error}); more are not named", stacklevel=2)
                self._warned = True
        raise BrokenDataError(f"None of the {len(self)} images in {self.streams.root} can be read.")


class LitDataModule(ImageDataModule):
    """Images of a data set of LitData, in a folder or in a bucket, see the module's docstring for the order.

    `gans data pack FOLDER OUT --format litdata` writes such data sets. Items of others are an image, a tuple of image
    and label, or a dict with `image` and `label`. An image is the bytes of a file, uint8 `(C, H, W)`, or of Pillow.

    Args:
        root: Folder or address, such as `s3://bucket/flowers/train`, of the training images. The folders `train`, `val`
            and `test` of a local root are the three sets.
        val_root: Folder or address of validation images. Without it, and without a set of them, a random part of the
            training images is held out.
        size: Height and width to which all images are resized.
        channels: 1 (grey), 3 (colour) or 4 (colour and alpha).
        batch_size: Images per process and batch. Processes read different chunks if the global batch size is a multiple
            of eight.
        fit: How other aspect ratios are fitted: crop, pad or stretch.
        crop: Side, or height and width, of a centre crop in original pixels before resizing.
        half: Use only the left or right half of every image.
        flip: Mirror training images horizontally at random.
        classes: Number of classes, if there is no `classnames.txt` beside a local data set; without both, labels are
            ignored.
        together: Chunks whose images are shuffled together. So many chunks are on the disk at once, in each of the
            eight streams of the order.
        cache_dir: Folder of downloaded chunks; by default that of LitData.
        cache_size: Maximum size of downloaded chunks, such as 50GB; by default three quarters of the free disk.
        on_error: For unreadable images, skip (use the next one and warn once) or raise.
        val_size: Number of images held out if there is no set for it; by default 5 %, at most 1,000.
        infinite: Repeat the training images until an epoch has at least 100 batches.
        seed: Seed of the held-out images and, with the run's seed, of the order and flips.
        num_workers: Processes that load images; by default the number of CPU cores, at most 8.
    """

    def __init__(
        self,
        root: str | Path,
        val_root: str | Path | None = None,
        size: Size = 64,
        channels: int = 3,
        batch_size: int = 64,
        fit: Fit = "crop",
        crop: Size | None = None,
        half: Half | None = None,
        flip: bool = False,
        classes: int | None = None,
        together: int = 4,
        cache_dir: str | None = None,
        cache_size: str | None = None,
        on_error: OnError = "skip",
        val_size: int | None = None,
        infinite: bool = True,
        seed: int = 0,
        num_workers: int | None = None,
    ) -> None:
        workers = min(8, os.cpu_count() or 1) if num_workers is None else num_workers
        super().__init__(size, channels, batch_size, workers, seed, infinite)
        one_of("fit", fit, ("crop", "pad", "stretch"))
        one_of("half", half, ("left", "right", None))
        self.target = Target(channels, self.size, fit, None if crop is None else pair("crop", crop), half)
        self.flip, self.on_error = flip, one_of("on_error", on_error, ("skip", "raise"))
        self.together = integer("together", together, least=1)
        self.cache_dir, self.cache_size = cache_dir, cache_size
        self.val_size = None if val_size is None else integer("val_size", val_size, least=0)
        self.roots = set_roots(str(root)) | ({"val": str(val_root)} if val_root is not None else {})
        self.names = class_names(self.roots["train"])
        if classes is not None and self.names and classes != len(self.names):
            raise ValueError(f"classes is {classes}, but {NAMES} has {len(self.names)} names")
        self._count = integer("classes", classes, least=1) if classes is not None else len(self.names)

    @property
    def num_classes(self) -> int:
        """Number of classes; 1 if there are none."""
        return max(1, self._count)

    @property
    def classes(self) -> list[str]:
        """Names of the classes in the order of their labels; empty without classes."""
        return self.names or ([str(label) for label in range(self._count)] if self._count > 1 else [])

    @property
    def unclassed(self) -> str:  # type: ignore[override]
        """Reason why there are no classes."""
        return f"there is no {NAMES} beside {self.roots['train']}, and classes is not given"

    def splits(self) -> tuple[BatchDataset, BatchDataset, BatchDataset]:
        """Return the training, validation and test images. The last two may be the same.

        Raises:
            ValueError: A root holds no data set, or the package is missing.
        """
        held = {name: Streams(root, self.cache_dir, self.cache_size) for name, root in self.roots.items()}
        rows = {name: torch.arange(len(streams)) for name, streams in held.items()}
        if len(held) == 1:
            count = len(held["train"])
            size = min(HELD, max(1, round(count / 20)), count - 1) if self.val_size is None else self.val_size
            held["val"] = held["train"]
            rows["train"], rows["val"] = split(count, size, self.seed)
        made = {
            name: StreamedImages(
                held[name], some, self.target, self._count, self.flip and name == "train", self.on_error
            )
            for name, some in rows.items()
        }
        first = made["val"] if "val" in made else made["test"]
        return made["train"], first, made.get("test", first)

    def sampler(self, dataset: BatchDataset, **options: Any) -> StreamSampler:
        """Return the sampler of the training images, which keeps those of a chunk together."""
        assert isinstance(dataset, StreamedImages)
        del options["neighbours"]
        return ChunkSampler(dataset, sizes=dataset.sizes, together=self.together, **options)


def set_roots(root: str) -> dict[str, str]:
    """Return the data sets of a root by the name of their set: its folders, or the root itself.

    Raises:
        FileNotFoundError: A local root does not exist.
        ValueError: A local root holds no data set, or one that is not complete.
    """
    if "://" in root or root.startswith("local:"):
        return {"train": root}
    path = Path(root).expanduser()
    if not path.is_dir():
        raise FileNotFoundError(f"root must be a folder or an address, but {path} does not exist.")
    if (path / UNFINISHED).is_file():
        raise ValueError(f"root is {path}, whose chunks are not complete: the same `gans data pack` continues")
    if (path / INDEX).is_file():
        return {"train": str(path)}
    found = {name: str(path / name) for name in SETS if (path / name / INDEX).is_file()}
    if (path / "all" / INDEX).is_file():
        return {"train": str(path / "all")}
    if "train" not in found:
        raise ValueError(
            f"root is {path}, which has no {INDEX}; expected a data set of LitData, or one in {path}/train"
        )
    return found


def class_names(root: str) -> list[str]:
    """Return the names of classes that lie beside or above a local data set, or nothing."""
    for path in (Path(root) / NAMES, Path(root).parent / NAMES):
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return []
