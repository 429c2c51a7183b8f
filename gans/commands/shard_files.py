"""Writers of images in a few large files: WebDataset's tar shards, and chunks of LitData."""

import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from gans.runs import atomic


class Sample(NamedTuple):
    """What is written of an image."""

    number: int  # of the image among those that are written of its set
    place: int  # of the image among all of its set
    data: bytes  # of the image file
    suffix: str  # of the image file, such as ".png"
    label: int | None
    captions: list[str]


def write_tars(folder: Path, first: int, samples: Iterable[Sample], limit: int, done: Callable[[Sample], None]) -> None:
    """Write samples to tar files `000000.tar`, ..., each of them atomically.

    Args:
        folder: folder of the files.
        first: number of the first file.
        samples: what to write.
        limit: bytes of a file; a larger sample has a file of its own.
        done: function that is called after each file, with its last sample.
    """
    left = iter(samples)
    held = next(left, None)
    while held is not None:
        size, last = 0, held
        with (
            atomic.opened(folder / f"{first:06}.tar") as raw,
            tarfile.open(fileobj=raw, mode="w|", format=tarfile.USTAR_FORMAT) as file,
        ):
            while held is not None and (not size or size + tar_size(held) <= limit):
                for suffix, data in members(held):
                    info = tarfile.TarInfo(f"{held.number:09}{suffix}")
                    info.size = len(data)
                    file.addfile(info, io.BytesIO(data))
                last, size = held, size + tar_size(held)
                held = next(left, None)
        done(last)
        first += 1


def members(sample: Sample) -> Iterator[tuple[str, bytes]]:
    """Yield suffix and content of the files of a sample."""
    yield sample.suffix, sample.data
    if sample.label is not None:
        yield ".cls", str(sample.label).encode()
    if sample.captions:
        yield ".txt", "\n".join(sample.captions).encode()


def tar_size(sample: Sample) -> int:
    """Return the bytes that a sample takes in a tar file."""
    return sum(tarfile.BLOCKSIZE * (1 + -(-len(data) // tarfile.BLOCKSIZE)) for _, data in members(sample))


def write_chunks(folder: Path, samples: Iterable[Sample], limit: int) -> Sample:
    """Write samples as a data set of LitData, and return the last one. The folder is there when it is complete.

    An item is `{"image": bytes of the file, "label": int, "text": captions}`, without what a sample has not.

    Raises:
        ValueError: if the package is missing.
    """
    try:
        os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")  # else it asks for newer versions
        from litdata.streaming.writer import BinaryWriter
    except ImportError as error:
        raise ValueError('the format litdata needs the package: pip install "lightning-gans[litdata]"') from error
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        writer = BinaryWriter(str(partial), chunk_bytes=limit)
        for index, sample in enumerate(samples):
            item: dict[str, object] = {"image": sample.data}
            item |= {} if sample.label is None else {"label": sample.label}
            writer[index] = item | ({"text": "\n".join(sample.captions)} if sample.captions else {})
        writer.done()
        writer.merge()
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return sample
