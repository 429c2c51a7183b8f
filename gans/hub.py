"""Trained models as two files, safetensors and JSON, in a folder here or in a repository of the Hugging Face Hub.

Three functions, not huggingface_hub's mixin: that wraps the constructor of each class, so that importing a model would
need the package, and one would have to know the class of a repository before loading it. Here `config.json` names the
class, and only a name that is no folder needs the package (`lightning-gans[hub]`) and a network.

Nothing that is loaded can run: no pickle is read, and of a repository only these two files are fetched. The class has
to be importable here already.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import lightning as L
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from gans import __version__, atomic
from gans.checkpoint import class_path, model_class

CONFIG, WEIGHTS = "config.json", "model.safetensors"
NOTE = "gans"  # the key of the configuration in the metadata of a generator's file
CARD = """\
---
library_name: lightning-gans
tags: [gan, image-generation, pytorch-lightning]
---

`{model}`, trained on {images:,} images.

```python
from gans.hub import from_pretrained  # pip install "lightning-gans[hub]"

images = from_pretrained("{name}").sample(16, seed=0)  # in [-1, 1]
```
"""


def config_of(model: Any) -> dict[str, Any]:
    """Return what rebuilds a model: its class, its arguments, and besides what it has seen, as plain values."""
    return {
        "model": class_path(type(model)),
        "arguments": {name: value for name, value in model.hparams.items() if name[0] != "_"},
        "images_seen": int(getattr(model, "images_seen", 0)),
        "version": __version__,
    }


def save_pretrained(model: L.LightningModule, folder: str | Path) -> Path:
    """Write a whole model, its averaged generator and all other networks, to `folder`, and return that."""
    folder = Path(folder).expanduser()
    text = json.dumps(config_of(model), indent=2)  # before anything is written: it fails for what is not plain
    atomic.write(folder / WEIGHTS, save(plain(model), {"format": "pt"}))
    atomic.write(folder / CONFIG, f"{text}\n".encode())
    return folder


def save_generator(model: L.LightningModule, path: str | Path) -> Path:
    """Write the averaged generator alone to one safetensors file, with `config_of` in its metadata, and return that."""
    generator: nn.Module = model.generator_ema  # type: ignore[assignment]
    held = save(plain(generator), {"format": "pt", NOTE: json.dumps(config_of(model))})
    return atomic.write(path, held)


def plain(module: nn.Module) -> dict[str, Tensor]:
    """Return the state of a module as tensors that share no memory, which safetensors would refuse."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in module.state_dict().items()}


def from_pretrained(
    source: str | Path, device: torch.device | str = "cpu", *, revision: str | None = None, token: str | None = None
) -> Any:
    """Return the model of a folder, of a generator's file, or of a repository of the Hub, in evaluation mode.

    A model of `save_generator` can do what takes the averaged generator only: `sample(n)`, `model(z)`. It has no other
    network, rather than one with random weights.

    Args:
        source: folder that `save_pretrained` wrote, file of `save_generator`, or `user/name` on the Hub.
        device: where the model shall be.
        revision: branch, tag or commit of the repository.
        token: of the Hub; None takes the one that is stored on this machine, if it is needed.

    Raises:
        ValueError: if there is no such thing, or it holds no model of this framework.
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
        if not isinstance(name, str):
            raise TypeError(f"model is {name}")
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{source} holds no model of this framework ({type(error).__name__}: {error})") from error
    kind = model_class(name, source)
    try:
        model: Any = kind(**arguments)
    except Exception as error:  # wrong arguments make a constructor raise almost anything
        raise ValueError(f"{source} does not fit {name}: {' '.join(str(error).split())}") from error
    if alone:
        for part, _ in list(model.named_children()):
            if part not in ("generator", "generator_ema"):
                delattr(model, part)
    try:
        for part in (model.generator, model.generator_ema) if alone else (model,):
            part.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{source} does not fit {name}: {' '.join(str(error).split())}") from error
    model.images_seen = config.get("images_seen", 0)
    return model.to(device).eval()


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


def fetched(name: str, revision: str | None, token: str | None) -> Path:
    """Return the folder, in the cache of huggingface_hub, of a repository's two files."""
    return Path(hub().snapshot_download(name, revision=revision, token=token, allow_patterns=[CONFIG, WEIGHTS]))


def push_to_hub(model: L.LightningModule, name: str, *, private: bool | None = None, token: str | None = None) -> str:
    """Upload a whole model, as `save_pretrained` writes it, with a card, and return the address of the commit.

    Args:
        model: a trained model.
        name: `user/name` of the repository, which is made if it is not there.
        private: make a new one private; None is the user's default.
        token: of the Hub; None takes the one that is stored on this machine.
    """
    api = hub().HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder)
        name = api.create_repo(name, private=private, exist_ok=True).repo_id
        config = config_of(model)
        if not api.file_exists(name, "README.md"):  # one that somebody wrote stays
            text = CARD.format(model=type(model).__name__, images=config["images_seen"], name=name)
            (Path(folder) / "README.md").write_text(text, encoding="utf-8")
        return str(api.upload_folder(repo_id=name, folder_path=folder, commit_message=f"{type(model).__name__}"))
