"""Pictures inside of an HTML page, as WebP of bounded size in data URIs."""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

SIDE, LEAST_SIDE = 640, 96  # pixels of the longer side
MOST, FEWEST = 32, 6  # grids of a slider
QUALITY = 82
NUMBERED = re.compile(r"(.+)_(\d{7,})\.png")  # of a run's folder `samples`


@dataclass(frozen=True)
class Picture:
    """A picture as text for the attribute `src`.

    Args:
        uri: `data:image/webp;base64,...`.
        width: in pixels.
        height: in pixels.
        step: of the run; None if it belongs to none.
    """

    uri: str
    width: int
    height: int
    step: int | None = None


def encoded(image: Image.Image, side: int = SIDE, step: int | None = None) -> Picture:
    """Return an image as a picture whose longer side has at most `side` pixels."""
    scale = min(1.0, side / max(image.size))
    if scale < 1:
        image = image.resize(
            (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS
        )
    memory = io.BytesIO()
    image.save(memory, "WEBP", quality=QUALITY, method=4)
    return Picture(f"data:image/webp;base64,{base64.b64encode(memory.getvalue()).decode()}", *image.size, step)


def grids(folder: Path) -> dict[str, list[tuple[int, Path]]]:
    """Return the grids in a run's folder `samples` as (step, file), in the order of steps, by their names."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in sorted(folder.glob("*.png")):
        if named := NUMBERED.fullmatch(path.name):
            found.setdefault("samples" if named[1] == "step" else named[1], []).append((int(named[2]), path))
    return {name: sorted(files) for name, files in found.items()}


def slides(files: Sequence[tuple[int, Path]], budget: int) -> list[Picture]:
    """Return grids of a run whose text takes at most `budget` bytes, evenly over the run, with the first and the last.

    First some grids are left out, then all become smaller.

    Args:
        files: (step, file) in the order of steps.
        budget: bytes of all data URIs together. The smallest version is returned even if it takes more.
    """
    count, side = min(len(files), MOST), SIDE
    while True:
        found = []
        for step, path in spread(files, count):
            with Image.open(path) as image:
                found.append(encoded(image.convert("RGBA" if "A" in image.mode else "RGB"), side, step))
        size = sum(len(picture.uri) for picture in found)
        if size <= budget or (count <= FEWEST and side <= LEAST_SIDE):
            return found
        if count > FEWEST:
            count = max(FEWEST, min(count - 1, int(count * budget / size)))
        else:
            largest = max(max(picture.width, picture.height) for picture in found)
            side = max(LEAST_SIDE, int(min(side, largest) * max(0.5, (budget / size) ** 0.5)))


def spread(files: Sequence[tuple[int, Path]], count: int) -> list[tuple[int, Path]]:
    """Return `count` of the files, evenly spread, with the first and the last; all if there are not more."""
    if len(files) <= count:
        return list(files)
    if count == 1:
        return [files[-1]]
    return [files[round(i * (len(files) - 1) / (count - 1))] for i in range(count)]
