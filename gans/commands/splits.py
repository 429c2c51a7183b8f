"""The real images of a command: the datamodule of its flags or of a checkpoint's run, its splits, a progress bar."""

import json
import sys
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from jsonargparse import Namespace
from tqdm import tqdm

from datamodules.archive import is_folder
from gans.checks import named_in
from gans.commands.home import expanded
from gans.commands.parser import Parser
from gans.commands.words import HERE
from gans.metrics.features import Watch
from gans.metrics.rows import Labelled, items, of_images
from gans.recipes.configuration import read
from gans.recipes.named import local
from gans.runs.folder import of_checkpoint

Split = Literal["train", "val", "test"]


def with_data(flags: Parser, args: list[str], instead: Set[str] = frozenset({"--data"})) -> Namespace:
    """Return the options. The data are those of the checkpoint's run, unless a flag of `instead` is given.

    Raises:
        ValueError: for wrong flags, in one sentence.
    """
    args = expanded([part for arg in args for part in (arg.split("=", 1) if arg.startswith("--") else [arg])])
    named = of_run = None
    for i, flag in enumerate(args[:-1]):
        if flag == "--data" and is_folder(args[i + 1]):
            args[i : i + 2] = ["--data", "ImageFolderDataModule", "--data.root", args[i + 1]]
        elif flag == "--data":
            named = args[i + 1]
    for before, arg in zip(["", *args], args, strict=False):
        path = None if before.startswith("--") or arg.startswith("--") else local(Path(arg))
        config = of_checkpoint(path) / "config.yaml" if path and path.suffix == ".ckpt" else None
        if config is None or not config.is_file():
            continue
        if not instead & set(args):
            data = data_of_run(config)
            named_in(config, data["class_path"], "datamodules", L.LightningDataModule, "--data")
            flags.set_defaults({"data": data})
            of_run = data["class_path"].rpartition(".")[2]
        elif named and "." in named and (data := data_of_run(config))["class_path"] == named:
            flags.set_defaults({"data": data})  # a class of the user, with the arguments of its run
    try:
        return flags.parse_args(args)
    except ValueError as error:
        if of_run and "no key data." in str(error).replace(HERE, ""):
            told = f"the data of the run are {of_run}, give --data FOLDER or --data CLASS before it for others"
            raise ValueError(f"{error}: {told}") from error
        raise


def data_of_run(config: Path) -> dict[str, Any]:
    """Return the class path and the arguments of the data in a run's config.yaml.

    Raises:
        ValueError: if it is not YAML, or names no data.
    """
    try:
        data = read(config).get("data")
    except ValueError as error:
        raise ValueError(f"{config} names no data, for {error}: give --data") from error
    data = data if isinstance(data, dict) else {}
    name, arguments = data.get("class_path"), data.get("init_args") or {}
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ValueError(f"{config} names no data by class_path and init_args: give --data")
    return {"class_path": name, "init_args": arguments}


def data_of(options: Namespace, flags: Parser) -> Any:
    """Return the datamodule, prepared and set up.

    Raises:
        ValueError: if no data are known.
    """
    if options.get("data") is None:
        raise ValueError("no run folder says which data these are: give --data FOLDER or --data MNISTDataModule")
    data = flags.instantiate_classes(options).data
    data.prepare_data()
    data.setup()
    return data


def data_config(options: Namespace) -> Any:
    """Return the data's class and arguments as plain values."""
    return json.loads(json.dumps(options.data.as_dict(), default=str))


def sets(data: Any, split: Split) -> tuple[Any, Any, str | None]:
    """Return the real images of a split, images held out from it or None, and the name of their split.

    Raises:
        ValueError: if the split is empty.
    """
    found = {}
    for name in ("test", "val", "train"):
        loader = getattr(data, f"{name}_dataloader")()
        if not isinstance(loader, list) and len(loader.dataset):
            found[name] = of_images(loader.dataset)
    if split not in found:
        raise ValueError(f"split is {split}, which has no images; expected {' or '.join(found)}")
    others = [name for name in found if found[name] is not found[split]]
    return found[split], found[others[0]] if others else None, others[0] if others else None


def shape_of(dataset: Any) -> tuple[int, ...]:
    """Return the shape of the images `(C, H, W)`, or clips `(C, T, H, W)`, of a data set; of pairs that of targets."""
    images, second, *_ = (*items(dataset, [0]), None)
    alone = second is None or second.ndim != images.ndim or second.dtype == torch.bool  # a mask belongs to the image
    return tuple((images if alone else second).shape[1:])


def classes_of(dataset: Any, data: Any) -> int:
    """Return the number of classes of a data set of the datamodule `data`; 0 without labels."""
    _, labels, *_ = (*items(dataset, [0]), None)
    whole = labels is not None and labels.ndim == 1 and not labels.is_floating_point()
    count = int(getattr(data, "num_classes", 1))
    return count if whole and count > 1 else 0


def bar(what: str, count: int) -> Watch:
    """Return a progress bar for blocks of images, `count` images in all; it shows on a terminal only."""

    def watch(blocks: Iterator[Labelled]) -> Iterator[Labelled]:
        with tqdm(total=count, desc=what, unit="image", dynamic_ncols=True, disable=not sys.stderr.isatty()) as shown:
            for block in blocks:
                yield block
                shown.update(len(block[0]))

    return watch
