"""Images of Hugging Face's `datasets`: of the Hub, of Parquet or Arrow files, or saved by `save_to_disk`."""

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from datamodules import tables
from datamodules.archive import size_of
from datamodules.decode import Target, UnreadableImageError, picture
from datamodules.reader import OnError, Reader
from datamodules.stored import Contents, StoredImagesDataModule
from datamodules.tables import Table


class TableImages(Reader):
    """Reader of a column of images. The table is memory-mapped, also in worker processes.

    Args:
        place: Name of the data set, for messages.
        table: The table.
        column: Name of the column, in which an image is its bytes or a path.
        target: Form to which images are converted.
        on_error: For broken images, skip (warn once) or raise.
        shared: Whether worker processes will read.
    """

    def __init__(self, place: str, table: Table, column: str, target: Target, on_error: OnError, shared: bool) -> None:
        files = [Path(file["filename"]) for file in table.rows.cache_files]
        super().__init__(len(table.rows), place, next(iter(files), Path()), target, on_error, shared)
        self.table, self.column = table, column
        self._rows = table.rows.select_columns([column]).cast_column(column, tables.package().Image(decode=False))

    def name(self, index: int) -> str:
        """Return the split and number of a row."""
        return f"{self.table.row(index)} of {self.place}"

    @contextmanager
    def opened(self, index: int, data: bytes | None = None) -> Iterator[Any]:
        """Open an image with Pillow."""
        path: str | None = self.name(index)
        if data is None:
            data, path = self._stored(index)
        if data is None and not path:
            raise UnreadableImageError("no image")
        with picture(path or self.name(index), data) as file:
            yield file

    def encoded(self, index: int) -> bytes:
        """Return the encoded bytes of an image.

        Raises:
            UnreadableImageError: They cannot be read.
        """
        data, path = self._stored(index)
        try:
            return Path(path or "").read_bytes() if data is None else data
        except OSError as error:
            raise UnreadableImageError(error.strerror) from error

    def sizes(self) -> list[int]:
        """Return the numbers of encoded bytes of all images."""
        stored = map(self._stored, range(len(self)))
        return [size_of(path or "") if data is None else len(data) for data, path in stored]

    def _stored(self, index: int) -> tuple[bytes | None, str | None]:
        """Return the bytes and the path of an image, either of which may be missing."""
        try:
            held = self._rows[index][self.column] or {}
        except (OSError, ValueError) as error:  # damaged Arrow data
            raise UnreadableImageError(tables.sentence(error)) from error
        return held.get("bytes"), held.get("path")


class HuggingFaceDataModule(StoredImagesDataModule):
    """Images of Hugging Face's `datasets`, with labels if there is a column of them.

    `path` is a name on the Hub, a folder that `save_to_disk` has written, or a folder of Parquet or Arrow files or of
    images (`imagefolder`), or one such file. Rows are read by index from memory-mapped Arrow files, so order and
    resuming are those of the other data modules.

    The splits `train`, and `validation` or `test`, are the three sets. If only one of the last two exists, it is used
    for both. Without them a random part of the images is used for validation and tests.

    Args:
        path: Name on the Hub, or a local file or folder.
        name: Configuration of the data set.
        split: Split of the training images, also a part such as `train[:90%]`.
        val_split: Split for validation; by default `validation`, if it exists.
        test_split: Split for tests; by default `test`, if it exists.
        image: Column of the images; auto is the only column of images.
        label: Column of the labels: class labels, whole numbers or texts. auto is the column of class labels, or the
            one that is named label; null means no classes.
        revision: Commit or branch of the data set on the Hub.
        options: Arguments of `datamodules.stored.StoredImagesDataModule`.
    """

    def __init__(
        self,
        path: str,
        name: str | None = None,
        split: str = "train",
        val_split: str | None = None,
        test_split: str | None = None,
        image: str = "auto",
        label: str | None = "auto",
        revision: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        tables.package()
        self.path, self.name, self.revision = str(path), name, revision
        self.split, self.val_split, self.test_split = split, val_split, test_split
        self.image, self.label = image, label

    def prepare_data(self) -> None:
        """Download and convert the data set, in one process."""
        _ = self.held

    @cached_property
    def held(self) -> dict[str, Any]:
        """All splits of the data set by their names, as `datasets` gives them."""
        return tables.found(self.path, self.name, self.revision)

    @cached_property
    def columns(self) -> dict[str, str | None]:
        """The columns that are read, by their role: image and label."""
        features = next(iter(tables.sliced(self.path, self.held, "train", self.split))).features
        return {
            "image": tables.image_column(self.path, features, self.image),
            "label": tables.label_column(self.path, features, self.label),
        }

    @cached_property
    def table(self) -> Table:
        """The rows of all sets."""
        asked = {"train": self.split, "val": self.val_split, "test": self.test_split}
        columns = list(dict.fromkeys(column for column in self.columns.values() if column is not None))
        return tables.table(self.path, self.held, asked, columns)

    @cached_property
    def contents(self) -> Contents:
        """Labels, classes and sets of the images.

        Raises:
            ValueError: The column of labels has other values, or training images have no label.
        """
        sets, column = self.table.sets(), self.columns["label"]
        if column is None:
            labels = torch.zeros(len(self.table.rows), dtype=torch.long)
            why = "label is null" if self.label is None else f"{self.path} has no column of class labels"
            return Contents(labels, [], sets, Counter(), why)
        labels, classes = tables.labelled(self.path, self.table.rows, column)
        left_out: Counter[str] = Counter()
        for part, split, _ in self.table.splits:
            missing = int((labels[sets[part]] < 0).sum())
            if missing and part == "train":
                raise ValueError(
                    f"label is {column}, and {missing:,} of the {len(sets[part]):,} rows of {split} have none; "
                    "expected null, for images without classes"
                )
            if missing:
                warnings.warn(f"{missing:,} images of {split} have no label and are left out", stacklevel=2)
                left_out[f"images of {split} without a label"] = missing
                sets[part] = sets[part][labels[sets[part]] >= 0]
        sets = {part: rows for part, rows in sets.items() if len(rows)}
        return Contents(labels, classes, sets, left_out, "")

    def reader(self) -> TableImages:
        """Return a new reader of all images."""
        column = self.columns["image"]
        assert column is not None
        return TableImages(self.path, self.table, column, self.target, self.on_error, self.num_workers > 0)
