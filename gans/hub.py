"""Trained models as safetensors and JSON with a model card, in a folder or a repository of the Hugging Face Hub.

These are functions and not huggingface_hub's mixin. The mixin wraps constructors, so that importing a model would need
the package, and a user would have to know the class of a repository before loading it. Here `config.json` names the
class. The package (`lightning-gans[hub]`) and a network connection are needed only for a name on the Hub.

Nothing in these files is executed: they contain no pickle, only weights and configuration are downloaded, and the class
is one of `gans.models`, the one given, or one that has already been imported.
"""

import json
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from gans import __version__, card
from gans.engine.arguments import KeepsArguments
from gans.engine.checkpoint import arguments as taken
from gans.engine.checkpoint import class_path, model_class
from gans.engine.stored import CONFIG, WEIGHTS
from gans.runs import atomic

NOTE = "gans"  # the key of the configuration in the metadata of a generator's file


def config_of(model: Any) -> dict[str, Any]:
    """Return what rebuilds a model, as plain values: its class, its arguments, the images seen and class names.

    A model with imported weights has their `origin` besides.
    """
    if isinstance(model, KeepsArguments):
        arguments = model.own_arguments()
    else:  # any other LightningModule has its hyper-parameters
        arguments = {name: value for name, value in model.hparams.items() if name[0] != "_"}
    return {
        "model": class_path(type(model)),
        "arguments": arguments,
        "images_seen": int(getattr(model, "images_seen", 0)),
        "classes": list(getattr(model, "class_names", ())),
        "version": __version__,
        **({"origin": dict(model.origin)} if getattr(model, "origin", None) else {}),
    }


def told_origin(config: dict[str, Any]) -> str:
    """Return a sentence for the model card about imported or blended weights, and their licence, if there are any."""
    if not (origin := config.get("origin")):
        return ""
    licence = f", under the licence: {origin['licence']}" if origin.get("licence") else ""
    return f" Its weights come from {origin.get('source')}{licence}."


def save_pretrained(
    model: L.LightningModule, folder: str | Path, *, run: str | Path | None = None, licence: str | None = None
) -> Path:
    """Write all networks of a model, with the averaged generator and a model card, to a folder, and return its path.

    Args:
        model: a trained model.
        folder: that is created. A README.md of your own in it is kept, with a warning.
        run: folder of the run or a checkpoint in it. The card then tells its recipe, data, length, and the scores of
            `gans evaluate CKPT --out RUN/report.json` for this model.
        licence: of the weights for the card, such as `apache-2.0`; None is that of imported weights, or not said.

    Raises:
        ValueError: if there is no such run.
        TypeError: if an argument of the model is not a plain value.
    """
    folder = Path(folder).expanduser()
    return written(model, folder, folder.name, run, licence)


def written(model: L.LightningModule, folder: Path, name: str, run: str | Path | None, licence: str | None) -> Path:
    """Write a model as `save_pretrained` does, with a card that calls it `name`, and return the folder."""
    config = config_of(model)
    text = json.dumps(config, indent=2)  # first: it fails if a value is not plain
    home = None if run is None else card.of_run(Path(run).expanduser())
    path = folder / card.CARD
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    licence = licence or (config.get("origin") or {}).get("licence") or card.licence_of(before)
    about = {} if card.own(before) else card.made(model, config, name, told_origin(config), home, licence)
    if not about:
        warnings.warn(f"the card {path} is your own and is kept: it says nothing of this model", stacklevel=3)
    files = {WEIGHTS: save(plain(model), {"format": "pt"}), CONFIG: f"{text}\n".encode(), **about}
    for file, content in files.items():
        atomic.write(folder / file, content)
    return folder


def save_generator(model: L.LightningModule, path: str | Path) -> Path:
    """Write only the averaged generator to a safetensors file with `config_of` in its metadata. Return its path."""
    generator: nn.Module = model.generator_ema  # type: ignore[assignment]
    held = save(plain(generator), {"format": "pt", NOTE: json.dumps(config_of(model))})
    return atomic.write(path, held)


def plain(module: nn.Module) -> dict[str, Tensor]:
    """Return the state of a module as tensors that share no memory, as safetensors requires."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in module.state_dict().items()}


def from_pretrained(
    source: str | Path,
    device: torch.device | str = "cpu",
    *,
    model: type[L.LightningModule] | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> Any:
    """Return the model of a folder, of a generator's file, or of a repository of the Hub, in evaluation mode.

    A model from a file of `save_generator` has only the averaged generator, for `sample(n)` and `model(z)`. Its other
    networks are missing, because they would have random weights.

    Args:
        source: folder that `save_pretrained` wrote, file of `save_generator`, or `user/name` on the Hub.
        device: device of the model.
        model: class of the model, if it is not in `gans.models`.
        revision: branch, tag or commit of the repository.
        token: of the Hub; None uses the one stored on this machine, if one is needed.

    Raises:
        ValueError: if there is no such source, the Hub cannot be reached, the files are not of this framework, or the
            class is unknown.
    """
    path = Path(source).expanduser()
    if not path.exists():
        if str(source).count("/") != 1 or str(source)[0] in "./~" or path.suffix == ".safetensors":
            raise ValueError(f"there is no {source}; expected a folder, a .safetensors file, or user/name on the Hub")
        path = fetched(str(source), revision, token)
    alone = path.is_file()
    try:
        with safe_open(path if alone else path / WEIGHTS, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            note = (file.metadata() or {})[NOTE] if alone else (path / CONFIG).read_text(encoding="utf-8")
        config = json.loads(note)
        name, arguments = config["model"], dict(config["arguments"])
        seen, names = int(config.get("images_seen", 0)), [str(name) for name in config.get("classes", [])]
        origin = dict(config.get("origin", {}))
        if not isinstance(name, str):
            raise TypeError(f"model is {name}")
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{source} holds no model of this framework ({type(error).__name__}: {error})") from error
    kind = model_class(name, source, model)
    try:
        made: Any = kind(**taken(kind, arguments))
    except Exception as error:  # wrong arguments make a constructor raise almost anything
        raise ValueError(f"{source} does not fit {name}: {' '.join(str(error).split())}") from error
    if alone:
        for part, _ in list(made.named_children()):
            if part not in ("generator", "generator_ema"):
                delattr(made, part)
    try:
        for part in (made.generator, made.generator_ema) if alone else (made,):
            part.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{source} does not fit {name}: {' '.join(str(error).split())}") from error
    made.images_seen, made.class_names, made.origin = seen, names, origin
    return made.to(device).eval()


def hub() -> Any:
    """Return the package huggingface_hub.

    Raises:
        ValueError: if it is not there.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise ValueError('the Hub needs huggingface_hub: pip install "lightning-gans[hub]"') from error
    return huggingface_hub


@contextmanager
def asked(what: str) -> Iterator[None]:
    """Turn errors of the Hub, the network or huggingface_hub into a ValueError whose sentence begins with `what`."""
    try:
        yield
    except Exception as error:  # each layer has exceptions of its own
        raise ValueError(f"{what}: {' '.join(str(error).split())}") from error


def fetched(name: str, revision: str | None = None, token: str | None = None, folder: Path | None = None) -> Path:
    """Return the folder with the two files of a repository.

    Args:
        name: `user/name` of the repository.
        revision: branch, tag or commit; None is the main branch.
        token: of the Hub; None uses the one stored on this machine, if one is needed.
        folder: where the files go; None is the cache of huggingface_hub.

    Raises:
        ValueError: if there is no such repository, or the Hub cannot be reached and the files are not in the cache.
    """
    download = hub().snapshot_download
    with asked(f"the Hub does not give {name}"):
        files = [CONFIG, WEIGHTS]
        return Path(download(name, revision=revision, token=token, allow_patterns=files, local_dir=folder))


def push_to_hub(
    model: L.LightningModule,
    name: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    run: str | Path | None = None,
    licence: str | None = None,
) -> str:
    """Upload a model, as `save_pretrained` writes it. Return the URL of the commit.

    Args:
        model: a trained model.
        name: `user/name` of the repository, which is created if it does not exist. A card of your own in it is kept,
            with a warning. A card of metadata alone, which the Hub makes, is replaced, and its licence is kept.
        private: make a new repository private; None uses the user's default.
        token: of the Hub; None uses the one stored on this machine.
        run: for the card, as in `save_pretrained`.
        licence: of the weights, for the card.

    Raises:
        ValueError: if the Hub cannot be reached, or refuses, or there is no such run.
        TypeError: if an argument of the model is not a plain value.
    """
    api = hub().HfApi(token=token)
    with tempfile.TemporaryDirectory() as temporary:
        folder = written(model, Path(temporary), name, run, licence)
        with asked(f"the Hub does not take {name}"):
            name = api.create_repo(name, private=private, exist_ok=True).repo_id
            before = ""
            if api.file_exists(name, card.CARD):
                before = Path(api.hf_hub_download(name, card.CARD)).read_text(encoding="utf-8")
        if card.own(before):
            warnings.warn(f"the card of {name} is your own and is kept: it says nothing of this model", stacklevel=2)
            (folder / card.CARD).unlink()
        elif (theirs := card.licence_of(before)) and not (licence or getattr(model, "origin", {}).get("licence")):
            written(model, folder, name, run, theirs)
        with asked(f"the Hub does not take {name}"):
            return str(api.upload_folder(repo_id=name, folder_path=folder, commit_message=type(model).__name__))
