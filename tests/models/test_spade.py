"""SPADE: the palette of its data, the terms of its loss, and what it refuses."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from datamodules import PairedFolderDataModule
from gans.engine.checkpoint import Checkpoint, load_model
from gans.models import SPADE
from gans.models.spade import matched
from gans.pictures.tiles import tiled

COLOURS = np.asarray([(255, 80, 0), (0, 48, 255), (0, 0, 222)], np.uint8)


def maps(root, colours=COLOURS, count=8):
    root.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(count):
        label = colours[random.integers(0, len(colours), (4, 4))].repeat(4, 0).repeat(4, 1)
        Image.fromarray(np.concatenate([255 - label, label], 1)).save(root / f"{number}.png")
    return root


def data(root, **options):
    given = {"direction": "b_to_a", "labels": "auto", "size": 16, "batch_size": 4, "num_workers": 0, "val_size": 4}
    return PairedFolderDataModule(root, **given | options)


def model(**options):
    torch.manual_seed(0)
    return SPADE(**{"size": 16, "classes": 3, "width": 1, "hidden": 2, "discriminator_width": 2} | options)


def test_the_palette_of_the_data_goes_into_the_checkpoint(trainer, tmp_path):
    made = model()
    run = trainer(1, callbacks=[Checkpoint(1, str(tmp_path / "kept"))], enable_checkpointing=True)
    run.fit(made, data(maps(tmp_path / "maps")))
    again = load_model(tmp_path / "kept" / "last.ckpt")
    colours = (again.colours + 1) * 127.5
    assert torch.allclose(colours, torch.tensor(sorted(COLOURS.tolist())).float(), atol=1e-3)
    source = torch.from_numpy(COLOURS.T.copy())[None, :, :, None].expand(-1, -1, -1, 16) / 127.5 - 1
    assert again.generator_ema.one_hot(source).argmax(1)[0, :, 0].tolist() == [2, 1, 0]
    noisy = source + 0.1 * torch.randn_like(source)
    assert torch.equal(again.translate(noisy), again.translate(source))


def test_another_palette_does_not_resume(trainer, tmp_path):
    folder, kept = maps(tmp_path / "maps"), tmp_path / "kept"
    run = trainer(1, callbacks=[Checkpoint(1, str(kept))], enable_checkpointing=True)
    run.fit(model(), data(folder))
    again = trainer(2)
    again.fit(model(), data(folder), ckpt_path=kept / "last.ckpt")
    assert again.global_step == 2
    maps(folder, COLOURS[:, ::-1])
    with pytest.raises(ValueError, match="labels gives other colours than the checkpoint has"):
        trainer(3).fit(model(), data(folder), ckpt_path=kept / "last.ckpt")


@pytest.mark.parametrize(
    ("labels", "message"),
    [(None, "labels is null; expected 4, auto or a file"), ("auto", "classes is 4, but the label maps have 3 colours")],
)
def test_data_of_other_classes_are_refused(trainer, tmp_path, labels, message):
    with pytest.raises(ValueError, match=message):
        trainer(1).fit(model(classes=4), data(maps(tmp_path / "maps"), labels=labels))


def losses(trainer, **options):
    """The recorded losses of a step, and its model."""
    recorded, made = {}, model(**options)
    record = made.record
    made.record = lambda name, value: (recorded.update({name: value}), record(name, value))[1]
    images = [torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(i)) * 2 - 1 for i in range(2)]
    trainer(1, precision="64-true").fit(made, DataLoader(TensorDataset(*images), batch_size=4))
    return recorded, made


def test_a_term_without_weight_is_not_computed(trainer):
    recorded, _ = losses(trainer)
    assert {"loss/generator", "loss/discriminator", "loss/matching", "loss/features"} <= recorded.keys()
    recorded, _ = losses(trainer, matching_weight=0, feature_weight=0)
    assert not {"loss/matching", "loss/features"} & recorded.keys()


@pytest.mark.parametrize("weight", ["matching_weight", "feature_weight", "adversarial_weight"])
def test_every_weight_moves_the_generator(trainer, weight):
    _, first = losses(trainer)
    _, second = losses(trainer, **{weight: 3.0})
    assert not torch.equal(first.generator.last.weight, second.generator.last.weight)
    critics = [{**made.discriminator.state_dict()} for made in (first, second)]
    assert all(torch.equal(value, critics[1][key]) for key, value in critics[0].items())


def test_matching_is_a_sum_over_layers_of_mean_differences():
    ones, twos = torch.ones(2, 1, 4, 4), torch.full((2, 3, 2, 2), 2.0)
    assert float(matched((ones, twos), (3 * ones, 1.5 * twos))) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": "discriminator"}, "features is discriminator; expected vgg19"),
        ({"objective": "relativistic"}, "objective is relativistic; expected one that judges each image by itself"),
        ({"channels": 4}, "source_channels is 4; expected 1 or 3"),
        ({"matching_weight": -1}, "matching_weight is -1; expected at least 0"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        model(**options)


def test_tiles_show_what_the_whole_map_shows():
    made = model(size=64, width=2, norm="instance").eval()
    torch.manual_seed(1)
    for parameter in made.generator_ema.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    cells = torch.randint(0, 3, (1, 1, 20, 18)) - 1.0
    image = cells.repeat_interleave(8, 2).repeat_interleave(8, 3).expand(-1, 3, -1, -1)
    with torch.no_grad():
        whole = made.translate(image)
        parts = tiled(made.translate, (image,), 128, 96, made.device, made, made.generator.multiple)
    assert whole.std() > 0.05
    assert (whole - parts).abs().max() < 0.01 * whole.std()


def test_predict_takes_label_pictures_of_any_kind(gans, saved, tmp_path):
    made = model()
    made.take_colours(torch.from_numpy(COLOURS / 127.5 - 1))
    assert torch.equal(made.generator_ema.one_hot.colours, made.colours)
    path = saved(made, tmp_path)
    numbers = np.random.default_rng(0).integers(0, 3, (5, 6)).repeat(4, 0).repeat(4, 1)
    (tmp_path / "maps").mkdir()
    colours = Image.fromarray(COLOURS[numbers])
    colours.save(tmp_path / "maps" / "colours.png")
    palette = Image.fromarray(numbers.astype(np.uint8), "P")
    palette.putpalette(COLOURS.flatten().tolist())
    palette.save(tmp_path / "maps" / "palette.png")
    code, _, err = gans(f"predict {path} --input maps --output photos")
    assert code == 0, err
    first, second = (np.asarray(Image.open(tmp_path / "photos" / f"{name}.png")) for name in ("colours", "palette"))
    assert first.shape == (20, 24, 3)
    assert np.array_equal(first, second)
