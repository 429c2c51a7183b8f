"""`gans data pack`: the images of a folder in a few large files, tar shards of WebDataset or chunks of LitData.

With a size, images are cropped and resized once, as in training. The bytes of other images are copied. The folder OUT
is complete when it has no `packing.json`. Tar shards that were interrupted continue with the same command.
"""

import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from datamodules.archive import is_file
from datamodules.base import integer, outlive_signals
from datamodules.caption_files import FILES, Captions, captions_of
from datamodules.decode import MODES, Fit, Half, Target, dimensions
from datamodules.files import ImageFiles, existing_folder, listed
from datamodules.layout import Layout, layout
from datamodules.reader import OnError
from datamodules.shards import NAMES, UNFINISHED
from gans.commands.parser import Parser, check_writable
from gans.commands.shard_files import Sample, write_chunks, write_tars
from gans.runs import atomic

UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}
AT_ONCE = 16  # images that a worker hands over at once
Packed = tuple[int, bytes, str]  # number of an image, bytes and suffix of its file


def parser() -> Parser:
    """Return the parser of the flags."""
    flags = Parser(prog="gans data pack", description=__doc__)
    flags.add_argument("folder", type=Path, help="folder or archive of images, as ImageFolderDataModule reads it")
    flags.add_argument("out", type=Path, help="folder to write, which need not exist")
    flags.add_argument(
        "--size", type=int | tuple[int, int] | None, help="height and width; by default files are copied"
    )
    flags.add_argument("--channels", type=int, default=3, help="of resized images: 1, 3 or 4")
    flags.add_argument("--fit", type=Fit, default="crop", help="how other aspect ratios are fitted")
    flags.add_argument("--crop", type=int | tuple[int, int] | None, help="centre crop in original pixels")
    flags.add_argument("--half", type=Half | None, help="only the left or right half of every image")
    flags.add_argument("--jpeg", type=int | None, help="quality of resized images as JPEG; by default they are PNG")
    flags.add_argument("--format", type=Literal["tar", "litdata"], default="tar", help="of the large files")
    flags.add_argument("--shard", default="256MB", help="size of a large file, such as 256MB")
    flags.add_argument("--num_workers", type=int | None, help="processes that decode images; by default the CPU cores")
    flags.add_argument("--on_error", type=OnError, default="skip", help="leave unreadable files out, or stop")
    return flags


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    options = parser().parse_args(args)
    workers = min(8, os.cpu_count() or 1) if options.num_workers is None else options.num_workers
    integer("num_workers", workers, least=0)
    if options.jpeg is not None and not 1 <= options.jpeg <= 100:
        raise ValueError(f"jpeg is {options.jpeg}; expected a quality from 1 to 100")
    if options.channels not in MODES:
        raise ValueError(f"channels is {options.channels}; expected 1, 3 or 4")
    if options.size is None and (options.crop or options.half or options.jpeg or options.fit != "crop"):
        raise ValueError("crop, half, fit and jpeg are for resized images; expected a size with them")
    limit, out = in_bytes(options.shard), options.out
    found = layout(existing_folder(options.folder, "folder"))
    if options.size is None:
        target = Target(options.channels, (1, 1), "native")  # a file is decoded to see whether it can be
    else:
        target = Target(options.channels, as_pair(options.size), options.fit, options.crop and as_pair(options.crop))
        target = target._replace(half=options.half)
    files = ImageFiles(found.root, found.paths, target, options.on_error, shared=workers > 0)
    if options.size is not None:
        files.check_channels()
    plan = {
        "images": digest(found),
        "target": [target.channels, list(target.size), target.fit, target.crop and list(target.crop), target.half],
        "jpeg": options.jpeg,
        "format": options.format,
        "shard": limit,
    }
    sets = ", ".join(f"{len(rows):,} of {name}" for name, rows in found.sets.items())
    print(f"images       {len(found.paths):,} in {found.root}{f': {sets}' if sets else ''}")
    told = f"{len(found.classes)}: {listed(found.classes)}" if found.classes else f"none: {found.unclassed}"
    print(f"classes      {told}")
    pack(out, plan, Images(files, options.jpeg), found, workers)


def in_bytes(text: str) -> int:
    """Return a size such as 256MB in bytes.

    Raises:
        ValueError: if it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]B)", text.upper())
    if match is None or float(match[1]) == 0:
        raise ValueError(f"shard is {text}; expected a size such as 256MB")
    return round(float(match[1]) * UNITS[match[2]])


def as_pair(side: Any) -> tuple[int, int]:
    """Return a side, or (height, width), as a pair of at least one pixel."""
    height, width = (side, side) if isinstance(side, int) else (side[0], side[1])
    return integer("size", height, least=1), integer("size", width, least=1)


def digest(found: Layout) -> str:
    """Return a hash of the names and labels of images."""
    names = "\n".join(found.paths).encode("utf-8", "surrogateescape") + found.labels.numpy().tobytes()
    return hashlib.sha256(names).hexdigest()


class Images(Dataset[list[Packed]]):
    """The files of images as they are written; those that cannot be decoded are left out.

    Args:
        files: reader of the images, which resizes them unless its target is native.
        jpeg: quality of resized images as JPEG; None for PNG.
    """

    def __init__(self, files: ImageFiles, jpeg: int | None) -> None:
        self.files, self.jpeg = files, jpeg

    def __len__(self) -> int:
        return len(self.files)

    def __getitems__(self, numbers: Sequence[int]) -> list[Packed]:
        """Return number, bytes and suffix of the images that can be decoded."""
        made = []
        for number in numbers:
            image = self.files.read(number)
            if image is not None:
                made.append((number, *self.file(number, image)))
        return made

    def file(self, number: int, image: Tensor) -> tuple[bytes, str]:
        """Return bytes and suffix of an image file: those that are there if they need no change."""
        target, path = self.files.target, self.files.path(number)
        whole = target.crop is None and target.half is None
        if target.fit == "native" or (whole and dimensions(path) == target.size[::-1]):
            return self.files.encoded(number), path.suffix.lower()
        held = io.BytesIO()
        shown = Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy())
        if self.jpeg is None:
            shown.save(held, "PNG")
            return held.getvalue(), ".png"
        shown.convert(MODES[min(3, target.channels)]).save(held, "JPEG", quality=self.jpeg, subsampling=0)
        return held.getvalue(), ".jpg"


def pack(out: Path, plan: dict[str, Any], images: Images, found: Layout, workers: int) -> None:
    """Write all images, and print what was written and what was left out.

    Args:
        out: folder to write.
        plan: what is packed, and how; an unfinished folder with another plan is refused.
        images: the images.
        found: their labels, classes and sets.
        workers: processes that decode images.
    """
    done: dict[str, list[tuple[int, int]]] = begun(out, plan)
    captions, sets = captions_in(found), found.sets or {"": torch.arange(len(found.paths))}
    before = sum(shards[-1][0] for shards in done.values())
    if before:
        print(f"continued    {before:,} images are packed")
    options: Any = {"unit": "image", "dynamic_ncols": True, "disable": not sys.stderr.isatty()}
    with tqdm(total=sum(map(len, sets.values())), initial=before, desc="Packing", **options) as bar:
        for name, rows in sets.items():
            shards = done.get(name, [])
            start, written = shards[-1] if shards else (0, 0)
            made = samples(images, rows.tolist(), start, written, found, captions, workers, bar)

            def keep(last: Sample, name: str = name) -> None:
                done.setdefault(name, []).append((last.place + 1, last.number + 1))
                record(out, plan, done)

            if plan["format"] == "tar":
                write_tars(out / name, len(shards), made, plan["shard"], keep)
            elif not shards:
                keep(write_chunks(out / (name or "all"), made, plan["shard"]))
    finish(out, plan, found, images.files, done)


def begun(out: Path, plan: dict[str, Any]) -> dict[str, list[tuple[int, int]]]:
    """Begin to pack into a folder, or continue. Return images read and written after each shard, by set.

    Raises:
        ValueError: if the folder holds something else, or is not writable.
    """
    check_writable(out)
    if (out / UNFINISHED).is_file():
        held = json.loads((out / UNFINISHED).read_text(encoding="utf-8"))
        if held["plan"] == plan:
            return {name: [(read, written) for read, written in shards] for name, shards in held["shards"].items()}
        if held["shards"]:
            told = "unfinished shards of other images or with other settings"
            raise ValueError(f"out is {out}, which holds {told}; expected a new folder")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out is {out}, which is not empty; expected a new folder")
    record(out, plan, {})
    return {}


def record(out: Path, plan: dict[str, Any], done: dict[str, list[tuple[int, int]]]) -> None:
    """Write what is packed so far."""
    atomic.write(out / UNFINISHED, json.dumps({"plan": plan, "shards": done}).encode())


def captions_in(found: Layout) -> Captions | None:
    """Return the captions of images, from a caption file or text files beside them, or None if there are none.

    Raises:
        ValueError: if some images have a caption and others have none.
    """
    beside = (found.root / found.paths[0]).with_suffix(".txt")
    if not is_file(beside) and not any(is_file(found.root / name) for name in FILES):
        return None
    return captions_of(found.root, found.root, found.paths, None)


def samples(
    images: Images,
    rows: list[int],
    start: int,
    written: int,
    found: Layout,
    captions: Captions | None,
    workers: int,
    bar: Any,
) -> Iterator[Sample]:
    """Yield the samples of a set.

    Args:
        images: the images of all sets.
        rows: numbers of the set's images.
        start: how many of them have been read already.
        written: how many of them have been written already.
        found: labels and classes of all images.
        captions: captions of all images.
        workers: processes that decode images.
        bar: progress bar.
    """
    places = {row: place for place, row in enumerate(rows)}
    left = rows[start:]
    loader: Any = DataLoader(
        images,
        batch_sampler=[left[i : i + AT_ONCE] for i in range(0, len(left), AT_ONCE)],
        collate_fn=list,
        num_workers=workers,
        worker_init_fn=outlive_signals,
        generator=torch.Generator(),
    )
    for block in loader:
        for row, data, suffix in block:
            label = int(found.labels[row]) if found.classes else None
            yield Sample(written, places[row], data, suffix, label, captions[row] if captions else [])
            written += 1
            bar.update(places[row] + 1 - start)
            start = places[row] + 1


def finish(
    out: Path, plan: dict[str, Any], found: Layout, files: ImageFiles, done: dict[str, list[tuple[int, int]]]
) -> None:
    """Complete a folder, and print what was written and left out, and the next command."""
    if found.classes:
        atomic.write(out / NAMES, "".join(f"{name}\n" for name in found.classes).encode("utf-8", "surrogateescape"))
    (out / UNFINISHED).unlink()
    written = sum(shards[-1][1] for shards in done.values())
    count = sum(map(len, found.sets.values())) if found.sets else len(found.paths)
    left_out = dict(found.left_out) | {"unreadable images": count - written}
    if any(left_out.values()):
        print(f"left out     {', '.join(f'{count:,} {kind}' for kind, count in left_out.items() if count)}")
    if files.broken:
        print(f"unreadable   {listed(files.broken_names())}")
    large = [path for path in out.rglob("*") if path.suffix in (".tar", ".bin")]
    total = atomic.readable(sum(path.stat().st_size for path in large))
    print(f"written      {out}: {written:,} images, {total} in {len(large):,} files")
    module = "ImageFolderDataModule" if plan["format"] == "tar" else "LitDataModule"
    height, width = plan["target"][1]
    size = f" --data.size {height if height == width else f'[{height},{width}]'}"
    print(f"\ngans fit RECIPE --data {module} --data.root {out}{'' if plan['target'][2] == 'native' else size}")
