"""What a peer is to the benchmark: a project that the user has fetched, and the same networks on both sides."""

import importlib
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gans.benchmarks.loops import Loop


class Peer(Loop):
    """The training step of a peer.

    Args:
        device: of the networks.
        networks: those that it trains, the generator's first.
    """

    def __init__(self, device: torch.device, *networks: nn.Module) -> None:
        super().__init__(device)
        self.networks = [network.to(device) for network in networks]


class Match(NamedTuple):
    """The same training on both sides, in the size of its paper or in a small one.

    Args:
        ours: returns our model, for whether the size is the paper's.
        theirs: returns the peer's step for the folder of its project, our model, a batch and a precision.
        batch_sizes: images of a batch, small and of the paper.
        batches: of an update of the generator.
    """

    ours: Callable[[bool], Any]
    theirs: Callable[[Path, Any, tuple[Tensor, ...], str], Peer]
    batch_sizes: tuple[int, int]
    batches: int = 1


@contextmanager
def project(path: Path, name: str, source: str, marker: str, *shells: str) -> Iterator[None]:
    """Context manager in which modules of a project are imported from its folder. They are forgotten afterwards.

    So projects with packages of the same name, such as `models`, are not in each other's way.

    Args:
        path: the folder.
        name: of the flag that names it.
        source: where the project is fetched from.
        marker: a file that it has.
        shells: packages whose own `__init__.py` is not run, because it imports what a training step does not need.

    Raises:
        ValueError: if the folder is not that project, or needs a package that is not installed.
    """
    if not (path / marker).is_file():
        raise ValueError(f"{name} is {path}; expected a folder with {source}, which has {marker}")
    before = dict(sys.modules)
    for shell in shells:
        sys.modules[shell] = package = types.ModuleType(shell)
        package.__path__ = [str(path.joinpath(*shell.split(".")))]
    sys.path.insert(0, str(path))
    importlib.invalidate_caches()
    try:
        yield
    except ImportError as error:
        raise ValueError(f"{name}, in {path}, cannot be imported: {error}") from error
    finally:
        sys.path.remove(str(path))
        for module in [*sys.modules]:
            if module not in before and (module in shells or below(sys.modules[module], path)):
                del sys.modules[module]


def below(module: types.ModuleType, path: Path) -> bool:
    """Return whether a module is a file in a folder, or a folder of it without `__init__.py`."""
    file = getattr(module, "__file__", None)
    places = [file] if file is not None else [*getattr(module, "__path__", [])]
    return any(path.resolve() in Path(place).resolve().parents for place in places)


def parameters(network: nn.Module) -> int:
    """Return the number of parameters that a network trains, or would."""
    return sum(parameter.numel() for parameter in network.parameters())
