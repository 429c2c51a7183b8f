"""Inpainting: known pixels stay, holes are learnt, scores are of the holes, and what is no image with a mask."""

import pytest
import torch
from checkpoints import assert_equal, assert_near
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from datamodules import DegradedDigitsDataModule
from gans.callbacks.evaluate import Evaluate
from gans.callbacks.grid import ImageGrid
from gans.metrics.functional import fid
from gans.metrics.holes import hole_fidelity, mean_fill, nearest_fill
from gans.metrics.pairs import fidelity
from gans.metrics.sampling import Translations
from gans.models import Inpainting
from gans.networks import gated, patch
from gans.networks.pullpush import pull_push
from gans.pictures.images import to_float, to_uint8

SIZE = 16


def make(**options):
    torch.manual_seed(0)
    return Inpainting(**{"size": SIZE, "channels": 1, "width": 4, "discriminator_width": 4, **options})


def holed(n=24, channels=1, size=SIZE):
    """Smooth pictures, each with a rectangular hole of its own."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, channels, 4, 4, generator=generator) * 2 - 1
    images = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")
    masks = torch.zeros(n, 1, size, size)
    for i, (top, left) in enumerate(torch.randint(0, size // 2, (n, 2), generator=generator).tolist()):
        masks[i, :, top : top + size // 2, left : left + size // 3] = 1
    return TensorDataset(to_float(to_uint8(images)), masks)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true"])
def test_known_pixels_come_back_bit_for_bit(trainer, precision):
    class Notes(Inpainting):
        def translate(self, *inputs):
            made = super().translate(*inputs)
            seen.append((made, *inputs))
            return made

    seen, data = [], holed(8)
    torch.manual_seed(0)
    model = Notes(SIZE, 1, width=4, discriminator_width=4)
    parts = [part.double() for part in data.tensors] if precision == "64-true" else data.tensors
    loader = DataLoader(TensorDataset(*parts), batch_size=4)
    trainer(2, precision=precision).fit(model, loader, loader)
    assert len(seen) >= 2
    for made, images, masks in seen:
        known = (masks == 0).expand_as(images)
        assert torch.equal(made[known], images[known])
        assert (made[~known] != images[~known]).any()


def test_it_learns_to_fill(trainer):
    data = holed(32)
    model = make(refine=False, lr=1e-2, hole_weight=6, adversarial_weight=0.01, ema_halflife=50)
    trainer(40).fit(model, DataLoader(data, batch_size=8))
    images, masks = data.tensors
    psnr = {"made": hole_fidelity(model.translate(images, masks), images, masks)[0].mean()}
    psnr |= {f.__name__: hole_fidelity(f(images, masks), images, masks)[0].mean() for f in (mean_fill, nearest_fill)}
    assert psnr["made"] > psnr["nearest_fill"] + 1, psnr
    assert psnr["made"] > psnr["mean_fill"] + 1, psnr


def test_what_is_in_the_hole_is_not_looked_at():
    model = make().eval()
    images, masks = (part[:3] for part in holed().tensors)
    other = torch.where(masks > 0, torch.rand_like(images), images)
    assert torch.equal(model.translate(images, masks), model.translate(other, masks))
    assert torch.equal(model.shown(images, masks), model.shown(other, masks))
    big = torch.rand(1, 1, 45, 30) * 2 - 1
    assert model.translate(big, (big > 0).float()).shape == big.shape


def test_the_image_alone_is_the_control(trainer):
    for weight in (0.0, 1.0):
        states = []
        for breadth in (4, 8):  # two critics, neither of which is asked
            model = make(adversarial_weight=weight, discriminator_width=breadth)
            fresh = [p.clone() for p in model.discriminator.parameters()]
            trainer(2).fit(model, DataLoader(holed(16), batch_size=8))
            states.append(model.generator.state_dict())
            assert all(map(torch.equal, fresh, model.discriminator.parameters())) == (weight == 0)
        assert all(torch.equal(value, states[1][name]) for name, value in states[0].items()) == (weight == 0)


def test_a_hole_counts_as_often_as_is_asked():
    image, mask = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    mask[..., :2, :2] = 1
    guess = torch.where(mask > 0, 0.5, 0.25)
    assert float(make(hole_weight=1).l1(guess, image, mask)) == pytest.approx(0.25 * 0.5 + 0.75 * 0.25)
    assert float(make(hole_weight=6).l1(guess, image, mask)) == pytest.approx(6 * 0.25 * 0.5 + 0.75 * 0.25)


def test_the_critic_is_the_papers_and_hinges_on_every_channel(trainer):
    class Notes(Inpainting):
        def record_discriminator(self, loss, real_logits, fake_logits):
            seen.append((loss.detach(), real_logits.detach(), fake_logits.detach()))
            super().record_discriminator(loss, real_logits, fake_logits)

    seen = []
    torch.manual_seed(0)
    model = Notes(SIZE, 1, width=4, discriminator_width=2)
    trainer(1).fit(model, DataLoader(holed(4), batch_size=4))
    [(loss, real, fake)] = seen
    assert real.shape == fake.shape == (4, 8, 1, 1)
    assert float(loss) == pytest.approx(float((1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean()))
    default = Inpainting(SIZE, 1, width=4)
    assert isinstance(default.discriminator, gated.Discriminator)
    assert default.discriminator.layers[0].out_channels == 64
    assert isinstance(make(critic="patchgan").discriminator, patch.Discriminator)


@pytest.mark.parametrize("options", [{"refine": False}, {"objective": "relativistic"}, {"spectral_norm": False},
                                     {"critic": "patchgan", "scales": 2}, {"features": "mnist", "feature_weight": 1.0},
                                     {"features": "discriminator", "feature_weight": 1.0}, {"network": "deepfill"},
                                     {"base": "pull_push"},
                                     {"network": "lama", "blocks": 1, "base": "pull_push"}])  # fmt: skip
def test_options_train(trainer, options):
    model, data = make(**options), holed(8)
    trainer(2).fit(model, DataLoader(data, batch_size=4))
    assert all(p.isfinite().all() for p in model.parameters())
    critics = [name for name, _ in model.discriminator.named_parameters() if "original" in name]
    assert bool(critics) == options.get("spectral_norm", True)


# -- what is held out --------------------------------------------------------------------------------------------------


def test_held_out_scores_are_of_the_holes_beside_simple_fillings(trainer):
    model, data = make(features="mnist"), holed()
    [found] = trainer(1).test(model, DataLoader(data, batch_size=5), verbose=False)
    images, masks = data.tensors
    pixels = to_uint8(model.translate(images, masks))
    made = to_float(pixels)
    expected = dict(fidelity(made, images))
    fillings = {"": made, "/mean_fill": mean_fill(images, masks), "/nearest_fill": nearest_fill(images, masks)}
    fillings["/smooth_fill"] = pull_push(images, masks)
    for name, filled in fillings.items():
        expected[f"hole_psnr{name}"], expected[f"hole_l1{name}"] = hole_fidelity(filled, images, masks)
    for name, value in expected.items():
        assert found[f"test/{name}"] == pytest.approx(float(value.mean()), rel=1e-4), name
    judge = model.networks.on(model.device)[1]
    assert found["test/fid/mnist"] == pytest.approx(float(fid(judge(to_uint8(images))[0], judge(pixels)[0])), rel=1e-4)
    assert {name for name in found if "hole" in name} == {f"test/{name}" for name in expected if "hole" in name}


def test_what_watches_a_run_sees_holes(trainer, tmp_path):
    data = DegradedDigitsDataModule("mask mixed", size=SIZE, batch_size=8)
    watch = [ImageGrid(2, samples=4), Evaluate("mnist", 2, 40, 30)]
    run = trainer(2, callbacks=watch, logger=TensorBoardLogger(tmp_path, "run", 0))
    model = make()
    run.fit(model, data)
    with Image.open(tmp_path / "run" / "version_0" / "samples" / "translations_0000002.png") as picture:
        assert picture.size == (9 * (SIZE + 2) + 2, 2 * (SIZE + 2) + 2)
    given, made, target = (part.flatten(1) for part in model.pictures(watch[0].batch)["translations"][0][:3])
    mask = watch[0].batch[1][0].flatten() > 0
    assert given[0, mask].unique().tolist() == [1]
    assert torch.equal(made[0, ~mask], target[0, ~mask])
    assert torch.equal(given[0, ~mask], target[0, ~mask])
    assert sum(len(block) for block, _ in Translations(model, data._sets[1]).images(40, 0)) == 40
    assert "score/fid_mnist" in run.callback_metrics


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"hole_weight": -1}, "hole_weight is -1; expected at least 0"),
        ({"adversarial_weight": -1}, "adversarial_weight is -1"),
        ({"width": 0}, "width is 0; expected at least 1"),
        ({"size": 5, "critic": "patchgan"}, "size is 5x5; a patch discriminator"),
        ({"critic": "pixel"}, "critic is pixel; expected sn_patchgan or patchgan"),
        ({"network": "unet"}, "network is unet; expected gated, deepfill or lama"),
        ({"network": "lama", "base": "mean"}, "base is mean; expected zero or pull_push"),
        ({"network": "lama", "blocks": 0}, "blocks is 0; expected at least 1"),
        ({"network": "lama", "norm": "layer"}, "norm is 'layer'; expected instance"),
        ({"network": "deepfill", "refine": False}, "refine is changed; expected its default, or the network gated"),
        (
            {"network": "deepfill", "base": "pull_push"},
            "base is changed; expected its .*, or the network gated or lama",
        ),
        ({"scales": 2}, "scales is 2; expected 1 for the critic sn_patchgan"),
    ],
)
def test_wrong_options(options, says):
    with pytest.raises(ValueError, match=says):
        make(**options)


def test_batches_without_masks_are_refused(trainer):
    images, masks = holed().tensors
    for second in (-images, images.expand(-1, 3, -1, -1), masks[..., :8], torch.zeros(len(images))):
        with pytest.raises(ValueError, match=r"a batch is no image with its mask; expected \(image, mask\)"):
            trainer(1).fit(make(), DataLoader(TensorDataset(images, second), batch_size=8))
    with pytest.raises(ValueError, match="degrade makes no holes, which Inpainting fills; expected a mask"):
        trainer(1).fit(make(), DegradedDigitsDataModule("noise 4", size=SIZE, batch_size=8))
    wrong = TensorDataset(images.expand(-1, 3, -1, -1), masks)
    with pytest.raises(ValueError, match=r"the data gives images of shape \(3, 16, 16\)"):
        trainer(1).fit(make(), DataLoader(wrong, batch_size=8))


GENERATORS = pytest.mark.parametrize(
    "options", [{"network": "deepfill"}, {"network": "lama", "blocks": 1, "norm": "none", "base": "pull_push"}]
)


def small(**options):
    model = make(width=2, spectral_norm=False, **options)
    model.seed = 3
    return model


@pytest.mark.slow
@GENERATORS
def test_other_generators_are_the_same_on_two_processes(trained_by, options):
    states = []
    for world in (1, 2):
        data = DegradedDigitsDataModule("mask brush", size=SIZE, batch_size=12 // world)
        states.append(trained_by(world, small(**options), data, 2)["state_dict"])
    start = small(**options).generator.state_dict()
    assert max(float((states[0][f"generator.{key}"] - value).abs().max()) for key, value in start.items()) > 1e-5
    assert_near(*states)


@GENERATORS
def test_other_generators_resume_bit_for_bit(trainer, tmp_path, options):
    def fitted(steps, path=None):
        run, model = trainer(steps), small(**options)
        data = DegradedDigitsDataModule("mask brush", size=SIZE, batch_size=12, infinite=True, num_workers=0)
        run.fit(model, data, ckpt_path=path)
        return run, model

    whole = fitted(3)[1].state_dict()
    fitted(1)[0].save_checkpoint(tmp_path / "first.ckpt")
    assert_equal(whole, fitted(3, tmp_path / "first.ckpt")[1].state_dict())
