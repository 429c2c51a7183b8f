"""Line plots drawn with Pillow, to avoid a dependency on a plotting library, and tables as CSV."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from gans.runs import atomic

COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f")
WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 50

Curve = tuple[Sequence[float], Sequence[float]]


def save_plot(curves: Mapping[str, Curve], path: str | Path, across: str, up: str, log: bool = False) -> Path:
    """Write a line plot as a PNG, create its folder, and return its path.

    Args:
        curves: (x, y) by name. Values that are not finite, or not positive on a logarithmic axis, are omitted.
        path: path of the file.
        across: label of the horizontal axis.
        up: label of the vertical axis.
        log: whether the vertical axis is logarithmic.
    """
    drawn = {name: kept(curve, log) for name, curve in curves.items()}
    points = [point for curve in drawn.values() for point in curve] or [(0.0, 0.0)]
    low_x, high_x = span([x for x, _ in points])
    low_y, high_y = span([y for _, y in points])
    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(13)

    def place(x: float, y: float) -> tuple[float, float]:
        across_share, up_share = (x - low_x) / (high_x - low_x), (y - low_y) / (high_y - low_y)
        return LEFT + across_share * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up_share * (HEIGHT - TOP - BOTTOM)

    for x in ticks(low_x, high_x):
        column, _ = place(x, low_y)
        pen.line([(column, TOP), (column, HEIGHT - BOTTOM)], fill="#dddddd")
        pen.text((column, HEIGHT - BOTTOM + 6), f"{x:g}", fill="black", font=font, anchor="ma")
    for y in ticks(low_y, high_y):
        _, row = place(low_x, y)
        pen.line([(LEFT, row), (WIDTH - RIGHT, row)], fill="#dddddd")
        pen.text((LEFT - 6, row), f"{float(f'{10**y:.2g}') if log else y:g}", fill="black", font=font, anchor="rm")
    pen.rectangle([LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM], outline="black")
    pen.text((WIDTH / 2, HEIGHT - 8), across, fill="black", font=font, anchor="md")
    pen.text((LEFT, 8), up, fill="black", font=font, anchor="la")
    right = float(WIDTH - RIGHT)
    for i, (name, curve) in reversed(list(enumerate(drawn.items()))):
        colour = COLOURS[i % len(COLOURS)]
        pen.line([place(x, y) for x, y in curve], fill=colour, width=2)
        if len(drawn) <= len(COLOURS):  # more names would neither fit nor have distinct colours
            pen.text((right, 8), name, fill=colour, font=font, anchor="ra")
            right -= pen.textlength(name, font=font) + 16
    memory = io.BytesIO()
    picture.save(memory, "PNG")
    return atomic.write(path, memory.getvalue())


def kept(curve: Curve, log: bool) -> list[tuple[float, float]]:
    """Return the points that can be drawn, with `log10(y)` instead of y if `log`."""
    points = [(float(x), float(y)) for x, y in zip(*curve, strict=True)]
    if log:
        points = [(x, math.log10(y)) for x, y in points if y > 0]
    return [point for point in points if all(map(math.isfinite, point))]


def span(values: Sequence[float]) -> tuple[float, float]:
    """Return the minimum and maximum, extended if they are equal."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def ticks(low: float, high: float) -> list[float]:
    """Return four to ten round numbers from `low` to `high`."""
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next(times for times in (5, 2, 1) if (high - low) / (times * step) >= 4 or times == 1)
    first = math.ceil(low / step - 1e-9)
    return [round(step * i, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def save_table(columns: Mapping[str, Sequence[object]], path: str | Path) -> Path:
    """Write named columns of equal length as CSV, create its folder, and return its path."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return atomic.write(path, text.getvalue().encode())
