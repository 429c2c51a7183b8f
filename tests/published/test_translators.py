"""The networks of the pix2pix and CycleGAN repository, written out, against ours with the weights of their files."""

import pytest
import torch
from published_translators import critic, near, of_critic, of_residual, of_unet, residual, unet, write

from gans.published.checkpoint import imported


@pytest.mark.parametrize("network", ["unet", "residual"])
@pytest.mark.parametrize("norm", ["batch", "instance", "old instance", "none"])
def test_images_and_logits_are_the_authors(tmp_path, network, norm):
    """Of one image, as they test; gains, biases, and the order of channels in the critic count."""
    make, images_of = {"unet": (unet, of_unet), "residual": (residual, of_residual)}[network]
    generator, judge = make(norm), critic(norm, 4)
    # Without a kind: it is recognised. A residual one without gains is CycleGAN's, unless the kind is given.
    kind = "pix2pix" if network == "residual" else None
    model = imported(kind, write(tmp_path / "G.pth", generator), write(tmp_path / "D.pth", judge))
    assert model.origin["kind"] == "pix2pix"
    source, target = torch.rand(1, 1, 32, 32) * 2 - 1, torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        near(model(source), images_of(generator, source))
        near(model.discriminator(target, source), of_critic(judge, torch.cat([source, target], 1)))


def test_each_image_of_a_batch_has_its_own_statistics_or_those_of_the_run(tmp_path):
    held = unet("batch")
    path = write(tmp_path / "G.pth", held)
    images = torch.rand(2, 1, 32, 32) * 2 - 1
    with torch.no_grad():
        near(imported("pix2pix", path)(images), torch.cat([of_unet(held, image[None]) for image in images]))
        near(imported("pix2pix-batch", path)(images), of_unet(held, images, running=True))


def test_dropout_between_convolutions_moves_the_second_one(tmp_path):
    held = residual("batch", dropout=1)
    model, image = imported(None, write(tmp_path / "G.pth", held)), torch.rand(1, 1, 32, 32)
    assert (model.origin["kind"], model.hparams["blocks"]) == ("pix2pix", 2)
    with torch.no_grad():
        near(model(image), of_residual(held, image, dropout=1))


def changed(held, **changes):
    found = {**held, **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: value for name, value in found.items() if value is not None}


FAULTS = [
    (
        changed(
            unet("batch"),
            model__model__3__bias=None,
            model__model__1__model__1__weight=torch.ones(4, 2, 3, 3),
            other=torch.ones(1),
        ),
        {},
        r"model\.model\.1\.model\.1\.weight gives \(4, 2, 3, 3\) for halvings\.1\.0\.weight; expected \(4, 2, 4, 4\); "
        r".*other has no place",
    ),
    (changed(residual("batch"), model__10__conv_block__2__bias=None), {}, r"G\.pth has no model\.10\.conv_block\.2\.b"),
    (changed(residual("batch"), model__21__weight=torch.ones(1, 1, 3, 3)), {}, "has 7 convolutions and 4 in 2 blocks"),
    (unet("batch"), {"discriminator": unet("batch")}, r"D\.pth has convolutions .*; expected the five of a critic of"),
    (unet("batch"), {"discriminator": critic("instance", 4)}, r"D\.pth has the norm instance, but the generator inst"),
    (unet("batch"), {"discriminator": critic("batch", 6)}, r"D\.pth: model\.0\.weight gives \(2, 6, 4, 4\) for scales"),
]


@pytest.mark.parametrize(("held", "other", "says"), FAULTS)
def test_what_does_not_fit_is_told_tensor_by_tensor(tmp_path, held, other, says):
    others = {part: write(tmp_path / "D.pth", given) for part, given in other.items()}
    with pytest.raises(ValueError, match=says):
        imported("pix2pix", write(tmp_path / "G.pth", held), **others)


def test_many_faults_are_counted(tmp_path):
    kept = "model.model.1.model.2.weight"  # from which the norm is known
    held = {name: value for name, value in unet("batch").items() if value.ndim == 4 or name == kept}
    with pytest.raises(ValueError, match=r"G\.pth has no model\..*; has no model\..*; and 1 more$"):
        imported("pix2pix", write(tmp_path / "G.pth", held))


def test_a_residual_generator_with_a_layer_without_a_number_is_one_sentence(tmp_path):
    held = residual("instance") | {"model.attention.weight": torch.ones(1, 1, 1, 1)}
    with pytest.raises(ValueError, match=r"G\.pth has 7 convolutions and 4 in 2 blocks"):
        imported(None, write(tmp_path / "G.pth", held))
