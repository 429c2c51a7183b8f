"""The image files of a folder or archive, read by their number."""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.archive import PACKED, is_folder, opened, size_of, walk
from datamodules.decode import COMMON, EXTENSIONS, Header, Target, UnreadableImageError, look_all, picture, reason
from datamodules.reader import OnError, Reader

NAMED = 5  # maximum number of files in a message


class ImageFiles(Reader):
    """Reader of the image files of a folder or archive.

    Args:
        root: Folder or zip archive.
        paths: Paths of image files, relative to the root.
        target: Form to which images are converted.
        on_error: For broken files, skip (warn once) or raise.
        shared: Whether worker processes will read.
    """

    kind = "image files"

    def __init__(self, root: Path, paths: list[str], target: Target, on_error: OnError, shared: bool) -> None:
        super().__init__(len(paths), root, root, target, on_error, shared)
        self.root = root
        # One array, because the reference counts of a million strings would be copied into every worker.
        self._paths = np.array([os.fsencode(path) for path in paths])

    def path(self, index: int) -> Path:
        """Return the path of a file."""
        return self.root / os.fsdecode(self._paths[index])

    def paths(self) -> Iterator[Path]:
        """Yield the paths of all files."""
        return map(self.path, range(len(self)))

    def name(self, index: int) -> str:
        """Return the path of a file, as text."""
        return str(self.path(index))

    def opened(self, index: int, data: bytes | None = None) -> AbstractContextManager[Any]:
        """Open a file with Pillow."""
        return picture(self.path(index), data)

    def encoded(self, index: int) -> bytes:
        """Return the bytes of a file.

        Raises:
            UnreadableImageError: They cannot be read.
        """
        path = self.path(index)
        try:
            with opened(path) as file:
                return file.read()
        except OSError as error:
            raise UnreadableImageError(reason(path, error)) from error

    def sizes(self) -> list[int]:
        """Return the sizes of all files in bytes."""
        return [size_of(path) for path in self.paths()]

    def headers(self, indices: Sequence[int]) -> list[Header | UnreadableImageError]:
        """Return the headers of files, or the errors."""
        return look_all([self.path(index) for index in indices])

    def broken_names(self) -> list[str]:
        """Return the paths of broken files, relative to the root."""
        return [str(Path(name).relative_to(self.root)) for name in super().broken_names()]


def listed(names: Sequence[str]) -> str:
    """Return the first names and the number of the others, as text."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")


def is_image(path: str) -> bool:
    """Return whether the installed Pillow reads files with this extension."""
    return os.path.splitext(path)[1][1:].lower() in EXTENSIONS


def image_files(root: str | Path) -> Iterator[str]:
    """Yield the relative paths of all image files in a folder or an archive, in no particular order.

    The separator is "/". Hidden files and files of systems and tools are skipped. Links are followed, except links to a
    parent folder.
    """
    return (path for path in walk(root) if not path.endswith("/") and is_image(path))


def existing_folder(root: str | Path, word: str = "root") -> Path:
    """Return the path of a folder or archive that contains at least one image.

    Args:
        root: Path of the folder or archive.
        word: Name of the argument in error messages.

    Raises:
        FileNotFoundError: The folder does not exist or contains no image.
        NotADirectoryError: The path is a file of another kind.
        ValueError: The archive is damaged or encrypted.
    """
    path = Path(root).expanduser()
    if not is_folder(path):
        if not path.exists():
            raise FileNotFoundError(f"{word} must be a folder of images, but {path} does not exist.")
        if path.name.lower().endswith(PACKED):
            hint = "unpack it and give the folder, or make it a .zip or a .tar without compression"
            raise NotADirectoryError(f"{word} is {path}, an archive: {hint}.")
        raise NotADirectoryError(f"{word} must be a folder of images, a .zip or a .tar, but {path} is a file.")
    if next(image_files(path), None) is None:
        shown = f"{', '.join(COMMON)} and {len(EXTENSIONS) - len(COMMON)} other kinds"
        raise FileNotFoundError(f"{word} is {path}, which contains no images (looked for {shown}).")
    return path
