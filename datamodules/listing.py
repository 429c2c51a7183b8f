"""The contents of a folder or an archive. The list of a large folder is kept until one of its folders changes."""

import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datamodules import decode, files, kept
from datamodules.archive import walk, within

LARGE = 10_000  # files; the list of a smaller folder is not kept
KIND = "listings"


class Listing(NamedTuple):
    """The contents of a folder or an archive: images, files of other kinds, and subfolders."""

    paths: list[str]  # relative paths of the images, with "/", sorted by code points independently of the locale
    others: dict[str, int]  # number of other files by extension, such as ".txt"
    folders: set[str]


def listing(root: str | Path) -> Listing:
    """Return the contents of a folder or an archive, without hidden files and those of systems and tools.

    A folder of at least 10,000 files is listed once. Its list is kept in the user's cache, with the times of change of
    all its folders. They change when files are added, removed or renamed. Later calls compare these times alone.
    """
    if within(root):
        return scanned(root)
    known = remembered(root)
    if known is not None:
        return known
    begun = time.time_ns()
    found = scanned(root)
    if len(found.paths) + sum(found.others.values()) >= LARGE:
        remember(root, found, begun)
    return found


def scanned(root: str | Path) -> Listing:
    """Return the contents of a folder or an archive, which are listed now."""
    paths, others, folders = [], Counter[str](), set()
    for path in walk(root):
        if path.endswith("/"):
            folders.add(path[:-1])
        elif files.is_image(path):
            paths.append(path)
        else:
            others[os.path.splitext(path)[1].lower() or "without extension"] += 1
    return Listing(sorted(paths), dict(others.most_common()), folders)


def remember(root: str | Path, found: Listing, begun: int) -> None:
    """Keep a listing, unless a folder has changed since shortly before it was begun.

    Args:
        root: The folder.
        found: Its contents.
        begun: Time at which listing began, in nanoseconds since the epoch.
    """
    folders = sorted(found.folders)
    times = changed(root, folders)
    if times is None or int(times[:, 0].max()) > begun - kept.SETTLED:
        return  # a later change could have the same time
    kinds = list(found.others)
    arrays = {
        "paths": kept.joined(found.paths),
        "folders": kept.joined(folders),
        "times": times,
        "images": kept.joined(list(decode.EXTENSIONS)),
        "kinds": kept.joined(kinds),
        "counts": np.array([found.others[kind] for kind in kinds], dtype=np.int64),
    }
    kept.save(KIND, root, arrays)


def remembered(root: str | Path) -> Listing | None:
    """Return the kept listing of a folder, or None if there is none or a folder or Pillow's formats have changed."""
    held = kept.load(KIND, root)
    if held is None or kept.parted(held["images"]) != list(decode.EXTENSIONS):
        return None
    folders = kept.parted(held["folders"])
    times = changed(root, folders)
    if times is None or not np.array_equal(times, held["times"]):
        return None
    others = dict(zip(kept.parted(held["kinds"]), held["counts"].tolist(), strict=True))
    return Listing(kept.parted(held["paths"]), others, set(folders))


def changed(root: str | Path, folders: Sequence[str]) -> kept.Array | None:
    """Return when a folder and its subfolders have changed, `(1 + N, 2)` int64; None if one is not there.

    Programs that unpack archives set the modification time, the first one, but not the second one.
    """
    try:
        states = [os.stat(os.path.join(root, folder)) for folder in ("", *folders)]
    except OSError:
        return None
    return np.array([(state.st_mtime_ns, state.st_ctime_ns) for state in states], dtype=np.int64)
