"""Images of a folder, archive or tar shards, flat or with one folder per class, of any size and format."""

from functools import cached_property
from pathlib import Path
from typing import Any

from datamodules.base import Size
from datamodules.files import ImageFiles, existing_folder
from datamodules.layout import Layout, layout
from datamodules.stored import Contents, StoredImagesDataModule


class ImageFolderDataModule(StoredImagesDataModule):
    """Images of a folder, an archive or tar shards: flat (all labels are 0), or with class folders `ROOT/CLASS/...`.

    Labels are the indices of the sorted class names. A root with images directly in it is flat, including its
    subfolders. Folders without images are not classes. A `dataset.json` in StyleGAN's format overrides the folders.

    The folders `train` and `val` or `test` in the root are the three sets. If only one of `val` and `test` exists, it
    is used for both. Without these folders, a random part of the images is used for validation and tests.

    Sizes, aspect ratios and formats may be mixed. Palettes, CMYK, 16-bit and 32-bit values and animations (first frame)
    are converted, see `datamodules.decode`. Alpha is composed over white unless `channels` is 4. Hidden files and those
    of systems and tools are ignored.

    Args:
        root: Folder, .zip or .tar of the images, in any format that the installed Pillow reads, or folder of tar
            shards, see `datamodules.shards`.
        size: Height and width to which all images are resized.
        channels: 1 (grey), 3 (colour; grey images are repeated) or 4 (colour and alpha, which some image must have).
        batch_size: Images per process and batch.
        args: Further arguments of `datamodules.stored.StoredImagesDataModule` by position, from `fit` on.
        options: Its arguments by name.
    """

    def __init__(
        self, root: str | Path, size: Size = 64, channels: int = 3, batch_size: int = 64, *args: Any, **options: Any
    ) -> None:
        super().__init__(size, channels, batch_size, *args, **options)
        self.root = existing_folder(root)

    @property
    def contents(self) -> Contents:
        """Labels, classes and sets of the images."""
        found = self._layout
        return Contents(found.labels, found.classes, found.sets, found.left_out, found.unclassed)

    def reader(self) -> ImageFiles:
        """Return a new reader of all images."""
        found = self._layout
        return ImageFiles(found.root, found.paths, self.target, self.on_error, shared=self.num_workers > 0)

    @cached_property
    def _layout(self) -> Layout:
        return layout(self.root)
