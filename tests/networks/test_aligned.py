"""Frozen image networks as guides of a critic's tokens: formulas, grids, and bad folders."""

import sys

import pytest
import torch
from torch.nn.functional import interpolate
from torchvision.transforms.functional import normalize

from gans.networks import aligned
from gans.networks.classifier import Classifier

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A DINOv2 with few channels and random weights, trained, as it were, on 70 pixels."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: the extra latents")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 70, "patch_size": 14}
    path = tmp_path_factory.mktemp("dinov2")
    transformers.Dinov2Model(transformers.Dinov2Config(**sizes)).save_pretrained(path)
    return path


def pictures(n=2, channels=3, height=64, width=64):
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_tokens_of_dinov2_are_those_of_the_formula_of_gat(folder):
    from transformers import Dinov2Model

    library = Dinov2Model.from_pretrained(folder)
    bytes_ = (pictures() + 1) * 127.5
    seen = interpolate(normalize(bytes_ / 255, MEAN, STD), 224, mode="bicubic")
    with torch.no_grad():
        found = library(seen).last_hidden_state
    guide = aligned.dinov2(folder)
    torch.testing.assert_close(guide(pictures(), (16, 16)), found, rtol=1e-4, atol=1e-5)
    spatial = found[:, 1:].transpose(1, 2).reshape(2, 16, 16, 16)
    smaller = interpolate(spatial, (8, 8), mode="bicubic", align_corners=False).reshape(2, 16, 64).transpose(1, 2)
    torch.testing.assert_close(guide(pictures(), (8, 8))[:, 1:], smaller, rtol=1e-4, atol=1e-5)


def test_rectangles_keep_their_shape(folder):
    guide = aligned.dinov2(folder)
    assert guide.size(64, 96) == (224, 336)
    assert guide(pictures(1, 3, 64, 96), (4, 6)).shape == (1, 25, 16)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels_become_three(folder, channels):
    images = pictures(1, channels)
    three = images.repeat(1, 3, 1, 1) if channels == 1 else images[:, :3]
    guide = aligned.dinov2(folder)
    assert torch.equal(guide(images, (4, 4)), guide(three, (4, 4)))


def test_tokens_of_a_classifier_are_its_last_maps_and_their_mean():
    network = Classifier(3, 4, 8, 10).eval()
    guide = aligned.ClassifierMaps(network, (16, 24))
    images = pictures(2, 3, 16, 24)
    tokens, maps = guide(images, (4, 6)), network.layers(images)
    torch.testing.assert_close(tokens[:, 0], maps.mean((2, 3)))
    torch.testing.assert_close(tokens[:, 1:].mT.unflatten(2, (4, 6)), maps)
    assert guide(pictures(2, 1, 20, 20), (3, 3)).shape == (2, 10, 16)  # grey, of another size
    with pytest.raises(ValueError, match="takes grey images, but the pictures have 3 channels"):
        aligned.ClassifierMaps(Classifier(1, 4, 8, 10), (16, 16))(pictures(), (4, 4))


def test_guides_are_frozen_and_stay_in_eval_mode():
    guide = aligned.ClassifierMaps(Classifier(3, 4, 8, 10).train(), (16, 16))
    torch.nn.Sequential(guide).train()
    assert not any(part.training for part in guide.modules())
    images = pictures().requires_grad_()
    assert not guide(images, (4, 4)).requires_grad


def test_bad_folders_are_told_in_a_sentence(folder, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"network is .*nowhere; expected a folder with config\.json and model\.safet"):
        aligned.dinov2(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match=r"holds no DINOv2: config\.json has the model_type bert; expected dinov2"):
        aligned.dinov2(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(ValueError, match="which holds no DINOv2: ") as told:
        aligned.dinov2(tmp_path)
    assert "\n" not in str(told.value)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'lightning-gans\[latents\]'"):
        aligned.dinov2(folder)
