"""Curves as a picture, drawn by Pillow: a plotting library would be a dependency for three lines and two axes."""

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
    """Write curves, (x, y) by their names, as a PNG, making its folder, and return its path.

    Args:
        curves: of at least one point each; what is not finite, or not above 0 on a logarithmic axis, is left out.
        path: of the file.
        across: what is on the horizontal axis.
        up: what is on the vertical one.
        log: powers of ten on the vertical axis.
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
        if len(drawn) <= len(COLOURS):  # more would not fit, nor be told apart
            pen.text((right, 8), name, fill=colour, font=font, anchor="ra")
            right -= pen.textlength(name, font=font) + 16
    memory = io.BytesIO()
    picture.save(memory, "PNG")
    return atomic.write(path, memory.getvalue())


def kept(curve: Curve, log: bool) -> list[tuple[float, float]]:
    """Return the points that can be drawn, `y` as its logarithm to the base 10 if so asked."""
    points = [(float(x), float(y)) for x, y in zip(*curve, strict=True)]
    if log:
        points = [(x, math.log10(y)) for x, y in points if y > 0]
    return [point for point in points if all(map(math.isfinite, point))]


def span(values: Sequence[float]) -> tuple[float, float]:
    """Return the lowest and the highest value, somewhat apart."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers, four to ten of them, from `low` to `high`."""
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next(times for times in (5, 2, 1) if (high - low) / (times * step) >= 4 or times == 1)
    first = math.ceil(low / step - 1e-9)
    return [round(step * i, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def save_table(columns: Mapping[str, Sequence[object]], path: str | Path) -> Path:
    """Write columns of one length, by their names, as CSV, making its folder, and return its path."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return atomic.write(path, text.getvalue().encode())
