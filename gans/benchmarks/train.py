"""A short training of SNGAN, whose curve and samples are kept: does this machine learn, and how fast?

The networks are those of the recipe `sngan-cifar10`. `--data` is a folder of images, such as CIFAR-10's. Without it,
the digits of scikit-learn are used. It leaves `curve.csv`, with a row for each point of the curves, and `samples.png`.
"""

import argparse
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loggers import CSVLogger

from datamodules import DigitsDataModule, ImageFolderDataModule
from gans.benchmarks.models import Options
from gans.benchmarks.turns import machine
from gans.callbacks.compile import Compile
from gans.callbacks.health import Health
from gans.checks import at_least, positive
from gans.commands.timing import quiet
from gans.engine.checkpoint import AtomicCheckpoints, Checkpoint
from gans.engine.interface import samples
from gans.models import SNGAN
from gans.pictures.images import save_grid

SIZE, BATCH = 32, 64


def data_of(options: Options) -> Any:
    """Return the images."""
    if options.data is None:
        return DigitsDataModule(size=SIZE, channels=3, batch_size=BATCH)
    workers = {"num_workers": options.workers}
    return ImageFolderDataModule(
        options.data, size=SIZE, channels=3, batch_size=BATCH, cache=True, val_size=0, **workers
    )


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this subcommand."""
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="a folder of images; by default digits")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="where the curve and samples go")
    parser.add_argument("--width", type=int, default=256, help="of the generator; the discriminator has half of it")
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"])
    parser.add_argument("--compile", action="store_true", help="compile the networks")
    parser.add_argument("--workers", type=int, default=4, help="processes that load images")


def run(options: Options) -> None:
    """Train, and keep the curve and samples.

    Raises:
        ValueError: for bad input.
    """
    positive(minutes=options.minutes)
    at_least(2, width=options.width)
    at_least(0, workers=options.workers)
    if options.data is not None and not options.data.is_dir():
        raise ValueError(f"data is {options.data}; expected a folder of images")
    options.out.mkdir(parents=True, exist_ok=True)
    quiet()
    L.seed_everything(0, verbose=False)
    model = SNGAN(size=SIZE, width=options.width, discriminator_width=options.width // 2)
    with tempfile.TemporaryDirectory() as folder:
        logger = CSVLogger(folder, name="", version="")
        trainer = L.Trainer(
            max_steps=100_000,
            max_epochs=-1,
            devices=1,
            precision=options.precision,
            logger=logger,
            callbacks=[
                Timer(duration=timedelta(minutes=options.minutes)),
                Health(),
                Checkpoint(dirpath=folder),
                *([Compile()] if options.compile else []),
            ],
            plugins=[AtomicCheckpoints()],
            enable_model_summary=False,
            enable_progress_bar=False,
            limit_val_batches=0,
            log_every_n_steps=5,
        )
        trainer.fit(model, data_of(options))
        if Path(folder, "metrics.csv").is_file():
            shutil.copy(Path(folder, "metrics.csv"), options.out / "curve.csv")
    save_grid(samples(model, 64, seed=0), options.out / "samples.png", 8)
    speed = model.images_seen / (60 * options.minutes)
    print(f"SNGAN, width {options.width}, batch {BATCH}, {options.precision}, {machine()}")
    told = (
        f"{trainer.global_step:,} generator updates, {model.images_seen:,} images, {speed:,.0f} images/s, all included"
    )
    print(f"  {told}\n  {options.out / 'curve.csv'}, {options.out / 'samples.png'}", flush=True)
