"""StyleGAN2's published files against its networks written out: NVIDIA's pickles and rosinality's state dicts."""

import argparse
import math
import pickle
import sys
import types

import pytest
import torch
from published_files import Tree, module_named
from torch.nn import functional as F

from gans.published.checkpoint import imported

TAPS = torch.outer(*[torch.tensor([1.0, 3, 3, 1])] * 2) / 64
CHANNELS, LATENT, W, CLASSES = [16, 8], 5, 64, 3  # of our preset `small` with 8 channels next to images of 8 pixels
CLAMP = 0.9  # so small that it matters


def linear(name, outputs, inputs, mean=0.0):
    return {f"{name}.weight": torch.randn(outputs, inputs), f"{name}.bias": torch.randn(outputs) / 4 + mean}


def mapping(inputs, width, classes):
    found = {}
    if classes:
        found |= linear("mapping.embed", width, classes)
    for number, before in enumerate((inputs + (width if classes else 0), width)):
        found |= linear(f"mapping.fc{number}", width, before)
        found[f"mapping.fc{number}.weight"] *= 100
    return found


def generator(classes=0, latent=LATENT):
    """A generator's weights by NVIDIA's names."""
    torch.manual_seed(0)
    found = mapping(latent, W, classes) | {"mapping.w_avg": torch.randn(W)}
    found["synthesis.b4.const"] = torch.randn(CHANNELS[0], 4, 4)
    for side, before, width in ((4, 0, CHANNELS[0]), (8, *CHANNELS)):
        block = f"synthesis.b{side}"
        for name, inputs in (("conv0", before), ("conv1", width)):
            if inputs:
                layer = f"{block}.{name}"
                found |= linear(f"{layer}.affine", inputs, W, mean=1)
                found |= {f"{layer}.weight": torch.randn(width, inputs, 3, 3), f"{layer}.bias": torch.randn(width)}
                found |= {f"{layer}.noise_strength": torch.tensor(0.3), f"{layer}.noise_const": torch.randn(side, side)}
                found[f"{layer}.resample_filter"] = TAPS
        found |= linear(f"{block}.torgb.affine", width, W, mean=1)
        found |= {f"{block}.torgb.weight": torch.randn(3, width, 1, 1), f"{block}.torgb.bias": torch.randn(3)}
        found[f"{block}.resample_filter"] = TAPS
    return found


def discriminator(classes=0):
    """A discriminator's weights by NVIDIA's names."""
    torch.manual_seed(1)
    (deep, fine), found = CHANNELS, {}
    for name, outputs, inputs, side in (
        ("b8.fromrgb", fine, 3, 1),
        ("b8.conv0", fine, fine, 3),
        ("b8.conv1", deep, fine, 3),
        ("b8.skip", deep, fine, 1),
        ("b4.conv", deep, deep + 1, 3),
    ):
        found[f"{name}.weight"] = torch.randn(outputs, inputs, side, side)
        if name != "b8.skip":
            found[f"{name}.bias"] = torch.randn(outputs) / 4
        found[f"{name}.resample_filter"] = TAPS
    found |= linear("b4.fc", deep, deep * 16) | linear("b4.out", deep if classes else 1, deep)
    return found | (mapping(0, deep, classes) if classes else {})


def dense(held, name, x, rate=1.0, leaky=False):
    weight = held[f"{name}.weight"] * rate / math.sqrt(held[f"{name}.weight"].shape[1])
    x = x @ weight.T + held[f"{name}.bias"] * rate
    return F.leaky_relu(x, 0.2) * math.sqrt(2) if leaky else x


def unit(x):
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def mapped(held, z, y):
    parts = [] if z is None else [unit(z)]
    if y is not None:
        count = held["mapping.embed.weight"].shape[1]
        parts.append(unit(dense(held, "mapping.embed", F.one_hot(y, count).float())))
    x = torch.cat(parts, 1)
    for number in range(2):
        x = dense(held, f"mapping.fc{number}", x, 0.01, leaky=True)
    return x


def filtered(x, gain, before, after, down=1):
    kernel = (TAPS * gain).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, [before, after] * 2), kernel, stride=down, groups=x.shape[1])


def stretched(x):
    found = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    found[..., ::2, ::2] = x
    return filtered(found, 4, 2, 1)


def limited(x, clamp):
    return x if clamp is None else x.clamp(-clamp, clamp)


def styled(held, name, x, w, clamp):
    up, style = name.endswith("conv0"), dense(held, f"{name}.affine", w)
    found = []
    for sample, factors in zip(x, style, strict=True):
        weight = held[f"{name}.weight"] * factors[:, None, None]
        weight = weight * (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).rsqrt()
        if up:
            found.append(filtered(F.conv_transpose2d(sample[None], weight.transpose(0, 1), stride=2), 4, 1, 1))
        else:
            found.append(F.conv2d(sample[None], weight, padding=1))
    x = torch.cat(found) + held[f"{name}.noise_const"] * held[f"{name}.noise_strength"]
    x = F.leaky_relu(x + held[f"{name}.bias"][:, None, None], 0.2) * math.sqrt(2)
    return limited(x, clamp)


def coloured(held, name, x, w, clamp):
    style = dense(held, f"{name}.affine", w) / math.sqrt(x.shape[1])
    x = torch.einsum("oi,ni,nihw->nohw", held[f"{name}.weight"][:, :, 0, 0], style, x)
    return limited(x + held[f"{name}.bias"][:, None, None], clamp)


def images_of(held, z, y=None, clamp=None):
    w = mapped(held, z, y)
    x = styled(held, "synthesis.b4.conv1", held["synthesis.b4.const"].expand(len(z), -1, -1, -1), w, clamp)
    image = stretched(coloured(held, "synthesis.b4.torgb", x, w, clamp))
    for name in ("conv0", "conv1"):
        x = styled(held, f"synthesis.b8.{name}", x, w, clamp)
    return image + coloured(held, "synthesis.b8.torgb", x, w, clamp)


def convolved(held, name, x, gain=1.0, clamp=None):
    weight = held[f"{name}.weight"] / math.sqrt(held[f"{name}.weight"][0].numel())
    side = weight.shape[-1]
    if name.endswith(("conv1", "skip")):
        x = F.conv2d(filtered(x, 1, 1 + side // 2, 1 + side // 2), weight, stride=2)
    else:
        x = F.conv2d(x, weight, padding=side // 2)
    if f"{name}.bias" not in held:
        return x * gain
    x = F.leaky_relu(x + held[f"{name}.bias"][:, None, None], 0.2) * math.sqrt(2) * gain
    return limited(x, None if clamp is None else clamp * gain)


def logits_of(held, x, y=None, clamp=None):
    """For 4 images, which are one group of the minibatch standard deviation."""
    x, half = convolved(held, "b8.fromrgb", x, clamp=clamp), math.sqrt(0.5)
    skip = convolved(held, "b8.skip", x, half)
    x = skip + convolved(held, "b8.conv1", convolved(held, "b8.conv0", x, clamp=clamp), half, clamp)
    spread = (x.var(0, correction=0) + 1e-8).sqrt().mean()
    x = torch.cat([x, spread.expand(len(x), 1, 4, 4)], 1)
    x = dense(held, "b4.fc", convolved(held, "b4.conv", x, clamp=clamp).flatten(1), leaky=True)
    x = dense(held, "b4.out", x)
    return x.squeeze(1) if y is None else (x * mapped(held, None, y)).sum(1) / math.sqrt(x.shape[1])


# -- files -------------------------------------------------------------------------------------------------------------

BUFFERS = ("resample_filter", "noise_const", "w_avg")


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a pickle as NVIDIA's training loop does: each module with the source code of its class."""
    rebuild = types.FunctionType((lambda meta: meta).__code__, {}, "_reconstruct_persistent_obj")
    rebuild.__module__, rebuild.__qualname__ = "torch_utils.persistence", "_reconstruct_persistent_obj"
    module_named(monkeypatch, "torch_utils.persistence", "Other")
    monkeypatch.setattr(sys.modules[rebuild.__module__], rebuild.__name__, rebuild, raising=False)
    easy = module_named(monkeypatch, "dnnlib.util", "EasyDict", dict)

    class Persistent(Tree):
        def __reduce__(self):
            meta = {"type": "class", "version": 6, "class_name": "Network", "state": dict(vars(self))}
            return rebuild, (meta | {"module_src": "raise SystemExit"},)

    def network(held, **attributes):
        made = Persistent(held, buffers=BUFFERS)
        for path, values in attributes.items():
            vars(made.get_submodule(path.replace("__", "."))).update(values)
        return made

    def run(average, critic, clamp=CLAMP, other_clamp=None):
        clamped = {"conv_clamp": clamp}
        own = {"synthesis__b4__conv1": {**clamped, "activation": "lrelu"}, "synthesis__b8": {"architecture": "skip"}}
        content = {"training_set_kwargs": easy(path="x.zip"), "augment_pipe": None, "D": None}
        content |= {name: network(average, **own) for name in ("G", "G_ema")}
        if critic:
            content["D"] = network(critic, b8={"architecture": "resnet"}, b4__conv={"conv_clamp": other_clamp or clamp})
            group = network({"unused": torch.ones(1)})
            del group.unused
            vars(group).update({"group_size": 4, "num_channels": 1})
            content["D"].b4.mbstd = group
        path = tmp_path / "network.pkl"
        path.write_bytes(pickle.dumps(content))
        return path

    return run


def near(found, wanted):
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 2e-5


@pytest.mark.parametrize("classes", [0, CLASSES])
@pytest.mark.parametrize("clamp", [None, CLAMP])
def test_images_and_logits_of_a_pickle_are_the_authors(write, classes, clamp):
    held, critic = generator(classes), discriminator(classes)
    model = imported("stylegan2-ada", write(held, critic, clamp))
    z, images = torch.randn(4, LATENT), torch.rand(4, 3, 8, 8) * 2 - 1
    y = (torch.tensor([2, 0, 1, 1]),) if classes else ()
    assert torch.equal(model.mean_w, held["mapping.w_avg"])
    assert model.origin["licence"].startswith("NVIDIA Source Code License")
    with torch.no_grad():
        near(model(z, *y), images_of(held, z, *(y or (None,)), clamp=clamp))
        near(model.discriminator(images, *y), logits_of(critic, images, *(y or (None,)), clamp=clamp))


def test_what_our_networks_cannot_do_is_refused(write):
    held = generator()
    with pytest.raises(ValueError, match="which no preset of StyleGAN2 has: expected one of auto, cifar, paper256, "):
        imported("stylegan2-ada", write(held | linear("mapping.fc2", W, W), None))
    with pytest.raises(ValueError, match=r"conv_clamp of the discriminator is 3\.0, of the generator 0\.9; expected"):
        imported("stylegan2-ada", write(held, discriminator(), other_clamp=3))
    other = held | {"synthesis.b8.resample_filter": TAPS.flip(0) ** 2}
    with pytest.raises(ValueError, match=r"synthesis\.b8\.resample_filter is another filter than \[1, 3, 3, 1\]"):
        imported("stylegan2-ada", write(other, None))
    less = {name: value for name, value in held.items() if name != "synthesis.b8.conv0.noise_strength"}
    with pytest.raises(ValueError, match=r"network\.pkl, G has no synthesis\.b8\.conv0\.noise_strength"):
        imported("stylegan2-ada", write(less, None))


# -- rosinality --------------------------------------------------------------------------------------------------------


def rosinality(held, critic):
    """The same networks by rosinality's names."""
    found = {"input.input": held["synthesis.b4.const"][None]}
    for number in (0, 1):
        for part in ("weight", "bias"):
            found[f"style.{number + 1}.{part}"] = held[f"mapping.fc{number}.{part}"]
    for name, theirs, place in (("b4.conv1", "conv1", 0), ("b8.conv0", "convs.0", 1), ("b8.conv1", "convs.1", 2)):
        layer = f"synthesis.{name}"
        found |= {
            f"{theirs}.conv.weight": held[f"{layer}.weight"][None],
            f"{theirs}.conv.modulation.weight": held[f"{layer}.affine.weight"],
            f"{theirs}.conv.modulation.bias": held[f"{layer}.affine.bias"],
            f"{theirs}.noise.weight": held[f"{layer}.noise_strength"][None],
            f"{theirs}.activate.bias": held[f"{layer}.bias"],
            f"noises.noise_{place}": held[f"{layer}.noise_const"][None, None],
        }
    found["convs.0.conv.blur.kernel"] = 4 * TAPS
    for name, theirs in (("b4", "to_rgb1"), ("b8", "to_rgbs.0")):
        layer = f"synthesis.{name}.torgb"
        found |= {
            f"{theirs}.conv.weight": held[f"{layer}.weight"][None],
            f"{theirs}.conv.modulation.weight": held[f"{layer}.affine.weight"],
            f"{theirs}.conv.modulation.bias": held[f"{layer}.affine.bias"],
            f"{theirs}.bias": held[f"{layer}.bias"][None, :, None, None],
        }
    names = {"b8.fromrgb": "convs.0.0", "b8.conv0": "convs.1.conv1.0", "b8.conv1": "convs.1.conv2.1"}
    names |= {"b8.skip": "convs.1.skip.1", "b4.conv": "final_conv.0", "b4.fc": "final_linear.0"}
    names |= {"b4.out": "final_linear.1"}
    other = {"convs.1.conv2.0.kernel": TAPS, "convs.1.skip.0.kernel": TAPS}
    for name, theirs in names.items():
        other[f"{theirs}.weight"] = critic[f"{name}.weight"]
        if f"{name}.bias" in critic:
            biased, place = theirs.rsplit(".", 1) if "linear" not in theirs else (theirs, -1)
            other[f"{biased}.{int(place) + 1}.bias" if place != -1 else f"{theirs}.bias"] = critic[f"{name}.bias"]
    return found, other


@pytest.mark.parametrize("converted", [True, False])
def test_images_and_logits_of_rosinalitys_are_his(tmp_path, converted):
    held, critic = generator(latent=W), discriminator()
    average, other = rosinality(held, critic)
    content = {"g_ema": average, "latent_avg": held["mapping.w_avg"]}
    if not converted:
        content = {"g": average, "d": other, "g_ema": average, "args": argparse.Namespace(size=8), "ada_aug_p": 0.0}
    torch.save(content, tmp_path / "550000.pt")
    model = imported("stylegan2-rosinality", tmp_path / "550000.pt")
    z, images = torch.randn(4, W), torch.rand(4, 3, 8, 8) * 2 - 1
    with torch.no_grad():
        near(model(z), images_of(held, z))
        if converted:
            assert torch.equal(model.mean_w, held["mapping.w_avg"])
            assert model.origin["missing"] == ["discriminator"]
        else:
            near(model.discriminator(images), logits_of(critic, images))
            w = mapped(held, torch.randn(20_000, W), None)
            assert (model.mean_w - w.mean(0)).abs().max() < 0.1 * w.std(0).max()
