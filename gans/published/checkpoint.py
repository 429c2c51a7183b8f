"""Ordinary checkpoints of this framework, made of published ones."""

from pathlib import Path
from typing import Any

import lightning as L
import torch

from gans.engine.checkpoint import not_finite
from gans.published import kinds
from gans.published.files import File, opened, sha256
from gans.published.maps import Found
from gans.runs import atomic


def imported(
    name: str,
    path: Path,
    discriminator: Path | None = None,
    average: Path | None = None,
    source: str | None = None,
    licence: str | None = None,
) -> Any:
    """Return the model of a published checkpoint, in evaluation mode; `origin` says where its weights are from.

    The weights of a network that was not published are drawn from a fixed seed. A run that starts from the model's
    checkpoint does not take them.

    Args:
        name: kind of the checkpoint, one of `kinds.KINDS`.
        path: of the file.
        discriminator: file of the discriminator, for kinds with one file a network.
        average: file of the averaged generator, for kinds with one file a network.
        source: where the file is from; None is the repository of its kind.
        licence: of the weights; None is that of the repository.

    Raises:
        ValueError: if a file is damaged, of another kind, or does not fit our networks.
    """
    kind, files = kinds.named(name), [path]
    main, parts = opened(path), {}
    kinds.check_kind(name, main)
    for flag, other in (("discriminator", discriminator), ("average", average)):
        if other and flag not in kind.files:
            raise ValueError(f"{flag} is {other}; expected none, for a file of the kind {name} has all networks")
        parts[flag] = opened(other) if other else None
        files += [other] if other else []
    try:
        found = kind.convert(main, parts["discriminator"], parts["average"])
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
        "missing": [] if "discriminator" in found.networks else ["discriminator"],
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
    networks = dict(found.networks)
    one = "generator_ema" if "generator" not in networks else "generator"
    for part in ("generator", "generator_ema"):  # if only one of them is published, both are it
        networks.setdefault(part, networks[one])
    for part, network in networks.items():
        weights = network.weights(getattr(model, part))
        if broken := not_finite(weights):
            raise ValueError(f"{network.file}: {broken} is not finite")
        getattr(model, part).load_state_dict(weights)
    return model


def save(model: L.LightningModule, out: Path) -> None:
    """Write a model as a checkpoint of weights, from which `--init_from` starts and nothing resumes.

    Raises:
        UnwrittenError: if the file cannot be written.
    """
    held: dict[str, Any] = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(held)
    with atomic.opened(out) as file:
        torch.save(held, file)
