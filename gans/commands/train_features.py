"""Trains a small classifier whose features serve FID on a data set, and tells by a table whether they are worth it.

It takes minutes, and the distances are comparable with those of the same file only: the file's sha256 pins them, for
another number of threads already trains other weights.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
import torchvision
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from datamodules.base import BatchDataset
from datamodules.folder import ImageFolderDataModule
from datamodules.mnist import MNISTDataModule
from gans.images import to_float
from gans.metrics.extractors import pack
from gans.metrics.sanity import SAMPLES, Table, passes, sanity
from gans.networks.classifier import SMALLEST, Classifier

BATCH = 128
LR = 4e-3
SHIFT = 16  # images are shifted by up to a 16th of their side
HELD_OUT = 0.1  # of a folder without a folder of test images
Options = argparse.Namespace


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong instead of printing the usage."""
        raise ValueError(message)


class Labelled(NamedTuple):
    """Images `(N, C, H, W)` uint8 and labels `(N,)`."""

    images: Tensor
    labels: Tensor


class Data(NamedTuple):
    """What a classifier is trained and judged on; `unframed` is the size within the black frame, if there is one."""

    train: Labelled
    test: Labelled
    num_classes: int
    unframed: int
    description: str


def least(smallest: int) -> Any:
    """Return a converter of the command line for integers."""

    def convert(word: str) -> int:
        if not word.isdecimal() or int(word) < smallest:
            raise argparse.ArgumentTypeError(f"{word} is no integer of at least {smallest}")
        return int(word)

    return convert


def parse(argv: Sequence[str] | None) -> Options:
    """Return the options of the command line."""
    parser = Parser("train_features", description=__doc__, allow_abbrev=False)
    parser.add_argument("--data", required=True, help="mnist, or a folder with one folder of images per class")
    parser.add_argument("--root", default="data", help="folder that holds MNIST/raw, for mnist")
    parser.add_argument("--test", help="folder of test images with the same classes; else a tenth is held out")
    parser.add_argument("--out", required=True, type=Path, help="file to write; its name is the extractor's")
    parser.add_argument("--size", type=least(SMALLEST), default=32, help="side that every image gets")
    parser.add_argument("--channels", type=int, choices=[1, 3], help="by default 1 for mnist, else 3")
    parser.add_argument("--width", type=least(1), default=16, help="channels of the first layers")
    parser.add_argument("--features", type=least(1), default=64, help="length of the features")
    parser.add_argument("--epochs", type=least(1), default=2)
    parser.add_argument("--flip", action="store_true", help="mirror half of the training images from left to right")
    parser.add_argument("--seed", type=least(0), default=0)
    options = parser.parse_args(argv)
    options.channels = options.channels or (1 if options.data == "mnist" else 3)
    if options.data == "mnist" and options.test:
        raise ValueError(f"--test is {options.test}; expected none, for mnist has test images of its own")
    return options


def gathered(dataset: BatchDataset, what: str) -> Labelled:
    """Return all of a set, in memory."""
    rows = tqdm(torch.split(torch.arange(len(dataset)), 500), f"reading {what}", disable=None)
    parts = [dataset.__getitems__(some.tolist()) for some in rows]
    return Labelled(torch.cat([images for images, _ in parts]), torch.cat([labels for _, labels in parts]))


def mnist(options: Options) -> Data:
    """Return MNIST's 60,000 and 10,000 digits, which are framed at 32x32."""
    data = MNISTDataModule(options.root, options.size, options.channels, val_size=0)
    data.prepare_data()
    train, _, test = data.splits()
    unframed = 28 if options.size == 32 else options.size
    return Data(gathered(train, "training images"), gathered(test, "test images"), 10, unframed, "MNIST")


def folder(options: Options) -> Data:
    """Return the images of class folders.

    Raises:
        ValueError: if there are fewer than two classes, or those of the test images are others.
    """

    def module(flag: str, root: str, val_fraction: float) -> ImageFolderDataModule:
        if not Path(root).is_dir():
            expected = "mnist or a folder" if flag == "--data" else "a folder"
            raise ValueError(f"{flag} is {root}; expected {expected} with one folder of images per class")
        found = ImageFolderDataModule(
            root, options.size, options.channels, val_fraction=val_fraction, seed=options.seed, num_workers=0
        )
        if len(found.classes) < 2:
            raise ValueError(f"{root} holds images of {len(found.classes)} class folders; expected at least 2")
        return found

    data = module("--data", options.data, 0 if options.test else HELD_OUT)
    train, test, _ = data.splits()
    if options.test:
        other = module("--test", options.test, 0)
        if other.classes != data.classes:
            raise ValueError(f"{options.test} has not the classes of {options.data}: {', '.join(data.classes)}")
        test = other.splits()[0]
    name = f"{Path(options.data).resolve().name} ({', '.join(data.classes[:20])})"
    parts = gathered(train, "training images"), gathered(test, "test images")
    return Data(*parts, data.num_classes, options.size, name)


def augmented(images: Tensor, flip: bool, generator: torch.Generator) -> Tensor:
    """Return images `(N, C, H, W)`, each shifted at random, its edge repeated, and, if asked, half of them mirrored."""
    count, _, height, width = images.shape
    most = max(height, width) // SHIFT
    down, right = torch.randint(-most, most + 1, (2, count, 1), generator=generator)
    rows = (torch.arange(height) + down).clamp(0, height - 1)
    columns = (torch.arange(width) + right).clamp(0, width - 1)
    if flip:
        columns = torch.where(torch.rand(count, 1, generator=generator) < 0.5, columns.flip(1), columns)
    return images[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def train(network: Classifier, data: Labelled, options: Options) -> None:
    """Train with cross-entropy, AdamW (Loshchilov and Hutter, arXiv 1711.05101) and one cycle of the learning rate."""
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(options.seed)
    optimizer = torch.optim.AdamW(network.parameters(), LR, weight_decay=1e-2)
    steps = options.epochs * -(-len(data.labels) // BATCH)
    schedule = OneCycleLR(optimizer, LR, total_steps=steps + 1)  # one more, for it divides by the steps after the first
    network.train()
    with tqdm(total=steps, desc="training", disable=None) as bar:
        for _ in range(options.epochs):
            for rows in torch.split(torch.randperm(len(data.labels), generator=generator), BATCH):
                images = to_float(augmented(data.images[rows], options.flip, generator).to(device))
                loss = cross_entropy(network(images)[1], data.labels[rows].to(device))
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()
                bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
                bar.update()
    network.eval()


@torch.no_grad()
def outputs(network: Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return features and logits of uint8 images, a batch at a time, on the CPU."""
    device = next(network.parameters()).device
    parts = [network(to_float(some.to(device))) for some in torch.split(images, 500)]
    return torch.cat([part[0].cpu() for part in parts]), torch.cat([part[1].cpu() for part in parts])


def check_writable(path: Path) -> None:
    """Raise a ValueError unless `path` could be written, without writing it."""
    if path.is_dir() or path.suffix == ".json":
        raise ValueError(f"--out is {path}; expected a file such as {path.with_suffix('.pt')}")
    there = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryDirectory(dir=there):
            pass
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror} ({there})") from error


def partial(path: Path) -> Path:
    """Return where a file lies until it is whole."""
    return path.with_name(f".{path.name}.partial")


def write(path: Path, content: dict[str, Any], report: dict[str, Any]) -> None:
    """Write the weights, and beside them the report, each under its name only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial(path).open("wb") as file:
        torch.save(content, file)
    beside = path.with_suffix(".json")
    partial(beside).write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(partial(beside), beside)
    os.replace(partial(path), path)


def show(accuracy: float, table: Table) -> None:
    """Print accuracy, table and verdict."""
    print(f"test accuracy {100 * accuracy:.2f} %")
    print(f"FID of test images against training images, at most {SAMPLES:,} each, damaged by:")
    for name, value in table.items():
        print(f"  {name:18}{value:10.3f}")
    verdict = "pass" if passes(table) else "FAIL: these features do not know the classes; train for longer"
    print(f"one class alone is more than twice as far as blur 0.8: {verdict}")


def run(options: Options) -> int:
    """Train, judge, write; return 0, or 1 if the features do not know the data."""
    check_writable(options.out)
    start = time.perf_counter()
    data = mnist(options) if options.data == "mnist" else folder(options)
    architecture = {"channels": options.channels, "width": options.width}
    architecture |= {"num_features": options.features, "num_classes": data.num_classes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        network = Classifier(**architecture).to("cuda" if torch.cuda.is_available() else "cpu")
    train(network, data.train, options)
    logits = outputs(network, data.test.images)[1]
    accuracy = (logits.argmax(1) == data.test.labels).double().mean().item()
    table = sanity(lambda images: outputs(network, images)[0], data.train.images, *data.test, seed=options.seed)
    show(accuracy, table)
    count = f"{len(data.train.labels)} training and {len(data.test.labels)} test images"
    facts = {"name": options.out.stem, "size": [options.size] * 2, "unframed": [data.unframed] * 2}
    facts |= {"accuracy": accuracy, "data": f"{data.description}: {count}"}
    content = pack(network, architecture, facts)
    about = {key: content[key] for key in ("sha256", "architecture", *facts)}
    versions = {"python": platform.python_version(), "torch": torch.__version__, "torchvision": torchvision.__version__}
    about |= {"fid": table, "passes": passes(table), "versions": versions, "threads": torch.get_num_threads()}
    about |= {"arguments": {**vars(options), "out": options.out.name}, "seconds": round(time.perf_counter() - start)}
    write(options.out, content, about)
    print(f"wrote {options.out} and {options.out.with_suffix('.json').name}, sha256 {content['sha256'][:12]}...")
    return 0 if passes(table) else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 for useless features, 2 for bad input, 130 for Ctrl-C."""
    try:
        return run(parse(argv))
    except SystemExit as end:  # of --help
        return int(end.code or 0)
    except KeyboardInterrupt:
        print("train_features: stopped; nothing was written", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        if os.environ.get("GANS_TRACEBACK"):
            raise
        print(f"train_features: error: {' '.join(str(error).rstrip('.').split())}", file=sys.stderr)
        return 2
