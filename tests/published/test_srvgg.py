"""Real-ESRGAN's compact network, written out, against ours with the weights of a file."""

import pytest
import torch
from torch.nn import functional as F

from gans.published.checkpoint import imported


def weights(channels=3, scale=4, width=4, count=2):
    torch.manual_seed(0)
    found, before = {}, channels
    for number in range(count + 1):
        found[f"body.{2 * number}.weight"] = torch.randn(width, before, 3, 3) / 4
        found[f"body.{2 * number}.bias"] = torch.randn(width) / 4
        found[f"body.{2 * number + 1}.weight"] = torch.rand(width)
        before = width
    last = f"body.{2 * count + 2}"
    outputs = channels * scale**2
    return found | {f"{last}.weight": torch.randn(outputs, width, 3, 3) / 4, f"{last}.bias": torch.randn(outputs) / 4}


def images_of(held, x, scale, count=2):
    maps = x
    for number in range(count + 1):
        maps = F.conv2d(maps, held[f"body.{2 * number}.weight"], held[f"body.{2 * number}.bias"], padding=1)
        maps = F.prelu(maps, held[f"body.{2 * number + 1}.weight"])
    last = f"body.{2 * count + 2}"
    maps = F.conv2d(maps, held[f"{last}.weight"], held[f"{last}.bias"], padding=1)
    return F.pixel_shuffle(maps, scale) + F.interpolate(x, scale_factor=scale, mode="nearest")


def write(path, held):
    torch.save({"params": held}, path)
    return path


@pytest.mark.parametrize(("channels", "scale"), [(3, 4), (1, 2)])
def test_images_are_the_authors(tmp_path, channels, scale):
    held = weights(channels, scale)
    model = imported(None, write(tmp_path / "x.pth", held))
    assert (model.origin["kind"], model.scale, model.hparams["blocks"]) == ("realesrgan-compact", scale, 2)
    x = torch.rand(2, channels, 6, 9)
    with torch.no_grad():
        wanted, found = images_of(held, x, scale), (model.generator(2 * x - 1) + 1) / 2
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"body.3.weight": torch.ones(5)}, r"body\.3\.weight gives \(5,\) for layers\.3\.weight; expected \(4,\)"),
        ({"body.6.weight": torch.ones(40, 4, 3, 3)}, "makes 40 channels of 3; expected 3 times a square"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, changes, says):
    with pytest.raises(ValueError, match=says):
        imported(None, write(tmp_path / "x.pth", weights() | changes))
