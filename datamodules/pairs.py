"""Base of the data modules of pairs: batches, matching of files, and the same crops and flips for both images.

A batch of pairs is `(source, target)`: input images and expected outputs. They are uint8 `(N, C, H, W)` in the
dataloader and float in [-1, 1] on the device. The source may have other channels and, for super-resolution, another
size. If a translation should keep the class of the source, its labels `(N,)` int64 are the third element, see
`datamodules.changed`.

For inpainting a batch is `(image, mask)`. The mask `(N, 1, H, W)` is 1 in holes and 0 where pixels are known. It is
bool in the dataloader, and 0 and 1 in the model's dtype on the device.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.base import Batch, BatchDataset, ImageDataModule, Size, integer, one_of, quiet_about_workers
from datamodules.decode import Half, Target, UnreadableImageError, dimensions
from datamodules.files import ImageFiles, existing_folder, image_files, listed
from datamodules.layout import both_sides, unused
from datamodules.order import Key, mix
from datamodules.palette import Palette
from datamodules.reader import BrokenDataError, Cache, OnError
from datamodules.windows import CUTS, Cut, ValFit, View, cutting, picture_of, reading, warn_of_small

Direction: TypeAlias = Literal["a_to_b", "b_to_a"]


class PairDataModule(ImageDataModule):
    """Base of the data modules of pairs. For batches see the module's docstring.

    Args:
        root: Folder of the images, or of A.
        target_root: Folder of B, if it is another one.
        direction: a_to_b uses A as the source, b_to_a uses B.
        size: Height and width to which all images are resized.
        channels: Channels of the targets: 1 (grey), 3 (colour) or 4 (colour and alpha).
        source_channels: Channels of the sources; None is the same as `channels`.
        batch_size: Pairs per process and batch.
        fit: How images are fitted: crop the centre, pad with black, stretch, or take a random window of `size` without
            resizing, the same of both images of a pair; see `datamodules.windows`.
        scale_range: Minimum and maximum of a random factor by which an image is enlarged before a window is taken.
        turn: Turn training windows by a random number of quarter turns.
        windows: Windows of each image in an epoch. They are neighbours in the order, so that a file is decoded once for
            all of them. `batch_size` should be a multiple.
        val_fit: For windows, the form of validation and test images: window (default; fixed windows), whole (in their
            own sizes), crop, pad or stretch.
        jitter: Training images are resized to this many pixels more than `size` and cropped at random; 30 in pix2pix.
        jitter_until: Share of the run's batches after which there is no jitter. CUT uses 0.5, FastCUT 0.75. A cache
            contains both sizes.
        flip: Mirror training images horizontally at random.
        cache: Cache decoded images in memory, so that each is decoded once; for windows, the bytes of the files.
        on_error: For files that turn out to be unreadable in training, raise or skip (use the next one and warn once).
        val_size: Number of pairs kept for validation if there is no folder for it; by default one in twenty, at least
            one.
        infinite: Repeat the training images until an epoch has at least 100 batches.
        seed: Seed of the split and, with the run's seed, of the training order, crops and flips.
        num_workers: Processes that load images; by default the number of CPU cores, at most 8.
    """

    num_classes = 1
    items = "pairs"

    def __init__(
        self,
        root: str | Path,
        target_root: str | Path | None = None,
        direction: Direction = "a_to_b",
        size: Size = 256,
        channels: int = 3,
        source_channels: int | None = None,
        batch_size: int = 1,
        fit: Cut = "crop",
        scale_range: tuple[float, float] = (1.0, 1.0),
        turn: bool = False,
        windows: int = 1,
        val_fit: ValFit | None = None,
        jitter: int = 0,
        jitter_until: float = 1.0,
        flip: bool = True,
        cache: Cache = False,
        on_error: OnError = "raise",
        val_size: int | None = None,
        infinite: bool = True,
        seed: int = 0,
        num_workers: int | None = None,
    ) -> None:
        workers = min(8, os.cpu_count() or 1) if num_workers is None else num_workers
        super().__init__(size, channels, batch_size, workers, seed, infinite)
        self.source_channels = channels if source_channels is None else source_channels
        if self.source_channels not in (1, 3, 4):
            raise ValueError(f"source_channels is {source_channels!r}; expected 1 (grey), 3 (colour) or 4 (with alpha)")
        self.direction: Direction = one_of("direction", direction, ("a_to_b", "b_to_a"))
        self.fit: Cut = one_of("fit", fit, CUTS)
        self.cutting = cutting(self.size, fit, scale_range, turn, windows, val_fit)
        self.windows, self.whole = windows, val_fit == "whole"
        self.jitter = integer("jitter", jitter, least=0)
        if jitter and self.cutting:
            raise ValueError(f"jitter is {jitter}; expected 0 for windows, which are at random places already")
        if not 0 < jitter_until <= 1:
            raise ValueError(f"jitter_until is {jitter_until}; expected a share of the run above 0 and up to 1")
        if jitter_until < 1 and not jitter:
            raise ValueError(f"jitter_until is {jitter_until}; expected 1, or jitter above 0")
        self.jitter_until = jitter_until
        if cache not in (False, True):
            raise ValueError(f"cache is {cache}; expected true or false, because pairs are cropped on the CPU.")
        self.flip, self.cache = flip, bool(cache)
        self.on_error: OnError = one_of("on_error", on_error, ("skip", "raise"))
        self.val_size = None if val_size is None else integer("val_size", val_size, least=0)
        self._checked: set[tuple[Path, int]] = set()  # folders whose channels have been checked
        self.root = existing_folder(root)
        self.target_root = None if target_root is None else existing_folder(target_root, "target_root")
        if cache and not self.cutting:
            quiet_about_workers()

    def reader(
        self, side: "Side", channels: int, more: int, rows: Tensor | None, palette: Palette | None = None
    ) -> ImageFiles:
        """Return a reader of these rows of a side, or of all rows, `more` pixels larger than `size`.

        With a palette, the images are label maps.

        Raises:
            ValueError: There are to be 4 channels and no image has alpha, or the cache does not fit into memory.
            OSError: Most files cannot be read, or one cannot and `on_error` is raise.
        """
        target = Target(channels, (self.size[0] + more, self.size[1] + more), reading(self.fit), palette=palette)
        new = (side.root, channels) not in self._checked
        files = side.files(target, self.on_error, self.num_workers > 0, self.cache, rows, check=new)
        self._checked.add((side.root, channels))
        self._readers.append(files)
        if self.cutting:
            warn_of_small(files)
        return files

    def shown(self, make: Callable[["Views", int], BatchDataset], training: bool) -> BatchDataset:
        """Return a set, given a function that makes it of its views and of the number of rows of each image."""
        flip = self.flip and training
        if self.cutting is None:
            return make(Views(Crop(self.size), flip), 1)
        return self.cutting.shown(lambda view, count: make(Views(view, flip), count), training)

    @property
    def left_out(self) -> Counter[str]:
        """Number of unused files by kind."""
        roots = [self.root] if self.target_root is None else [self.root, self.target_root]
        return unused(roots, self._readers)

    def moving(self, read: Callable[[int], BatchDataset]) -> BatchDataset:
        """Return the training pairs, given a function `read` of the jitter: without jitter from `jitter_until` on."""
        first = read(self.jitter)
        if self.jitter_until == 1:
            return first
        readers = [*self._readers]
        settling = Settling(first, read(0))
        self._readers = readers  # the second reader has the same files, which must not be counted twice
        return settling

    def second_form(self) -> Callable[[], float] | None:
        """Return a function that returns the batch from which there is no jitter, or None.

        It may be called when the run's length is known.

        Raises:
            ValueError: `jitter_until` is below 1 and the run has no end.
        """
        run = self.trainer
        if self.jitter_until == 1 or run is None:
            return None
        steps, epochs = run.max_steps, run.max_epochs if run.max_epochs is not None else -1
        if steps < 0 and epochs < 0:
            raise ValueError(f"jitter_until is {self.jitter_until}; expected trainer.max_steps or trainer.max_epochs")

        def turning() -> float:
            by_steps = steps * getattr(run.lightning_module, "critic_steps", 1) if steps >= 0 else inf
            by_epochs = epochs * run.num_training_batches if epochs >= 0 else inf
            return self.jitter_until * min(by_steps, by_epochs)

        return turning


class Settling(Dataset[Batch]):
    """Pairs in two forms: rows from `len(self)` on are those of the second form.

    Args:
        first: Pairs in the first form.
        second: The same pairs in the second form.
    """

    def __init__(self, first: BatchDataset, second: BatchDataset) -> None:
        self.ways, self.count = (first, second), len(first)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: Key) -> Batch:
        """Return a source and a target `(C, H, W)`."""
        row, word = (key, None) if isinstance(key, int) else key
        way, row = divmod(row, self.count)
        return self.ways[way][row if word is None else (row, word)]

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return the sources and targets `(N, C, H, W)` of the keys."""
        return stacked(self[key] for key in keys)


class Side(NamedTuple):
    """One side of the pairs: a folder, its files in the order of the pairs, and the half of each image, if any."""

    root: Path
    paths: list[str]
    half: Half | None = None

    def files(
        self,
        target: Target,
        on_error: OnError,
        shared: bool,
        cache: bool,
        rows: Tensor | None = None,
        check: bool = True,
    ) -> ImageFiles:
        """Return a reader of the files of these rows, or of all rows.

        Args:
            target: Form to which images are converted.
            on_error: For unreadable files, skip or raise.
            shared: Whether worker processes will read.
            cache: Whether the images of these rows are cached.
            rows: Row indices, or None for all.
            check: Whether the channels of all files are checked.

        Raises:
            ValueError: There are to be 4 channels and no image has alpha, or the cache does not fit into memory.
            OSError: Most files cannot be read, or one cannot and `on_error` is raise.
        """

        def of(paths: list[str]) -> ImageFiles:
            return ImageFiles(self.root, paths, target._replace(half=self.half), on_error, shared)

        files = of(self.paths)
        if check:
            files.check_channels()
        if rows is not None:
            files = of([self.paths[row] for row in rows.tolist()])
        if cache:
            files.allocate()
        files.check_readable()
        return files


@dataclass(frozen=True)
class Crop:
    """Random crop of images that are read with jitter.

    Attributes:
        size: (height, width) of the crop.
    """

    size: tuple[int, int]

    def __call__(self, image: Tensor, key: Key, target: Target) -> Tensor:
        """Return the crop `(C, *size)` of an image, in evaluation of its centre."""
        height, width = self.size
        down, right = image.shape[-2] - height, image.shape[-1] - width
        if isinstance(key, int):
            top, left = down // 2, right // 2
        else:
            top, left = mix(key[1], 1) % (down + 1), mix(key[1], 2) % (right + 1)
        return image[..., top : top + height, left : left + width]


class Views(NamedTuple):
    """What pairs show of their images. A key gives the same for all images of one size.

    Attributes:
        view: Part of an image.
        flip: Whether images are flipped at random.
    """

    view: View
    flip: bool = False

    def __call__(self, image: Tensor, key: Key, target: Target) -> Tensor:
        """Return the part `(C, H, W)` of an image that an item shows, given the reader's target."""
        part = self.view(image, key, target)
        return part.flip(-1) if self.flip and not isinstance(key, int) and mix(key[1]) & 1 else part


class Pairs(Dataset[Batch]):
    """Pairs of two sides, with the same crop or window, and the same flip, for both.

    Args:
        sources: Reader of the sources.
        targets: Reader of the targets, in the same order.
        views: What is shown of an image.
        windows: Rows of each pair.
    """

    def __init__(self, sources: ImageFiles, targets: ImageFiles, views: Views, windows: int = 1) -> None:
        self.sources, self.targets, self.views, self.windows = sources, targets, views, windows

    def __len__(self) -> int:
        return len(self.sources) * self.windows

    def __getitem__(self, key: Key) -> Batch:
        """Return a source and its target `(C, H, W)`, or those of the next readable pair if one of them is broken."""
        source, target = self.__getitems__([key])
        return source[0], target[0]

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return the sources and targets `(N, C, H, W)` of the keys."""
        found = []
        for (index, _), some in groupby(keys, lambda key: picture_of(key, self.windows)):
            source, target = self._readable(index)
            forms = self.sources.target, self.targets.target
            found += [(self.views(source, key, forms[0]), self.views(target, key, forms[1])) for key in some]
            del source, target  # before the next ones are decoded
        return stacked(found)

    def _readable(self, first: int) -> tuple[Tensor, Tensor]:
        """Return the images of the first readable pair from an index on."""
        count = len(self.sources)
        for i in range(count):
            source = self.sources.read((first + i) % count)
            target = None if source is None else self.targets.read((first + i) % count)
            if source is not None and target is not None:
                return source, target
        raise BrokenDataError(f"None of the {count} pairs in {self.sources.root} can be read.")


def stacked(pairs: Iterable[Batch]) -> Batch:
    """Return pairs as a batch."""
    first, second = zip(*pairs, strict=True)
    return torch.stack(first), torch.stack(second)


def matched(root: Path, other: Path | None) -> tuple[Side, Side]:
    """Return both sides of the pairs: files of the same name in `root` and `other`, or halves of the images in `root`.

    Folders `A` and `B` in `root` are two sides, too. Names are compared without extensions.

    Raises:
        ValueError: A file has no partner, or a name occurs twice.
        OSError: A folder does not exist or has no images.
    """
    paths = sorted(image_files(existing_folder(root)))
    if other is None:
        root, other = both_sides(root) or (root, None)
    if other is None:
        return Side(root, paths, "left"), Side(root, paths, "right")
    both = [_by_name(folder) for folder in (root, existing_folder(other))]
    alone = [
        str(folder / mine[name])
        for folder, mine, yours in zip((root, other), both, both[::-1], strict=True)
        for name in sorted(mine.keys() - yours.keys())
    ]
    if alone:
        raise ValueError(f"{len(alone)} images have no partner of the same name in the other folder: {listed(alone)}")
    names = sorted(both[0])
    return Side(root, [both[0][name] for name in names]), Side(other, [both[1][name] for name in names])


def _by_name(root: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted(image_files(root)):
        name = path.rpartition(".")[0]
        if name in found:
            raise ValueError(f"{root} contains both {found[name]} and {path}; expected one image per name")
        found[name] = path
    return found


def check_pairs(source: Side, target: Side) -> None:
    """Check by the headers of the files that both images of each pair are readable and have the same size.

    Raises:
        ValueError: Some pairs are not valid; the message names them.
    """
    wrong = []
    for first, second in zip(source.paths, target.paths, strict=True):
        try:
            size = dimensions(source.root / first)
            if source.half:
                fault = f"{size[0]} pixels wide" if size[0] % 2 or size[0] < 2 else None
            else:
                other = dimensions(target.root / second)
                fault = None if size == other else f"{size[0]}x{size[1]} and {other[0]}x{other[1]}"
        except UnreadableImageError as error:
            fault = str(error)
        if fault:
            wrong.append(f"{first} ({fault})")
    if wrong:
        expected = "an even width" if source.half else "two images of one size"
        raise ValueError(
            f"{len(wrong)} of {len(source.paths)} pairs in {source.root} cannot be used, expected {expected} each: "
            f"{listed(wrong)}"
        )
