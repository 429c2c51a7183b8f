"""Strips of samples for a README, cut from the grids in the folder of a run."""

import io
import re
from pathlib import Path
from typing import Any

from PIL import Image

from gans.commands.results_list import Entry
from gans.runs import atomic

KINDS = ("continued", "translations", "step", "reconstructions", "captions")  # of grids, the first one is shown
NUMBERED = re.compile(r"(.+)_(\d+)\.png")
PADDING = 2  # pixels between the images of a grid
WIDTH, LOW = 420, 40  # pixels of a strip at most, and height of images of which it has two rows
QUALITY = 90
WHOLE = 10**6  # rows


def newest(samples: Path, kind: str | None) -> Path | None:
    """Return the newest grid of a kind, or of the first kind that is there; None if there is none."""
    found: dict[str, tuple[int, Path]] = {}
    for path in samples.glob("*.png"):
        if match := NUMBERED.fullmatch(path.name):
            found[match[1]] = max(found.get(match[1], (-1, path)), (int(match[2]), path))
    for name in [kind] if kind else [*KINDS, *sorted(found)]:
        if name in found:
            return found[name][1]
    return None


def strip(grid: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the first rows of a grid, as many images of them as fit.

    Args:
        grid: of images with white lines between them, perhaps below headings.
        size: height and width of an image. A grid of images of another size, or with text, is shrunk to the width.
    """
    tall, wide = (side + PADDING for side in size)
    if (grid.width - PADDING) % wide:
        grid.thumbnail((WIDTH, grid.height), Image.Resampling.LANCZOS)
        return grid.crop((0, 0, grid.width, min(grid.height, WIDTH // 4)))
    across = min((grid.width - PADDING) // wide, max(1, (WIDTH - PADDING) // wide))
    found = upper(grid, tall, 2 if size[0] <= LOW else 1)
    found = found.crop((0, 0, across * wide + PADDING, found.height))
    if found.width > WIDTH:
        found = found.resize((WIDTH, round(found.height * WIDTH / found.width)), Image.Resampling.LANCZOS)
    return found


def upper(grid: Image.Image, tall: int, rows: int) -> Image.Image:
    """Return the first rows of a grid, without headings, whose rows are `tall` pixels high with the line between."""
    above, count = (grid.height - PADDING) % tall, (grid.height - PADDING) // tall
    return grid.crop((0, above, grid.width, above + min(rows, count) * tall + PADDING))


def draw(run: Path, size: tuple[int, int], path: Path, kind: str | None, rows: int | None, scale: int) -> bool:
    """Write a picture of a run, and return whether the run has a grid.

    Args:
        run: its folder.
        size: height and width of its images.
        path: of the file.
        kind: of the grid; None takes the first kind that is there.
        rows: the first ones of the grid; None is a strip that fits into a table.
        scale: by which it is enlarged, without interpolation.
    """
    found = newest(run / "samples", kind)
    if found is None:
        return False
    with Image.open(found) as file:
        grid = file.convert("RGB")
    shown = strip(grid, size) if rows is None else upper(grid, size[0] + PADDING, rows)
    shown = shown.resize((scale * shown.width, scale * shown.height), Image.Resampling.NEAREST)
    memory, jpeg = io.BytesIO(), path.suffix.lower() in (".jpg", ".jpeg")
    shown.save(memory, "JPEG" if jpeg else "PNG", **({"quality": QUALITY, "subsampling": 0} if jpeg else {}))
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(path, memory.getvalue())
    return True


def of_entry(entry: Entry, run: Path, size: int | tuple[int, int] | None, strip: Path | None) -> list[Path]:
    """Write the strip of an entry and its other pictures, and return the paths of those that were written.

    Args:
        entry: of the list.
        run: folder of its first run.
        size: of the images of the run.
        strip: path of the strip; None for an entry that has no row in a README.
    """
    sides = (size, size) if isinstance(size, int) else size or (1, 1)
    wanted: dict[str, Any] = {str(strip): (entry.picture, None, 1)} if strip else {}
    for path, options in entry.pictures.items():
        wanted[path] = (options.get("kind", entry.picture), options.get("rows", WHOLE), options.get("scale", 1))
    return [Path(path) for path, options in wanted.items() if draw(run, sides, Path(path), *options)]
