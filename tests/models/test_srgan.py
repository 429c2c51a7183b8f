"""Images made better in two stages: what each of them moves and leaves, scales, the baseline beside the scores."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, TensorDataset

from datamodules import DegradedDigitsDataModule, DegradedFolderDataModule
from gans.callbacks.grid import ImageGrid
from gans.engine.checkpoint import Checkpoint
from gans.metrics.functional import fid
from gans.metrics.pairs import fidelity
from gans.models import SRGAN, Pix2Pix
from gans.networks.superresolution import enlarged
from gans.pictures.colour import colourfulness
from gans.pictures.images import to_float, to_uint8
from gans.reconstruction import VGG, feature_distance

SIZE = 16


def make(kind=SRGAN, **options):
    torch.manual_seed(0)
    small = {"size": SIZE, "channels": 1, "scale": 2, "width": 4, "blocks": 1, "growth": 2, "feature_weight": 0.0}
    return kind(**{**small, **options})


def pairs(n=24, scale=2, channels=1):
    """Pictures of few colours with hard edges, and themselves in a smaller size."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, channels, 4, 4, generator=generator) * 2 - 1
    targets = interpolate(coarse, (SIZE, SIZE), mode="nearest")
    return TensorDataset(torch.nn.functional.avg_pool2d(targets.roll(1, 3), scale), targets)


def batches(n=24, size=8, **options):
    return DataLoader(pairs(n, **options), batch_size=size)


@pytest.mark.parametrize("network", ["residual", "rrdb"])
def test_it_gets_better_than_its_baseline(trainer, network):
    model = make(network=network, width=8, content_steps=50, content_lr=6e-3, ema_halflife=20)
    trainer(50).fit(model, batches())
    source, target = pairs().tensors
    error, plain = ((made - target).abs().mean() for made in (model.translate(source), model.baseline(source)))
    assert error < 0.7 * plain


# -- stages ------------------------------------------------------------------------------------------------------------


def test_the_first_stage_is_of_the_error_alone_and_the_second_begins_where_it_ended(trainer, tmp_path):
    moved, rates = [], []

    class Notes(SRGAN):
        def descend(self, loss, optimizer):
            moved.append(self.players[self.player_optimizers().index(optimizer)])
            rates.append(optimizer.param_groups[0]["lr"])
            super().descend(loss, optimizer)

    def run(steps, name, **options):
        model = make(Notes, content_steps=4, content_lr=1e-3, lr=3e-4, **options)
        saver = Checkpoint(1, str(tmp_path / name))
        trainer(steps, callbacks=[saver], enable_checkpointing=True).fit(model, batches())
        return model

    whole = run(6, "whole")
    assert moved == ["generator"] * 4 + ["discriminator", "generator"] * 2
    assert rates == pytest.approx([1e-3, 7.75e-4, 5.5e-4, 3.25e-4, *[3e-4] * 4])
    content = run(4, "content", adversarial_weight=9, objective="hinge", discriminator_width=2).state_dict()
    kept = torch.load(tmp_path / "whole" / "content.ckpt", weights_only=True)["state_dict"]
    parts = [name for name in kept if name.startswith("generator")]
    assert len(parts) > 10
    assert all(torch.equal(content[name], kept[name]) for name in parts)
    assert not torch.equal(whole.generator.last.weight, kept["generator.last.weight"])


def test_a_stage_can_be_gone_on_from(trainer, tmp_path):
    """From the end of the first as from the middle of the second: the run is the one that never stopped."""
    states = []
    for stops in ((), (4,), (3, 5)):
        folder = tmp_path / str(len(stops))
        for steps in (*stops, 6):
            model = make(content_steps=4)
            model.seed = 3
            data = DegradedDigitsDataModule("downscale 2", size=SIZE, batch_size=8)
            run = trainer(steps, callbacks=[Checkpoint(1, str(folder))], enable_checkpointing=True, limit_val_batches=0)
            last = folder / ("content.ckpt" if stops == (4,) else "last.ckpt")
            run.fit(model, data, ckpt_path=str(last) if last.exists() else None, weights_only=True)
        states.append(model.state_dict())
    for other in states[1:]:
        assert all(torch.equal(value, other[name]) for name, value in states[0].items())


def test_a_content_checkpoint_is_not_written_without_a_first_stage_or_checkpoints(trainer, tmp_path):
    trainer(2, callbacks=[Checkpoint(1, str(tmp_path))], enable_checkpointing=True).fit(make(), batches())
    trainer(2).fit(make(content_steps=1), batches())
    assert [path.name for path in tmp_path.rglob("*.ckpt")] == ["last.ckpt"]


@pytest.mark.parametrize("objective", ["nonsaturating", "relativistic_average"])
def test_accumulation_is_the_whole_batch_in_the_second_stage(trainer, objective):
    states = []
    for accumulate in (1, 4):
        model = make(accumulate=accumulate, objective=objective, spectral_norm=False)
        trainer(1, precision="64-true").fit(model, batches(8))
        states.append(model.state_dict())
    same = [torch.allclose(value, states[1][name], atol=1e-9) for name, value in states[0].items()]
    assert all(same) == (objective == "nonsaturating")  # averages are of a piece, as BatchNorm's would be


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_critic_rests_where_it_is_not_asked(trainer, weight):
    model = make(adversarial_weight=weight, pixel_weight=1.0)
    fresh = [p.clone() for p in model.discriminator.parameters()]
    trainer(2).fit(model, batches())
    assert all(map(torch.equal, fresh, model.discriminator.parameters())) == (weight == 0)


@pytest.mark.parametrize("options", [{"scale": 4}, {"scale": 1}, {"channels": 3, "scales": 2}, {"channels": 4},
                                     {"feature_weight": 1.0}, {"feature_weight": 1.0, "features": "discriminator"},
                                     {"objective": "relativistic_average"}, {"base": "bilinear"},
                                     {"base": "none", "enlarge": "nearest", "unit": True, "network": "rrdb"},
                                     {"network": "compact", "unit": True},
                                     {"scale": 1, "shrink": 2}, {"critic": "unet"},
                                     {"critic": "unet", "scales": 2, "feature_weight": 1.0,
                                      "features": "discriminator"}])  # fmt: skip
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_options_train(trainer, options, precision):
    model, scale = make(**options), options.get("scale", 2)
    loader = batches(8, 4, scale=scale, channels=options.get("channels", 1))
    trainer(2, precision=precision).fit(model, loader, loader)
    source, target = loader.dataset.tensors
    made = model.translate(source)
    assert made.shape == target.shape
    assert made.abs().max() <= 1
    assert all(p.isfinite().all() for p in model.parameters())
    assert model.translate(source[:1, :, :3]).shape[-2:] == (3 * scale, SIZE)


def test_in_vgg19_the_distance_is_esrgans_and_elsewhere_relative(trainer):
    model = make(channels=3, feature_weight=1.0)
    network = VGG(width=4)
    model.networks._read = (network, model.networks.on(model.device)[1])
    source, target = (part.expand(-1, 3, -1, -1) for part in pairs(4, scale=1).tensors)
    maps, goal = network(source), network(target)
    relative = sum(
        (f - t).abs().flatten(1).mean(1) / t.abs().flatten(1).mean(1) for f, t in zip(maps, goal, strict=True)
    )
    assert float(model.feature_error(source, target)) == pytest.approx(float(relative.mean()) / len(maps), rel=1e-5)
    network.name = "vgg19"
    assert float(model.feature_error(source, target)) == pytest.approx(
        float((maps[-1] - goal[-1]).abs().mean()), rel=1e-5
    )
    weighted = make(channels=3, feature_weight=1.0, layer_weights=(0.1, 0, 0, 2, 0))
    weighted.networks = model.networks
    first, fourth = ((maps[layer] - goal[layer]).abs().mean() for layer in (0, 3))
    assert float(weighted.feature_error(source, target)) == pytest.approx(float(0.1 * first + 2 * fourth), rel=1e-5)
    small = make(size=8, channels=3, feature_weight=1.0)
    small.networks = model.networks
    with pytest.raises(ValueError, match="size is 8x8; features vgg19 need at least 16 pixels a side"):
        trainer(1).fit(small, batches(8, channels=3))
    assert SRGAN(32).hparams["pixel_weight"] == 0.005  # 0.01 of images in [0, 1]


def test_weights_of_vgg19_that_are_not_there_are_one_sentence(refused, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(tmp_path / "0.png")
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(tmp_path / "1.png")
    says = refused(f"fit srgan-folder --data.root {tmp_path} --model.features vgg19 --data.num_workers 0")
    assert "vgg19-dcbb9e9d.pth is not in" in says
    assert "put VGG19's weights there, https://download.pytorch.org/models/vgg19-dcbb9e9d.pth" in says


@pytest.mark.parametrize("stage", [0, 9])
def test_a_third_image_is_what_the_generator_should_make_and_the_critic_never_sees_it(trainer, stage):
    """Sharpened targets, as Real-ESRGAN has them."""
    source, target = pairs(8).tensors
    other = -target
    seen, goals = [], []

    class Notes(SRGAN):
        def critic(self, images, *labels):
            seen.append(images.detach())
            return super().critic(images, *labels)

        def error(self, made, target):
            goals.append(target)
            return super().error(made, target)

        def feature_error(self, made, target, *given):
            goals.append(target)
            return super().feature_error(made, target, *given)

    model = make(Notes, content_steps=stage, feature_weight=1.0, channels=1)
    trainer(1).fit(model, DataLoader(TensorDataset(source, target, other), batch_size=8))
    assert len(goals) == (1 if stage else 2)
    assert all(torch.equal(goal, other) for goal in goals)
    assert stage or any(torch.equal(images, target) for images in seen)
    assert not any(torch.equal(images, other) for images in seen)


# -- held out ----------------------------------------------------------------------------------------------------------


def test_the_baseline_stands_beside_the_scores(trainer):
    model = make(channels=3, features="mnist")
    model.generator_ema.last.bias.data.fill_(0.1)
    [found] = trainer(1).test(model, batches(size=5, channels=3), verbose=False)
    source, target = pairs(channels=3).tensors
    maps, judge = model.networks.on(model.device)
    target = to_uint8(target)
    for of, images in (("", enlarged(source, 2) + 0.1), ("baseline/", enlarged(source, 2))):
        pixels = to_uint8(images.clamp(-1, 1))
        expected = {name: float(value.mean()) for name, value in fidelity(to_float(pixels), to_float(target)).items()}
        expected["feature_distance/mnist"] = float(
            feature_distance(maps(to_float(pixels)), maps(to_float(target))).mean()
        )
        expected["fid/mnist"] = float(fid(judge(target)[0], judge(pixels)[0]))
        expected["colourfulness"] = float(colourfulness(to_float(pixels)).mean())
        for name, value in expected.items():
            assert found[f"test/{of}{name}"] == pytest.approx(value, rel=1e-3), name
    assert found["test/colourfulness/data"] == pytest.approx(float(colourfulness(to_float(target)).mean()), rel=1e-4)
    assert found["test/psnr"] < found["test/baseline/psnr"]


def test_colours_are_compared_with_grey(trainer):
    torch.manual_seed(0)
    model = Pix2Pix(SIZE, 3, width=4, space="lab")
    [found] = trainer(1).test(model, batches(8, scale=1, channels=3), verbose=False)
    assert found["test/baseline/colourfulness"] < 1 < found["test/colourfulness/data"]
    [plain] = trainer(1).test(Pix2Pix(SIZE, 3, width=4), batches(8, scale=1, channels=3), verbose=False)
    assert not any("baseline" in name for name in plain)


def test_a_generator_that_adds_to_nothing_is_compared_with_bicubic():
    given = pairs().tensors[0]
    assert torch.equal(make(base="none").baseline(given), enlarged(given, 2, "bicubic"))


def test_triptychs_show_small_sources_enlarged(trainer, tmp_path):
    data = DegradedDigitsDataModule("downscale 2", size=SIZE, batch_size=8)
    trainer(1, callbacks=[ImageGrid(1, samples=4)], default_root_dir=tmp_path).fit(make(), data)
    with Image.open(tmp_path / "samples" / "translations_0000001.png") as picture:
        assert picture.size == (9 * (SIZE + 2) + 2, 2 * (SIZE + 2) + 2)


# -- whole pictures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_whole_pictures_are_enlarged_in_tiles_as_at_once(gans, saved, tmp_path, scale):
    model = make(channels=3, scale=scale, size=32)
    model.generator_ema.last.weight.data.normal_(0, 0.05)
    path = saved(model, tmp_path)
    smooth = interpolate(torch.rand(1, 3, 8, 12), (50, 70), mode="bicubic").clamp(0, 1) * 2 - 1
    (tmp_path / "in").mkdir()
    Image.fromarray(to_uint8(smooth)[0].permute(1, 2, 0).numpy()).save(tmp_path / "in" / "a.png")
    results, tile = [], f"--tile {32 * scale}"
    for folder, flags in (("whole", ""), ("cut", f"{tile} --overlap 0"), ("tiles", f"{tile} --overlap {20 * scale}")):
        code, _, err = gans(f"predict {path} --input in --output {folder} {flags}")
        assert code == 0, err
        results.append(np.array(Image.open(tmp_path / folder / "a.png")).astype(int))
    assert results[0].shape == (50 * scale, 70 * scale, 3)
    cut, blended = (abs(other - results[0]).mean() for other in results[1:])
    assert blended < cut / 2
    assert blended < 0.6  # of 255


def test_tiles_are_as_large_as_what_is_made_of_them(gans, saved, tmp_path, monkeypatch):
    path, seen, original = saved(make(channels=3, scale=4, size=32), tmp_path), [], SRGAN.translate
    monkeypatch.setattr(SRGAN, "translate", lambda self, image: seen.append(image.shape) or original(self, image))
    Image.new("RGB", (100, 2)).save(tmp_path / "a.png")
    for flags in ("", "--tile 128 --overlap 16", "--tile 4 --overlap 3"):
        seen.clear()
        assert gans(f"predict {path} --input a.png --output out {flags}")[0] == 0
        assert max(max(shape[-2:]) for shape in seen) == {"": 100, "--tile 128 --overlap 16": 32}.get(flags, 1)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": 18, "scale": 4}, "size is 18x18; expected multiples of 4, the scale"),
        ({"scale": 5}, "scale is 5; expected one of 1, 2, 3, 4, 8"),
        (
            {"network": "compact", "shrink": 2},
            "enlarge is shuffle and shrink 2; expected shuffle and 1 for network comp",
        ),
        ({"network": "vit"}, "network is vit; expected residual, rrdb or compact"),
        ({"content_steps": -1}, "content_steps is -1"),
        ({"content_lr": 0}, "content_lr is 0 and final_lr 0.1; expected a rate above 0"),
        ({"final_lr": 2}, "final_lr 2; expected .* a share from 0 to 1"),
        ({"pixel_weight": -1}, "pixel_weight is -1"),
        ({"critic": "vgg"}, "critic is vgg; expected patch or unet"),
        ({"layer_weights": (0, 0, 0, 0, 0)}, "expected 5 weights, for conv1_2, conv2_2, conv3_4, conv4_4, conv5_4"),
        ({"layer_weights": (1, 1)}, "layer_weights is .* expected 5 weights"),
        ({"size": 4}, "size is 4x4; a patch discriminator needs at least 6"),
    ],
)
def test_wrong_options(options, says):
    with pytest.raises(ValueError, match=says):
        make(**options)


def test_a_scale_that_does_not_fit_is_one_sentence(refused, gans, tmp_path):
    (tmp_path / "photos").mkdir()
    for name in range(4):
        Image.new("RGB", (36, 36)).save(tmp_path / "photos" / f"{name}.png")
    line = "fit srgan-folder --data.root photos --data.num_workers 0 --trainer.max_steps 1 --trainer.accelerator cpu"
    assert refused(f"{line} --data.size 30").startswith("data.size is 30x30; expected multiples of 4, the scale")
    assert refused(f"{line} --data.size 36 --model.scale 8").startswith("data.size is 36x36; expected multiples of 8")
    assert "scale" in refused(f"{line} --model.scale 5")
    says = "degrade makes images 4 times smaller, but SRGAN makes them 2 times larger: set the same scale for both"
    assert refused(f"{line} --model.scale 2") == says


def test_learning_to_degrade(tmp_path):
    for name in range(3):
        Image.new("RGB", (8, 8), (200, 10, 10)).save(tmp_path / f"{name}.png")
    options = {"size": 8, "batch_size": 1, "num_workers": 0, "val_fraction": 0.4}
    data = DegradedFolderDataModule(tmp_path, "grey", reverse=True, **options)
    data.setup()
    for loader in (data.train_dataloader(), data.val_dataloader()):
        source, target = next(iter(loader))
        assert source[0, :, 0, 0].tolist() == [200, 10, 10]
        assert target[0, :, 0, 0].unique().tolist() == [67]
    for chain in ("mask brush", "downscale 2"):
        with pytest.raises(ValueError, match=f"degrade is {chain}; expected, for reverse, no mask and images of"):
            DegradedFolderDataModule(tmp_path, chain, reverse=True, **options)
