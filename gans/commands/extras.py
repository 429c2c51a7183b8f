"""What some models are given besides each picture: a mask of its holes, or another picture whose style it shall have.

A model names it in `extras`, and `translate` takes it behind the picture. It is one file for all pictures, or a folder
with one of the same name for each, extensions aside.
"""

from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import Namespace
from torch import Tensor
from torch.nn.functional import interpolate

from datamodules.archive import is_folder
from datamodules.decode import UnreadableImageError, dimensions
from datamodules.files import image_files, listed


class Extra(NamedTuple):
    """How something is given besides a picture.

    Args:
        help: what it is.
        channels: that it is read with; None for those of the picture.
        aligned: whether it has the picture's size, and is cut into the same tiles.
    """

    help: str
    channels: int | None
    aligned: bool


EXTRAS = {
    "mask": Extra("for models that fill holes, which are white in it: one for all pictures, or a folder", 1, True),
    "style": Extra("for models that restyle: a picture of the style, or a folder", None, False),
}


def needed(model: Any, options: Namespace) -> dict[str, Path]:
    """Return what is given besides the pictures, by its name: all that the model needs, and nothing else.

    Raises:
        ValueError: if something is missing, or given to a model that takes none.
    """
    kind, found = type(model).__name__, {}
    for name in EXTRAS:
        given, takes = options[name], name in getattr(model, "extras", ())
        if given is None and takes:
            raise ValueError(f"{kind}, which {options.checkpoint} holds, needs a {name}: give --{name} FILE or DIR")
        if given is not None and not takes:
            raise ValueError(f"{name} is {given}; expected none, for {kind}, which {options.checkpoint} holds")
        if given is not None:
            found[name] = given
    return found


def partners(extra: str, given: Path, folder: Path, names: list[str]) -> dict[str, Path]:
    """Return the file that is given besides each of the pictures `names` in `folder`, by the picture's name.

    Raises:
        ValueError: if there is none, or one that is no picture or has another size where it may not.
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
            continue  # what is said of it is said where it is read
        if size != sizes[found[name]]:
            (width, height), (across, down) = size, sizes[found[name]]
            wrong.append(f"{name} ({width}x{height}, its {extra} {across}x{down})")
    if wrong:
        raise ValueError(f"{len(wrong)} of the pictures have another size than the {extra}: {listed(wrong)}")
    return found


def stem(name: str) -> str:
    """Return the name of a file, with its folders, without the extension."""
    return name.rpartition(".")[0]


def holes(mask: Tensor) -> Tensor:
    """Return a picture `(1, H, W)` uint8 as a mask of 0 and 1: the brighter half of the scale is a hole.

    That of a picture with nothing above 1, which somebody wrote without a scale, is 1.
    """
    return (mask > (127 if int(mask.max()) > 1 else 0)).float()


def shrunk(image: Tensor, most: int) -> Tensor:
    """Return an image `(1, C, H, W)` whose sides have at most so many pixels, so that memory does not grow with it."""
    scale = most / max(image.shape[-2:])
    if scale >= 1:
        return image
    height, width = (max(1, round(side * scale)) for side in image.shape[-2:])
    return interpolate(image, (height, width), mode="bilinear", antialias=True)
