"""Images that a process keeps on its device: decoded before the first batch, and gathered there batch by batch.

There are no worker processes in training, and a step copies only the indices of its images to the device.
"""

from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from datamodules.base import Batch, StreamLoader
from datamodules.order import Key
from datamodules.reader import Reader

AT_ONCE = 64  # images that a worker decodes for one message to the training process


class ResidentLoader(StreamLoader):
    """A dataloader of a data set with a method `resident(keys)`, which returns a batch on the device.

    The order is that of the sampler.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        dataset, batches = cast(Any, self.dataset), cast(Iterable[list[Key]], self.batch_sampler)
        return map(dataset.resident, batches)


class Decoding(Dataset[int]):
    """The images of a reader, which caches an image when its index is asked for."""

    def __init__(self, files: Reader) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> int:
        """Decode an image and return its index."""
        self.files.read(index)
        return index


def keep_on(device: torch.device, files: Reader, workers: int) -> None:
    """Decode all images of a reader, with worker processes, and keep them on a device. The second call only moves them.

    The first process of a run shows a progress bar.

    Raises:
        ValueError: The images do not fit into the free memory of the device.
        OSError: Most files cannot be read, or one cannot and `on_error` is raise.
    """
    if files.resident is not None:
        files.resident = files.resident.to(device)
        return
    check_fits(device, files)
    loader = DataLoader(Decoding(files), batch_size=AT_ONCE, num_workers=workers, generator=torch.Generator())
    with tqdm(
        total=len(files),
        desc=f"Decoding {len(files):,} images of {files.place}",
        unit="image",
        dynamic_ncols=True,
        mininterval=0.5,
        disable=getattr(rank_zero_only, "rank", 0) > 0,
    ) as bar:
        for indices in loader:
            bar.update(len(indices))
    files.move(device)


def check_fits(device: torch.device, files: Reader) -> None:
    """Check that the images of a reader fit into the free memory of a GPU.

    Raises:
        ValueError: They do not fit.
    """
    if device.type != "cuda":
        return  # the reader has checked the main memory
    free, total = torch.cuda.mem_get_info(device)
    if files.nbytes > free:
        raise ValueError(
            f"cache=device needs {files.nbytes / 2**30:.3g} GiB for {len(files)} images of {files.target.shape}, but "
            f"{free / 2**30:.3g} of the {total / 2**30:.3g} GiB of {device} are free: use a smaller size or cache=true."
        )


def sent(numbers: Tensor, device: torch.device) -> Tensor:
    """Return numbers on a device. The training process does not wait for the copy."""
    pinned: Any = numbers.pin_memory() if device.type == "cuda" else numbers
    return pinned.to(device, non_blocking=True)  # type: ignore[no-any-return]
