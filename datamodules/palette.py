"""The colours of the classes in label maps, and the nearest of them for each pixel."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

HEX = re.compile(r"#[0-9a-fA-F]{6}")
MOST = 256  # classes of a label map
PIXELS = 1 << 16  # pixels that are compared with all colours at once, which bounds the memory


class Palette(NamedTuple):
    """The colours of the classes in label maps.

    Attributes:
        colours: Red, green and blue of 0..255 for each class, in the order of the classes.
        names: Names of the classes, or empty.
    """

    colours: tuple[tuple[int, int, int], ...]
    names: tuple[str, ...] = ()

    def classes(self, pixels: Tensor) -> Tensor:
        """Return the class of each pixel, `(H, W)` int64, whose colour is nearest, for a map `(3, H, W)` uint8."""
        colours = torch.tensor(self.colours, dtype=torch.float32)
        flat = pixels.flatten(1).T.float()
        # |p - c|^2 without |p|^2, which is the same for all classes. All numbers are integers below 2^24.
        parts = [torch.addmm(colours.square().sum(1), part, colours.T, alpha=-2) for part in torch.split(flat, PIXELS)]
        return torch.cat([part.argmin(1) for part in parts]).view(pixels.shape[1:])

    def snapped(self, pixels: Tensor) -> Tensor:
        """Return a map `(C, H, W)` uint8 of 1 or 3 channels in which each pixel has the nearest colour."""
        table = torch.tensor(self.colours, dtype=torch.uint8).T[: len(pixels)]
        return table[:, self.classes(pixels.expand(3, -1, -1))].contiguous()

    def resized(self, pixels: Tensor, size: tuple[int, int]) -> Tensor:
        """Return a map `(C, H, W)` uint8 in the size (height, width), by nearest neighbours, in the palette's colours.

        Interpolation would make colours of other classes at edges.
        """
        if pixels.shape[1:] != size:
            pixels = interpolate(pixels[None], size, mode="nearest-exact")[0]
        return self.snapped(pixels)


def read_palette(path: Path) -> Palette:
    """Return the palette of a JSON file: a list of colours, or an object of colours by the names of the classes.

    A colour is `[red, green, blue]`, `"#rrggbb"`, or a number from 0 to 255 for grey maps of class numbers.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It contains something else, or a colour twice.
    """
    if not path.is_file():
        raise FileNotFoundError(f"labels is {path}, which does not exist; expected auto, a number or a JSON file")
    expected = 'expected a list, or an object by name, of "#rrggbb", [red, green, blue] or a number up to 255'
    try:
        found = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise ValueError(f"labels is {path}, which is no JSON file; {expected}") from error
    names, values = (tuple(found), list(found.values())) if isinstance(found, dict) else ((), found)
    if not isinstance(values, list) or not 2 <= len(values) <= MOST:
        raise ValueError(f"labels is {path}, which does not hold 2 to {MOST} colours; {expected}")
    colours = tuple(colour(value) for value in values)
    for number, (value, one) in enumerate(zip(values, colours, strict=True)):
        if one is None or one in colours[:number]:
            fault = "no colour" if one is None else "there twice"
            raise ValueError(f"labels is {path}, in which {json.dumps(value)} is {fault}; {expected}")
    return Palette(tuple(one for one in colours if one is not None), names)


def colour(value: Any) -> tuple[int, int, int] | None:
    """Return a colour of a palette file as red, green and blue, or None if it is none."""
    if isinstance(value, str) and HEX.fullmatch(value):
        red, green, blue = bytes.fromhex(value[1:])
        return red, green, blue
    parts = value if isinstance(value, list) else [value] * 3
    if len(parts) != 3 or not all(type(part) is int and 0 <= part <= 255 for part in parts):
        return None
    return parts[0], parts[1], parts[2]
