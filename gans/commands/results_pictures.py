"""Strips of samples for a README, cut from the grids in the folder of a run."""

import io
import re
from pathlib import Path

from PIL import Image

from gans.runs import atomic

KINDS = ("continued", "translations", "step", "reconstructions", "captions")  # of grids, the first one is shown
NUMBERED = re.compile(r"(.+)_(\d+)\.png")
PADDING = 2  # pixels between the images of a grid
WIDTH, LOW = 420, 40  # pixels of a strip at most, and height of images of which it has two rows
QUALITY = 90


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
        size: height and width of an image. A grid of images of another size is cut at the width.
    """
    tall, wide = (side + PADDING for side in size)
    if (grid.width - PADDING) % wide:
        return grid.crop((0, 0, min(grid.width, WIDTH), min(grid.height, WIDTH // 4)))
    above = (grid.height - PADDING) % tall
    across = min((grid.width - PADDING) // wide, max(1, (WIDTH - PADDING) // wide))
    down = min((grid.height - PADDING - above) // tall, 2 if size[0] <= LOW else 1)
    box = (0, above, across * wide + PADDING, above + down * tall + PADDING)
    found = grid.crop(box)
    if found.width > WIDTH:
        found = found.resize((WIDTH, round(found.height * WIDTH / found.width)), Image.Resampling.LANCZOS)
    return found


def write(run: Path, size: int | tuple[int, int] | None, kind: str | None, path: Path) -> bool:
    """Write the strip of a run, and return whether the run has a grid.

    Args:
        run: its folder.
        size: of its images.
        kind: of the grid; None takes the first kind that is there.
        path: of the JPEG file.
    """
    found = newest(run / "samples", kind)
    if found is None:
        return False
    high, wide = (size, size) if isinstance(size, int) else size or (1, 1)
    memory = io.BytesIO()
    with Image.open(found) as grid:
        strip(grid.convert("RGB"), (high, wide)).save(memory, "JPEG", quality=QUALITY, subsampling=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(path, memory.getvalue())
    return True
