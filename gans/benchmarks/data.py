"""images/s of reading a folder of images, in the first and second epoch, beside torchvision's `ImageFolder`.

The other side is what a user writes with torchvision: `ImageFolder` with `Resize`, `CenterCrop` and `ToTensor`, in a
shuffled `DataLoader` of the same batch size and workers. A round is an epoch of torchvision and two of
`ImageFolderDataModule`, in this order. A batch counts when it is on the device as floats. Ratios are of neighbouring
rounds.

CPU time is that of the training process and of all workers. It means more than the time on the clock while other
programs run.
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, Resize, ToTensor

from datamodules.folder import ImageFolderDataModule
from gans.checks import at_least
from gans.commands.script import least
from gans.commands.timing import quiet, wait

SIDE, QUALITY = 512, 90  # of the synthetic photographs, in pixels and of JPEG
SLOPE = 1.2  # amplitudes of photographs fall with the frequency to the power of -1.2 (Tolhurst et al. 1992)
CANVAS = 1024  # side of the image from which they are cropped


class Epoch(NamedTuple):
    """What an epoch took, per image: seconds on the clock and of all processors."""

    wall: float
    cpu: float


def photographs(folder: Path, count: int) -> None:
    """Write synthetic photographs as JPEG files into a class folder.

    They are crops of noise with the spectrum of photographs. Brightness varies four times as much as colour.
    """
    generator = np.random.default_rng(0)
    radius = np.hypot(np.fft.fftfreq(CANVAS)[:, None], np.fft.rfftfreq(CANVAS)[None])
    radius[0, 0] = np.inf
    fields = np.fft.rfft2(generator.normal(size=(4, CANVAS, CANVAS))) / radius**SLOPE
    fields = np.fft.irfft2(fields)
    light, *colours = fields / fields.std((1, 2), keepdims=True)
    pixels = np.stack([127.5 + 36 * light + 9 * colour for colour in colours], -1).clip(0, 255).astype(np.uint8)
    (folder / "photographs").mkdir()
    for i in range(count):
        top, left = generator.integers(0, CANVAS - SIDE, 2)
        crop = Image.fromarray(pixels[top : top + SIDE, left : left + SIDE])
        crop.save(folder / "photographs" / f"{i:05}.jpg", quality=QUALITY)


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its workers, those that have ended included."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = time.process_time() + ended.ru_utime + ended.ru_stime
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # user and system time
    return total


def timed(batches: Iterable[Any], data: ImageFolderDataModule | None, device: torch.device) -> Epoch:
    """Return what it takes to read all batches, and to scale those of a datamodule."""
    start, cpu, count = time.perf_counter(), cpu_seconds(), 0
    for batch in batches:
        images: Tensor
        images, *_ = moved = tuple(part.to(device, non_blocking=True) for part in batch)
        if data is not None:
            images, *_ = data.on_after_batch_transfer(moved, 0)
        count += len(images)
    wait(device)
    return Epoch((time.perf_counter() - start) / count, (cpu_seconds() - cpu) / count)


def theirs(root: Path, size: int, workers: int, batch_size: int, device: torch.device) -> Epoch:
    """Return what an epoch of torchvision takes."""
    dataset = ImageFolder(str(root), Compose([Resize(size), CenterCrop(size), ToTensor()]))
    loader = DataLoader(dataset, batch_size, shuffle=True, num_workers=workers, pin_memory=device.type == "cuda")
    return timed(loader, None, device)


def ours(root: Path, size: int, workers: int, options: argparse.Namespace, trainer: L.Trainer) -> tuple[Epoch, Epoch]:
    """Return what the first and the second epoch of the datamodule take. The files are listed before."""
    cache = {"true": True, "false": False, "device": "device"}[options.cache]
    data = ImageFolderDataModule(
        root,
        size,
        batch_size=options.batch_size,
        cache=cache,
        val_fraction=0,
        infinite=False,
        num_workers=workers,
    )
    data.trainer = trainer
    data.setup("fit")
    device = trainer.strategy.root_device
    loader: list[DataLoader[Any]] = []

    def first() -> Iterable[Any]:
        loader.append(data.train_dataloader())  # it may decode all images
        yield from loader[0]

    return timed(first(), data, device), timed(loader[0], data, device)


def quartiles(values: list[float]) -> str:
    """Return the median of values and, in brackets, their quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:6.2f} ({low:.2f} to {high:.2f})"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this subcommand."""
    parser.add_argument(
        "--root", type=Path, help="folder with class folders of images; by default synthetic JPEG files"
    )
    parser.add_argument("--images", type=least(1), default=320, help="number of synthetic images")
    parser.add_argument("--sizes", type=least(1), nargs="+", default=[64, 256])
    parser.add_argument("--workers", type=least(0), nargs="+", default=[0, 2])
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--cache", default="true", choices=["true", "false", "device"])
    parser.add_argument("--rounds", type=int, default=7)


def run(options: argparse.Namespace) -> None:
    """Print images per second of both sides."""
    at_least(2, rounds=options.rounds)
    at_least(1, batch_size=options.batch_size)
    quiet()
    with tempfile.TemporaryDirectory() as made:
        if options.root is None:
            photographs(Path(made), options.images)
        root = options.root or Path(made)
        files = [path for path in root.rglob("*") if path.is_file()]
        kind = f"synthetic photographs of {SIDE}x{SIDE}" if options.root is None else f"files in {root}"
        kilobytes = statistics.mean(path.stat().st_size for path in files) / 1000
        versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}, Pillow {PIL.__version__}"
        print(f"{len(files):,} {kind}, {kilobytes:.0f} kB each; batch {options.batch_size}, cache {options.cache}")
        print(versions)
        print("size workers epoch   ours  torchvision   ratio (quartiles)        ratio of CPU time (quartiles)")
        for size in options.sizes:
            for workers in options.workers:
                compare(root, size, workers, options)


def compare(root: Path, size: int, workers: int, options: argparse.Namespace) -> None:
    """Print the rows of an image size and a number of workers."""
    trainer = L.Trainer(devices=1, logger=False, enable_checkpointing=False)
    device = trainer.strategy.root_device
    rounds = []
    for _ in range(options.rounds + 1):
        base = theirs(root, size, workers, options.batch_size, device)
        rounds.append((base, *ours(root, size, workers, options, trainer)))
    rounds = rounds[1:]  # the first is a warm-up
    for epoch in (1, 2):
        speeds = [1 / statistics.median(found[i].wall for found in rounds) for i in (epoch, 0)]
        wall, cpu = (quartiles([found[0][i] / found[epoch][i] for found in rounds]) for i in (0, 1))
        print(f"{size:4} {workers:7} {epoch:5} {speeds[0]:6,.0f} {speeds[1]:12,.0f} {wall:>24} {cpu:>24}", flush=True)
