"""Arrays in the user's cache folder, for what takes long to find out about files and is valid until they change."""

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
SETTLED = 2_000_000_000  # nanoseconds; some file systems store times of changes in steps of 2 s
VERSION = 2  # part of the names of files; a higher number makes older files unknown


def cache_folder() -> Path:
    """Return the folder of the files: $GANS_CACHE, or `lightning-gans` in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if home else Path.home() / ".cache"
    return Path(os.environ.get("GANS_CACHE") or base / "lightning-gans").expanduser()


def place(kind: str, path: str | Path) -> Path:
    """Return the file of what is kept about a path. `kind` is a word, such as `listings`."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()
    return cache_folder() / kind / f"{digest[:32]}-{VERSION}.npz"


def load(kind: str, path: str | Path) -> dict[str, Array] | None:
    """Return the arrays that are kept about a path, or None if there are none or their file is damaged."""
    try:
        with np.load(place(kind, path), allow_pickle=False) as held:
            return dict(held)
    except Exception:  # a damaged archive raises errors of many kinds; the arrays are found out again then
        return None


def save(kind: str, path: str | Path, arrays: Mapping[str, Array]) -> None:
    """Keep arrays about a path. A reader finds the whole file or none. A folder that is not writable is ignored."""
    target = place(kind, path)
    with contextlib.suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=target.parent, suffix=".npz")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(file, **cast(Any, dict(arrays)))
            os.replace(partial, target)
        except BaseException:
            os.unlink(partial)
            raise


def of_file(kind: str, path: str | Path, make: Callable[[], Mapping[str, Array]], least: int) -> Mapping[str, Array]:
    """Return arrays about a file. They are made again when the file's size or modification time has changed.

    Args:
        kind: What they are, a word.
        path: The file.
        make: Function that makes them.
        least: Length from which they are kept.
    """
    state = os.stat(path)
    stamp = np.array([state.st_mtime_ns, state.st_size])
    held = load(kind, path)
    if held is not None and np.array_equal(held.pop("stamp"), stamp):
        return held
    begun, made = time.time_ns(), make()
    # A file that has just changed could change again within one step of its modification time.
    if max(map(len, made.values())) >= least and state.st_mtime_ns < begun - SETTLED:
        save(kind, path, {"stamp": stamp, **made})
    return made


def joined(texts: list[str]) -> Array:
    """Return texts without null characters as one array of bytes, for `save`."""
    return np.frombuffer(os.fsencode("\0".join(texts)), dtype=np.uint8)


def parted(array: Array) -> list[str]:
    """Return the texts of an array of `joined`."""
    return os.fsdecode(array.tobytes()).split("\0") if array.size else []
