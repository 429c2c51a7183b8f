"""Random masks of holes: rectangles, brush strokes, their union, and irregular ones.

Brush strokes and the union follow Yu et al. 2019 (arXiv 1806.03589). Irregular masks of lines and boxes follow Suvorov
et al. 2022 (arXiv 2109.07161). Their lengths are for 256 pixels and are scaled to the shorter side of the image.
"""

from collections.abc import Callable
from math import cos, hypot, pi, sin

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Generator, Tensor

Size = tuple[int, int]


def whole(generator: Generator, low: int, high: int) -> int:
    """Return a random integer from `low` to `high`, both included."""
    return int(torch.randint(low, max(low, high) + 1, (), generator=generator))


def real(generator: Generator, low: float, high: float) -> float:
    """Return a random number from `low` to `high`."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def rectangle(size: Size, generator: Generator) -> Tensor:
    """Return a mask `(1, H, W)` with a rectangle of a quarter to a half of each side, at a random position."""
    return box(size, generator, 1 / 4)


def box(size: Size, generator: Generator, least: float) -> Tensor:
    """Return a mask `(1, H, W)` with a rectangle of `least` to a half of each side, at a random position."""
    height, width = (max(1, whole(generator, int(least * side), side // 2)) for side in size)
    top, left = whole(generator, 0, size[0] - height), whole(generator, 0, size[1] - width)
    mask = torch.zeros(1, *size, dtype=torch.bool)
    mask[:, top : top + height, left : left + width] = True
    return mask


def centre(size: Size, generator: Generator) -> Tensor:
    """Return a mask `(1, H, W)` with a centred hole of half of each side."""
    mask = torch.zeros(1, *size, dtype=torch.bool)
    height, width = (max(1, side // 2) for side in size)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    mask[:, top : top + height, left : left + width] = True
    return mask


def brush(size: Size, generator: Generator) -> Tensor:
    """Return a mask `(1, H, W)` of one to three zigzag strokes."""
    height, width = size
    scale, radius = min(size) / 256, hypot(height, width) / 8
    canvas = Image.new("1", (width, height))
    pen = ImageDraw.Draw(canvas)
    for _ in range(whole(generator, 1, 3)):
        thick = max(1, round(scale * whole(generator, 12, 40)))
        points = [(real(generator, 0, width), real(generator, 0, height))]
        turn = 2 * pi / 5
        for i in range(whole(generator, 4, 12)):
            angle = real(generator, turn - 2 * pi / 15, turn + 2 * pi / 15)
            angle = 2 * pi - angle if i % 2 == 0 else angle
            step = radius + radius / 2 * float(torch.randn((), generator=generator))
            step = min(max(step, 0.0), 2 * radius)
            across, down = points[-1][0] + step * cos(angle), points[-1][1] + step * sin(angle)
            points.append((min(max(across, 0.0), width), min(max(down, 0.0), height)))
        stroke(pen, points, thick)
    return pixels(canvas)


def irregular(size: Size, generator: Generator) -> Tensor:
    """Return a mask `(1, H, W)` of one to five bent lines and up to four boxes."""
    height, width = size
    scale = min(size) / 256
    canvas = Image.new("1", (width, height))
    pen = ImageDraw.Draw(canvas)
    for _ in range(whole(generator, 1, 5)):
        points = [(real(generator, 0, width), real(generator, 0, height))]
        for _ in range(whole(generator, 1, 5)):
            angle, length = real(generator, 0, 2 * pi), scale * real(generator, 10, 200)
            across, down = points[-1][0] + length * cos(angle), points[-1][1] + length * sin(angle)
            points.append((min(max(across, 0.0), width), min(max(down, 0.0), height)))
        stroke(pen, points, max(1, round(scale * whole(generator, 5, 100))))
    for _ in range(whole(generator, 0, 4)):
        across, down = (max(1.0, scale * real(generator, 30, 150)) for _ in range(2))
        left, top = real(generator, 0, width - across), real(generator, 0, height - down)
        pen.rectangle((left, top, left + across, top + down), fill=1)
    return pixels(canvas)


def mixed(size: Size, generator: Generator) -> Tensor:
    """Return a mask `(1, H, W)` of one of the three random kinds, with equal probability."""
    return (rectangle, brush, irregular)[whole(generator, 0, 2)](size, generator)


def freeform(size: Size, generator: Generator) -> Tensor:
    """Return a mask `(1, H, W)` of brush strokes and a rectangle of three eighths to a half of each side.

    It is the union that Yu et al. 2019 train on, and what they call free form.
    """
    return brush(size, generator) | box(size, generator, 3 / 8)


def stroke(pen: ImageDraw.ImageDraw, points: list[tuple[float, float]], thick: int) -> None:
    """Draw a polyline with round corners and ends."""
    pen.line(points, fill=1, width=thick)
    for across, down in points:
        r = thick / 2
        pen.ellipse((across - r, down - r, across + r, down + r), fill=1)


def pixels(canvas: Image.Image) -> Tensor:
    """Return the canvas as a mask `(1, H, W)`."""
    return torch.from_numpy(np.array(canvas, dtype=bool))[None]


KINDS: dict[str, Callable[[Size, Generator], Tensor]] = {
    "rectangle": rectangle,
    "brush": brush,
    "irregular": irregular,
    "centre": centre,
    "mixed": mixed,
    "freeform": freeform,
}
