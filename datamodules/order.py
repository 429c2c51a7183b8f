"""The order of images as a pure function of (seed, epoch, position), for any number of processes and workers."""

from collections.abc import Callable, Iterator, Sized
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

# What a sampler yields and a dataset takes: a row and the key of its random transforms, or, without those, a row.
Key: TypeAlias = int | tuple[int, int]

MASK = (1 << 64) - 1
SHORTEST_EPOCH = 100  # batches; below that the cost of starting an epoch shows


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
    """Return the permutation `(count,)` that belongs to the words; no global random state is read or moved."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(mix(*words)))


class StreamSampler(DistributedSampler[Key]):
    """This process's part of an endless stream of global batches, as keys `(row, transform key)`.

    Batch `b` of epoch `e`, over all processes together, holds `permutation_e[b * G:(b + 1) * G]` with
    `G = batch_size * num_replicas`; process `r` takes rows `r * batch_size` to `(r + 1) * batch_size` of it. So one
    process with 24 images and three with 8 see the same batches. Batch `t` of the stream is batch `t % batches` of
    epoch `t // batches`.

    Lightning leaves subclasses of `DistributedSampler` alone, whatever `use_distributed_sampler` says.

    Args:
        dataset: What is sampled; only its length matters.
        batch_size: Images per process and batch.
        num_replicas: Number of processes.
        rank: Index of this process.
        seed: Seed of the order and of the transform keys.
        infinite: Repeat the set, each pass in its own order, until an epoch has at least 100 batches.
        progress: Gives the number of batches of the stream that are done, and then says where iteration starts,
            which makes resuming exact; without it, iteration starts at the epoch given by `set_epoch`.
        turn: Gives the batch of the stream from which on rows are counted from `len(dataset)`, for a set that shows its
            images in two ways; None counts from 0 throughout.

    Raises:
        ValueError: The set does not fill one global batch and `infinite` is off.
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
        turn: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(_as_dataset(dataset), num_replicas=num_replicas, rank=rank, seed=seed)
        self.count = len(dataset)
        self.batch_size = batch_size
        self.progress, self.turn = progress, turn
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
        """Return this process's images per epoch; the same after a resume."""
        return self.batches * self.batch_size

    def __iter__(self) -> Iterator[Key]:
        # Always a full epoch's length: after a resume in mid-epoch the trainer stops at the epoch's last batch itself,
        # and where its epochs drift from ours (limit_train_batches) the stream goes on without a gap or a repeat.
        start = self.progress() if self.progress else self.epoch * self.batches
        for batch in range(start, start + self.batches):
            yield from self.share(batch)

    def share(self, batch: int) -> list[Key]:
        """Return this process's keys of one global batch of the stream."""
        epoch, position = divmod(batch, self.batches)
        first = (position * self.num_replicas + self.rank) * self.batch_size
        base = mix(self.seed, epoch)
        rows = self._rows(epoch, first, self.batch_size)
        way = self.count if self.turn is not None and batch >= self.turn() else 0
        return [(way + row, (base + first + i) & MASK) for i, row in enumerate(rows)]

    def _rows(self, epoch: int, first: int, count: int) -> list[int]:
        rows: list[int] = []
        while len(rows) < count:
            repeat, offset = divmod(first + len(rows), self.count)
            rows += self._pass(epoch, repeat)[offset : offset + count - len(rows)].tolist()
        return rows

    def _pass(self, epoch: int, repeat: int) -> Tensor:
        if self._permutation is None or self._permutation[0] != (epoch, repeat):
            self._permutation = (epoch, repeat), shuffled(self.count, self.seed, epoch, repeat)
        return self._permutation[1]


class ShareSampler(DistributedSampler[Key]):
    """Every `num_replicas`-th row from `rank` on: in order, without padding, no row on two processes.

    Args:
        dataset: What is sampled; only its length matters.
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
    """Return the number of batches of a size that hold all of a count."""
    return -(-count // size)


def even_batch_size(count: int, batch_size: int, num_replicas: int) -> int:
    """Return the batch size nearest below (else above) `batch_size` that cuts all shares into equally many batches.

    Shares differ by one row. A process with one batch more than the others would wait forever in a collective
    operation of its extra step, so 25 images on 2 processes are cut by 11 (11 + 2 and 11 + 1), not by 12 (12 + 1, 12).

    Raises:
        ValueError: A process would have no row at all.
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
    return sized  # type: ignore[return-value]  # torch asks for a Dataset, but only its length is read
