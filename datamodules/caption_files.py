"""Readers of caption files: JSON, JSON lines, a text file for each image, or COCO's annotations.

COCO (Lin et al. 2014, arXiv 1405.0312; captions by Chen et al. 2015, arXiv 1504.00325) has a list of images with `id`
and `file_name`, and a list of annotations with `image_id` and `caption`.
"""

import json
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from datamodules.archive import is_file, read_text
from datamodules.files import listed
from datamodules.text import words

Captions: TypeAlias = list[list[str]]  # the captions of each image
Table: TypeAlias = dict[str, list[str]]

FILES = ("captions.json", "captions.jsonl", "metadata.jsonl")  # the last is Hugging Face's name in image folders
IMAGE_KEYS, CAPTION_KEYS = ("file_name", "image", "file"), ("caption", "text")


def captions_of(root: Path, folder: Path, paths: list[str], file: Path | None) -> Captions:
    """Return the captions of the images at `paths`, at least one for each.

    Names in a caption file are relative to the file's folder. Names in `file` are relative to `root`.

    Args:
        root: Folder of the data set.
        folder: Folder of the images: `root`, or the folder of one split in it.
        paths: Paths of the images, relative to `folder`.
        file: File of the captions; None searches for one in both folders, then for a `.txt` file for each image.

    Raises:
        ValueError: Images have no caption, a caption has no word, or a file is damaged; the message names a few.
        OSError: A file cannot be read.
    """
    places = [folder / name for name in FILES] + [root / name for name in FILES]
    found = file or next((path for path in places if is_file(path)), None)
    if found is None:
        table, source = text_files(folder, paths), f"a .txt file for each image, or {' or '.join(FILES[:2])} in {root}"
    else:
        table, source = read(found), f"them in {found}"
        # Names in a file outside of the folder may start with the name of the split.
        prefix = "" if folder == root or found.parent == folder else f"{folder.relative_to(root).as_posix()}/"
        table = {name.removeprefix("./").removeprefix(prefix): captions for name, captions in table.items()}
    missing = [path for path in paths if not table.get(path)]
    if missing:
        count = f"{len(missing)} of the {len(paths)} images in {folder}"
        raise ValueError(f"{count} have no caption: {listed(missing)}; expected {source}")
    empty = [path for path in paths for caption in table[path] if not words(caption)]
    if empty:
        raise ValueError(f"{len(empty)} captions in {found or folder} have no words, those of {listed(empty)}")
    if found and folder == root and len(table) > len(paths):
        warnings.warn(f"{found} has captions of {len(table) - len(paths)} images that are not in {root}", stacklevel=2)
    return [table[path] for path in paths]


def text_files(folder: Path, paths: list[str]) -> Table:
    """Return the lines of the `.txt` files with the names of the images."""
    table = {}
    for path in paths:
        file = (folder / path).with_suffix(".txt")
        if is_file(file):
            table[path] = [line.strip() for line in decoded(file).splitlines() if line.strip()] or [""]
    return table


def read(file: Path) -> Table:
    """Return the captions in a `.json` or `.jsonl` file by image name.

    Raises:
        ValueError: The file has another layout.
    """
    table: Table = defaultdict(list)
    for name, caption in lines(file) if file.suffix == ".jsonl" else entries(file):
        if not isinstance(name, str) or not isinstance(caption, str):
            raise ValueError(f"{file} gives {shortened(name)} the caption {shortened(caption)}; expected texts")
        table[name].append(caption)
    return dict(table)


def lines(file: Path) -> Iterator[tuple[Any, Any]]:
    """Yield image name and caption of each line of a `.jsonl` file. Blank lines are skipped."""
    for number, line in enumerate(decoded(file).split("\n"), 1):
        if not line.strip():
            continue
        held = parsed(line, f"line {number} of {file}")
        name, caption = (
            next((held[key] for key in keys if key in held), None) if isinstance(held, dict) else None
            for keys in (IMAGE_KEYS, CAPTION_KEYS)
        )
        if name is None or caption is None:
            raise ValueError(
                f"line {number} of {file} is {shortened(held)}; expected an object with {' or '.join(IMAGE_KEYS)}, and "
                f"{' or '.join(CAPTION_KEYS)}"
            )
        for one in caption if isinstance(caption, list) else [caption]:
            yield name, one


def entries(file: Path) -> Iterator[tuple[Any, Any]]:
    """Yield image name and caption of a `.json` file, one pair for each caption."""
    held = parsed(decoded(file), str(file))
    if isinstance(held, dict) and isinstance(held.get("annotations"), list):
        yield from coco(held, file)
        return
    if not isinstance(held, dict) or not held:
        expected = "image names with a caption or a list of captions each, or COCO's annotations"
        raise ValueError(f"{file} holds {shortened(held)}; expected {expected}")
    for name, captions in held.items():
        for caption in captions if isinstance(captions, list) else [captions]:
            yield name, caption


def coco(held: dict[str, Any], file: Path) -> Iterator[tuple[Any, Any]]:
    """Yield image name and caption of COCO's annotations.

    Raises:
        ValueError: The annotations are not captions, or their images are not listed.
    """
    try:
        names = {image["id"]: image["file_name"] for image in held["images"]}
        for annotation in held["annotations"]:
            yield names[annotation["image_id"]], annotation["caption"]
    except (KeyError, TypeError) as error:
        expected = "images with id and file_name, and annotations with image_id and caption"
        raise ValueError(f"{file} is not in COCO's layout ({error} is missing); expected {expected}") from error


def decoded(file: Path) -> str:
    """Return the text of a file.

    Raises:
        ValueError: The text is not UTF-8.
    """
    try:
        return read_text(file)
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not text in UTF-8 ({error.reason} at byte {error.start})") from error


def parsed(content: str, where: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: The text is not JSON.
    """
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON ({error.msg} at line {error.lineno})") from error


def shortened(value: Any) -> str:
    """Return a value as text of at most 60 characters, for messages."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}..."
