"""Which pictures `gans predict` reads, and the names of the files that it writes. No name collides with another."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Literal

from datamodules.archive import is_folder, walk
from datamodules.files import is_image
from gans.commands.predict_pictures import ALPHA, SAVED

Format = Literal["same", "png", "jpg", "webp", "tiff", "bmp"]

# Of a format, the usual one first.
EXTENSIONS: dict[str, tuple[str, ...]] = {
    "png": (".png",),
    "jpg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "webp": (".webp",),
    "tiff": (".tiff", ".tif"),
    "bmp": (".bmp",),
}


def pictures(given: Path, output: Path) -> tuple[Path, list[str], dict[str, int]]:
    """Return the folder of a picture, or a folder, the names of its pictures, and counts of other files by extension.

    Files in the output folder are left out, so that a second run does not translate what the first one wrote.

    Args:
        given: a picture, or a folder of pictures.
        output: folder for the results.

    Raises:
        ValueError: if there are no pictures, or the output is no folder, or that of the input.
    """
    if output.suffix.lower() in SAVED and not output.is_dir():
        raise ValueError(f"output is {output}; expected a folder, in which the result has the name of the picture")
    if not is_folder(given):
        if not given.is_file():
            told = "is neither a file nor a folder" if given.exists() else "does not exist"
            raise ValueError(f"input is {given}, which {told}")
        if output.resolve() == given.parent.resolve():
            raise ValueError(f"output is {output}, where the input is; expected another folder")
        return given.parent, [given.name], {}
    if output.resolve() == given.resolve():
        raise ValueError(f"output is {output}, where the input is; expected another folder")
    names, others = [], Counter[str]()
    inside = output.resolve().is_relative_to(given.resolve())
    made = f"{output.resolve().relative_to(given.resolve()).as_posix()}/" if inside else None
    for name in sorted(walk(given)):
        if name.endswith("/") or (made and name.startswith(made)):
            continue
        if is_image(name):
            names.append(name)
        else:
            others[Path(name).suffix.lower() or "without extension"] += 1
    if not names:
        raise ValueError(f"input is {given}, which holds no pictures")
    return given, names, dict(others.most_common())


def targets(names: Iterable[str], form: Format, alpha: bool) -> dict[str, str]:
    """Return the name of the result of each picture, by the picture's name. Both may have folders, after "/".

    With `same` the name is kept, and `.png` is added for kinds of files that are not written, or have no alpha although
    the model makes alpha. Another format replaces the extension. If two results would have one name, it is added to the
    old extension instead.

    Args:
        names: of the pictures.
        form: format of the results.
        alpha: whether the model makes alpha that is to be kept.

    Raises:
        ValueError: if two results still have one name.
    """
    found = {name: target(name, form, alpha) for name in names}
    count = Counter(found.values())
    for name, made in found.items():
        if count[made] > 1 and made != name:
            found[name] = f"{name}{PurePosixPath(made).suffix}"
    owner: dict[str, str] = {}
    for name, made in found.items():
        if made in owner:
            raise ValueError(f"{owner[made]} and {name} would both be written to {made}; expected names of their own")
        owner[made] = name
    return found


def target(name: str, form: Format, alpha: bool) -> str:
    """Return the name of the result of one picture, regardless of other names."""
    path = PurePosixPath(name)
    kind = path.suffix.lower()
    if form == "same":
        return name if kind in SAVED and (kind in ALPHA or not alpha) else f"{name}.png"
    return name if kind in EXTENSIONS[form] else str(path.with_suffix(EXTENSIONS[form][0]))


def check_apart(folder: Path, output: Path, files: dict[str, str]) -> None:
    """Check that no result overwrites a picture that is read.

    Args:
        folder: of the pictures.
        output: folder of the results.
        files: name of each result by the name of its picture.

    Raises:
        ValueError: if one would.
    """
    read = {os.path.realpath(folder / name): name for name in files}
    for name, made in files.items():
        if over := read.get(os.path.realpath(output / made)):
            raise ValueError(f"{folder / name} would be written over {folder / over}; expected another output folder")
