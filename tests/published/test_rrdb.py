"""The network of ESRGAN and Real-ESRGAN, written out, against ours with the weights of files in their layouts."""

import pytest
import torch
from torch.nn import functional as F

from gans.published.checkpoint import imported

WIDTH, GROWTH, BLOCKS = 4, 2, 2


def conv(after, before):
    return torch.randn(after, before, 3, 3) / (3 * before**0.5), torch.randn(after) / 4


def layers(channels=3, shrink=1, ups=2):
    """Weight and bias of each convolution, by its name in BasicSR."""
    torch.manual_seed(0)
    found = {"conv_first": conv(WIDTH, channels * shrink**2), "conv_body": conv(WIDTH, WIDTH)}
    for block in range(BLOCKS):
        for dense in (1, 2, 3):
            for number in range(1, 6):
                shape = (GROWTH if number < 5 else WIDTH, WIDTH + (number - 1) * GROWTH)
                found[f"body.{block}.rdb{dense}.conv{number}"] = conv(*shape)
    found |= {f"conv_up{number}": conv(WIDTH, WIDTH) for number in range(1, ups + 1)}
    return found | {"conv_hr": conv(WIDTH, WIDTH), "conv_last": conv(channels, WIDTH)}


def basicsr(name, ups):
    return name


def esrgan(name, ups):
    for there, here in (("body.", "RRDB_trunk."), ("rdb", "RDB"), ("conv_body", "trunk_conv"), ("conv_up", "upconv")):
        name = name.replace(there, here)
    return name.replace("conv_hr", "HRconv")


def esrgan_old(name, ups):
    place = {"conv_first": 0, "conv_hr": 2 + 3 * ups, "conv_last": 4 + 3 * ups}
    place |= {f"conv_up{number}": 3 * number for number in range(1, ups + 1)}
    if name in place:
        return f"model.{place[name]}"
    if name == "conv_body":
        return f"model.1.sub.{BLOCKS}"
    return name.replace("body.", "model.1.sub.").replace("rdb", "RDB") + ".0"


def file(tensors, layout, ups=2):
    found = {}
    for name, (weight, bias) in tensors.items():
        found |= {f"{layout(name, ups)}.weight": weight, f"{layout(name, ups)}.bias": bias}
    return found


def images_of(tensors, x, shrink=1, ups=2):
    """Images in [0, 1], enlarged 2^ups / shrink times."""

    def layer(name, h):
        return F.conv2d(h, *tensors[name], padding=1)

    first = layer("conv_first", F.pixel_unshuffle(x, shrink))
    h = first
    for block in range(BLOCKS):
        given = h
        for dense in (1, 2, 3):
            maps = [h]
            for number in range(1, 5):
                maps.append(F.leaky_relu(layer(f"body.{block}.rdb{dense}.conv{number}", torch.cat(maps, 1)), 0.2))
            h = h + 0.2 * layer(f"body.{block}.rdb{dense}.conv5", torch.cat(maps, 1))
        h = given + 0.2 * h
    h = first + layer("conv_body", h)
    for number in range(1, ups + 1):
        h = F.leaky_relu(layer(f"conv_up{number}", F.interpolate(h, scale_factor=2, mode="nearest")), 0.2)
    return layer("conv_last", F.leaky_relu(layer("conv_hr", h), 0.2))


def write(path, held):
    torch.save(held, path)
    return path


def near(found, wanted):
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5


@pytest.mark.parametrize(("shrink", "ups"), [(1, 2), (2, 2), (4, 2), (1, 1), (1, 0), (1, 3)])
@pytest.mark.parametrize("layout", [basicsr, esrgan, esrgan_old])
def test_images_are_the_authors(tmp_path, layout, shrink, ups):
    tensors = layers(shrink=shrink, ups=ups)
    model = imported(None, write(tmp_path / "x.pth", file(tensors, layout, ups)))
    assert model.origin["kind"] == ("realesrgan" if layout is basicsr else "esrgan")
    assert model.scale == 2**ups // shrink
    x = torch.rand(2, 3, 8, 12)
    with torch.no_grad():
        wanted = images_of(tensors, x, shrink, ups)
        near((model.generator(2 * x - 1) + 1) / 2, wanted)
        near((model(2 * x - 1) + 1) / 2, wanted.clamp(0, 1))
    assert model.origin["missing"] == ["discriminator"]


def test_a_file_may_hold_weights_and_their_average(tmp_path):
    one, other = layers(1), {name: [1.1 * part for part in pair] for name, pair in layers(1).items()}
    held = {"params": file(one, basicsr), "params_ema": file(other, basicsr)}
    x = torch.rand(1, 1, 6, 6)
    with torch.no_grad():
        model = imported(None, write(tmp_path / "x.pth", held))
        near((model.generator(2 * x - 1) + 1) / 2, images_of(one, x))
        near((model.generator_ema(2 * x - 1) + 1) / 2, images_of(other, x))
        del held["params"]
        model = imported(None, write(tmp_path / "x.pth", held))
        near((model.generator(2 * x - 1) + 1) / 2, images_of(other, x))


FAULTS = [
    ({"conv_first.weight": torch.ones(4, 6, 3, 3)}, "has 6 channels of its input, 3 of its output and 2 doublings"),
    ({"body.1.rdb2.conv3.bias": None}, r"x\.pth has no body\.1\.rdb2\.conv3\.bias"),
    ({"body.1.rdb2.conv1x1.weight": torch.ones(1)}, r"body\.1\.rdb2\.conv1x1\.weight has no place in the network that"),
    ({"conv_last.bias": torch.full((3,), torch.nan)}, r"x\.pth: last\.bias is not finite"),
]


@pytest.mark.parametrize(("changes", "says"), FAULTS)
def test_what_does_not_fit_is_named(tmp_path, changes, says):
    held = {name: value for name, value in {**file(layers(), basicsr), **changes}.items() if value is not None}
    with pytest.raises(ValueError, match=says):
        imported("realesrgan", write(tmp_path / "x.pth", {"params_ema": held}))


def test_a_file_that_ends_with_its_blocks_is_one_sentence(tmp_path):
    kept = ("model.0.", "model.1.")
    held = {name: value for name, value in file(layers(), esrgan_old).items() if name.startswith(kept)}
    with pytest.raises(ValueError, match=r"x\.pth has 0 layers behind those of its blocks; expected at least 2"):
        imported(None, write(tmp_path / "x.pth", held))
