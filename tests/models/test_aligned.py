"""Alignment with a frozen image network in a run: pictures follow the codes, and the network is held by its digest."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from gans.augment import translation
from gans.engine.checkpoint import Checkpoint, load_model
from gans.metrics.classifiers import pack
from gans.models import GAT
from gans.models.aligned import load_guide
from gans.networks.classifier import Classifier, ClipClassifier
from gans.terms import Alignment


def written(path, seed=0, kind=Classifier):
    """A file of a classifier with random weights."""
    torch.manual_seed(seed)
    sizes = {"channels": 3, "width": 2, "num_features": 4, "num_classes": 3}
    facts = {"name": "small", "size": (8, 8), "unframed": (8, 8), "accuracy": 0.5, "data": "none"}
    torch.save(pack(kind(**sizes).eval(), sizes, facts | ({"frames": 4} if kind is ClipClassifier else {})), path)
    return str(path)


@pytest.fixture
def network(tmp_path):
    return written(tmp_path / "features.pt")


def small(network, weight=1.0, **options):
    torch.manual_seed(0)
    terms = [Alignment(weight, network)] if network else None
    sizes = {"size": 8, "channels": 3, "preset": "tiny", "width": 16, "depth": 4, "latent_dim": 3}
    return GAT(**{**sizes, "terms": terms, "augment": None, **options})


def data(count=16):
    images = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 2 - 1
    return DataLoader(TensorDataset(images), 8)


def test_the_critic_has_the_length_of_the_networks_tokens(network):
    assert small(network).discriminator.projector[-1].out_features == 8
    assert small(None).discriminator.projector is None


def test_training_lowers_the_distance(network, trainer):
    model, seen = small(network, 10.0, lr=2e-3, betas=(0.0, 0.9)), []
    record = model.record
    model.record = lambda name, value: (record(name, value), name == "loss/alignment" and seen.append(float(value)))
    trainer(20).fit(model, data())
    assert sum(seen[-4:]) < 0.8 * sum(seen[:4])


@pytest.mark.parametrize("gamma", [0.0, 0.1])
def test_two_runs_are_the_same_and_a_resumed_one_too(gamma, network, trainer, tmp_path):
    found = []
    for resumed in (False, False, True):
        saver = Checkpoint(1, str(tmp_path / f"run{resumed}"))
        if resumed:
            trainer(1, callbacks=[saver], enable_checkpointing=True).fit(seeded(network, gamma), data(8))
        model, held = seeded(network, gamma), tmp_path / "runTrue" / "last.ckpt"
        trainer(2).fit(model, data(8), ckpt_path=held if resumed else None)
        found.append(model.state_dict())
    for state in found[1:]:
        assert all(torch.equal(tensor, found[0][name]) for name, tensor in state.items())


def seeded(network, gamma):
    model = small(network, augment="codes", gamma=gamma)
    model.seed = 1
    return model


def test_the_projector_sees_real_codes_alone(network, trainer):
    model, seen = small(network), []
    model.discriminator.projector.register_forward_pre_hook(lambda layer, inputs: seen.append(len(inputs[0])))
    trainer(1).fit(model, data())
    assert seen == [8]


def test_the_network_is_no_part_of_the_state_and_does_not_move(network, trainer):
    model = small(network)
    before = {name: tensor.clone() for name, tensor in model.aligner.network.state_dict().items()}
    trainer(2).fit(model, data())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.aligner.network.state_dict().items())
    added = model.state_dict().keys() - small(None).state_dict().keys()
    assert all(name.startswith("discriminator.projector.") for name in added)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_pictures_are_shifted_and_mirrored_as_the_critics_input(network, trainer, accumulate):
    model = small(network, augment="codes", accumulate=accumulate)
    asked = []
    model.guide = lambda pictures: asked.append(pictures) or torch.zeros(len(pictures), 17, 8)
    augment, shown = model.augment.of_levels, []
    model.augment.of_levels = lambda levels, uniform: (shown.append((levels, uniform)), augment(levels, uniform))[1]
    trainer(1).fit(model, data())
    assert len(asked) == accumulate
    real = [(levels[:, 0], uniform) for levels, uniform in shown if levels.shape[1] == 1]  # in turn
    for pictures, (images, uniform) in zip(asked, real[:accumulate], strict=True):
        rows = len(pictures)  # images nearby come later
        moved = translation(images[:rows], uniform[:rows, 4:6])
        mirrored = (uniform[:rows, 8] < 0.4).view(-1, 1, 1, 1)
        assert torch.equal(pictures, torch.where(mirrored, moved.flip(-1), moved))
        assert mirrored.any()
        assert not torch.equal(pictures, images[:rows])


def test_a_checkpoint_loads_without_the_file_and_trains_only_with_it(network, trainer, tmp_path):
    saver = Checkpoint(1, str(tmp_path / "run"))
    trainer(1, callbacks=[saver], enable_checkpointing=True).fit(small(network), data())
    held, path = tmp_path / "run" / "last.ckpt", tmp_path / "features.pt"
    whole = path.read_bytes()
    path.unlink()
    model = load_model(held)
    assert model.aligner.length == 8
    assert model.sample(2).shape == (2, 3, 8, 8)
    with pytest.raises(ValueError, match=r"network is .*features\.pt: there is no file"):
        trainer(2).fit(model, data())
    written(path, seed=1)
    with pytest.raises(ValueError, match="which is another than that with which the run began"):
        trainer(2).fit(load_model(held), data())
    with pytest.raises(ValueError, match="which is another than that with which the run began"):
        trainer(2).fit(small(network), data(8), ckpt_path=held)
    path.write_bytes(whole)
    trainer(2).fit(small(network), data(8), ckpt_path=held)
    trainer(2).fit(load_model(held), data())


def test_codes_without_pictures_are_refused(network, trainer):
    model = small(network)
    model.holds_codes = lambda batch: True
    model.coder, codes = SimpleNamespace(), (torch.zeros(2, 4, 4, 4), torch.zeros(2).long())
    with pytest.raises(ValueError, match="Alignment needs pictures; expected data with images, or codes with"):
        model.training_step(codes, 0)


def test_networks_of_another_kind_are_told_in_a_sentence(tmp_path, network):
    with pytest.raises(ValueError, match=r"network is nowhere: there is no file nowhere; expected a folder of DINOv2"):
        small("nowhere")
    (tmp_path / "text.pt").write_text("no classifier")
    with pytest.raises(ValueError, match=r"text\.pt was not written by train_features.*; expected a folder of DINOv2"):
        load_guide(tmp_path / "text.pt")
    with pytest.raises(ValueError, match="a classifier of clips; expected one of images"):
        load_guide(written(tmp_path / "clips.pt", kind=ClipClassifier))
    with pytest.raises(ValueError, match="terms has Alignment twice; expected it once"):
        small(None, terms=[Alignment(1.0, network), Alignment(2.0, network)])
    with pytest.raises(ValueError, match="augment is ada; expected codes with Alignment"):
        small(network, augment="ada", augment_options={"target": None})


def test_dinov2_is_a_guide(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: the extra latents")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    transformers.Dinov2Model(transformers.Dinov2Config(**sizes)).save_pretrained(tmp_path)
    first, again = load_guide(tmp_path), load_guide(tmp_path)
    assert (first[0].length, first[1]) == (16, again[1])
    assert load_guide(tmp_path)[0](torch.zeros(1, 3, 8, 8), (4, 4)).shape == (1, 17, 16)
