"""Mimicry's checkpoints against its networks written out, from files in its layout."""

import pytest
import torch
from published_files import images_of, logits_of, net_d, net_g, write

from gans.published.checkpoint import imported

KINDS = {
    "SNGAN": ({}, {}),
    "ProjectionGAN": ({"classes": 3}, {"classes": 3, "head": "own"}),
    "SAGAN": ({"classes": 3, "norm": "torch", "attention": True}, {"classes": 3, "attention": True}),
    "WGANGP": ({}, {"norm": None}),
}


def near(found, wanted):
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 2e-5


@pytest.mark.parametrize("name", KINDS)
def test_images_and_logits_are_mimicrys(tmp_path, name):
    generator, discriminator = net_g(**KINDS[name][0]), net_d(**KINDS[name][1])
    paths = write(tmp_path / "netG.pth", generator), write(tmp_path / "netD.pth", discriminator)
    model = imported("mimicry-wgangp" if name == "WGANGP" else "mimicry", *paths)
    assert type(model).__name__ == name
    assert not model.training
    z, images = torch.randn(3, 4), torch.rand(3, 3, 32, 32) * 2 - 1
    classes = (torch.tensor([2, 0, 1]),) if "classes" in KINDS[name][0] else ()
    with torch.no_grad():
        wanted = images_of(generator, z, *classes)
        near(model(z, *classes), wanted)
        near(model.generator(z, *classes), wanted)
        wanted = logits_of(discriminator, images, *classes, pool="mean" if name == "WGANGP" else "sum")
        near(model.discriminator(images, *classes), wanted)


def test_the_blocks_of_mimicry_differ_from_the_papers(tmp_path):
    """So that the comparison above fails if the option is ignored."""
    model = imported("mimicry", write(tmp_path / "netG.pth", net_g()), write(tmp_path / "netD.pth", net_d()))
    plain = type(model)(**{**model.origin["arguments"], "blocks": "authors"}).eval()
    plain.load_state_dict(model.state_dict())
    z = torch.randn(2, 4)
    with torch.no_grad():
        assert (model(z) - plain(z)).abs().max() > 0.01
        assert (model.discriminator(model(z)) - plain.discriminator(model(z))).abs().max() > 0.01


def test_larger_images_have_fewer_channels_towards_the_image(tmp_path):
    held = net_g(width=4)
    for name, side in (("c1", 3), ("c2", 3), ("c_sc", 1)):  # 6x6 pixels upsampled three times, as in SNGAN of 48
        for number, (before, after) in enumerate(((32, 16), (16, 8), (8, 4)), 2):
            held[f"block{number}.{name}.weight"] = torch.randn(after, after if name == "c2" else before, side, side)
            held[f"block{number}.{name}.bias"] = torch.randn(after)
            for norm, width in (("b1", before), ("b2", after)):
                for part in ("weight", "bias", "running_mean", "running_var"):
                    held[f"block{number}.{norm}.{part}"] = torch.rand(width)
    held |= {"l1.weight": torch.randn(36 * 32, 4), "l1.bias": torch.randn(36 * 32)}
    model = imported("mimicry", write(tmp_path / "netG.pth", held))
    assert (model.image_shape, model.hparams["width"]) == ((3, 48, 48), 4)


def changed(held, **changes):
    found = {**held, **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: value for name, value in found.items() if value is not None}


FAULTS = [
    (changed(net_g(), b5__running_var=None), {}, r"netG\.pth has no b5\.running_var"),
    (changed(net_g(), block2__c1__weight=torch.ones(8, 8, 5, 5)), {}, r"block2\.c1\.weight gives \(8, 8, 5, 5\) for"),
    (changed(net_g(), l_y__weight=torch.ones(1)), {}, r"netG\.pth: l_y\.weight has no place in the network"),
    (changed(net_g(), c5__bias=torch.full((3,), torch.nan)), {}, r"netG\.pth: image\.bias is not finite"),
    (net_d(), {}, r"netG\.pth has no l1\.bias: FILE is the generator's"),
    (net_g(), {"discriminator": net_g()}, r"netD\.pth has no block1\.c1\.bias: --discriminator names a file of netD"),
    (net_g(), {"discriminator": net_d(norm=None)}, "no spectral norms, so it is WGAN-GP's, of the kind mimicry-wgangp"),
    (net_g(classes=3, norm="torch", attention=True, levels=2), {}, "16 pixels; Mimicry's SAGAN has 32 or 128"),
]


@pytest.mark.parametrize(("held", "other", "says"), FAULTS)
def test_what_does_not_fit_is_named(tmp_path, held, other, says):
    others = {part: write(tmp_path / "netD.pth", given) for part, given in other.items()}
    with pytest.raises(ValueError, match=says):
        imported("mimicry", write(tmp_path / "netG.pth", held), **others)


def test_classes_and_spectral_norms_are_no_wgangps(tmp_path):
    path = write(tmp_path / "netG.pth", net_g(classes=3))
    with pytest.raises(ValueError, match="is class-conditional; expected the kind mimicry"):
        imported("mimicry-wgangp", path)
    paths = write(tmp_path / "netG.pth", net_g()), write(tmp_path / "netD.pth", net_d())
    with pytest.raises(ValueError, match=r"netD\.pth has spectral norms: the kind is mimicry"):
        imported("mimicry-wgangp", *paths)
