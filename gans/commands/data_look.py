"""`gans data look`: counts, classes, sizes, modes, broken images and a contact sheet of a data set, before a run.

WHAT is a folder or archive of images, or the name of a data module, whose arguments follow as --data.ARGUMENT. The
headers of all images are read, and no pixels besides those of the contact sheet.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from tqdm import tqdm

import datamodules
from datamodules.base import Batch
from datamodules.decode import Target
from datamodules.files import listed
from datamodules.stored import StoredImagesDataModule
from gans.commands.data_facts import Facts, duplicates, facts
from gans.commands.parser import Parser, check_writable
from gans.commands.splits import data_of, with_data
from gans.metrics.rows import items, of_images
from gans.pictures.captions import headed
from gans.pictures.images import grid, in_channels, save, to_float

COLUMNS, ROWS = 12, 8  # of the contact sheet; without classes it is square
THUMBNAIL = 96  # pixels
SHOWN = 8  # kinds in a line of the report
USUAL = (256, 128, 64, 32)  # sizes of training


def parser() -> Parser:
    """Return the parser of the flags."""
    flags = Parser(prog="gans data look", description=__doc__)
    flags.add_argument("--out", type=Path, default=Path("look.png"), help="file of the contact sheet")
    flags.add_argument("--json", action="store_true", help="print the report as JSON")
    flags.add_argument("--decode", action="store_true", help="decode all images, which finds truncated ones too")
    flags.add_lightning_class_args(L.LightningDataModule, "data", subclass_mode=True, required=True)
    return flags


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    flags, args = parser(), as_data(args)
    options = with_data(flags, args)
    check_writable(options.out.absolute().parent)
    data = flags.instantiate_classes(options).data
    if isinstance(data, StoredImagesDataModule):
        data.prepare_data()
        report, sheet = stored(data, options.decode)
    else:
        report, sheet = prepared(data_of(options, flags))
    report["sheet"] = str(save(sheet, options.out))
    report["next"] = following(args, report)
    print(json.dumps(report, indent=2) if options.json else told(report))


def as_data(args: list[str]) -> list[str]:
    """Return the arguments with the folder or data module, which comes first, as values of --data and its root."""
    if not args or args[0].startswith("-"):
        return args
    what, *rest = args
    if what in datamodules.__all__ or what.endswith("DataModule"):
        return ["--data", what, *rest]
    return ["--data", "ImageFolderDataModule", "--data.root", what, *rest]


def stored(data: StoredImagesDataModule, decode: bool) -> tuple[dict[str, Any], Tensor]:
    """Return the report on stored images, and their contact sheet `(3, H, W)` uint8."""
    contents, reader = data.contents, data.reader()

    def watch(numbers: Iterable[int]) -> Iterator[int]:
        yield from tqdm(numbers, "Looking", unit="image", dynamic_ncols=True, disable=not sys.stderr.isatty())

    found, twins = facts(reader, decode, watch), duplicates(reader)
    readable = torch.tensor([index not in found.broken for index in range(len(reader))])
    reader.target = Target(3, (THUMBNAIL, THUMBNAIL), "pad")  # whole images
    reader.on_error = "skip"

    def images(indices: list[int]) -> list[Tensor]:
        return [to_float(image) for index in indices if (image := reader.read(index)) is not None]

    report = {
        "place": str(reader.place),
        "images": len(reader),
        "sets": {name: len(rows) for name, rows in contents.sets.items()},
        "classes": counted(contents.labels[readable], contents.classes),
        "unclassed": contents.unclassed,
        "left_out": dict(contents.left_out),
        **plain(found),
        "broken": [{"image": reader.name(index), "reason": why} for index, why in found.broken.items()],
        "headers_only": not decode,
        "duplicates": None if twins is None else [[reader.name(index) for index in group] for group in twins],
    }
    return report, sheet_of(contents.labels, contents.classes, readable.nonzero().flatten(), images)


def prepared(data: Any) -> tuple[dict[str, Any], Tensor]:
    """Return the report on a data module whose images are not stored one by one, and their contact sheet."""
    loader = data.train_dataloader()
    rows = of_images(loader.dataset)
    held = {"val": data.val_dataloader(), "test": data.test_dataloader()}
    batch: Batch = items(rows, range(min(len(rows), COLUMNS * ROWS)))
    shown = batch[0][:, :, 0] if batch[0].ndim == 5 else batch[0]  # the first frames of clips
    report = {
        "place": type(data).__name__,
        "images": len(rows),
        "sets": {"train": len(rows)}
        | {name: len(found.dataset) for name, found in held.items() if not isinstance(found, list)},
        "batch": [list(part.shape[1:]) for part in batch],
        "about": data.describe() if hasattr(data, "describe") else {},
    }
    return report, grid(in_channels(to_float(shown), 3))


def counted(labels: Tensor, classes: list[str]) -> dict[str, int]:
    """Return the number of images of each class by its name; -1 is no class."""
    counts = torch.bincount(labels[labels >= 0], minlength=len(classes)).tolist()
    return dict(zip(classes, counts, strict=True)) if classes else {}


def plain(found: Facts) -> dict[str, Any]:
    """Return facts as plain values."""
    smallest, middle, largest = found.sides
    sizes = {f"{width}x{height}": count for (width, height), count in found.sizes.most_common(SHOWN)}
    return {
        "formats": dict(found.formats.most_common()),
        "modes": dict(found.modes.most_common()),
        "alpha": found.alpha,
        "grey": found.grey,
        "sizes": sizes,
        "different_sizes": len(found.sizes),
        "shorter_side": {"min": smallest, "median": middle, "max": largest},
    }


def sheet_of(labels: Tensor, classes: list[str], usable: Tensor, images: Any) -> Tensor:
    """Return a contact sheet `(3, H, W)` uint8, with a column for each of up to twelve classes.

    Args:
        labels: of all images.
        classes: names of the classes.
        usable: numbers of the images that can be read.
        images: a function that returns the images `(3, h, w)` in [-1, 1] of some numbers.

    Raises:
        ValueError: no image can be read.
    """
    blank = torch.ones(3, THUMBNAIL, THUMBNAIL)
    shown = spread([label for label in range(len(classes)) if bool((labels[usable] == label).any())], COLUMNS)
    columns = [images(spread(usable[labels[usable] == label].tolist(), ROWS)) for label in shown]
    if not columns:
        found = images(spread(usable.tolist(), ROWS * ROWS))
        if not found:
            raise ValueError("no image can be read")
        return grid(torch.stack(found))
    rows = [[*column, *[blank] * (ROWS - len(column))] for column in columns]
    ordered = torch.stack([rows[column][row] for row in range(max(map(len, columns))) for column in range(len(rows))])
    return headed(grid(ordered, columns=len(rows)), [classes[label] for label in shown])


def spread(values: list[int], count: int) -> list[int]:
    """Return at most `count` of the values, spread evenly over all."""
    return [values[i * len(values) // count] for i in range(count)] if len(values) > count else values


def following(args: list[str], report: dict[str, Any]) -> str:
    """Return a command that trains on the data."""
    own = [arg for arg in args if arg not in ("--json", "--decode")]
    if "--out" in own:
        place = own.index("--out")
        own = own[:place] + own[place + 2 :]
    own = own[2:] if own[:2] == ["--data", "ImageFolderDataModule"] else own
    given = {arg.partition("=")[0] for arg in own}
    if "shorter_side" in report and "--data.size" not in given:
        middle = report["shorter_side"]["median"]
        own += ["--data.size", str(next((size for size in USUAL if size <= middle), USUAL[-1]))]
    if report.get("modes") and report["grey"] == sum(report["modes"].values()) and "--data.channels" not in given:
        own += ["--data.channels", "1"]
    return " ".join(["gans", "fit", "dcgan-folder", *own])


def told(report: dict[str, Any]) -> str:
    """Return the report as text."""
    lines = {"data": f"{report['images']:,} images of {report['place']}"}
    if len(report["sets"]) > 1:
        lines["sets"] = ", ".join(f"{count:,} {name}" for name, count in report["sets"].items())
    if "batch" in report:
        lines["item"] = " and ".join("x".join(map(str, shape)) or "a number" for shape in report["batch"])
        lines |= {name: text for name, text in report["about"].items() if name != "data"}
    else:
        lines |= of_files(report)
    lines["sheet"] = report["sheet"]
    return "\n".join(f"{name:<13}{text}" for name, text in lines.items()) + f"\n\n{report['next']}"


def of_files(report: dict[str, Any]) -> dict[str, str]:
    """Return the lines about stored images."""
    counts, side = report["classes"], report["shorter_side"]
    lines = {"classes": f"none: {report['unclassed']}"}
    if counts:
        least, most = min(counts.values()), max(counts.values())
        names = (
            f"{least:,} images each: {listed(list(counts))}" if least == most else f"{least:,} to {most:,} images each"
        )
        lines["classes"] = f"{len(counts)}, {names}" + ("" if least == most else f": {kinds(counts)}")
    if report["left_out"]:
        lines["left out"] = kinds(report["left_out"])
    lines["formats"], lines["modes"] = kinds(report["formats"]), kinds(report["modes"])
    if report["alpha"]:
        lines["modes"] += f"; {report['alpha']:,} with alpha"
    lines["sizes"] = kinds(report["sizes"])
    if report["different_sizes"] > 1:
        more = report["different_sizes"] - len(report["sizes"])
        lines["sizes"] += f" and {more:,} others" if more else ""
        lines["sizes"] += f"; shorter side {side['min']} to {side['max']}, median {side['median']}"
    broken = [f"{one['image']} ({one['reason']})" for one in report["broken"]]
    lines["broken"] = f"{len(broken):,}: {listed(broken)}" if broken else "0"
    lines["broken"] += "; --decode also finds truncated images" if report["headers_only"] else ""
    twins = report["duplicates"]
    if twins is None:
        lines["duplicates"] = "not looked for"
    else:
        same = [" = ".join(group) for group in twins]
        lines["duplicates"] = f"{sum(len(group) - 1 for group in twins):,}" + (f": {listed(same)}" if same else "")
    return lines


def kinds(counts: dict[str, int]) -> str:
    """Return the most frequent kinds with their numbers, as text."""
    shown = Counter(counts).most_common(SHOWN)
    return ", ".join(f"{count:,} {kind}" for kind, count in shown) + (", ..." if len(counts) > len(shown) else "")
