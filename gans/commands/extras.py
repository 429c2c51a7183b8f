"""Extra inputs of some translators: a mask of the holes in a picture, or a picture with the style to transfer.

A model names them in `extras`, and its `translate` takes them after the image. The user gives one file for all
pictures, or a folder with a file of the same name for each; extensions may differ. Several styles are blended.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor
from torch.nn.functional import interpolate

from datamodules.archive import is_folder
from datamodules.decode import UnreadableImageError, dimensions, read_whole
from datamodules.files import image_files, listed
from gans.pictures.images import to_float


class Extra(NamedTuple):
    """One kind of extra input.

    Args:
        help: text of its flag.
        channels: of its image; None for those of the picture.
        aligned: whether it has the size of the picture, and is cut into the same tiles.
        several: whether more than one may be given.
    """

    help: str
    channels: int | None
    aligned: bool
    several: bool


EXTRAS = {
    "mask": Extra("for inpainting: a mask for all pictures, white in holes, or a folder of masks", 1, True, False),
    "style": Extra(
        "for style transfer: a picture of the style, or a folder of them; several are blended", None, False, True
    ),
}


def needed(model: Any, checkpoint: Path, paths: Mapping[str, list[Path] | None]) -> dict[str, list[Path]]:
    """Return the paths of the extra inputs that a model takes, by their names.

    Args:
        model: names them in `extras`.
        checkpoint: of the model, for errors.
        paths: of all kinds of extra inputs; None is not given.

    Raises:
        ValueError: if one is missing, or given to a model that does not take it.
    """
    kind, found = type(model).__name__, {}
    for name in EXTRAS:
        given, takes = paths[name], name in getattr(model, "extras", ())
        if given is None and takes:
            raise ValueError(f"{kind}, which {checkpoint} holds, needs a {name}: give --{name} FILE or DIR")
        if given is not None and not takes:
            told = ", ".join(map(str, given))
            raise ValueError(f"{name} is {told}; expected none, for {kind}, which {checkpoint} holds")
        if given is not None and len(given) > 1 and not EXTRAS[name].several:
            raise ValueError(f"{name} is {', '.join(map(str, given))}; expected one file or folder")
        if given is not None:
            found[name] = given
    return found


def partners(extra: str, given: Path, folder: Path, names: list[str]) -> dict[str, Path]:
    """Return the file of an extra input for each of the pictures `names` in `folder`, by the picture's name.

    Args:
        extra: name of the input.
        given: its file for all pictures, or the folder of its files.
        folder: of the pictures.
        names: of the pictures.

    Raises:
        ValueError: if there is none, or several, for a picture, or one is unreadable or has a wrong size.
    """
    found: dict[str, Path] = {}
    if is_folder(given):
        there: dict[str, list[str]] = {}
        for name in sorted(image_files(given)):
            there.setdefault(stem(name), []).append(name)
        missing = [name for name in names if stem(name) not in there]
        if missing:
            raise ValueError(f"{given} has no {extra} for {len(missing)} of the pictures: {listed(missing)}")
        for name in names:
            # The file of exactly the same name, or the only one of that name with another extension.
            same = there[stem(name)]
            if name not in same and len(same) > 1:
                raise ValueError(f"{given} has more than one {extra} for {name}: {listed(same)}")
            found[name] = given / (name if name in same else same[0])
    elif given.is_file():
        found = dict.fromkeys(names, given)
    else:
        told = "is neither a file nor a folder" if given.exists() else "does not exist"
        raise ValueError(f"{extra} is {given}, which {told}")
    sizes, wrong = {}, []
    for path in dict.fromkeys(found.values()):
        try:
            sizes[path] = dimensions(path)
        except UnreadableImageError as error:
            raise ValueError(f"{extra} is {path}, which cannot be read: {error}") from error
    for name in names if EXTRAS[extra].aligned else ():
        try:
            size = dimensions(folder / name)
        except UnreadableImageError:
            continue  # reported when the picture is read
        if size != sizes[found[name]]:
            (width, height), (across, down) = size, sizes[found[name]]
            wrong.append(f"{name} ({width}x{height}, its {extra} {across}x{down})")
    if wrong:
        raise ValueError(f"{len(wrong)} of the pictures have another size than the {extra}: {listed(wrong)}")
    return found


def stem(name: str) -> str:
    """Return the name of a file, with its folders, without the extension."""
    return name.rpartition(".")[0]


def read_extra(extra: str, path: Path, channels: int, most: int) -> Tensor:
    """Return an extra input `(1, C, H, W)`: a mask of 0 and 1, or an image in [-1, 1].

    Args:
        extra: name of the input.
        path: of its file.
        channels: of the picture that it is for.
        most: longest side of an image that is not cut into tiles.

    Raises:
        UnreadableImageError: if it cannot be decoded.
    """
    kind = EXTRAS[extra]
    try:
        picture = read_whole(path, kind.channels or channels)
    except UnreadableImageError as error:
        raise UnreadableImageError(f"its {extra} {path}: {error}") from error
    return holes(picture)[None] if kind.aligned else shrunk(to_float(picture)[None], most)


def holes(mask: Tensor) -> Tensor:
    """Return a uint8 picture `(1, H, W)` as a mask with 1 in holes, where it is above 127.

    In a picture without values above 1, a hole is where it is 1.
    """
    return (mask > (127 if int(mask.max()) > 1 else 0)).float()


def shrunk(image: Tensor, most: int) -> Tensor:
    """Return an image `(1, C, H, W)` with sides of at most `most` pixels, which bounds the memory that it takes."""
    scale = most / max(image.shape[-2:])
    if scale >= 1:
        return image
    height, width = (max(1, round(side * scale)) for side in image.shape[-2:])
    return interpolate(image, (height, width), mode="bilinear", antialias=True)
