"""The files of `gans sample`: one with all images, or one for each in a folder. They are checked before drawing."""

import json
from collections.abc import Sequence
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from gans.commands.parser import check_writable
from gans.pictures import captions, images
from gans.runs import atomic
from gans.runs.memory import check_disk, check_fits

SUFFIXES = (".png", ".gif")


def is_one_file(out: Path) -> bool:
    """Return whether all images go to one file, and not to a folder."""
    return out.suffix in SUFFIXES and not out.is_dir()


def check_out(out: Path, clips: bool) -> None:
    """Check that images, or clips, can be written to a file or folder.

    Raises:
        ValueError: if it is not writable, or the suffix is of another kind.
    """
    if out.is_dir() or not out.suffix:
        if out.exists() and not out.is_dir():
            raise ValueError(f"out is {out}, which is a file; expected a folder, or a name that ends with .png")
        check_writable(out)
        return
    if out.suffix not in SUFFIXES or (out.suffix == ".gif" and not clips):
        expected = ".png or .gif" if clips else ".png"
        raise ValueError(f"out is {out}; expected a name that ends with {expected}, or a folder")
    check_writable(out.parent)


def check_count(count: int, shape: Sequence[int] | None, out: Path) -> None:
    """Check that so many images of a shape fit into memory as a grid, or on the disk as files.

    Raises:
        ValueError: if not.
    """
    numbers = prod(shape or (1,))
    if is_one_file(out):
        check_fits(4 * count * numbers, f"a grid of num {count} pictures")
    else:  # a rough lower bound for the size of a file
        check_disk(count * (100 + numbers // 20), out, f"num {count} files")


def columns(kinds: Sequence[int]) -> int | None:
    """Return the columns of a grid: one for each of several classes; None if there are not several."""
    return len(kinds) if len(kinds) > 1 else None


def write_one(made: Tensor, out: Path, across: int | None = None, names: Sequence[str] = ()) -> None:
    """Write images `(N, C, H, W)`, or clips `(N, C, T, H, W)`, in [-1, 1] to one file.

    One image is written as it is, several as a grid, clips as an animation (.gif) or a film strip (.png).

    Args:
        made: images or clips.
        out: file that ends with .png or .gif.
        across: columns of the grid; None makes it about square.
        names: of the columns, written above them; none are written if it is empty.
    """
    if out.suffix == ".gif":
        atomic.write(out, images.gif(made), durable=False)
    elif made.ndim == 5:
        images.save(images.film(made), out)
    elif len(made) == 1:
        images.save(images.to_uint8(made[0]), out)  # without a border, grey if it is grey
    else:
        images.save(captions.headed(images.grid(made, across), names), out)


def write_each(made: Tensor, folder: Path, first: int) -> None:
    """Write images `(N, C, H, W)`, or clips `(N, C, T, H, W)`, in [-1, 1] to a file each, numbered from `first`."""
    suffix = ".gif" if made.ndim == 5 else ".png"
    for number, image in enumerate(made, first):
        write_one(image.unsqueeze(0), folder / f"{number:06d}{suffix}")


def write_captioned(made: Sequence[Tensor], sentences: Sequence[str], out: Path) -> None:
    """Write the images of sentences.

    One file shows them with their sentence below. In a folder `captions.json` has the sentence of each file.

    Args:
        made: images `(n, C, H, W)` in [-1, 1] of each sentence.
        sentences: as many.
        out: file that ends with .png, or a folder.
    """
    each = len(made[0])
    if is_one_file(out):
        images.save_grid(captions.contact_sheet(torch.cat(list(made)), sentences, each), out, 1)
        return
    files: dict[str, str] = {}
    for start, batch, text in zip(range(0, each * len(made), each), made, sentences, strict=True):
        write_each(batch, out, start)
        files |= {f"{number:06d}.png": text for number in range(start, start + each)}
    atomic.write(out / "captions.json", json.dumps(files, indent=1, ensure_ascii=False).encode())
