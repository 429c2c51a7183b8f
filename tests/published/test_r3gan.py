"""R3GAN's pickles against its networks written out, from a file in its layout."""

import copy

import pytest
import torch
from published_files import module_named, write_pickle
from torch.nn import functional as F

from gans.published.checkpoint import imported

KERNEL = torch.outer(*[torch.tensor([1.0, 3, 3, 1])] * 2) / 64
WIDTHS = [128, 128, 64]  # of the stages of 4, 8 and 16 pixels: those of our preset `small` with this width
INNER, GROUP, LATENT, CLASSES = 2, 16, 6, 3


def block(name, width):
    inner = INNER * width
    return {
        f"{name}.LinearLayer1.Layer.weight": torch.randn(inner, width, 1, 1) / 9,
        f"{name}.LinearLayer2.Layer.weight": torch.randn(inner, GROUP, 3, 3) / 9,
        f"{name}.LinearLayer3.Layer.weight": torch.randn(width, inner, 1, 1) / 9,
        f"{name}.NonLinearity1.Bias": torch.randn(inner),
        f"{name}.NonLinearity2.Bias": torch.randn(inner),
    }


def stages(seed, classes, up):
    """Weights of a generator (`up`) or discriminator, whose stages are numbered from the input."""
    torch.manual_seed(seed)
    found, widths = {}, WIDTHS if up else WIDTHS[::-1]
    for stage, width in enumerate(widths):
        own, transition = (1, 0) if up else (0, 1)
        found |= block(f"MainLayers.{stage}.Layers.{own}", width)
        name = f"MainLayers.{stage}.Layers.{transition}"
        before, after = (widths[stage - 1], width) if up else (width, [*widths, 0][stage + 1])
        if stage == (0 if up else len(widths) - 1):
            continue
        found[f"{name}.Resampler.Kernel"] = KERNEL
        if before != after:
            found[f"{name}.LinearLayer.Layer.weight"] = torch.randn(after, before, 1, 1) / 9
    if up:
        found |= {"MainLayers.0.Layers.0.Basis": torch.randn(WIDTHS[0], 4, 4)}
        inputs = LATENT * (2 if classes else 1)
        found |= {"MainLayers.0.Layers.0.LinearLayer.weight": torch.randn(WIDTHS[0], inputs)}
        found |= {"AggregationLayer.Layer.weight": torch.randn(3, WIDTHS[-1], 1, 1) / 9}
        return found | ({"EmbeddingLayer.weight": torch.randn(LATENT, classes)} if classes else {})
    name = f"MainLayers.{len(widths) - 1}.Layers.1"
    outputs = WIDTHS[0] if classes else 1
    found |= {f"{name}.Basis.weight": torch.randn(WIDTHS[0], 1, 4, 4)}
    found |= {f"{name}.LinearLayer.weight": torch.randn(outputs, WIDTHS[0]) / 9}
    found |= {"ExtractionLayer.Layer.weight": torch.randn(WIDTHS[-1], 3, 1, 1)}
    return found | ({"EmbeddingLayer.weight": torch.randn(WIDTHS[0], classes)} if classes else {})


def residual(held, name, x):
    def layer(number, h, groups=1):
        weight = held[f"{name}.LinearLayer{number}.Layer.weight"]
        return F.conv2d(h, weight, padding=weight.shape[-1] // 2, groups=groups)

    def activated(number, h):
        return F.leaky_relu(h + held[f"{name}.NonLinearity{number}.Bias"].view(1, -1, 1, 1), 0.2)

    h = activated(1, layer(1, x))
    h = activated(2, layer(2, h, h.shape[1] // GROUP))
    return x + layer(3, h)


def resampled(x, up):
    kernel = KERNEL.expand(x.shape[1], 1, 4, 4)
    if up:
        return F.conv_transpose2d(x, 4 * kernel, stride=2, padding=1, groups=x.shape[1])
    return F.conv2d(x, kernel, stride=2, padding=1, groups=x.shape[1])


def images_of(held, z, y=None):
    if y is not None:
        z = torch.cat([z, held["EmbeddingLayer.weight"].T[y]], 1)
    x = (z @ held["MainLayers.0.Layers.0.LinearLayer.weight"].T)[:, :, None, None] * held["MainLayers.0.Layers.0.Basis"]
    for stage in range(len(WIDTHS)):
        if stage:
            mix = held.get(f"MainLayers.{stage}.Layers.0.LinearLayer.Layer.weight")
            x = resampled(x if mix is None else F.conv2d(x, mix), up=True)
        x = residual(held, f"MainLayers.{stage}.Layers.1", x)
    return F.conv2d(x, held["AggregationLayer.Layer.weight"])


def logits_of(held, x, y=None):
    x = F.conv2d(x, held["ExtractionLayer.Layer.weight"])
    for stage in range(len(WIDTHS)):
        x = residual(held, f"MainLayers.{stage}.Layers.0", x)
        if stage < len(WIDTHS) - 1:
            x, mix = resampled(x, up=False), held.get(f"MainLayers.{stage}.Layers.1.LinearLayer.Layer.weight")
            x = x if mix is None else F.conv2d(x, mix)
    name = f"MainLayers.{len(WIDTHS) - 1}.Layers.1"
    x = F.conv2d(x, held[f"{name}.Basis.weight"], groups=x.shape[1]).flatten(1) @ held[f"{name}.LinearLayer.weight"].T
    return x.squeeze(1) if y is None else (x * held["EmbeddingLayer.weight"].T[y]).sum(1)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write networks as R3GAN's training loop does, with the modules of its code."""
    kinds = {part: module_named(monkeypatch, "training.networks", part) for part in ("Generator", "Discriminator")}

    def run(generator, discriminator, average=None, **changes):
        parts = {"G": generator, "D": discriminator, "G_ema": average or generator}
        content = {
            name: held
            and kinds["Discriminator" if name == "D" else "Generator"](
                {f"Model.{key}": value for key, value in held.items()}, buffers=("Kernel",)
            )
            for name, held in parts.items()
        }
        content |= {"training_set_kwargs": {"path": "x.zip"}, "cur_nimg": 1000}
        return write_pickle(tmp_path / "network.pkl", {**content, **changes})

    return run


@pytest.mark.parametrize("classes", [0, CLASSES])
def test_images_and_logits_are_the_authors(write, classes):
    generator, discriminator = stages(0, classes, up=True), stages(1, classes, up=False)
    average = {name: value * 1.1 if "Kernel" not in name else value for name, value in generator.items()}
    model = imported("r3gan", write(generator, discriminator, average))
    assert model.origin["arguments"] == {
        "size": 16,
        "channels": 3,
        "latent_dim": LATENT,
        "preset": "small",
        "width": 64,
        "num_classes": classes,
    }
    z, images = torch.randn(3, LATENT), torch.rand(3, 3, 16, 16) * 2 - 1
    y = (torch.tensor([2, 0, 1]),) if classes else ()
    with torch.no_grad():
        pairs = [(model.generator(z, *y), images_of(generator, z, *y)), (model(z, *y), images_of(average, z, *y))]
        pairs += [(model.discriminator(images, *y), logits_of(discriminator, images, *y))]
    for found, wanted in pairs:
        assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5


def test_the_averaged_generator_alone_is_enough(write):
    generator = stages(0, 0, up=True)
    model = imported("r3gan", write(None, None, generator))
    assert model.origin["missing"] == ["discriminator"]
    with torch.no_grad():
        assert torch.equal(model.generator(torch.ones(1, LATENT)), model(torch.ones(1, LATENT)))


def test_what_no_preset_has_is_refused(write):
    held = stages(0, 0, up=True)
    other = copy.copy(held)
    other["MainLayers.1.Layers.0.Resampler.Kernel"] = KERNEL.flip(0) * 2
    with pytest.raises(ValueError, match=r"MainLayers\.1\.Layers\.0\.Resampler\.Kernel is another filter than \[1, 3,"):
        imported("r3gan", write(other, None))
    twice = held | block("MainLayers.0.Layers.2", WIDTHS[0])
    with pytest.raises(ValueError, match=r"stages of \[128, 128, 64\] channels with blocks 2, group_width 16, exp"):
        imported("r3gan", write(twice, None))
    less = {name: value for name, value in held.items() if name != "AggregationLayer.Layer.weight"}
    with pytest.raises(ValueError, match=r"network\.pkl has no AggregationLayer\.Layer\.weight"):
        imported("r3gan", write(less, None))
