"""Networks of feature distances by their names, and pooled as extractors."""

import pytest
import torch
from torch import nn

from gans.metrics.classifiers import WEIGHTS
from gans.metrics.extractors import FeatureNetworks, extractor, feature_network
from gans.pictures.images import to_float
from gans.reconstruction import VGG, feature_distance

MNIST = WEIGHTS / "mnist.pt"


def images(channels=1, side=32):
    return torch.randint(
        0, 256, (3, channels, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )


@pytest.mark.parametrize("name", ["random", "mnist", str(MNIST)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_maps_of_any_channels_let_gradients_through(name, channels):
    network = feature_network(name)
    given = to_float(images(channels)).requires_grad_()
    maps = network(given)
    assert len(maps) >= 3
    assert all(len(part) == 3 for part in maps)
    feature_distance(maps, network(-given)).mean().backward()
    seen = given.grad[:, :3]
    assert seen.abs().sum() > 0
    assert not any(p.requires_grad for p in network.parameters())
    assert not any(part.training for part in network.train().modules())


@pytest.mark.parametrize("name", ["random", "mnist"])
def test_networks_that_inference_has_read_let_gradients_through(name):
    networks, given = FeatureNetworks(name), to_float(images()).requires_grad_()
    with torch.inference_mode():
        networks.on("cpu")
    sum(maps.sum() for maps in networks.on("cpu")[0](given)).backward()
    assert given.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["random", "mnist"])
def test_maps_are_the_same_under_autocast(name):
    network, given = feature_network(name), to_float(images())
    with torch.autocast("cpu", torch.bfloat16):
        found = network(given)
    assert all(torch.equal(one, other) for one, other in zip(found, network(given), strict=True))


def test_a_classifiers_maps_are_those_of_its_extractor():
    network, classifier = feature_network("mnist"), extractor("mnist")
    maps, expected = to_float(images()), []
    for layer in classifier.network.layers:
        if isinstance(layer, nn.MaxPool2d):
            expected.append(maps.clone())
        maps = layer(maps.clone())
    found = network(to_float(images()))
    assert all(torch.equal(one, other) for one, other in zip(found, [*expected, maps], strict=True))


def test_grey_and_colour_of_the_same_picture_have_the_same_maps():
    network = feature_network("mnist")
    grey = to_float(images())
    pairs = zip(network(grey), network(grey.expand(-1, 3, -1, -1)), strict=True)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in pairs)


def test_files_are_told_apart(tmp_path):
    weights = VGG(width=64).layers.state_dict()
    named = {
        f"features.{i}.{'weight' if value.ndim == 4 else 'bias'}": value for i, value in enumerate(weights.values())
    }
    torch.save(named, tmp_path / "weights.pth")
    assert feature_network(tmp_path / "weights.pth").name == "vgg19"
    assert feature_network(MNIST).name == "mnist"


def test_pooled_maps_are_an_extractor():
    network = extractor("random")
    features, logits = network(images(3))
    assert features.shape == (3, network.num_features)
    assert logits is None
    assert network.sha256 == extractor("random").sha256
    assert network.name == "random"
    assert network(images(1, 16))[0].shape == features.shape
    assert network(images(1)[:0])[0].shape == (0, network.num_features)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("inception", "features is inception, which has no maps to compare; expected vgg19, random, mnist or a file"),
        ("moving", "features is moving"),
        ("mnits", "extractor is mnits"),
    ],
)
def test_names_without_maps_are_refused(name, says):
    with pytest.raises(ValueError, match=says):
        feature_network(name)


def test_nothing_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for find in (feature_network, extractor):
        with pytest.raises(FileNotFoundError, match=r"vgg19-dcbb9e9d\.pth is not in"):
            find("vgg19")
    assert list(tmp_path.iterdir()) == []


def test_other_maps_can_be_asked_for():
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    early = feature_network("random", ("relu1_1", "relu2_1"))(images)
    assert [tuple(maps.shape[1:]) for maps in early] == [(16, 32, 32), (32, 16, 16)]
    assert min(float(maps.min()) for maps in early) == 0
    assert len(feature_network("mnist", ("relu1_1",))(images)) == 3  # a classifier has its own
