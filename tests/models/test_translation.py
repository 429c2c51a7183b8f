"""Models that make images of images: what they learn, show and say of held-out images, in RGB and in Lab."""

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from datamodules import DegradedDigitsDataModule, DegradedFolderDataModule
from gans.callbacks.evaluate import Evaluate
from gans.callbacks.grid import ImageGrid
from gans.callbacks.health import Health
from gans.commands.splits import shape_of
from gans.engine.checkpoint import check_checkpoint
from gans.engine.interface import made
from gans.metrics.functional import fid
from gans.metrics.pairs import fidelity
from gans.metrics.rows import Targets, chosen, items, stored
from gans.metrics.sampling import Translations
from gans.models import DCGAN, Pix2Pix
from gans.pictures.colour import rgb_to_lab
from gans.pictures.images import to_float, to_uint8
from gans.reconstruction import feature_distance

SIZE = 16


def make(**options):
    torch.manual_seed(0)
    small = {"size": SIZE, "channels": 1, "width": 4, "dropout": 0.0}
    return Pix2Pix(**{**small, **options})


def pairs(n=24, channels=1, source_channels=1, size=(SIZE, SIZE)):
    """Smooth pictures, and their negatives as sources."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, channels, 4, 4, generator=generator) * 2 - 1
    targets = torch.nn.functional.interpolate(coarse, size, mode="bilinear")
    return TensorDataset(-targets[:, :1].expand(-1, source_channels, -1, -1), targets)


def test_it_learns_what_is_to_be_done(trainer):
    data, model = pairs(32), make(width=8, lr=4e-3, ema_halflife=50)
    trainer(60).fit(model, DataLoader(data, batch_size=8))
    source, target = data.tensors
    made = model.translate(source)
    assert (made - target).abs().mean() < 0.4 * target.abs().mean()
    assert (made - target).abs().mean() < 0.2 * (source - target).abs().mean()


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_target_alone_is_the_control(trainer, weight):
    states = []
    for breadth in (4, 8):  # two critics, neither of which is asked
        model = make(adversarial_weight=weight, discriminator_width=breadth)
        fresh = [p.clone() for p in model.discriminator.parameters()]
        trainer(3).fit(model, DataLoader(pairs(), batch_size=8))
        states.append(model.generator.state_dict())
        rests = all(map(torch.equal, fresh, model.discriminator.parameters()))
        assert rests == (weight == 0)
    same = [torch.equal(value, states[1][name]) for name, value in states[0].items()]
    assert all(same) == (weight == 0)


@pytest.mark.parametrize("features", ["random", "discriminator"])
def test_features_of_colours_are_those_of_images(trainer, features):
    seen = []

    class Notes(Pix2Pix):
        def feature_error(self, made, target, *given):
            seen.append((made.shape[1], target.shape[1], len(given)))
            return super().feature_error(made, target, *given)

    model = Notes(SIZE, 3, width=4, space="lab", features=features, feature_weight=1.0)
    trainer(2).fit(model, DataLoader(pairs(8, 3, 3), batch_size=4))
    assert seen == [(3, 3, 0) if features == "random" else (2, 2, 1)] * 2
    assert all(p.grad.isfinite().all() for p in model.generator.parameters())


@pytest.mark.parametrize("features", ["random", "mnist", "discriminator"])
def test_feature_losses_pull(trainer, features):
    curves = []

    class Notes(Pix2Pix):
        def record(self, name, value):
            if name == "loss/features":
                curves.append(float(value.detach()))
            super().record(name, value)

    torch.manual_seed(0)
    model = Notes(SIZE, 1, width=8, dropout=0.0, l1_weight=0.0, adversarial_weight=0.0, lr=4e-3,
                  features=features, feature_weight=1.0)  # fmt: skip
    trainer(15).fit(model, DataLoader(pairs(), batch_size=8))
    assert len(curves) == 15
    assert sum(curves[-3:]) < 0.9 * sum(curves[:3])
    assert not any("layers.1_1" in name for name in model.state_dict())


@pytest.mark.parametrize("options", [{"network": "resnet"}, {"norm": "batch"}, {"norm": "none"}, {"scales": 2},
                                     {"spectral_norm": True}, {"objective": "relativistic"}, {"objective": "hinge"},
                                     {"channels": 3, "source_channels": 1}, {"channels": 4}])  # fmt: skip
def test_options_train(trainer, options):
    model = make(**options)
    data = pairs(8, options.get("channels", 1), options.get("source_channels", options.get("channels", 1)))
    trainer(2).fit(model, DataLoader(data, batch_size=4))
    made = model.translate(data.tensors[0])
    assert made.shape == data.tensors[1].shape
    assert made.isfinite().all()


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
@pytest.mark.parametrize("features", ["random", "discriminator"])
def test_precisions_know_features_and_colours(trainer, precision, features):
    model = make(channels=3, space="lab" if features == "discriminator" else "rgb", features=features, feature_weight=1)
    data = pairs(8, 3, 3)
    images = [part.double() for part in data.tensors] if precision == "64-true" else data.tensors
    loader = DataLoader(TensorDataset(*images), batch_size=4)
    trainer(2, precision=precision).fit(model, loader, loader)
    assert all(p.isfinite().all() for p in model.parameters())


def test_translation_takes_any_size_and_does_not_mix_images():
    model = make().eval()
    big = torch.rand(3, 1, 45, 30) * 2 - 1
    whole = model.translate(big)
    assert whole.shape == (3, 1, 45, 30)
    assert torch.allclose(model.translate(big[1:2]), whole[1:2], atol=1e-6)
    with pytest.raises(ValueError, match=r"makes images of images; expected translate\(images\), not sample\(4\)"):
        model.sample(4)


def test_weights_of_the_former_skip_order_are_refused(saved, tmp_path):
    """Their shapes are the same, so the names have to differ: loaded in silence they would make noise."""
    path = saved(make(), tmp_path)
    held = torch.load(path, weights_only=True)
    former = {"halvings": "downs", "doublings": "ups"}
    for new, old in former.items():
        held["state_dict"] = {name.replace(new, old): value for name, value in held["state_dict"].items()}
    with pytest.raises(ValueError, match=r"has no generator\.halvings.*, but generator\.downs.*by another version"):
        check_checkpoint(make(), held)


# -- colour ------------------------------------------------------------------------------------------------------------


def test_colourisation_keeps_the_lightness_and_learns_the_colour(trainer):
    light = torch.linspace(-0.2, 0.4, SIZE).expand(16, 1, SIZE, SIZE)
    colours = (light + torch.tensor([0.5, 0.0, -0.5]).view(3, 1, 1)).clamp(-1, 1)
    data = TensorDataset(light.expand(-1, 3, -1, -1), colours)
    model = make(channels=3, width=8, space="lab", lr=4e-3, ema_halflife=50)
    assert model.generator(light).shape == (16, 2, SIZE, SIZE)
    trainer(50).fit(model, DataLoader(data, batch_size=8))
    made = model.translate(data.tensors[0])
    given, found, wanted = (rgb_to_lab(part) for part in (data.tensors[0], made, colours))
    assert (found[:, 0] - given[:, 0]).abs().mean() < 2  # of 100; clipping costs some
    assert (found - wanted)[:, 1:].abs().mean() < 0.35 * wanted[:, 1:].abs().mean()


# -- what is held out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [5, 24])
def test_held_out_scores_are_means_over_images(trainer, batch_size):
    model, data = make(features="mnist"), pairs()
    [found] = trainer(1).test(model, DataLoader(data, batch_size=batch_size), verbose=False)
    source, target = data.tensors
    pixels = [to_uint8(part) for part in (model.translate(source), target)]
    made, target = map(to_float, pixels)
    expected = {f"test/{name}": float(value.mean()) for name, value in fidelity(made, target).items()}
    maps, judge = model.networks.on(model.device)
    expected["test/feature_distance/mnist"] = float(feature_distance(maps(made), maps(target)).mean())
    expected["test/fid/mnist"] = float(fid(judge(pixels[1])[0], judge(pixels[0])[0]))
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4), name


def test_mixed_precision_scores_the_same_images_the_same(trainer):
    class Slightly(Pix2Pix):
        def translate(self, *inputs):
            return (0.9 * -inputs[0]).float()

    found = []
    for precision in ("32-true", "bf16-mixed"):
        model = Slightly(SIZE, 1, width=4, features="mnist")
        loader = DataLoader(pairs(), batch_size=12)
        found += trainer(1, precision=precision).validate(model, loader, verbose=False)
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_held_out_scores_are_the_same_on_two_processes(trainer, tmp_path):
    class Keep(L.Callback):
        def on_validation_end(self, trainer, module):
            if trainer.is_global_zero:
                values = {k: v for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
                torch.save(values, tmp_path / f"{trainer.world_size}.pt")

    for world in (1, 2):
        data = DegradedDigitsDataModule("noise 40", size=SIZE, batch_size=12, val_size=25)
        trainer(1, world, callbacks=[Keep()]).validate(make(features="mnist"), data, verbose=False)
    one, two = (torch.load(tmp_path / f"{world}.pt") for world in (1, 2))
    assert one.keys() == two.keys()
    assert len(one) == 5
    for name in one:
        assert float(one[name]) == pytest.approx(float(two[name]), rel=1e-4), name


# -- what watches a run ------------------------------------------------------------------------------------------------


def test_what_watches_a_run_is_given_what_to_translate(trainer, tmp_path):
    data = DegradedDigitsDataModule("grey, noise 60", size=SIZE, batch_size=8)
    watch = [ImageGrid(2, samples=4), Health(2, collapse=0), Evaluate("mnist", 2, 40, 30)]
    logger = TensorBoardLogger(tmp_path, "run", 0)
    run = trainer(4, callbacks=watch, logger=logger)
    model = make()
    run.fit(model, data)
    pictures = sorted(path.name for path in (tmp_path / "run" / "version_0" / "samples").iterdir())
    assert pictures == ["real.png", *(f"translations_{step:07d}.png" for step in (1, 2, 4))]
    val = data._sets[1]
    assert torch.equal(to_uint8(watch[0].batch[1].cpu()), val.__getitems__(range(4))[1])
    with Image.open(tmp_path / "run" / "version_0" / "samples" / "translations_0000004.png") as picture:
        assert picture.size == (9 * (SIZE + 2) + 2, 2 * (SIZE + 2) + 2)
    assert watch[2].protocol.samples == 40
    assert len(watch[2].given) == 197
    blocks = list(Translations(model, val).images(40, 0))
    rows = chosen(len(val), 40, 0)
    sources, targets = val.__getitems__(rows)
    assert torch.equal(torch.cat([block for block, _ in blocks]), to_uint8(model.translate(to_float(sources))))
    kept = torch.cat([block for block, _ in stored(Targets(val, model), rows)])
    assert torch.equal(kept, targets)
    assert "score/fid_mnist" in run.callback_metrics


def photos(root):
    """Write photographs of several sizes."""
    random = torch.Generator().manual_seed(0)
    for name, sizes in (("train", [(30, 40)] * 6), ("val", [(30, 40), (41, 29), (24, 24)])):
        (root / name).mkdir(parents=True)
        for number, size in enumerate(sizes):
            coarse = torch.rand(1, 1, 6, 6, generator=random) * 255
            pixels = torch.nn.functional.interpolate(coarse, size, mode="bilinear")[0, 0].to(torch.uint8)
            Image.fromarray(pixels.numpy()).save(root / name / f"{number}.png")
    return root


def windows_of(root, **options):
    given = {"size": SIZE, "channels": 1, "fit": "window", "windows": 4, "batch_size": 8, "num_workers": 0}
    return DegradedFolderDataModule(root, "noise 40", **{**given, "val_fit": "whole", **options})


def test_a_run_on_windows_is_scored_on_whole_images_and_its_grids_show_windows(trainer, tmp_path):
    data, model = windows_of(photos(tmp_path / "photos")), make(features="mnist")
    watch = [ImageGrid(2, samples=4), Evaluate("mnist", 2, 12, 24)]
    run = trainer(2, callbacks=watch, logger=TensorBoardLogger(tmp_path, "run", 0), limit_val_batches=1.0)
    run.fit(model, data)
    assert watch[0].batch[1].shape == (4, 1, SIZE, SIZE)
    assert len(watch[1].given) == 12  # four fixed windows of each of three images
    assert "score/fid_mnist" in run.callback_metrics
    [found] = trainer(1).validate(model, data, verbose=False)
    whole = [batch for batch in data.val_dataloader()]
    assert [tuple(target.shape) for _, target in whole] == [(1, 1, 30, 40), (1, 1, 41, 29), (1, 1, 24, 24)]
    made = [(to_float(to_uint8(model.translate(to_float(source)))), to_float(target)) for source, target in whole]
    expected = torch.cat([fidelity(*both)["psnr"] for both in made]).mean()
    assert found["val/psnr"] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.slow
def test_scores_of_whole_images_are_the_same_on_two_processes(trainer, tmp_path):
    class Keep(L.Callback):
        def on_validation_end(self, trainer, module):
            if trainer.is_global_zero:
                values = {k: v for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
                torch.save(values, tmp_path / f"{trainer.world_size}.pt")

    root = photos(tmp_path / "photos")  # three images, which two processes cannot share equally
    for world in (1, 2):
        trainer(1, world, callbacks=[Keep()]).validate(make(features="mnist"), windows_of(root), verbose=False)
    one, two = (torch.load(tmp_path / f"{world}.pt") for world in (1, 2))
    assert {"val/psnr", "val/ssim", "val/l1"} <= one.keys() == two.keys()
    for name in one:
        if "fid" not in name:  # every process has all images, and a covariance of n images divides by n - 1
            assert float(one[name]) == pytest.approx(float(two[name]), rel=1e-4), name


def test_without_held_out_images_the_first_batch_is_shown(trainer, tmp_path):
    grid = ImageGrid(2)
    trainer(3, callbacks=[grid], logger=TensorBoardLogger(tmp_path, "run", 0)).fit(
        make(), DataLoader(pairs(24), batch_size=8)
    )
    assert torch.equal(grid.batch[1], pairs().tensors[1][:8])


def test_samples_beside_a_batch():
    source, target = (part[:5] for part in pairs().tensors)
    assert made(make(), (source, target), 3, seed=0).shape == (3, 1, SIZE, SIZE)
    assert made(DCGAN(SIZE, 1, width=2), (source, target), 3, seed=0).shape == (3, 1, SIZE, SIZE)
    with pytest.raises(ValueError, match="40 images were asked of Pix2Pix, which is given 24 to translate"):
        list(Translations(make(), pairs()).images(40, 0))
    with pytest.raises(ValueError, match="which is given 0 to translate"):
        list(Translations(make(), []).images(40, 0))
    with pytest.raises(ValueError, match="the data are pairs of images"):
        list(stored(DegradedDigitsDataModule(size=8).splits()[1], range(5)))


def test_items_of_any_dataset_become_batches():
    grey = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(-1, 1, 4, 4)
    alone = items(grey, range(3))
    assert [part.shape for part in alone] == [(3, 1, 4, 4)]
    named = [(image, f"{i}.png", i) for i, image in enumerate(grey)]
    images, numbers = items(named, [2, 4])
    assert (images[:, 0, 0, 0].tolist(), numbers.tolist()) == ([2, 4], [2, 4])
    assert [part.shape for part in items([(image, "name") for image in grey], [0])] == [(1, 1, 4, 4)]
    assert len(items([(image, image, image) for image in grey], [0, 1])) == 3
    [(_, labels)] = stored([(image, torch.tensor([3])) for image in grey], range(5))
    assert labels.tolist() == [3] * 5
    for dataset in (grey, [(image, "name") for image in grey]):
        assert shape_of(dataset) == (1, 4, 4)
        assert [labels for _, labels in stored(dataset, range(5))] == [None]
    picture = Image.new("L", (4, 4))
    for dataset in ([picture], [(picture, 3)]):
        for look in (shape_of, lambda dataset: list(stored(dataset, [0]))):
            with pytest.raises(ValueError, match=r"an item of the dataset is an Image; expected an image tensor"):
                look(dataset)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"network": "vit"}, "network is vit; expected unet or resnet"),
        ({"space": "lab"}, "space is lab; expected rgb, or lab for 3 channels"),
        ({"l1_weight": -1}, "l1_weight is -1"),
        ({"feature_weight": -1}, "feature_weight is -1"),
        ({"lr": 0}, "lr is 0; expected a number above 0"),
        ({"betas": (1, 2)}, "betas is"),
        ({"source_channels": 2}, "source_channels is 2; expected 1"),
        ({"size": 5}, "size is 5x5; a patch discriminator needs at least 6"),
    ],
)
def test_wrong_options(options, says):
    with pytest.raises(ValueError, match=says):
        make(**options)


def test_wrong_batches_are_refused(trainer):
    images = pairs().tensors[0]
    with pytest.raises(ValueError, match=r"a batch is not a pair of images; expected \(source, target\)"):
        trainer(1).fit(make(), DataLoader(TensorDataset(images, torch.zeros(len(images))), batch_size=8))
    with pytest.raises(ValueError, match=r"the data gives images of shape \(3, 16, 16\)"):
        trainer(1).fit(make(), DataLoader(pairs(source_channels=3), batch_size=8))
    wrong = TensorDataset(images, images[..., :8])
    with pytest.raises(
        ValueError, match=r"the data gives targets of shape \(1, 16, 8\) .* makes images of \(1, 16, 16\)"
    ):
        trainer(1).fit(make(), DataLoader(wrong, batch_size=8))
    holes = DegradedDigitsDataModule("mask brush", size=SIZE, batch_size=8)
    with pytest.raises(ValueError, match=r"degrade is mask brush, which gives \(image, mask\); expected pairs"):
        trainer(1).fit(make(), holes)


def test_missing_weights_are_a_sentence_before_training(trainer, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    model = make(features="vgg19")
    with pytest.raises(FileNotFoundError, match=r"vgg19-dcbb9e9d\.pth is not in"):
        trainer(1).fit(model, DataLoader(pairs(), batch_size=8))
    assert model.translate(pairs().tensors[0]).shape == (24, 1, SIZE, SIZE)  # which needs none
