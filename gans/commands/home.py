"""The home folder in values of flags: `~` in paths and strings. Nothing here imports torch or Lightning."""

import os
from argparse import Namespace
from pathlib import Path
from typing import Any


def expanded(value: Any) -> Any:
    """Return a parsed value with the home folder for a `~` at the beginning of its paths and strings.

    A shell does not expand `--flag=~/x`, and nothing expands values of YAML files. Namespaces and dicts are changed in
    place.
    """
    if isinstance(value, str):
        return os.path.expanduser(value)  # unlike Path.expanduser, it keeps ~name if there is no such user
    if isinstance(value, Path):
        return Path(os.path.expanduser(value))
    if isinstance(value, list):
        return [expanded(part) for part in value]
    if isinstance(value, dict | Namespace):
        held = value if isinstance(value, dict) else vars(value)
        held.update({name: expanded(part) for name, part in held.items()})
    return value
