"""Ordinary checkpoints of this framework, made of published ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch

from gans.engine.checkpoint import not_finite
from gans.published import kinds
from gans.published.files import File, opened, sha256
from gans.published.maps import Found, Network
from gans.runs import atomic

PAIR = ("generator", "generator_ema")


def imported(
    name: str | None,
    path: Path,
    discriminator: Path | None = None,
    average: Path | None = None,
    source: str | None = None,
    licence: str | None = None,
    **others: Path | None,
) -> Any:
    """Return the model of a published checkpoint, in evaluation mode; `origin` says where its weights are from.

    The weights of a network that was not published are drawn from a fixed seed. A run that starts from the model's
    checkpoint does not take them.

    Args:
        name: kind of the checkpoint, one of `kinds.KINDS`; None recognises it by names and shapes of the tensors.
        path: of the file.
        discriminator: file of the discriminator, for kinds with one file a network.
        average: file of the averaged generator, for kinds with one file a network.
        source: where the file is from; None is the repository of its kind.
        licence: of the weights; None is that of the repository.
        others: further files, which the kind names in its `files`.

    Raises:
        ValueError: if a file is damaged, of another kind, or does not fit our networks.
    """
    if name is not None:
        kinds.named(name)
    main = opened(path)
    name = kinds.recognised(main) if name is None else name
    kinds.check_kind(name, main)
    kind, given = kinds.named(name), {"discriminator": discriminator, "average": average, **others}
    for flag, other in given.items():
        if other and flag not in kind.files:
            taken = f"takes {', '.join(kind.files)}" if kind.files else "has all networks"
            raise ValueError(f"{flag} is {other}; expected none, for a file of the kind {name} {taken}")
    paths = {flag: given.get(flag) for flag in kind.files}
    parts = {flag: opened(other) if other else None for flag, other in paths.items()}
    files = [path, *filter(None, paths.values())]
    try:
        found = kind.convert(main, **parts)
        model = built(found, main)
    except ValueError:
        raise
    except Exception as error:  # numbers of other types and shapes, or networks larger than the memory
        why = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} is no whole checkpoint of the kind {name}: {why}") from error
    model.origin = {
        "kind": name,
        "source": source or kind.source,
        "licence": licence or kind.licence,
        "files": {file.name: sha256(file) for file in files},
        "arguments": found.arguments,
        "missing": missing(found),
    }
    return model.eval()


def built(found: Found, file: File) -> Any:
    """Return a model with the weights of a published one.

    Raises:
        ValueError: if they do not fit, or are not finite.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of networks that were not published
        try:
            model: Any = found.model(**found.arguments)
        except ValueError as error:
            raise ValueError(f"{file.path} does not fit {found.model.__name__}: {error}") from error
    for part, network in twice(found.networks).items():
        place = model.get_submodule(part)
        weights = network.weights(place)
        if broken := not_finite(weights):
            raise ValueError(f"{network.file}: {broken} is not finite")
        place.load_state_dict(weights)
    return model


def twice(networks: Mapping[str, Network]) -> dict[str, Network]:
    """Return the networks, with the generator also as its average, and the reverse, where only one is published."""
    found = dict(networks)
    for part, network in networks.items():
        for other in twins(part):
            found.setdefault(other, network)
    return found


def twins(part: str) -> list[str]:
    """Return a part of a model and its average, or of an average and the part; of other networks the part alone."""
    name, dot, rest = part.partition(".")
    return [f"{twin}{dot}{rest}" for twin in PAIR] if name in PAIR else [part]


def missing(found: Found) -> list[str]:
    """Return the parts of a model that were not published."""
    return [twin for part in found.parts if part not in found.networks for twin in twins(part)]


def save(model: L.LightningModule, out: Path) -> None:
    """Write a model as a checkpoint of weights, from which `--init_from` starts and nothing resumes.

    Raises:
        UnwrittenError: if the file cannot be written.
    """
    held: dict[str, Any] = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(held)
    with atomic.opened(out) as file:
        torch.save(held, file)
