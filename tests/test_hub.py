"""Models as safetensors and JSON, in a folder and on a Hub that stands in for the real one."""

import json
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch

from gans.hub import from_pretrained, push_to_hub, save_generator, save_pretrained
from gans.models import SAGAN, VAE, WGAN, ConditionalGAN, ImageTextEncoder, InfoGAN, ManifoldGAN, SequenceGAN

SMALL = {"size": 8, "channels": 1, "latent_dim": 4, "width": 2}
KINDS = [
    (ConditionalGAN, {"size": (8, 10), "betas": (0.0, 0.9)}),
    (SAGAN, {"size": 16, "width": 8}),
    (ManifoldGAN, {"scaling": "standard"}),
    (InfoGAN, {}),
    (SequenceGAN, {"frames": 2}),
    (WGAN, {}),
]


def make(kind, **options):
    """A small model whose weights and statistics are unlike those of a fresh one."""
    torch.manual_seed(1)
    model = kind(**{**SMALL, **options})
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor += 0.1 * torch.rand_like(tensor)
    return model.eval()


@pytest.fixture
def no_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_a_folder_gives_the_model_back(tmp_path, kind, options):
    model = make(kind, **options)
    model.images_seen = 640
    folder = save_pretrained(model, tmp_path / "folder")
    written = ["README.md", "config.json", "model.safetensors", "samples.png"]
    assert sorted(path.name for path in folder.iterdir()) == written
    again = from_pretrained(folder)
    assert type(again) is kind
    assert again.images_seen == 640
    assert not again.training
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
    assert torch.equal(again.sample(3, seed=0), model.sample(3, seed=0))


def test_a_model_without_a_generator(tmp_path):
    model = ImageTextEncoder(32, width=4, features=8, text_width=4, vocabulary=["one", "word"])
    again = from_pretrained(save_pretrained(model, tmp_path / "folder"))
    assert again.hparams == {**model.hparams, "betas": [0.9, 0.999]}  # JSON has lists only
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_a_generators_file_gives_samples_and_nothing_untrained(tmp_path, kind, options):
    model = make(kind, **options)
    path = save_generator(model, tmp_path / "generator.safetensors")
    again = from_pretrained(path)
    assert torch.equal(again.sample(3, seed=0), model.sample(3, seed=0))
    assert {name for name, _ in again.named_children()} == {"generator", "generator_ema"}
    assert path.stat().st_size < sum(p.numel() * 8 for p in model.generator.parameters()) + 30_000


def test_what_is_no_model_is_refused(tmp_path):
    folder = save_pretrained(make(VAE), tmp_path / "folder")
    config = json.loads((folder / "config.json").read_text())

    def says(source):
        with pytest.raises(ValueError, match=r"holds|names|fit|there") as caught:
            from_pretrained(source)
        return str(caught.value)

    for given, told in [
        ({**config, "model": "os.path"}, "names os.path, which is not a LightningModule"),
        ({**config, "model": "nowhere.Model"}, "names nowhere.Model, which is not in gans.models"),
        ({**config, "model": "print"}, "names print: gans.models has no print"),
        ({**config, "arguments": {**config["arguments"], "width": 3}}, "does not fit gans.models.vae.VAE: "),
        ({**config, "arguments": {**config["arguments"], "wdth": 3}}, "does not fit gans.models.vae.VAE: "),
        ({**config, "arguments": {**config["arguments"], "width": "wide"}}, "does not fit gans.models.vae.VAE: "),
        (
            {**config, "model": "gans.models.nowhere.Model"},
            "cannot be imported: there is no module gans.models.nowhere",
        ),
        ({**config, "model": "gans.losses.Hinge"}, "names gans.losses.Hinge, which is"),
        ({**config, "images_seen": "many"}, "holds no model of this framework (ValueError"),
        ({**config, "model": 3}, "holds no model of this framework (TypeError: model is 3)"),
        ({"model": config["model"]}, "holds no model of this framework (KeyError"),
        ([], "holds no model of this framework (TypeError"),
    ]:
        (folder / "config.json").write_text(json.dumps(given))
        assert told in says(folder)
    (folder / "config.json").write_text("{")
    assert "holds no model of this framework" in says(folder)
    (tmp_path / "empty").mkdir()
    assert "holds no model of this framework" in says(tmp_path / "empty")
    for name in ("./here", "/tmp/nowhere/at/all", "a/b/c", "a", "run/generator.safetensors"):
        assert says(name) == f"there is no {name}; expected a folder, a .safetensors file, or user/name on the Hub"


def test_what_cannot_be_noted_leaves_no_folder(tmp_path):
    model = make(VAE)
    model.hparams["width"] = torch.ones(1)
    for write in (save_pretrained, save_generator):
        with pytest.raises(TypeError):
            write(model, tmp_path / "new" / "folder")
    assert not list(tmp_path.iterdir())


def test_a_class_of_the_users_own_is_given_or_imported(tmp_path, monkeypatch):
    class Mine(VAE):
        pass

    folder = save_pretrained(make(Mine), tmp_path / "folder")
    name = f"{Mine.__module__}.{Mine.__qualname__}"  # nobody can import a function's own class
    with pytest.raises(ValueError, match=f"names {name}, which is not in gans.models, .* give --model"):
        from_pretrained(folder)
    assert type(from_pretrained(folder, model=Mine)) is Mine
    with pytest.raises(ValueError, match=r"holds a .*Mine; model is gans.models.conditionalgan.ConditionalGAN"):
        from_pretrained(folder, model=ConditionalGAN)
    monkeypatch.setattr(sys.modules[__name__], "Known", type("Known", (VAE,), {"__module__": __name__}), raising=False)
    folder = save_pretrained(make(sys.modules[__name__].Known), tmp_path / "known")
    assert type(from_pretrained(folder)) is sys.modules[__name__].Known


def test_without_a_network_one_sentence_says_so(tmp_path, monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: the extra hub")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="the Hub does not give nobody/nothing-at-all: "):
        from_pretrained("nobody/nothing-at-all")
    with pytest.raises(ValueError, match="the Hub does not take nobody/digits: "):
        push_to_hub(make(VAE), "nobody/digits")


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("boom"),))


def test_no_pickle_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = save_pretrained(make(VAE), tmp_path / "folder")
    for path in (folder / "model.safetensors", folder / "pytorch_model.bin", tmp_path / "alone.safetensors"):
        path.write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(ValueError, match="holds no model of this framework"):
            from_pretrained(folder if path.parent == folder else path)
    assert not Path("boom").exists()


@pytest.mark.usefixtures("no_hub")
def test_the_hub_needs_its_package():
    for call in (lambda: from_pretrained("me/digits"), lambda: push_to_hub(make(VAE), "me/digits")):
        with pytest.raises(ValueError, match=r"pip install \"lightning-gans\[hub\]\""):
            call()


class Hub:
    """Repositories as folders, behind the calls of huggingface_hub that are made."""

    def __init__(self, root):
        self.root, self.asked = root, []

    def HfApi(self, token):
        self.asked.append(token)
        return self

    def create_repo(self, name, private, exist_ok):
        self.asked.append(private)
        (self.root / name).mkdir(parents=True, exist_ok=exist_ok)
        return type("Url", (), {"repo_id": name})

    def file_exists(self, name, file):
        return (self.root / name / file).exists()

    def hf_hub_download(self, name, file):
        return str(self.root / name / file)

    def upload_folder(self, repo_id, folder_path, commit_message):
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)
        return f"https://hub/{repo_id}"

    def snapshot_download(self, name, revision, token, allow_patterns, local_dir):
        self.asked.append((revision, token))
        there = shutil.copytree(self.root / name, self.root / "cache", dirs_exist_ok=True)
        for path in there.iterdir():
            if path.name not in allow_patterns:
                path.unlink()
        return str(there)


def test_a_repository_and_back(tmp_path, monkeypatch):
    hub, model = Hub(tmp_path), make(VAE)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert push_to_hub(model, "me/digits", private=True, token="t") == "https://hub/me/digits"
    card = (tmp_path / "me" / "digits" / "README.md").read_text()
    assert 'from_pretrained("me/digits")' in card
    (tmp_path / "me" / "digits" / "README.md").write_text("of my own")
    with pytest.warns(UserWarning, match="the card of me/digits is your own and is kept"):
        push_to_hub(model, "me/digits")
    assert (tmp_path / "me" / "digits" / "README.md").read_text() == "of my own"
    assert torch.equal(from_pretrained("me/digits", revision="v1").sample(2, seed=0), model.sample(2, seed=0))
    assert (tmp_path / "me" / "digits" / "samples.png").is_file()
    assert hub.asked == ["t", True, None, None, ("v1", None)]
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["config.json", "model.safetensors"]
    model.hparams["width"] = object()
    with pytest.raises(TypeError, match="not JSON serializable"):
        push_to_hub(model, "me/digits")


def test_a_card_of_the_hub_or_of_an_earlier_push_is_replaced(tmp_path, monkeypatch):
    """The Hub's page for a new repository writes a card with the licence alone."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub(tmp_path))
    model, path = make(VAE), tmp_path / "me" / "digits" / "README.md"
    path.parent.mkdir(parents=True)
    path.write_text("---\nlicense: mit\n---\n")
    push_to_hub(model, "me/digits")
    assert "Licence of the weights: mit." in path.read_text()
    model.images_seen = 64
    push_to_hub(model, "me/digits", licence="apache-2.0")
    text = path.read_text()
    assert "trained on 64 images" in text
    assert "Licence of the weights: apache-2.0." in text


def test_these_calls_are_those_of_the_package():
    huggingface_hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: the extra hub")
    from inspect import signature

    signature(huggingface_hub.snapshot_download).bind(
        "a/b", revision=None, token=None, allow_patterns=[], local_dir="."
    )
    api = huggingface_hub.HfApi(token=None)
    signature(api.create_repo).bind("a/b", private=None, exist_ok=True)
    signature(api.file_exists).bind("a/b", "README.md")
    signature(api.hf_hub_download).bind("a/b", "README.md")
    signature(api.upload_folder).bind(repo_id="a/b", folder_path=".", commit_message="VAE")
