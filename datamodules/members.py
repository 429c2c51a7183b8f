"""The table of contents of an archive."""

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np


class Members(NamedTuple):
    """The members of an archive, sorted by name.

    They are stored in arrays, because the reference counts of a million objects would be copied into every worker.
    """

    names: "np.ndarray[Any, np.dtype[np.bytes_]]"  # folders end with "/"
    entries: "np.ndarray[Any, np.dtype[np.int64]]"  # (N, k): where a member lies; the last column is its size in bytes

    def find(self, name: str) -> int | None:
        """Return the index of a member, or None."""
        wanted = os.fsencode(name)
        row = int(np.searchsorted(self.names, np.bytes_(wanted)))
        return row if row < len(self.names) and self.names[row] == wanted else None

    def below(self, folder: str) -> range:
        """Return the indices of all members in a folder, whose name ends with "/" or is empty."""
        first = int(np.searchsorted(self.names, np.bytes_(os.fsencode(folder))))
        # "0" is the next character after "/".
        last = int(np.searchsorted(self.names, np.bytes_(os.fsencode(folder[:-1] + "0")))) if folder else None
        return range(first, len(self.names) if last is None else last)


def sorted_members(members: Iterable[tuple[str, Sequence[int]]], columns: int) -> Members:
    """Return the table of members, given name and numbers of each. The last one of a name is used."""
    unique = {name.replace("\\", "/").removeprefix("./").lstrip("/"): entry for name, entry in members}
    # UTF-8 bytes have the same order as text, and as the paths in a folder.
    rows = sorted((os.fsencode(name), entry) for name, entry in unique.items() if name)
    names = np.array([name for name, _ in rows], dtype=np.bytes_)
    return Members(names, np.array([entry for _, entry in rows], dtype=np.int64).reshape(len(rows), columns))
