"""AdaIN's decoder and normalised VGG19, written out, against ours with the weights of its files."""

import pytest
import torch
from torch.nn import functional as F

from gans.published.checkpoint import imported
from gans.reconstruction import VGG, unfolded

WIDTHS = (512, 256, 256, 256, 256, 128, 128, 64, 64, 3)
PLACES = (1, 5, 8, 11, 14, 18, 21, 25, 28)
UP = (5, 18, 25)  # convolutions behind an enlargement


def decoder():
    torch.manual_seed(0)
    found = {}
    for place, before, after in zip(PLACES, WIDTHS[:-1], WIDTHS[1:], strict=True):
        found[f"{place}.weight"] = torch.randn(after, before, 3, 3) / (3 * before**0.5)
        found[f"{place}.bias"] = torch.randn(after) / 4
    return found


def images_of(held, maps):
    """Images in [0, 1], not bounded."""
    for place in PLACES:
        maps = F.interpolate(maps, scale_factor=2, mode="nearest") if place in UP else maps
        maps = F.conv2d(F.pad(maps, [1] * 4, "reflect"), held[f"{place}.weight"], held[f"{place}.bias"])
        maps = maps.relu() if place != PLACES[-1] else maps
    return maps


def encoder():
    """The first layers; the rest is as in any VGG19."""
    torch.manual_seed(1)
    found = {"0.weight": torch.randn(3, 3, 1, 1), "0.bias": torch.randn(3)}
    layers = VGG(width=64).layers.values()
    for number, layer in enumerate(layers, 1):
        found[f"{number}.weight"], found[f"{number}.bias"] = layer.weight.detach(), layer.bias.detach() + 0.1
    return found


def write(path, held):
    torch.save(held, path)
    return path


def near(found, wanted):
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5


def test_images_are_the_authors(tmp_path):
    held, vgg = decoder(), encoder()
    files = write(tmp_path / "decoder.pth", held), write(tmp_path / "vgg_normalised.pth", vgg)
    model = imported(None, files[0], encoder=files[1])
    assert (model.origin["kind"], model.hparams["features"]) == ("adain", str(files[1]))
    maps, given = torch.rand(1, 512, 4, 5), torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        near((model.generator(maps) + 1) / 2, images_of(held, maps))
        colours = F.conv2d(given, vgg["0.weight"], vgg["0.bias"])
        wanted = F.conv2d(F.pad(colours, [1] * 4, "reflect"), vgg["1.weight"], vgg["1.bias"]).relu()
        found = model.encode(2 * given - 1)
        near(found[0], wanted)
        content = found[-1]
        near((model.restyled(2 * given - 1, 2 * given - 1) + 1) / 2, images_of(held, content).clamp(0, 1))


def test_a_layer_of_colours_that_changes_nothing_is_undone():
    eye, zeros = torch.eye(3)[:, :, None, None], torch.zeros(3)
    weight, bias = torch.randn(2, 3, 3, 3), torch.randn(2)
    found = unfolded([eye, zeros, weight, bias])
    given = torch.rand(1, 3, 5, 5)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normal = (given - mean[:, None, None]) / std[:, None, None]
    near(F.conv2d(normal, *found), F.conv2d(given, weight, bias))


def test_files_that_do_not_go_together_are_named(tmp_path):
    path = write(tmp_path / "decoder.pth", decoder())
    with pytest.raises(
        ValueError, match=r"decoder\.pth is a decoder of an encoder's maps: --encoder names vgg_normali"
    ):
        imported(None, path)
    with pytest.raises(ValueError, match=r"decoder\.pth is no VGG19 that begins with a layer of colours"):
        imported("adain", path, encoder=path)
