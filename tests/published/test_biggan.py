"""Files of BigGAN-PyTorch against BigGAN's networks written out, for 64 pixels."""

from itertools import pairwise

import pytest
import torch
from published_files import attended, statistics
from torch.nn import functional as F

from gans.published.checkpoint import imported

CLASSES, SHARED, PART = 3, 4, 2
HIDDEN = [32, 32, 16, 8, 4]  # of the generator: 2 x 16, 16, 8, 4, 2
CRITIC = [3, 8, 16, 32, 64, 128]


def layer(name, *shape, bias=True):
    """A layer with the authors' spectral normalisation."""
    found = {f"{name}.weight": torch.randn(shape) / 3, f"{name}.u0": F.normalize(torch.randn(1, shape[0]))}
    return found | {f"{name}.sv0": torch.ones(1)} | ({f"{name}.bias": torch.randn(shape[0]) / 3} if bias else {})


def attention(name, width):
    found = {f"{name}.gamma": torch.tensor(0.7)}
    for part, outputs, inputs in (("theta", 8, 1), ("phi", 8, 1), ("g", 2, 1), ("o", 1, 2)):
        found |= layer(f"{name}.{part}", width // outputs, width // inputs, 1, 1, bias=False)
    return found


def net_g(shared=True):
    """A generator whose layers share an embedding of the class, or have a table each."""
    torch.manual_seed(0)
    found = {"shared.weight": torch.randn(CLASSES, SHARED)} if shared else {}
    found |= layer("linear", 16 * HIDDEN[0], PART) | attention("blocks.2.1", HIDDEN[3])
    for level, (before, after) in enumerate(pairwise(HIDDEN)):
        name = f"blocks.{level}.0"
        for convolution, inputs, side in (("conv1", before, 3), ("conv2", after, 3), ("conv_sc", before, 1)):
            found |= layer(f"{name}.{convolution}", after, inputs, side, side)
        for norm, width in ((f"{name}.bn1", before), (f"{name}.bn2", after)):
            for part in ("mean", "var"):
                found[f"{norm}.stored_{part}"] = statistics(norm, width)[f"{norm}.running_{part}"]
            for part in (f"{norm}.gain", f"{norm}.bias"):
                table = {f"{part}.weight": torch.randn(CLASSES, width) / 3}
                found |= layer(part, width, SHARED + PART, bias=False) if shared else table
    found |= statistics("output_layer.0", HIDDEN[-1]) | layer("output_layer.2", 3, HIDDEN[-1], 3, 3)
    return found | {f"output_layer.0.{part}": torch.rand(HIDDEN[-1]) for part in ("weight", "bias")}


def net_d():
    torch.manual_seed(1)
    found = layer("linear", 1, CRITIC[-1]) | layer("embed", CLASSES, CRITIC[-1], bias=False)
    for level, (before, after) in enumerate(pairwise(CRITIC)):
        for name, inputs, side in (("conv1", before, 3), ("conv2", after, 3), ("conv_sc", before, 1)):
            found |= layer(f"blocks.{level}.0.{name}", after, inputs, side, side)
    return found | attention("blocks.0.1", CRITIC[1])


def normed(held, name):
    """A weight over its singular value, after the power iteration of a forward pass."""
    weight = held[f"{name}.weight"]
    if f"{name}.u0" not in held:
        return weight
    matrix = weight.flatten(1)
    v = F.normalize(held[f"{name}.u0"] @ matrix)
    u = F.normalize(v @ matrix.T)
    return weight / (u @ matrix @ v.T)


def convolved(held, name, x):
    weight = normed(held, name)
    return F.conv2d(x, weight, held[f"{name}.bias"], padding=weight.shape[-1] // 2)


def attention_of(held, name, x):
    parts = {f"attn_block.{part}.weight": normed(held, f"{name}.{part}") for part in ("theta", "phi", "g", "o")}
    return attended({**parts, "attn_block.gamma": held[f"{name}.gamma"]}, x)


def batch_normed(held, name, x, condition):
    shared = condition.is_floating_point()
    gain, bias = (
        condition @ normed(held, f"{name}.{part}").T if shared else held[f"{name}.{part}.weight"][condition]
        for part in ("gain", "bias")
    )
    x = F.batch_norm(x, held[f"{name}.stored_mean"], held[f"{name}.stored_var"])
    return x * (1 + gain[:, :, None, None]) + bias[:, :, None, None]


def images_of(held, z, y):
    conditions, first = [y] * 4, z
    if "shared.weight" in held:
        first, *parts = z.split(PART, 1)
        conditions = [torch.cat([held["shared.weight"][y], part], 1) for part in parts]
    x = F.linear(first, normed(held, "linear"), held["linear.bias"]).view(len(z), -1, 4, 4)
    for level, condition in enumerate(conditions):
        name = f"blocks.{level}.0"
        h = F.interpolate(batch_normed(held, f"{name}.bn1", x, condition).relu(), scale_factor=2)
        h = batch_normed(held, f"{name}.bn2", convolved(held, f"{name}.conv1", h), condition).relu()
        x = convolved(held, f"{name}.conv2", h) + convolved(held, f"{name}.conv_sc", F.interpolate(x, scale_factor=2))
        x = attention_of(held, "blocks.2.1", x) if level == 2 else x
    parts = (held[f"output_layer.0.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return torch.tanh(convolved(held, "output_layer.2", F.batch_norm(x, *parts).relu()))


def logits_of(held, x, y):
    for level in range(5):
        name = f"blocks.{level}.0"
        h = convolved(held, f"{name}.conv1", x.relu() if level else x).relu()
        x = convolved(held, f"{name}.conv2", h) + convolved(held, f"{name}.conv_sc", x)
        x = F.avg_pool2d(x, 2) if level < 4 else x
        x = attention_of(held, "blocks.0.1", x) if level == 0 else x
    x = x.relu().sum((2, 3))
    return F.linear(x, normed(held, "linear"), held["linear.bias"]).squeeze(1) + (normed(held, "embed")[y] * x).sum(1)


def write(path, held):
    torch.save(held, path)
    return path


def near(found, wanted):
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 2e-5


@pytest.mark.parametrize("shared", [True, False])
def test_images_and_logits_are_the_authors(tmp_path, shared):
    generator, critic = net_g(shared), net_d()
    average = {name: value * 1.05 if value.is_floating_point() else value for name, value in generator.items()}
    files = [write(tmp_path / f"{name}.pth", held) for name, held in (("G", generator), ("D", critic), ("E", average))]
    model = imported("biggan", *files)
    z, y, images = torch.randn(3, model.latent_dim), torch.tensor([2, 0, 1]), torch.rand(3, 3, 64, 64) * 2 - 1
    assert model.latent_dim == (5 * PART if shared else PART)
    with torch.no_grad():
        near(model.generator(z, y), images_of(generator, z, y))
        near(model(z, y), images_of(average, z, y))
        near(model.discriminator(images, y), logits_of(critic, images, y))


def test_one_generator_is_both(tmp_path):
    model = imported("biggan", write(tmp_path / "G_ema.pth", net_g()))
    assert model.origin["missing"] == ["discriminator"]
    pairs = zip(model.generator.state_dict().values(), model.generator_ema.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_what_does_not_fit_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"D\.pth has no output_layer\.2\.weight: FILE is G\.pth or G_ema\.pth"):
        imported("biggan", write(tmp_path / "D.pth", net_d()))
    held = net_g() | {"blocks.0.0.bn1.bn.running_mean": torch.ones(32)}
    with pytest.raises(ValueError, match=r"G\.pth was trained with --cross_replica"):
        imported("biggan", write(tmp_path / "G.pth", held))
    held = net_g() | {"linear.u1": torch.ones(1, 512)}
    with pytest.raises(ValueError, match=r"G\.pth: linear\.u1 has no place in the network"):
        imported("biggan", write(tmp_path / "G.pth", held))
