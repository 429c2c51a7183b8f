"""Weights under our names, by a map from our names to those of a published file.

A map has an entry for each tensor of our network: the name there, or several names with the function that makes ours of
theirs. Every weight of the file must be used, so that nothing is imported in part.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn

TAPS = (1, 3, 3, 1)  # of the resampling in our networks
SHOWN = 12  # tensors that an error names


@dataclass(frozen=True)
class Made:
    """A tensor of ours that is made of tensors of a file.

    Args:
        names: of the tensors there.
        make: returns ours for theirs.
    """

    names: tuple[str, ...]
    make: Callable[..., Tensor]


Names = Mapping[str, str | Made]  # by our names


@dataclass
class Network:
    """Weights of one network of a file, with the map to ours.

    Args:
        held: tensors by their names.
        names: the map.
        file: the file's name, for errors.
        ignored: pattern of names that hold no weights, such as the taps of a fixed filter.
    """

    held: Mapping[str, Tensor]
    names: Names
    file: str
    ignored: str = r"\b\B"

    def weights(self, network: nn.Module) -> dict[str, Tensor]:
        """Return the state dict of `network`, one of ours.

        Raises:
            ValueError: if weights are missing, left over, or of another shape, with the name of each in the file.
        """
        found: dict[str, Tensor] = {}
        used: set[str] = set()
        wrong: list[str] = []
        for ours, value in network.state_dict().items():
            entry = self.names.get(ours)
            if entry is None:
                wrong.append(f" has nothing for {ours} of {type(network).__name__}")
                continue
            made = entry if isinstance(entry, Made) else Made((entry,), lambda tensor: tensor)
            if lacking := [name for name in made.names if name not in self.held]:
                wrong += [f" has no {name}" for name in lacking]
                continue
            used.update(made.names)
            theirs = made.make(*(self.held[name] for name in made.names))
            if theirs.shape != value.shape:
                shapes = f"gives {tuple(theirs.shape)} for {ours}; expected {tuple(value.shape)}"
                wrong.append(f": {' and '.join(made.names)} {shapes}")
                continue
            found[ours] = theirs.to(value.dtype)
        for name in self.held:
            if name not in used and not re.fullmatch(self.ignored, name):
                wrong.append(f": {name} has no place in the network that its other weights make")
        if wrong:
            told = [wrong[0], *(one.removeprefix(":") for one in dict.fromkeys(wrong[1:SHOWN]))]
            more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
            raise ValueError(f"{self.file}{';'.join(told)}{more}")
        return found


@dataclass
class Found:
    """A published model, as ours.

    Args:
        model: our class.
        arguments: of its constructor.
        networks: weights of `generator` and, if there are, `generator_ema` and `discriminator`, or of parts of them,
            such as `generator.there`.
        parts: networks of the model that a file may lack.
    """

    model: type[LightningModule]
    arguments: dict[str, Any]
    networks: dict[str, Network] = field(default_factory=dict)
    parts: tuple[str, ...] = ("discriminator",)


def under(ours: str, theirs: str, names: tuple[str, ...]) -> dict[str, str | Made]:
    """Return entries for tensors that are called alike in a module of ours and of theirs."""
    return {f"{ours}.{name}": f"{theirs}.{name}" for name in names}


def spectral(ours: str, theirs: str, bias: bool = True) -> dict[str, str | Made]:
    """Return entries for a layer with `torch.nn.utils.spectral_norm` there."""
    found: dict[str, str | Made] = {
        f"{ours}.parametrizations.weight.original": f"{theirs}.weight_orig",
        f"{ours}.parametrizations.weight.0._u": f"{theirs}.weight_u",
        f"{ours}.parametrizations.weight.0._v": f"{theirs}.weight_v",
    }
    return found | (under(ours, theirs, ("bias",)) if bias else {})


def plain(ours: str, theirs: str, bias: bool = True) -> dict[str, str | Made]:
    """Return entries for a layer with a weight, and a bias."""
    return under(ours, theirs, ("weight", "bias") if bias else ("weight",))


def dimension(held: Mapping[str, Tensor], name: str, axis: int, file: str) -> int:
    """Return a side of a tensor of a file.

    Raises:
        ValueError: if the file has no such tensor, or it has no such side.
    """
    if name not in held:
        raise ValueError(f"{file} has no {name}")
    if held[name].ndim <= axis:
        raise ValueError(f"{file}: {name} is {tuple(held[name].shape)}; expected more than {axis} dimensions")
    return held[name].shape[axis]


def check_filters(held: Mapping[str, Tensor], names: str, file: str, total: float = 1.0) -> None:
    """Check that filters of a resampling are those of our networks.

    Args:
        held: tensors by their names.
        names: pattern of the names of filters.
        file: the file's name, for errors.
        total: sum of a filter.

    Raises:
        ValueError: if one is not.
    """
    taps = torch.tensor(TAPS, dtype=torch.float32)
    wanted = total * torch.outer(taps, taps) / taps.sum() ** 2
    for name, value in held.items():
        if re.fullmatch(names, name) and not (value.shape == wanted.shape and torch.allclose(value.float(), wanted)):
            raise ValueError(f"{file}: {name} is another filter than {list(TAPS)}")
