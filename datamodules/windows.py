"""Windows of images at native resolution, at random positions that depend on the key of an item alone.

A photograph of 2,000 pixels that is resized to 128 loses the texture, grain and noise that restoration has to learn. A
window keeps them: `size` pixels of the image, without resizing. Each draw of an image gives another window.

A training key has a number of its own, so the windows are the same on any number of processes and after a resume. In
evaluation the number is that of the row: each row has one fixed window, without a turn.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal, NamedTuple, TypeAlias

from torch import Tensor
from torch.utils.data import Dataset

from datamodules.base import Batch, BatchDataset, integer, one_of
from datamodules.decode import Fit, Target, UnreadableImageError, interpolated, resized
from datamodules.order import Key, mix
from datamodules.reader import Reader

Cut: TypeAlias = Literal["crop", "pad", "stretch", "window"]  # values of the argument `fit`
ValFit: TypeAlias = Literal["crop", "pad", "stretch", "window", "whole"]  # values of the argument `val_fit`
# A function that returns the part of an image `(C, H, W)` which an item shows, given its key and the reader's target.
View: TypeAlias = Callable[[Tensor, Key, Target], Tensor]

CUTS: tuple[Cut, ...] = ("crop", "pad", "stretch", "window")
# Words that separate the draws of one number from each other and from those of flips, partners and degradations.
SCALE, TOP, LEFT, TURN, FIXED = 7, 8, 9, 10, 11
LOOKED_AT = 32  # images, spread over a folder, whose sizes are compared with the window


@dataclass(frozen=True)
class Windows:
    """Random windows of images, a function of image and key.

    Attributes:
        scale_range: Minimum and maximum of a random factor by which the image is enlarged before the window is taken,
            uniformly distributed. 0.5 shows an area of twice the height and width.
        turn: Turn training windows by a random number of quarter turns.
    """

    scale_range: tuple[float, float] = (1.0, 1.0)
    turn: bool = False

    def __call__(self, image: Tensor, key: Key, target: Target) -> Tensor:
        """Return the window `(C, *target.size)` of an image `(C, H, W)` uint8. A smaller image is enlarged to fit.

        A key gives equal windows for all images of one size.
        """
        word = mix(key, FIXED) if isinstance(key, int) else key[1]
        low, high = self.scale_range
        scale = low + (high - low) * (mix(word, SCALE) / 2**63)
        # The area is cut first and resized then, which costs less than resizing the image.
        tall, wide = image.shape[-2:]
        scale = max(scale, target.size[0] / tall, target.size[1] / wide)
        sides = zip(target.size, (tall, wide), strict=True)
        height, width = (min(most, max(1, round(side / scale))) for side, most in sides)
        top, left = mix(word, TOP) % (tall - height + 1), mix(word, LEFT) % (wide - width + 1)
        window = interpolated(image[:, top : top + height, left : left + width], target.size, target.palette)
        quarters = mix(word, TURN) % 4 if self.turn and not isinstance(key, int) else 0
        return window.rot90(quarters, (1, 2))


@dataclass(frozen=True)
class Resized:
    """The whole image in the size of a window.

    Attributes:
        fit: How other aspect ratios are fitted.
    """

    fit: Fit

    def __call__(self, image: Tensor, key: Key, target: Target) -> Tensor:
        """Return the image `(C, *target.size)`."""
        return resized(image, target._replace(fit=self.fit, crop=None, half=None))


def native(image: Tensor, key: Key, target: Target) -> Tensor:
    """Return the whole image `(C, H, W)` in its own size."""
    return image if target.palette is None else target.palette.snapped(image)


class WholeImages(Dataset[Batch]):
    """Images in sizes of their own. A batch has one of them.

    Args:
        images: The whole images.
        windows: Windows of the same images, for scores and grids that need batches of several images.
    """

    def __init__(self, images: BatchDataset, windows: BatchDataset) -> None:
        self.images, self.windows = images, windows

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> Batch:
        """Return the item of an image."""
        return self.images[key]

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return the batch of an image, or of several images of one size."""
        return self.images.__getitems__(keys)

    def pictures(self) -> BatchDataset:
        """Return the windows."""
        return self.windows


class Cutting(NamedTuple):
    """What the arguments of a data module say about windows.

    Attributes:
        windows: Windows of images.
        rows: Rows of each image, neighbours in the order, so that a file is decoded once for all of them.
        val_fit: Form of validation and test images.
    """

    windows: Windows
    rows: int
    val_fit: ValFit

    def shown(self, make: Callable[[View, int], BatchDataset], training: bool) -> BatchDataset:
        """Return a set of images.

        Args:
            make: Function that returns the set, given a view and the number of rows of each image.
            training: Whether the set is for training.
        """
        if training or self.val_fit == "window":
            return make(self.windows, self.rows)
        if self.val_fit == "whole":
            return WholeImages(make(native, 1), make(self.windows, self.rows))
        return make(Resized(self.val_fit), 1)


def cutting(
    size: tuple[int, int], fit: Cut, scale_range: Sequence[float], turn: bool, windows: int, val_fit: ValFit | None
) -> Cutting | None:
    """Return what the arguments of a data module say about windows, or None if `fit` is not window.

    Raises:
        ValueError: An argument has a wrong value, or needs `fit` window.
    """
    integer("windows", windows, least=1)
    one_of("val_fit", val_fit, (None, "window", "whole", "crop", "pad", "stretch"))
    sides = tuple(scale_range)
    if len(sides) != 2 or not 0 < sides[0] <= sides[1] < inf:
        raise ValueError(f"scale_range is {list(sides)}; expected two factors above 0, the smaller one first")
    if fit == "window":
        if turn and size[0] != size[1]:
            raise ValueError(f"turn is true and size {size[0]}x{size[1]}; expected square windows for quarter turns")
        return Cutting(Windows((float(sides[0]), float(sides[1])), turn), windows, val_fit or "window")
    for name, value, usual in (
        ("scale_range", list(sides), [1, 1]),
        ("turn", turn, False),
        ("windows", windows, 1),
        ("val_fit", val_fit, None),
    ):
        if value != usual:
            raise ValueError(f"{name} is {str(value).lower()}, but fit is {fit}; expected fit window with it")
    return None


def reading(fit: Cut) -> Literal["crop", "pad", "stretch", "native"]:
    """Return how files are read for an argument `fit`: windows are taken of images in their own size."""
    return "native" if fit == "window" else fit


def picture_of(key: Key, windows: int) -> tuple[int, int | None]:
    """Return the image of a key's row, and a number that its windows share in one pass, or None in evaluation.

    Args:
        key: Key of an item.
        windows: Rows of each image.
    """
    if isinstance(key, int):
        return key // windows, None
    return key[0] // windows, key[1] - key[0] % windows  # the numbers of neighbours are consecutive


def warn_of_small(files: Reader) -> None:
    """Warn if images, of a few that are spread over the folder, are smaller than the windows."""
    height, width = files.target.size
    looked_at = small = 0
    for found in files.headers(range(0, len(files), max(1, -(-len(files) // LOOKED_AT)))):
        if isinstance(found, UnreadableImageError):
            continue  # the reader counts unreadable images
        tall, wide = found.height, found.width
        down, across = files.target.crop or (tall, wide)
        looked_at += 1
        small += min(down, tall) < height or min(across, wide // (2 if files.target.half else 1)) < width
    if small:
        say = f"{small} of {looked_at} images in {files.place} that were checked are smaller than"
        warnings.warn(f"{say} windows of {height}x{width}: they are enlarged", stacklevel=2)
