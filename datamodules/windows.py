"""Windows of images at native resolution, at random positions that depend on the key of an item alone.

A photograph of 2,000 pixels that is resized to 128 loses the texture, grain and noise that restoration has to learn. A
window keeps them: `size` pixels of the image, without resizing. Each draw of an image gives another window.

A training key has a number of its own, so the windows are the same on any number of processes and after a resume. In
evaluation the number is that of the row: each row has one fixed window, without a turn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from torch import Tensor

from datamodules.decode import Fit, Target, bicubic, resized
from datamodules.order import Key, mix

Cut: TypeAlias = Literal["crop", "pad", "stretch", "window"]  # values of the argument `fit`
ValFit: TypeAlias = Literal["crop", "pad", "stretch", "window", "whole"]  # values of the argument `val_fit`
View: TypeAlias = Callable[[Tensor, Key], Tensor]  # the part of an image `(C, H, W)` that an item shows

# Words that separate the draws of one number from each other and from those of flips, partners and degradations.
SCALE, TOP, LEFT, TURN, FIXED = 7, 8, 9, 10, 11


@dataclass(frozen=True)
class Windows:
    """Random windows of images, a function of image and key.

    Attributes:
        size: (height, width) of a window.
        scale_range: Minimum and maximum of a random factor by which the image is enlarged before the window is taken,
            uniformly distributed. 0.5 shows an area of twice the height and width.
        turn: Turn training windows by a random number of quarter turns.
    """

    size: tuple[int, int]
    scale_range: tuple[float, float] = (1.0, 1.0)
    turn: bool = False

    def __call__(self, image: Tensor, key: Key) -> Tensor:
        """Return the window `(C, *size)` of an image `(C, H, W)` uint8. A smaller image is enlarged until it fits.

        A key gives equal windows for all images of one size.
        """
        word = mix(key, FIXED) if isinstance(key, int) else key[1]
        low, high = self.scale_range
        scale = low + (high - low) * (mix(word, SCALE) / 2**63)
        # The area is cut first and resized then, which costs less than resizing the image.
        tall, wide = image.shape[-2:]
        scale = max(scale, self.size[0] / tall, self.size[1] / wide)
        height, width = min(tall, round(self.size[0] / scale)), min(wide, round(self.size[1] / scale))
        top, left = mix(word, TOP) % (tall - height + 1), mix(word, LEFT) % (wide - width + 1)
        window = bicubic(image[:, top : top + height, left : left + width], self.size)
        quarters = mix(word, TURN) % 4 if self.turn and not isinstance(key, int) else 0
        return window.rot90(quarters, (1, 2))


@dataclass(frozen=True)
class Resized:
    """The whole image, resized to a target.

    Attributes:
        target: Form to which images are converted.
    """

    target: Target

    def __call__(self, image: Tensor, key: Key) -> Tensor:
        """Return the image `(C, *size)`."""
        return resized(image, self.target)


def whole(image: Tensor, key: Key) -> Tensor:
    """Return the image as it is."""
    return image


class Cutting(NamedTuple):
    """What the arguments of a data module say about windows.

    Attributes:
        train: Windows of training images.
        held: The part of validation and test images that is shown.
        windows: Rows for each training image, neighbours in the order, so that a file is decoded once for all of them.
        held_windows: Rows for each validation or test image.
    """

    train: Windows
    held: View
    windows: int
    held_windows: int


def cutting(
    size: tuple[int, int],
    channels: int,
    fit: Cut,
    scale_range: Sequence[float],
    turn: bool,
    windows: int,
    val_fit: ValFit | None,
) -> Cutting | None:
    """Return what the arguments of a data module say about windows, or None if `fit` is not window.

    Raises:
        ValueError: An argument has a wrong value, or needs `fit` window.
    """
    given = {
        "scale_range": tuple(scale_range) != (1, 1),
        "turn": turn,
        "windows": windows != 1,
        "val_fit": val_fit is not None,
    }
    if fit != "window":
        for name, used in given.items():
            if used:
                value = {"scale_range": scale_range, "turn": turn, "windows": windows, "val_fit": val_fit}[name]
                raise ValueError(f"{name} is {value}, which is for windows; expected fit window, not {fit}")
        return None
    sides = tuple(scale_range)
    if len(sides) != 2 or not 0 < sides[0] <= sides[1]:
        raise ValueError(f"scale_range is {scale_range}; expected two factors above 0, the smaller one first")
    if turn and size[0] != size[1]:
        raise ValueError(f"turn is true and size {size[0]}x{size[1]}; expected square windows for quarter turns")
    train = Windows(size, (float(sides[0]), float(sides[1])), turn)
    if val_fit in (None, "window"):
        return Cutting(train, train, windows, windows)
    if val_fit == "whole":
        return Cutting(train, whole, windows, 1)
    form: Fit = val_fit  # type: ignore[assignment]  # the other values are excluded above
    return Cutting(train, Resized(Target(channels, size, form)), windows, 1)
