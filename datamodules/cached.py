"""A dataloader that ends its workers when the images of its data set are cached."""

from collections.abc import Iterable, Iterator
from typing import Any, cast

from datamodules.base import Batch, StreamLoader
from datamodules.order import Key


class CachedLoader(StreamLoader):
    """A dataloader of `StoredImages` with a cache. It has no workers in epochs that begin with all images cached.

    Then gathering a batch takes less time than receiving it from a worker. Less than a batch of images may be missing,
    because an epoch omits the last, incomplete batch. Batches are the same.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        if not self.num_workers or cast(Any, self.dataset).missing >= self.batch_size:
            return super().__iter__()
        iterator, self._iterator = self._iterator, None
        if iterator is not None:
            cast(Any, iterator)._shutdown_workers()  # now, and not when nothing refers to the iterator any more
        return self._gathered()

    def _gathered(self) -> Iterator[Batch]:
        for keys in cast(Iterable[list[Key]], self.batch_sampler):
            batch: Batch = cast(Any, self.dataset).__getitems__(keys)
            yield tuple(part.pin_memory() for part in batch) if self.pin_memory else batch
