"""Style transfer: statistics come nearer, contents stay, the encoder is nobody's part, and what is refused."""

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from gans.callbacks.grid import ImageGrid
from gans.engine.checkpoint import load_model
from gans.metrics.extractors import feature_network
from gans.models import StyleTransfer
from gans.models.styletransfer import LAYERS
from gans.pictures.images import to_float, to_uint8
from gans.reconstruction import content_distance, gram_distance, moments_distance

SIZE = 16


def make(**options):
    torch.manual_seed(0)
    return StyleTransfer(**{"size": SIZE, "channels": 3, "width": 4, "depth": 3, **options})


def both(n=24, size=(SIZE, SIZE)):
    """Smooth grey pictures, and fine stripes of two colours."""
    generator = torch.Generator().manual_seed(0)
    contents = torch.nn.functional.interpolate(torch.rand(n, 1, 4, 4, generator=generator) - 0.5, size, mode="bilinear")
    stripes = (torch.arange(size[1]) // 2 % 2 * 2 - 1).float().expand(n, 3, *size)
    colours = torch.rand(n, 3, 1, 1, generator=generator)
    return TensorDataset(contents.expand(-1, 3, -1, -1).contiguous(), (stripes * colours))


def test_styles_come_nearer_and_contents_stay(trainer):
    data, model = both(32), make(depth=2, lr=1e-2, adversarial_weight=0.01, ema_halflife=50)
    trainer(30).fit(model, DataLoader(data, batch_size=8))
    [found] = trainer(1).test(model, DataLoader(data, batch_size=8), verbose=False)
    assert found["test/style_distance/random"] < 0.5 * found["test/style_distance/random/unstyled"], found
    assert found["test/content_distance/random"] < found["test/content_distance/random/style"], found


def test_the_encoder_sees_no_rim_around_an_image():
    """Maps of one colour are one value up to their edge; zeros around them, as VGG19 has them, would be seen."""
    model, plain = make(), torch.full((1, 3, SIZE, SIZE), 0.5)
    assert all(float(maps.std((2, 3)).max()) < 1e-5 for maps in model.encode(plain))
    zeros = feature_network("random", LAYERS)(plain)
    assert float(zeros[-1].std((2, 3)).max()) > 0.01
    assert model.encoder().name == "random"


@pytest.mark.parametrize("statistics", ["moments", "gram"])
def test_held_out_scores_are_means_of_their_definitions(trainer, statistics):
    model, data = make(statistics=statistics), both(10)
    [found] = trainer(1).test(model, DataLoader(data, batch_size=4), verbose=False)
    content, style = (to_float(to_uint8(part)) for part in data.tensors)
    with torch.no_grad():
        made = to_float(to_uint8(model.translate(*data.tensors)))
        plain = model.restyled(content, style, 0.0)
        maps, given, wanted, decoded = (model.encode(images) for images in (made, content, style, plain))
    distance = {"moments": moments_distance, "gram": gram_distance}[statistics]
    expected = {
        "style_distance/random": distance(maps, wanted),
        "style_distance/random/unstyled": distance(given, wanted),
        "content_distance/random": content_distance(maps[-1], given[-1]),
        "content_distance/random/unstyled": content_distance(decoded[-1], given[-1]),
        "content_distance/random/style": content_distance(wanted[-1], given[-1]),
    }
    for name, value in expected.items():
        assert found[f"test/{name}"] == pytest.approx(float(value.mean()), rel=2e-2), name
    colours = {"test/colourfulness", "test/colourfulness/data"}
    assert set(found) == {f"test/{name}" for name in expected} | colours | {"test/fid/random", "step"}


def test_the_encoder_is_neither_trained_nor_saved(trainer, tmp_path):
    model = make()
    before = {name: value.clone() for name, value in model.encoder().state_dict().items()}
    run = trainer(2)
    run.fit(model, DataLoader(both(8), batch_size=4))
    assert all(torch.equal(value, before[name]) for name, value in model.encoder().state_dict().items())
    assert all(name.startswith(("generator", "discriminator")) for name in model.state_dict())
    run.save_checkpoint(tmp_path / "a.ckpt")
    again = load_model(tmp_path / "a.ckpt")
    content, style = both(2).tensors
    assert torch.equal(again.translate(content, style), model.eval().translate(content, style))
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    torch.save(checkpoint | {"encoder": "another"}, tmp_path / "b.ckpt")
    with pytest.raises(ValueError, match="features is random, but not the network that the model was trained on"):
        load_model(tmp_path / "b.ckpt")


def test_it_trains_after_a_validation(trainer):
    """Validation runs in inference mode, and moves the encoder to the model's precision."""
    parts = [part.double() for part in both(8).tensors]
    model, data = make(), DataLoader(TensorDataset(*parts), batch_size=4)
    fresh = [p.clone() for p in model.generator.parameters()]
    trainer(1, precision="64-true").validate(model, data, verbose=False)
    trainer(1, precision="64-true").fit(model, data)
    assert not any(torch.equal(p, old.double()) for p, old in zip(model.generator.parameters(), fresh, strict=True))


@pytest.mark.parametrize("options", [{"objective": "relativistic"}, {"statistics": "gram"}, {"features": "mnist"},
                                     {"scales": 2}, {"adversarial_weight": 0.0}, {"channels": 4}, {"channels": 1},
                                     {"depth": 1}, {"depth": 4}])  # fmt: skip
def test_options_train(trainer, options):
    model = make(**options)
    fresh = [p.clone() for p in model.discriminator.parameters()]
    channels = options.get("channels", 3)
    parts = [torch.cat([part, part[:, :1]], 1)[:, :channels] for part in both(8).tensors]
    trainer(2).fit(model, DataLoader(TensorDataset(*parts), batch_size=4))
    made = model.translate(*parts)
    assert made.shape == parts[0].shape
    assert made.isfinite().all()
    assert all(map(torch.equal, fresh, model.discriminator.parameters())) == (options.get("adversarial_weight") == 0)
    if channels == 4:
        assert torch.equal(made[:, 3], parts[0][:, 3])


def test_pictures_and_styles_of_any_size():
    model = make().eval()
    content, style = torch.rand(1, 3, 45, 30) * 2 - 1, torch.rand(1, 3, 21, 77) * 2 - 1
    assert model.translate(content, style).shape == content.shape
    assert model.translate(content[..., :3, :2], style[..., :1, :5]).shape == (1, 3, 3, 2)
    strengths = [model.restyled(content, style, strength) for strength in (0.0, 0.5, 1.0)]
    assert torch.equal(strengths[2], model.translate(content, style))
    assert not torch.equal(strengths[0], strengths[1])
    assert torch.equal(strengths[0], model.restyled(content, -style, 0.0))
    one, other, both = (model.restyled(content, [style, -style], weights=shares) for shares in ((1, 0), (0, 1), None))
    assert torch.equal(one, strengths[-1])
    assert not torch.equal(other, one)
    assert torch.equal(both, model.restyled(content, [style, -style], weights=(0.5, 0.5)))
    assert torch.allclose(model.restyled(content, [style, style]), one, atol=1e-5)


def test_triptychs_are_content_result_and_style(trainer, tmp_path):
    grid, data = ImageGrid(2), both(8)
    run = trainer(2, callbacks=[grid], logger=TensorBoardLogger(tmp_path, "run", 0))
    model = make()
    run.fit(model, DataLoader(data, batch_size=4))
    shown = model.pictures(grid.batch)["translations"][0]
    assert torch.equal(shown[0], grid.batch[0][0])
    assert torch.equal(shown[2], grid.batch[1][0])
    with Image.open(tmp_path / "run" / "version_0" / "samples" / "translations_0000002.png") as picture:
        assert picture.size == (9 * (SIZE + 2) + 2, 2 * (SIZE + 2) + 2)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"statistics": "mean"}, "statistics is mean; expected moments or gram"),
        ({"depth": 0}, "depth is 0; expected at least 1"),
        ({"depth": 4, "size": 12}, "size is 12x12; expected at least 16 pixels a side for depth 4"),
        ({"depth": 5, "size": 64}, "depth is 5; expected at most 4, the maps of random"),
        ({"depth": 4, "features": "mnist"}, "depth is 4; expected at most 3, the maps of mnist"),
        ({"features": "discriminator"}, "features is discriminator, which changes; expected vgg19, random"),
        ({"features": "inception"}, "features is inception, which has no maps to compare"),
        ({"style_weight": -1}, "style_weight is -1"),
    ],
)
def test_wrong_options(options, says):
    with pytest.raises(ValueError, match=says):
        make(**options)


def test_missing_weights_are_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"vgg19-dcbb9e9d\.pth is not in"):
        make(features="vgg19")


def test_batches_without_styles_are_refused(trainer):
    contents = both().tensors[0]
    with pytest.raises(ValueError, match="a batch is not a pair of images"):
        trainer(1).fit(make(), DataLoader(TensorDataset(contents, torch.zeros(len(contents))), batch_size=8))
