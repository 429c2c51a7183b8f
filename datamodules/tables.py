"""Tables of Hugging Face's `datasets`: found by name or path, their splits in one table, and the roles of columns.

A table is memory-mapped Arrow and has random access by row. Parquet files, folders of images and data sets of the Hub
are converted once, into the cache of `datasets` (`HF_HOME`). A folder that `save_to_disk` has written is read in place.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

HELD_OUT = {"val": ("validation", "valid", "val", "dev"), "test": ("test",)}  # usual names of splits
IMAGES = ("image", "img", "images", "picture")  # usual names of columns of bytes
LABELS = ("label", "labels", "class")
FILES = {".parquet": "parquet", ".arrow": "arrow"}  # of one file, with the loader of `datasets`
SAVED, SAVED_DICT = "state.json", "dataset_dict.json"  # files of `save_to_disk`
MOST = 1_000_000  # maximum number of classes, because each has a name in memory


class Table(NamedTuple):
    """The rows of all sets.

    Attributes:
        rows: A `datasets.Dataset`.
        splits: Name of the set (train, val or test), text of its split and number of its first row, in this order.
    """

    rows: Any
    splits: list[tuple[str, str, int]]

    def sets(self) -> dict[str, Tensor]:
        """Return the row indices of each set."""
        ends = [*(start for _, _, start in self.splits[1:]), len(self.rows)]
        return {name: torch.arange(start, end) for (name, _, start), end in zip(self.splits, ends, strict=True)}

    def row(self, index: int) -> str:
        """Return the name of a row, for messages."""
        _, split, start = next(found for found in reversed(self.splits) if found[2] <= index)
        return f"row {index - start} of {split}"


def package() -> Any:
    """Return Hugging Face's `datasets`.

    Raises:
        ValueError: It is not installed, or not with versions that fit.
    """
    try:
        import datasets
    except ImportError as error:
        raise ValueError(
            f'data sets of Hugging Face need the package datasets: pip install "lightning-gans[datasets]" ({error})'
        ) from error
    return datasets


def found(path: str, name: str | None, revision: str | None) -> dict[str, Any]:
    """Return all splits of a data set by their names.

    Args:
        path: Name on the Hub, or a local file or folder.
        name: Configuration of the data set.
        revision: Commit or branch on the Hub.

    Raises:
        ValueError: It cannot be read, or there is no such configuration.
        FileNotFoundError: It does not exist, or the Hub cannot be reached.
    """
    datasets, local = package(), Path(path).expanduser()
    if local.is_file() and local.suffix.lower() not in FILES:
        raise ValueError(f"path is {path}; expected a folder, a .parquet or .arrow file, or a name on the Hub")
    try:
        if (local / SAVED_DICT).is_file() or (local / SAVED).is_file():
            held = datasets.load_from_disk(str(local))
        elif local.is_file():
            held = datasets.load_dataset(FILES[local.suffix.lower()], data_files=str(local))
        elif local.is_dir():
            held = datasets.load_dataset(str(local), name)
        else:
            held = datasets.load_dataset(path, name, revision=revision)
    except (ConnectionError, FileNotFoundError) as error:
        where = "cannot be read" if local.exists() else "is no file or folder here, and the Hub does not give it"
        raise FileNotFoundError(f"path is {path}, which {where} ({sentence(error)})") from error
    except Exception as error:  # `datasets` and the readers of its formats raise many kinds
        raise ValueError(f"path is {path}, which datasets cannot read ({sentence(error)})") from error
    return dict(held) if isinstance(held, dict) else {"train": held}


def sentence(error: BaseException) -> str:
    """Return the first line of an error, without a full stop."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).strip().rstrip(".")


def table(path: str, held: dict[str, Any], asked: dict[str, str | None], columns: Sequence[str]) -> Table:
    """Return some columns of the splits that are asked for, in one table.

    Args:
        path: Of the data set, for messages.
        held: Splits by name.
        asked: Split for train, val and test, such as `train` or `train[:90%]`; None takes the usual names for val and
            test, which need not exist.
        columns: Names of columns.

    Raises:
        ValueError: There is no such split, or it has no such column.
    """
    datasets, parts, splits = package(), list[Any](), list[tuple[str, str, int]]()
    for name, text in asked.items():
        if text is None:
            text = next((usual for usual in HELD_OUT[name] if usual in held), None)
        if text is None:
            continue
        for part in sliced(path, held, name, text):
            missing = [column for column in columns if column not in part.features]
            if missing:
                raise ValueError(f"the split {text} of {path} has no column {missing[0]}")
            if not len(part):
                raise ValueError(f"the split {text} of {path} has no rows")
            if [name] != [known for known, _, _ in splits[-1:]]:
                splits.append((name, text, sum(map(len, parts))))
            parts.append(part.select_columns(list(columns)))
    rows = parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)
    return Table(rows, splits)


def sliced(path: str, held: dict[str, Any], name: str, text: str) -> Iterator[Any]:
    """Yield the data sets that the text of a split names, such as `train[:90%]` or `train+test`.

    Raises:
        ValueError: There is no such split, or the text is none.
    """
    word = "split" if name == "train" else f"{name}_split"
    try:
        asked = package().ReadInstruction.from_spec(text).to_absolute({key: len(rows) for key, rows in held.items()})
    except (ValueError, AssertionError) as error:
        have = ", ".join(held)
        raise ValueError(
            f"{word} is {text}; expected one of {have}, or a part such as {next(iter(held))}[:90%], of {path}"
        ) from error
    for part in asked:
        rows = held[part.splitname]
        first, last = part.from_ or 0, len(rows) if part.to is None else part.to
        # A contiguous selection stays memory-mapped.
        yield rows if (first, last) == (0, len(rows)) else rows.select(range(first, last))


def image_column(path: str, features: Any, asked: str) -> str:
    """Return the name of the column of images.

    Args:
        path: Of the data set, for messages.
        features: Types of the columns by name.
        asked: Name of a column, or auto.

    Raises:
        ValueError: There is none, or no such column, or several.
    """
    if asked != "auto":
        return existing(path, features, "image", asked)
    datasets = package()
    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    # Parquet files that `datasets` has not written have columns of bytes, alone or with a path.
    images = images or [name for name, kind in features.items() if isinstance(kind, dict) and "bytes" in kind]
    binary = [name for name, kind in features.items() if getattr(kind, "dtype", "") in ("binary", "large_binary")]
    images = images or [name for name in binary if name.lower() in IMAGES]
    if len(images) != 1:
        many = f"the columns of images {' and '.join(images)}" if images else "no column of images"
        raise ValueError(f"image is auto, and {path} has {many}; expected the name of one of {', '.join(features)}")
    return str(images[0])


def label_column(path: str, features: Any, asked: str | None) -> str | None:
    """Return the name of the column of labels, or None without labels.

    Args:
        path: Of the data set, for messages.
        features: Types of the columns by name.
        asked: Name of a column, auto, or None.

    Raises:
        ValueError: There is no such column, or there are several.
    """
    if asked is None:
        return None
    if asked != "auto":
        return existing(path, features, "label", asked)
    datasets = package()
    labels = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    named = [name for name in labels or features if name.lower() in LABELS and plain(features[name])]
    if len(labels) > 1 and len(named) != 1:
        raise ValueError(
            f"label is auto, and {path} has the columns of class labels {' and '.join(labels)}; expected one of them, "
            "or null"
        )
    return next(iter(named or labels), None)


def plain(kind: Any) -> bool:
    """Return whether the values of a column may be labels: whole numbers, texts or truth values."""
    dtype = str(getattr(kind, "dtype", ""))
    return dtype.startswith(("int", "uint", "bool", "string", "large_string"))


def existing(path: str, features: Any, word: str, asked: str) -> str:
    """Return the name of a column.

    Raises:
        ValueError: There is no such column.
    """
    if asked not in features:
        raise ValueError(f"{word} is {asked}; expected a column of {path}: {', '.join(features)}")
    return asked


def labelled(path: str, rows: Any, column: str) -> tuple[Tensor, list[str]]:
    """Return the labels `(N,)` int64 of all rows, -1 where there is none, and the names of the classes.

    Raises:
        ValueError: The values are neither class labels nor whole numbers, texts or truth values.
    """
    kind = rows.features[column]
    if not plain(kind):
        raise ValueError(
            f"label is {column}, a column of {getattr(kind, 'dtype', kind)} of {path}; expected class labels, whole "
            "numbers or texts"
        )
    values = rows.select_columns([column]).with_format("arrow")[:].column(0)
    if str(kind.dtype).startswith(("string", "large_string", "bool")):
        texts = [None if value is None else str(value) for value in values.to_pylist()]
        classes = sorted({text for text in texts if text is not None})
        numbers = {text: number for number, text in enumerate(classes)}
        return torch.tensor([-1 if text is None else numbers[text] for text in texts], dtype=torch.long), classes
    found = torch.from_numpy(np.array(values.fill_null(-1).to_numpy(), dtype=np.int64))
    if isinstance(kind, package().ClassLabel):
        classes = list(kind.names)
    else:
        wrong = next((value for value in (int(found.min()), int(found.max())) if not -1 <= value < MOST), None)
        if wrong is not None:
            raise ValueError(
                f"label is {column}, which has the value {wrong}; expected whole numbers from 0 to {MOST - 1:,}"
            )
        classes = [str(number) for number in range(int(found.max()) + 1)]
    return found, classes
