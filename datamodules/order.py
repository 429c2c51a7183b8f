"""The order of images as a pure function of seed, epoch and position, for any number of processes and workers."""

from collections.abc import Callable, Iterator, Sized
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

# An index of a data set: a row in evaluation, or in training a row and the key of its random transforms.
Key: TypeAlias = int | tuple[int, int]

MASK = (1 << 64) - 1
SHORTEST_EPOCH = 100  # batches; in shorter epochs the cost of starting one is noticeable


def mix(*words: int) -> int:
    """Return a 63-bit hash of the words and their order (splitmix64), the same on every machine."""
    state = 0
    for word in words:
        state = ((state ^ word) + 0x9E3779B97F4A7C15) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        state ^= state >> 31
    return state >> 1


def shuffled(count: int, *words: int) -> Tensor:
    """Return a permutation `(count,)`, a function of the words. The global random state is neither read nor changed."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(mix(*words)))


class StreamSampler(DistributedSampler[Key]):
    """One process's part of an infinite stream of global batches, as keys `(row, transform key)`.

    The global batch `b` of epoch `e` is `permutation_e[b * G:(b + 1) * G]` with `G = batch_size * num_replicas`.
    Process `r` gets its rows `r * batch_size` to `(r + 1) * batch_size`. So one process with 24 images and three with 8
    have the same global batches. Batch `t` of the stream is batch `t % batches` of epoch `t // batches`.

    Lightning does not replace subclasses of `DistributedSampler`, even with `use_distributed_sampler`.

    Args:
        dataset: The data set, of which only the length is used.
        batch_size: Images per process and batch.
        num_replicas: Number of processes.
        rank: Index of this process.
        seed: Seed of the order and of the transform keys.
        infinite: Repeat the set, in a new order each time, until an epoch has at least 100 batches.
        progress: Function that returns the number of processed batches, at which iteration starts, for exact resuming.
            Without it iteration starts at the epoch of `set_epoch`.
        second_form: Function that returns the batch from which rows are offset by `len(dataset)`, for a set with two
            forms of its images. None means no offset.
        neighbours: Number of rows that stay together in the order, such as several windows of one image.

    Raises:
        ValueError: The set is smaller than one global batch and `infinite` is off.
    """

    def __init__(
        self,
        dataset: Sized,
        batch_size: int,
        *,
        num_replicas: int = 1,
        rank: int = 0,
        seed: int = 0,
        infinite: bool = False,
        progress: Callable[[], int] | None = None,
        second_form: Callable[[], float] | None = None,
        neighbours: int = 1,
    ) -> None:
        super().__init__(_as_dataset(dataset), num_replicas=num_replicas, rank=rank, seed=seed)
        self.count = len(dataset)
        self.batch_size = batch_size
        self.progress, self.second_form, self.neighbours = progress, second_form, neighbours
        self.batches = self.count // (batch_size * num_replicas)
        if infinite and self.count:
            self.batches = max(self.batches, SHORTEST_EPOCH)
        if not self.batches:
            raise ValueError(
                f"batch_size={batch_size} on {num_replicas} process(es) needs {batch_size * num_replicas} training "
                f"images for one batch, but there are {self.count}: lower batch_size or set infinite=true to repeat "
                "them."
            )
        self._permutation: tuple[tuple[int, int], Tensor] | None = None

    def __len__(self) -> int:
        """Return this process's images per epoch, the same after a resume."""
        return self.batches * self.batch_size

    def __iter__(self) -> Iterator[Key]:
        # Always the length of a full epoch: after a resume within an epoch the trainer stops at the epoch's last batch.
        # If its epochs are shorter (limit_train_batches), the stream continues without gaps or repetitions.
        start = self.progress() if self.progress else self.epoch * self.batches
        for batch in range(start, start + self.batches):
            yield from self.share(batch)

    def share(self, batch: int) -> list[Key]:
        """Return this process's keys of one global batch of the stream."""
        epoch, position = divmod(batch, self.batches)
        first = (position * self.num_replicas + self.rank) * self.batch_size
        base = mix(self.seed, epoch)
        rows = self._rows(epoch, first, self.batch_size)
        offset = self.count if self.second_form is not None and batch >= self.second_form() else 0
        return [(offset + row, (base + first + i) & MASK) for i, row in enumerate(rows)]

    def _rows(self, epoch: int, first: int, count: int) -> list[int]:
        rows: list[int] = []
        while len(rows) < count:
            repeat, offset = divmod(first + len(rows), self.count)
            rows += self._pass(epoch, repeat)[offset : offset + count - len(rows)].tolist()
        return rows

    def _pass(self, epoch: int, repeat: int) -> Tensor:
        if self._permutation is None or self._permutation[0] != (epoch, repeat):
            groups = shuffled(self.count // self.neighbours, self.seed, epoch, repeat)[:, None] * self.neighbours
            self._permutation = (epoch, repeat), (groups + torch.arange(self.neighbours)).flatten()
        return self._permutation[1]


class ChunkSampler(StreamSampler):
    """A stream whose neighbours are stored together, for images in large files that are downloaded one after another.

    The chunks are ordered at random and joined. The rows are cut into up to eight equal streams, and shuffled within
    windows of several chunks. A global batch has an equal part of each stream. So the order is a function of (seed,
    epoch, position), as in `StreamSampler`, and processes of a number that divides eight read different chunks.

    Args:
        dataset: The data set, of which only the length is used.
        batch_size: Images per process and batch.
        sizes: Number of rows in each chunk, `(chunks,)` int64. Rows are numbered through the chunks.
        together: Number of chunks whose rows are shuffled together.
        options: Other arguments of `StreamSampler`.
    """

    def __init__(self, dataset: Sized, batch_size: int, *, sizes: Tensor, together: int, **options: Any) -> None:
        super().__init__(dataset, batch_size, **options)
        self.sizes, whole = sizes, batch_size * self.num_replicas
        self.window = max(1, together * self.count // max(1, len(sizes)))
        self.streams = max(n for n in (8, 4, 2, 1) if whole % n == 0 and (n == 1 or self.count >= whole))
        self.part = whole // self.streams  # rows of a stream in a global batch
        if self.streams > 1:
            full = self.count // self.streams // self.part
            self.batches, self.count = max(full, self.batches if options.get("infinite") else 0), full * whole

    def _pass(self, epoch: int, repeat: int) -> Tensor:
        if self._permutation is None or self._permutation[0] != (epoch, repeat):
            self._permutation = (epoch, repeat), self._joined(epoch, repeat)
        return self._permutation[1]

    def _joined(self, epoch: int, repeat: int) -> Tensor:
        chunks = shuffled(len(self.sizes), self.seed, epoch, repeat)
        sizes, starts = self.sizes[chunks], (self.sizes.cumsum(0) - self.sizes)[chunks]
        places = torch.arange(int(sizes.sum()))
        rows = places + torch.repeat_interleave(starts - (sizes.cumsum(0) - sizes), sizes)
        streams = rows[: len(rows) // self.streams * self.streams].view(self.streams, -1)
        generator = torch.Generator().manual_seed(mix(self.seed, epoch, repeat, 1))
        windows = torch.arange(streams.shape[1]) // self.window
        draws = torch.rand(streams.shape, generator=generator, dtype=torch.float64) + windows
        streams = streams.gather(1, draws.argsort(1))
        if self.streams == 1:
            return streams[0]
        used = self.count // self.streams
        return streams[:, :used].view(self.streams, -1, self.part).transpose(0, 1).flatten()


class ShareSampler(DistributedSampler[Key]):
    """Every `num_replicas`-th row, starting at `rank`, in order. There is no padding, so no row occurs twice.

    Args:
        dataset: The data set, of which only the length is used.
        num_replicas: Number of processes.
        rank: Index of this process.
    """

    def __init__(self, dataset: Sized, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(_as_dataset(dataset), num_replicas=num_replicas, rank=rank, shuffle=False)
        self.rows = range(rank, len(dataset), num_replicas)

    def __len__(self) -> int:
        """Return the number of rows of this process."""
        return len(self.rows)

    def __iter__(self) -> Iterator[Key]:
        return iter(self.rows)


def batches(count: int, size: int) -> int:
    """Return the number of batches of `size` for `count` items."""
    return -(-count // size)


def even_batch_size(count: int, batch_size: int, num_replicas: int) -> int:
    """Return the nearest smaller (else larger) batch size with which all processes have the same number of batches.

    The processes' shares may differ by one row. A process with an additional batch would wait forever in a collective
    operation. For example, 25 images on 2 processes have batches of 11 (11 + 2 and 11 + 1), not of 12 (12 + 1 and 12).

    Raises:
        ValueError: There are fewer rows than processes.
    """
    if count < num_replicas:
        raise ValueError(
            f"{num_replicas} processes cannot share {count} image(s): raise val_size to at least {num_replicas}."
        )
    small, large = count // num_replicas, -(-count // num_replicas)
    sizes: list[int] = [*range(batch_size, 0, -1), *range(batch_size + 1, large + 1)]
    return next(size for size in sizes if batches(small, size) == batches(large, size))


def _as_dataset(sized: Sized) -> Dataset[Any]:
    assert hasattr(sized, "__getitem__")
    return sized  # type: ignore[return-value]  # torch requires a Dataset, but reads only its length
