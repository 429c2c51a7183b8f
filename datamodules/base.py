"""Base of all image data modules: dataloaders, resuming, scaling to [-1, 1], and checks of arguments."""

import os
import signal
import warnings
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence, Sized
from typing import Any, Protocol, TypeAlias, TypeVar, cast

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.files import listed
from datamodules.order import Key, ShareSampler, StreamSampler, even_batch_size, mix, shuffled
from datamodules.reader import Reader

Batch: TypeAlias = tuple[Tensor, ...]  # images, then labels, targets or captions; usually two tensors
Size: TypeAlias = int | tuple[int, int]
Choice = TypeVar("Choice")

SHOWN = 20  # maximum number of classes that are printed


class BatchDataset(Sized, Protocol):
    """A data set with a length that returns batches `(images (N, C, H, W) uint8, labels (N,) int64)` for keys."""

    def __getitem__(self, key: Key) -> Batch: ...

    def __getitems__(self, keys: Sequence[Key]) -> Batch: ...


class ImageTensors(Dataset[Batch]):
    """Images in memory, indexed a batch at a time.

    Args:
        images: `(N, C, H, W)` uint8.
        labels: `(N,)` int64.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> Batch:
        """Return one image `(C, H, W)` and its label `()`."""
        row = key if isinstance(key, int) else key[0]
        return self.images[row], self.labels[row]

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return the images `(N, C, H, W)` and labels `(N,)` of the keys, without collating single images."""
        rows = torch.tensor([key if isinstance(key, int) else key[0] for key in keys])
        return self.images.index_select(0, rows), self.labels[rows]  # much faster than `images[rows]` on a CPU


class StreamLoader(DataLoader[Batch]):
    """A training dataloader that declares itself resumable. Its position is the trainer's batch count."""

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state. Without this method Lightning warns that a resumed epoch starts over."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing, see `state_dict`."""


class ImageDataModule(L.LightningDataModule):
    """Base of the image data modules. Subclasses define the three data sets in `splits`.

    Batches are `(images, labels)`. The images are uint8 `(N, C, H, W)` in the dataloader and float in [-1, 1] on the
    device. The order of training images is a function of the seeds and the number of processed batches. So any number
    of processes gives the same order for the same global batch size, and a resumed run continues with the next batch.

    Args:
        size: Height and width of the images, or one number if they are equal.
        channels: 1 (grey), 3 (colour) or 4 (colour and alpha).
        batch_size: Images per process and batch.
        num_workers: Processes that load images; 0 loads them in the training process.
        seed: Seed of the split and, with the run's seed (`seed_everything`), of the training order.
        infinite: Repeat the training images until an epoch has at least 100 batches.
    """

    items = "images"  # name of the items in messages
    windows = 1  # consecutive training rows of one image, which stay together in the order
    whole = False  # whether validation and test images have sizes of their own, so that a batch has one image
    unclassed = ""  # reason why there are no classes, for messages

    def __init__(
        self, size: Size, channels: int, batch_size: int, num_workers: int, seed: int, infinite: bool = False
    ) -> None:
        super().__init__()
        self.size = pair("size", size)
        if channels not in (1, 3, 4):
            raise ValueError(f"channels must be 1 (grey), 3 (colour) or 4 (colour and alpha), got {channels!r}.")
        self.channels = channels
        self.batch_size = integer("batch_size", batch_size, least=1)
        self.num_workers = integer("num_workers", num_workers, least=0)
        cores = os.cpu_count() or 1
        if num_workers > max(16, 4 * cores):  # each worker is a process of about 0.5 GiB
            raise ValueError(f"num_workers is {num_workers}; expected at most {max(16, 4 * cores)} on {cores} cores")
        self.seed = integer("seed", seed)
        self.infinite = infinite
        self._sets: tuple[BatchDataset, BatchDataset, BatchDataset] | None = None
        self._run_seed = 0
        self._readers: list[Reader] = []  # readers of stored images, if there are any

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        return self.channels, *self.size

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """Number of different labels."""

    @property
    def classes(self) -> list[str]:
        """Names of the classes in the order of their labels, by default their numbers. Empty without classes."""
        return [str(label) for label in range(self.num_classes)] if self.num_classes > 1 else []

    @property
    def left_out(self) -> Counter[str]:
        """Number of unused files by kind."""
        return Counter()

    @abstractmethod
    def splits(self) -> tuple[BatchDataset, BatchDataset, BatchDataset]:
        """Return the training, validation and test set. It is called once."""

    def setup(self, stage: str | None = None) -> None:
        """Read the data on the first call, and read the seed of the run from Lightning."""
        if stage in (None, "fit"):
            self._run_seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        self._datasets()

    def describe(self) -> dict[str, str]:
        """Return a summary in words: number of images per set, names of classes, unused files by kind."""
        train, val, test = self._datasets()
        held = f"{len(val):,} for validation"
        held = f"{held} and tests" if test is val or not len(test) else f"{held}, {len(test):,} for tests"
        items = self.items if self.windows == 1 else f"windows of {len(train) // self.windows:,} {self.items}"
        lines = {"data": f"{len(train):,} {items} to train on, {held}"}
        if self.classes:
            names = [f"{label} {name}" if name != str(label) else name for label, name in enumerate(self.classes)]
            more = f", ... {names[-1]}" if len(names) > SHOWN else ""
            lines["classes"] = f"{len(names)}: {', '.join(names[: SHOWN - bool(more)])}{more}"
        elif self.unclassed:
            lines["classes"] = f"none: {self.unclassed}"
        out = self.left_out
        out["unreadable so far"] = sum(files.broken for files in self._readers)
        if +out:
            lines["left out"] = ", ".join(f"{count:,} {kind}" for kind, count in (+out).items())
        return lines

    def teardown(self, stage: str | None = None) -> None:
        """Warn at the end of a run about images that no worker could read."""
        for files in self._readers:
            if files.broken > 1:  # a single one was reported when it was read
                say = f"{files.broken:,} of the {len(files):,} {files.what} could not be read"
                warnings.warn(f"{say}: {listed(files.broken_names())}", stacklevel=2)
        self._readers = []

    def state_dict(self) -> dict[str, Any]:
        """Return the seed of the run, so that a resumed run keeps its order of images."""
        return {"run_seed": self._run_seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the seed of the run from the checkpoint."""
        self._run_seed = state_dict["run_seed"]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the shuffled training dataloader. It starts after the last batch that the trainer has processed."""
        world, rank = self._world()
        train = self._datasets()[0]
        sampler = self.sampler(
            train,
            batch_size=self.batch_size,
            num_replicas=world,
            rank=rank,
            seed=mix(self.seed, self._run_seed),
            infinite=self.infinite,
            progress=self._batches_done if self.trainer is not None else None,
            second_form=self.second_form() if self.trainer is not None else None,
            neighbours=self.windows,
        )
        return self.loader(StreamLoader, train, batch_size=self.batch_size, sampler=sampler, drop_last=True)

    def sampler(self, dataset: BatchDataset, **options: Any) -> StreamSampler:
        """Return the sampler of the training images."""
        return StreamSampler(dataset, **options)

    def loader(self, kind: type[DataLoader[Batch]], dataset: BatchDataset, **options: Any) -> DataLoader[Batch]:
        """Return a dataloader of a class, with these options and those that all dataloaders share."""
        return kind(
            cast(Dataset[Batch], dataset),
            collate_fn=cast(Any, _finished),  # `__getitems__` returns a batch, not a list of items
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=outlive_signals,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            # A separate generator, because an iterator draws a seed for its workers from it.
            generator=torch.Generator(),
            **options,
        )

    def second_form(self) -> Callable[[], float] | None:
        """Return a function for the batch at which training images change to a second form, or None."""
        return None

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """Return the validation dataloader, in order. It is an empty list if there are fewer images than processes."""
        return self._sequential(self._datasets()[1])

    def test_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """Return the test dataloader, in order. It is an empty list if there are fewer images than processes."""
        return self._sequential(self._datasets()[2])

    def predict_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """Return the validation dataloader."""
        return self.val_dataloader()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Scale the uint8 tensors of a batch to [-1, 1] in the model's dtype, and convert bool masks to 0 and 1."""
        dtype = torch.get_default_dtype()
        if self.trainer is not None and self.trainer.lightning_module is not None:
            dtype = cast(torch.dtype, self.trainer.lightning_module.dtype)
        return tuple(on_device(part, dtype) if isinstance(part, Tensor) else part for part in batch)

    def _datasets(self) -> tuple[BatchDataset, BatchDataset, BatchDataset]:
        if self._sets is None:
            self._sets = self.splits()
        return self._sets

    def _world(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer is not None else (1, 0)

    def _batches_done(self) -> int:
        # `processed` is correct wherever a checkpoint is saved. `completed` is one too low in `on_train_batch_end`.
        # `ready` also counts a batch that raised an exception.
        assert self.trainer is not None
        total: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total
        return int(total.processed)

    def _sequential(self, dataset: BatchDataset) -> DataLoader[Batch] | list[Any]:
        world, rank = self._world()
        if len(dataset) < world:  # all processes must take part in a validation step
            warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")  # intended here
            return []
        batch_size = even_batch_size(len(dataset), self.batch_size, world)
        if self.whole:
            batch_size = 1
            if len(dataset) % world:
                world, rank = 1, 0  # all processes read all images, because all need the same number of batches
        sampler = ShareSampler(dataset, num_replicas=world, rank=rank)
        return self.loader(DataLoader, dataset, batch_size=batch_size, sampler=sampler)


def _finished(batch: Batch) -> Batch:
    return batch


def outlive_signals(worker: int) -> None:
    """Let a worker ignore signals, because the training process may need more batches until it has saved.

    Schedulers and terminals send signals to all processes of a run. A second SIGTERM ends a worker, so that the
    training process can stop workers that hang.
    """
    for name in ("SIGINT", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def on_device(part: Tensor, dtype: torch.dtype) -> Tensor:
    """Return images (uint8) in [-1, 1], masks (bool) as 0 and 1, and other tensors unchanged."""
    if part.dtype == torch.uint8:
        return unit_range(part, dtype)
    return part.to(dtype) if part.dtype == torch.bool else part


def unit_range(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Return images of 0..255 as values in [-1, 1] in `dtype`, computed in at least float32."""
    wide = images.to(torch.promote_types(dtype, torch.float32))
    return wide.div_(127.5).sub_(1).to(dtype)


def split(count: int, val_size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return sorted row indices for training and for validation, a random split by the seed.

    Raises:
        ValueError: No image would remain for training.
    """
    if val_size >= count:
        raise ValueError(f"val_size must be less than the number of images ({count}), got {val_size}.")
    rows = shuffled(count, seed)
    return rows[val_size:].sort().values, rows[:val_size].sort().values


def quiet_about_workers() -> None:
    """Silence Lightning's advice to use more workers, which does not apply to images in memory."""
    warnings.filterwarnings("ignore", message=r".*does not have many workers which may be a bottleneck")


def integer(name: str, value: object, least: int | None = None) -> int:
    """Return the value of an argument if it is an integer of at least `least`.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or (least is not None and value < least):
        expected = "an integer" if least is None else f"an integer of at least {least}"
        raise ValueError(f"{name} must be {expected}, got {value!r}.")
    return value


def one_of(name: str, value: Choice, choices: tuple[Choice, ...]) -> Choice:
    """Return the value of an argument if it is one of `choices`.

    Raises:
        ValueError: It is not.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}.")
    return value


def pair(name: str, value: object) -> tuple[int, int]:
    """Return (height, width) from one number or a pair.

    Raises:
        ValueError: It is neither a positive integer nor a pair of them.
    """
    sides = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(sides) != 2 or any(not isinstance(side, int) or isinstance(side, bool) or side < 1 for side in sides):
        raise ValueError(f"{name} must be a positive integer or (height, width), got {value!r}.")
    return sides
