"""`gans data encode`: the codes of all images of a folder, written once for models that play on codes.

The folder OUT is complete when it has `codes.json`, which is written last. An encoding that was interrupted continues
with the same command.
"""

import hashlib
import json
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.base import integer, outlive_signals, unit_range
from datamodules.code_files import ABOUT, FILES, LABELS, NUMBERS, UNFINISHED, VERSION, described, shard_name
from datamodules.decode import Fit, Half, Target
from datamodules.files import ImageFiles, existing_folder, listed
from datamodules.layout import Layout, layout
from datamodules.reader import OnError
from gans import __version__
from gans.commands.device import chosen_device
from gans.commands.parser import Parser, check_writable
from gans.commands.splits import bar
from gans.models.coders import load_coder
from gans.networks.coder import Coder
from gans.recipes.named import component
from gans.runs import atomic

SHARD = 2**26  # bytes of a shard; an encoding that was interrupted continues with the next one
SHOWN = 12  # characters of a digest
Block = tuple[Tensor, Tensor]  # images (N, C, H, W) uint8, and the numbers of their files (N,)


def parser() -> Parser:
    """Return the parser of the flags."""
    flags = Parser(prog="gans data encode", description=__doc__)
    flags.add_argument("folder", type=Path, help="folder or .zip of images, with the layouts of ImageFolderDataModule")
    flags.add_argument("out", type=Path, help="folder to write, which need not exist")
    flags.add_argument(
        "--autoencoder",
        type=Path,
        required=True,
        help="checkpoint, run or recipe of a GridAutoencoder, or folder or user/name of an AutoencoderKL of diffusers",
    )
    flags.add_argument("--size", type=int | tuple[int, int] | None, help="of the images; by default the autoencoder's")
    flags.add_argument("--channels", type=int | None, help="of the images; by default the autoencoder's")
    flags.add_argument("--fit", type=Fit, default="crop", help="how other aspect ratios are fitted")
    flags.add_argument("--crop", type=int | tuple[int, int] | None, help="centre crop in original pixels")
    flags.add_argument("--half", type=Half | None, help="only the left or right half of every image")
    flags.add_argument("--mirror", type=bool, default=True, help="write the codes of mirrored images too")
    flags.add_argument("--dtype", type=Literal["float16", "float32"], default="float16", help="of the codes")
    flags.add_argument("--batch_size", type=int, default=64, help="images that are encoded at once")
    flags.add_argument("--num_workers", type=int | None, help="processes that decode images; by default the CPU cores")
    flags.add_argument("--on_error", type=OnError, default="skip", help="leave unreadable files out, or stop")
    flags.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:1")
    return flags


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    options = parser().parse_args(args)
    integer("batch_size", options.batch_size, least=1)
    workers = min(8, os.cpu_count() or 1) if options.num_workers is None else options.num_workers
    integer("num_workers", workers, least=0)
    device, out = chosen_device(options.device), options.out
    if (out / ABOUT).is_file():
        raise ValueError(f"out is {out}, which holds {described(out).count:,} codes; expected a new folder")
    path = component(options.autoencoder)
    coder = coder_for(path, options.size, options.channels)
    channels, *sides = coder.image_shape
    target = Target(channels, (sides[0], sides[1]), options.fit, as_pair(options.crop), options.half)
    found = layout(existing_folder(options.folder, "folder"))
    files = ImageFiles(found.root, found.paths, target, options.on_error, shared=workers > 0)
    about = plan(coder, path, found, target, 2 if options.mirror else 1, options.dtype)
    report(coder, path, found)
    files.check_channels()
    files.check_readable()
    begin(out, about)
    encode(out, about, coder.to(device), files, found, options.batch_size, workers)


def coder_for(path: Path, size: Any, channels: int | None) -> Coder:
    """Return an autoencoder, for images of a size and of so many channels.

    Raises:
        ValueError: if there is none, or its images are others.
    """
    wanted = as_pair(size)
    coder = load_coder(path, wanted)
    theirs, *sides = coder.image_shape
    if wanted not in (None, tuple(sides)):
        raise ValueError(f"size is {size}; expected {tuple(sides)}, the size of the images of {path}")
    if channels not in (None, theirs):
        raise ValueError(f"channels is {channels}; expected {theirs}, the channels of the images of {path}")
    return coder


def as_pair(side: Any) -> tuple[int, int] | None:
    """Return a side, or (height, width), as a pair; None for None."""
    return (side, side) if isinstance(side, int) else None if side is None else (side[0], side[1])


def plan(coder: Coder, path: Path, found: Layout, target: Target, forms: int, dtype: str) -> dict[str, Any]:
    """Return what is known of the codes before they are computed: with it an encoding continues, or is another."""
    name = coder.description().get("model", type(coder).__name__)
    row = forms * prod(coder.stored_shape) * np.dtype(NUMBERS[dtype]).itemsize
    names = "\n".join(found.paths).encode("utf-8", "surrogateescape") + found.labels.numpy().tobytes()
    return {
        "version": VERSION,
        "gans": __version__,
        "forms": forms,
        "dtype": dtype,
        "image_shape": list(coder.image_shape),
        "code_shape": list(coder.code_shape),
        "stored_shape": list(coder.stored_shape),
        "classes": found.classes,
        "unclassed": found.unclassed,
        "autoencoder": {
            "digest": coder.digest,
            "name": str(name).rpartition(".")[2],
            "path": str(path.absolute()),
            "description": coder.description(),
        },
        "pictures": {
            "root": str(found.root.absolute()),
            "fit": target.fit,
            "crop": list(target.crop) if target.crop else None,
            "half": target.half,
            "listing": hashlib.sha256(names).hexdigest(),
        },
        "files_in_a_shard": max(1, SHARD // row),
    }


def begin(out: Path, about: dict[str, Any]) -> None:
    """Begin an encoding in a folder, or continue one that was interrupted.

    Raises:
        ValueError: if the folder holds something else, or is not writable.
    """
    check_writable(out)
    text = json.dumps(about, indent=2)
    if (out / UNFINISHED).is_file():
        same = (out / UNFINISHED).read_text(encoding="utf-8") == text
        if not same and (out / shard_name(0)).is_file():
            raise ValueError(
                f"out is {out}, an unfinished encoding of other images or with other settings; expected a new folder"
            )
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out is {out}, which is not empty; expected a new folder")
    atomic.write(out / UNFINISHED, text.encode())


def report(coder: Coder, path: Path, found: Layout) -> None:
    """Print which autoencoder and which images are used."""
    shapes = " to ".join("x".join(map(str, shape)) for shape in (coder.image_shape, coder.stored_shape))
    print(f"autoencoder  {path} (digest {coder.digest[:SHOWN]}): {shapes}")
    sets = ", ".join(f"{len(rows):,} of {name}" for name, rows in found.sets.items())
    print(f"images       {len(found.paths):,} in {found.root}{f': {sets}' if sets else ''}")
    print(
        f"classes      {len(found.classes)}: {listed(found.classes)}"
        if found.classes
        else f"classes      none: {found.unclassed}"
    )


class Readable(Dataset[Block]):
    """The image files of a reader; a batch has those of its files that can be decoded.

    Args:
        files: the reader.
    """

    def __init__(self, files: ImageFiles) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitems__(self, numbers: Sequence[int]) -> Block:
        """Return the images `(N, C, H, W)` uint8, and the numbers of their files `(N,)`."""
        read = [(number, self.files.read(number)) for number in numbers]
        kept = [(number, image) for number, image in read if image is not None]
        images = [image for _, image in kept] or [torch.empty(0, *self.files.target.shape, dtype=torch.uint8)]
        stacked = torch.stack(images) if kept else images[0]
        return stacked, torch.tensor([number for number, _ in kept], dtype=torch.long)


def whole(batch: Any) -> Any:
    """Return a batch as the data set gives it."""
    return batch


def encode(
    out: Path, about: dict[str, Any], coder: Coder, files: ImageFiles, found: Layout, batch_size: int, workers: int
) -> None:
    """Write the codes of all files, print what was written, and what was left out.

    Args:
        out: the folder.
        about: the plan of the encoding.
        coder: the autoencoder, on its device.
        files: the reader of the images.
        found: their names and labels.
        batch_size: images that are encoded at once.
        workers: processes that decode images.

    Raises:
        ValueError: if a code is not finite in the dtype of the files.
    """
    begun, size = time.perf_counter(), about["files_in_a_shard"]
    starts = range(0, len(files), size)
    left = [start for start in starts if not (out / shard_name(start // size)).is_file()]
    if len(left) < len(starts):
        print(f"continued    {len(starts) - len(left)} of {len(starts)} shards are there")
    todo = [range(start, min(start + size, len(files))) for start in left]
    batches = [list(part[i : i + batch_size]) for part in todo for i in range(0, len(part), batch_size)]
    loader: Any = DataLoader(
        Readable(files),
        batch_sampler=batches,
        collate_fn=whole,
        num_workers=workers,
        worker_init_fn=outlive_signals,
        generator=torch.Generator(),
    )
    blocks = iter(bar("Encoding", sum(map(len, todo)))(iter(loader)))
    done = 0
    try:
        for part in todo:
            done += write_shard(out, about, coder, files, part, blocks, -(-len(part) // batch_size))
    except KeyboardInterrupt:
        there = sum((out / shard_name(start // size)).is_file() for start in starts)
        print(f"interrupted  {there} of {len(starts)} shards are written: the same command continues")
        raise
    if done:
        seconds, forms = time.perf_counter() - begun, ", each with its mirrored image" if about["forms"] == 2 else ""
        print(f"speed        {done / seconds:,.0f} images/s{forms}")
    finish(out, about, files, found, len(starts))


def write_shard(
    out: Path, about: dict[str, Any], coder: Coder, files: ImageFiles, part: range, blocks: Iterator[Any], count: int
) -> int:
    """Write the codes of a range of files, and which of them could be read. Return their number.

    Args:
        out: the folder.
        about: the plan of the encoding.
        coder: the autoencoder.
        files: the reader of the images.
        part: numbers of the files.
        blocks: the images of these files, and of later ones.
        count: number of blocks of this range.

    Raises:
        ValueError: if a code is not finite in the dtype of the files.
    """
    shape, kind = (about["forms"], *about["stored_shape"]), NUMBERS[about["dtype"]]
    codes, kept = np.empty((len(part), *shape), kind), list[int]()
    device = next(coder.parameters()).device
    for _ in range(count):
        images, numbers = next(blocks)
        if not len(images):
            continue
        shown = unit_range(images.to(device), torch.float32)
        forms = torch.stack([stored(coder, form) for form in (shown, shown.flip(-1))[: about["forms"]]], 1)
        made = forms.to("cpu", getattr(torch, about["dtype"]))
        if not made.isfinite().all():
            worst = int(numbers[(~made.isfinite()).flatten(1).any(1)][0])
            told = "; --dtype float32 holds larger numbers" if about["dtype"] == "float16" else ""
            raise ValueError(f"the code of {files.path(worst)} is not finite in {about['dtype']}{told}")
        codes[len(kept) : len(kept) + len(made)] = made.numpy()
        kept += numbers.tolist()
    index = part.start // about["files_in_a_shard"]
    save(out / rows_name(index), np.array(kept, np.int64))  # first: a shard that is there has its rows
    save(out / shard_name(index), codes[: len(kept)])
    return len(kept)


@torch.no_grad()
def stored(coder: Coder, images: Tensor) -> Tensor:
    """Return what is kept of images `(N, C, H, W)` in [-1, 1]: `(N, *stored_shape)`."""
    return coder.stored(images)


def rows_name(index: int) -> str:
    """Return the name of the file with the numbers of the files that a shard holds, in an unfinished encoding."""
    return f"rows-{index:05}.npy"


def save(path: Path, array: Any) -> None:
    """Write an array to a .npy file, atomically."""
    with atomic.opened(path) as file:
        np.lib.format.write_array(file, array, allow_pickle=False)


def finish(out: Path, about: dict[str, Any], files: ImageFiles, found: Layout, shards: int) -> None:
    """Write labels, names and the description of a complete encoding, and print what was written and left out."""
    rows = [np.load(out / rows_name(i), allow_pickle=False) for i in range(shards)]
    kept = torch.from_numpy(np.concatenate(rows))
    names = [found.paths[i] for i in kept.tolist()]
    lost = sorted(set(range(len(files))) - set(kept.tolist()))
    sets = {name: int(torch.isin(kept, numbers).sum()) for name, numbers in found.sets.items()}
    left_out = dict(found.left_out) | ({"unreadable": len(lost)} if lost else {})
    told = {"count": len(kept), "shards": [len(part) for part in rows], "sets": sets, "left_out": left_out}
    save(out / LABELS, found.labels[kept].numpy())
    atomic.write(out / FILES, json.dumps(names).encode())
    atomic.write(out / ABOUT, json.dumps(about | told, indent=2).encode())
    for name in (UNFINISHED, *map(rows_name, range(shards))):
        (out / name).unlink(missing_ok=True)
    if left_out:
        print(f"left out     {', '.join(f'{count:,} {kind}' for kind, count in left_out.items())}")
    if lost:
        print(f"unreadable   {listed([found.paths[i] for i in lost])}")
    size = sum(file.stat().st_size for file in out.iterdir())
    pictures = sum(os.stat(path).st_size for path in map(files.path, kept.tolist()) if path.is_file())
    pixels = len(kept) * prod(about["image_shape"])
    beside = f"the images {atomic.readable(pictures)} in files, " if pictures else "the images "
    mirrored = " and of mirrored ones" if about["forms"] == 2 else ""
    print(f"written      {out}: {len(kept):,} codes of images{mirrored}, {about['dtype']}, {atomic.readable(size)}")
    print(f"beside       {beside}{atomic.readable(pixels)} decoded")
    channels, height, width = about["image_shape"]
    side = height if height == width else f"[{height},{width}]"
    data = f"--data CodesDataModule --data.root {shlex.quote(str(out))} --data.size {side} --data.channels {channels}"
    print(f"\ngans fit RECIPE {data} --model.autoencoder {shlex.quote(about['autoencoder']['path'])}")
