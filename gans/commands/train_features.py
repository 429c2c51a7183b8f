"""Trains a small classifier as an extractor for FID of images or clips, and prints a table that tests its features.

Clips need no classes: their classifier also learns to tell frames in order from shuffled and frozen ones.

Training takes minutes. Distances compare only with those of the same file, which its sha256 identifies: another number
of threads trains other weights.
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from gans.commands.feature_data import ASKED, Data, Labelled, captioned, folder, mnist, module, moving
from gans.commands.home import expanded
from gans.commands.script import Parser, interruptible, least
from gans.metrics.classifiers import pack
from gans.metrics.sanity import ALONE, SAMPLES, WORSE, Table, passes, sanity, sees
from gans.metrics.sequences import ORDERS, disordered
from gans.networks.classifier import SMALLEST, Classifier, ClipClassifier
from gans.pictures.images import to_float
from gans.runs import atomic
from gans.runs.memory import Budget, check_fits

BATCH = 128
LR = 4e-3
SHIFT = 16  # images are shifted by up to a 16th of their side
MODULE = "DataModule"  # at the end of a name
CAPTIONED = "captioned-digits"
OWN = ("mnist", "moving", CAPTIONED)  # data sets with test images of their own
Options = argparse.Namespace
Network = Classifier | ClipClassifier


def parse(argv: Sequence[str] | None) -> Options:
    """Return the options of the command line."""
    parser = Parser("train_features", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--data",
        required=True,
        help="mnist, moving, captioned-digits, a folder with one folder of images per class, or a LightningDataModule",
    )
    parser.add_argument("--root", help="folder with MNIST/raw, for mnist, moving and captioned-digits")
    parser.add_argument(
        "--label", choices=list(ASKED), help="attribute of captioned-digits that is learnt; by default digit"
    )
    parser.add_argument(
        "--test", help="folder of test images with the same classes; by default a tenth of the images is held out"
    )
    parser.add_argument("--out", required=True, type=Path, help="file to write; its name becomes that of the extractor")
    parser.add_argument("--size", type=least(SMALLEST), help="side to which images are resized; by default 32")
    parser.add_argument("--channels", type=int, choices=[1, 3], help="by default 1 for mnist, else 3")
    parser.add_argument("--width", type=least(1), default=16, help="channels of the first layers")
    parser.add_argument("--features", type=least(1), default=64, help="length of the features")
    parser.add_argument("--epochs", type=least(1), default=2)
    parser.add_argument("--flip", action="store_true", help="mirror half of the training images from left to right")
    parser.add_argument("--seed", type=least(0), default=0)
    options, rest = parser.parse_known_args(argv)
    options.data_arguments = rest
    expanded(options)
    if options.data.endswith(MODULE):
        for name in ("root", "label", "test", "size", "channels"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name} is not for {options.data}, whose arguments are --data.NAME; expected none")
        return options
    if rest:
        raise ValueError(f"unrecognized arguments: {' '.join(rest)}")
    options.root, options.size = options.root or "data", options.size or 32
    own = options.data in OWN
    if options.label and options.data != CAPTIONED:
        raise ValueError(f"--label is {options.label}; expected none, for only {CAPTIONED} has several")
    if options.data == CAPTIONED:
        options.label = options.label or "digit"
        if options.channels == 1:
            raise ValueError(f"--channels is 1; expected 3, for {CAPTIONED} is in colour")
    options.channels = options.channels or (1 if own and options.data != CAPTIONED else 3)
    if own and options.test:
        raise ValueError(f"--test is {options.test}; expected none, for {options.data} has test images of its own")
    return options


def data_of(options: Options) -> Data:
    """Return the data set of the options."""
    name, root, size, channels = options.data, options.root, options.size, options.channels
    if name.endswith(MODULE):
        return module(name, options.data_arguments)
    if name == "mnist":
        return mnist(root, size, channels)
    if name == "moving":
        return moving(root, size, channels)
    if name == CAPTIONED:
        return captioned(root, size, options.label)
    return folder(name, options.test, size, channels, options.seed)


def augmented(images: Tensor, flip: bool, generator: torch.Generator) -> Tensor:
    """Return images `(N, C, ..., H, W)`, shifted at random with repeated edges, and half of them mirrored for `flip`.

    All frames of a clip are moved alike.
    """
    count, height, width = len(images), *images.shape[-2:]
    most = max(height, width) // SHIFT
    down, right = torch.randint(-most, most + 1, (2, count, 1), generator=generator)
    rows = (torch.arange(height) + down).clamp(0, height - 1)
    columns = (torch.arange(width) + right).clamp(0, width - 1)
    if flip:
        columns = torch.where(torch.rand(count, 1, generator=generator) < 0.5, columns.flip(1), columns)
    flat = images.flatten(1, -3)
    moved = flat[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return moved.reshape(images.shape)


def train(network: Network, data: Labelled, options: Options, order: nn.Module | None = None) -> None:
    """Train with cross-entropy, AdamW (Loshchilov and Hutter, arXiv 1711.05101) and one cycle of the learning rate.

    For clips, `order` returns logits of the order of frames from the features, and is trained too.
    """
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(options.seed)
    parameters = [*network.parameters(), *(order.parameters() if order else ())]
    optimizer = torch.optim.AdamW(parameters, LR, weight_decay=1e-2)
    steps = options.epochs * -(-len(data.images) // BATCH)
    schedule = OneCycleLR(
        optimizer, LR, total_steps=steps + 1
    )  # one more, because it divides by the number of steps after the first
    network.train()
    with tqdm(total=steps, desc="training", disable=None) as bar:
        for _ in range(options.epochs):
            for rows in torch.split(torch.randperm(len(data.images), generator=generator), BATCH):
                images = augmented(data.images[rows], options.flip, generator)
                labels = None if data.labels is None else data.labels[rows].to(device)
                loss = lesson(network, order, images.to(device), labels, generator)
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()
                bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
                bar.update()
    network.eval()


def lesson(
    network: Network, order: nn.Module | None, images: Tensor, labels: Tensor | None, generator: torch.Generator
) -> Tensor:
    """Return the loss of uint8 images; for clips the sum of the losses of classes and of the order of frames.

    Half of the clips are put out of order. Only the others have a loss of classes: a frozen clip has no direction.
    """
    if order is None:
        assert labels is not None
        return cross_entropy(network(to_float(images))[1], labels)
    clips, orders = disordered(images, generator)
    features, logits = network(to_float(clips))
    loss = cross_entropy(order(features), orders.to(features.device))
    whole = len(images) // 2
    return loss if labels is None else loss + cross_entropy(logits[:whole], labels[:whole])


@torch.no_grad()
def outputs(network: Network, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return features and logits of uint8 images or clips on the CPU, computed in batches."""
    device = next(network.parameters()).device
    features, logits = zip(*(network(to_float(some.to(device))) for some in torch.split(images, 250)), strict=True)
    return torch.cat(features).cpu(), None if logits[0] is None else torch.cat(logits).cpu()


def accuracies(network: Network, order: nn.Module | None, test: Labelled) -> dict[str, float]:
    """Return the accuracies of classes and of the order of frames on test images or clips."""
    found = {}
    if test.labels is not None:
        found["classes"] = share(outputs(network, test.images)[1], test.labels)
    if order is not None:
        clips, orders = disordered(test.images, torch.Generator().manual_seed(0))
        features = outputs(network, clips)[0].to(next(order.parameters()).device)
        with torch.no_grad():
            found["order of frames"] = share(order(features).cpu(), orders)
    return found


def share(logits: Tensor | None, labels: Tensor) -> float:
    """Return the share of labels that the logits predict."""
    assert logits is not None
    return (logits.argmax(1) == labels).double().mean().item()


def check_writable(path: Path) -> None:
    """Raise a ValueError if `path` cannot be written. Nothing is written."""
    if path.is_dir() or path.suffix == ".json":
        raise ValueError(f"--out is {path}; expected a file such as {path.with_suffix('.pt')}")
    there = atomic.existing(path.absolute().parent)
    try:
        with tempfile.TemporaryDirectory(dir=there):
            pass
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror} ({there})") from error


def write(path: Path, content: dict[str, Any], report: dict[str, Any]) -> None:
    """Write the weights and a JSON report, each atomically."""
    text = json.dumps(report, indent=2, allow_nan=False)
    with atomic.opened(path) as file:
        torch.save(content, file)
        atomic.write(path.with_suffix(".json"), f"{text}\n".encode())


def show(accuracy: dict[str, float], table: Table) -> None:
    """Print accuracies, table and result."""
    for name, value in accuracy.items():
        print(f"test accuracy {100 * value:.2f} %" + ("" if name == "classes" else f", {name}"))
    print(f"FID of test images against training images, at most {SAMPLES:,} each, damaged by:")
    for name, value in table.items():
        print(f"  {name:20}{value:10.3f}")
    for name, factor in WORSE.items():
        if name in table:
            unseen = f"FAIL: these features do not know the {'classes' if name == ALONE else 'order'}; train for longer"
            times = "twice" if factor == 2 else f"{factor} times"
            print(f"{name} is more than {times} as far as blur 0.8: {'pass' if sees(table, name) else unseen}")


def run(options: Options) -> int:
    """Train, test and write; return 0, or 1 if the features fail the test."""
    check_writable(options.out)
    if options.size:  # a LightningDataModule has its own
        check_fits(
            500 * (options.channels or 3) * options.size**2, f"reading 500 images of size {options.size} at once"
        )
    start = time.perf_counter()
    data = data_of(options)
    clips, size = data.train.images.dim() == 5, list(data.train.images.shape[-2:])
    architecture = {"channels": data.train.images.shape[1], "width": options.width}
    architecture |= {"num_features": options.features, "num_classes": data.num_classes}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.random.fork_rng(devices=[]), Budget(f"the classifier of width {options.width}"):
        torch.manual_seed(options.seed)
        network: Network = (ClipClassifier if clips else Classifier)(**architecture).to(device)
        order = nn.Linear(options.features, len(ORDERS)).to(device) if clips else None
    train(network, data.train, options, order)
    accuracy = accuracies(network, order, data.test)
    table = sanity(lambda images: outputs(network, images)[0], data.train.images, *data.test, seed=options.seed)
    show(accuracy, table)
    count = f"{len(data.train.images)} training and {len(data.test.images)} test {'clips' if clips else 'images'}"
    facts = {"name": options.out.stem, "size": size, "unframed": list(data.unframed)}
    facts |= {"accuracy": next(iter(accuracy.values())), "data": f"{data.description}: {count}"}
    facts |= {"frames": data.train.images.shape[2]} if clips else {}
    content = pack(network, architecture, facts)
    about = {key: content[key] for key in ("sha256", "architecture", *facts)} | {"accuracies": accuracy}
    versions = {"python": platform.python_version(), "torch": torch.__version__, "torchvision": torchvision.__version__}
    about |= {"fid": table, "passes": passes(table), "versions": versions, "threads": torch.get_num_threads()}
    about |= {"arguments": {**vars(options), "out": options.out.name}, "seconds": round(time.perf_counter() - start)}
    write(options.out, content, about)
    print(f"wrote {options.out} and {options.out.with_suffix('.json').name}, sha256 {content['sha256'][:12]}...")
    return 0 if passes(table) else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0 is success, 1 useless features or a full disk or memory, 2 bad input, 130 Ctrl-C.
    """
    return interruptible("train_features", lambda: run(parse(argv)), "stopped; nothing was written")
