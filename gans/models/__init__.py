"""The models by their short names, each imported when it is first asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gans.models.dcgan import DCGAN
    from gans.models.gan import GAN

__all__ = ["DCGAN", "GAN"]


def __getattr__(name: str) -> Any:
    # Not imports above: the models build on each other, and a package that imports its own files is a cycle with them.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{name.lower()}"), name)
