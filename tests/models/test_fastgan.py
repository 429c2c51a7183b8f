"""FastGAN: what its critic sees and reconstructs, what moves, and what is refused."""

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from gans.callbacks.grid import ImageGrid
from gans.engine.checkpoint import load_model
from gans.models import DCGAN, FastGAN
from gans.reconstruction import feature_distance
from gans.terms import LeCam, Reconstruction, TopK

SIZE, SMALL = 32, 16


def make(**options):
    torch.manual_seed(0)
    return FastGAN(**{"size": SIZE, "channels": 1, "latent_dim": 4, "width": 4, **options})


def images(n=8, channels=1):
    """Smooth pictures."""
    coarse = torch.rand(n, channels, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bilinear")


def loader(n=8):
    return DataLoader(TensorDataset(images(n)), batch_size=8)


@torch.no_grad()
@pytest.mark.parametrize("features", [None, "random"])
def test_the_error_is_the_distance_to_the_augmented_image_and_its_quarter(features, monkeypatch):
    model, real = make(features=features, augment_options={"policy": "cutout"}).eval(), images(4)
    u = torch.tensor([0.0, 0.3, 0.6, 0.9])
    monkeypatch.setattr(model, "uniform", lambda n, *shape: u if not shape else u[:, None].expand(n, *shape))
    seen = model.as_seen(real)
    assert not torch.equal(seen, real)
    logits, decoded = model.discriminator(seen, quarter=torch.arange(4))
    found, errors = model.reconstruct(real)
    assert torch.equal(found, logits)
    half = SIZE // 2
    parts = torch.stack(
        [
            seen[i, :, y : y + half, x : x + half]
            for i, (y, x) in enumerate(((0, 0), (0, half), (half, 0), (half, half)))
        ]
    )
    goals = (seen[:, :, ::2, ::2], parts, seen[:, :, ::2, ::2])
    if features is None:
        expected = sum((decoded[:, i] - goal).abs().mean((1, 2, 3)) for i, goal in enumerate(goals))
    else:
        network = model.networks.on("cpu")[0]
        expected = sum(feature_distance(network(decoded[:, i]), network(goal)) for i, goal in enumerate(goals))
    torch.testing.assert_close(errors, expected)


def test_the_critic_gets_both_images_of_a_fake_and_one_of_a_real_one(trainer):
    model, calls = make(augment=None), []

    def note(_, given, options):
        kinds = {**dict(zip(("images", "small", "quarter"), given, strict=False)), **options}
        calls.append({name: tuple(value.shape) for name, value in kinds.items()})

    model.discriminator.register_forward_pre_hook(note, with_kwargs=True)
    trainer(1).fit(model, loader())
    whole = {"images": (8, 1, SIZE, SIZE)}
    fake = {**whole, "small": (8, 1, SMALL, SMALL)}
    assert calls == [{**whole, "quarter": (8,)}, fake, fake]


def test_everything_moves_and_curves_tell_of_the_error(trainer):
    model = make(terms=[LeCam(0.1, 0), TopK()])
    recorded, before = [], {name: p.detach().clone() for name, p in model.named_parameters()}
    record = model.record
    model.record = lambda name, value: (recorded.append(name), record(name, value))
    trainer(2).fit(model, loader(16))
    still = {name for name, p in model.named_parameters() if torch.equal(p, before[name])}
    assert not still
    assert {"loss/reconstruction", "loss/discriminator", "penalty/lecam", "penalty/topk"} <= set(recorded)


def test_the_decoders_learn(trainer):
    model, errors = make(size=16, augment=None, lr=1e-3), []
    model.record = lambda name, value: errors.append(float(value.detach())) if name == "loss/reconstruction" else None
    data = torch.nn.functional.avg_pool2d(images(), 2).repeat(8, 1, 1, 1)
    trainer(8).fit(model, DataLoader(TensorDataset(data), batch_size=8))
    assert errors[-1] < 0.5 * errors[0]


def test_the_decoders_stay_if_they_do_not_count(trainer):
    model = make(reconstruction_weight=0)
    before = {name: tensor.clone() for name, tensor in model.discriminator.decoders.state_dict().items()}
    trainer(1).fit(model, loader())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.discriminator.decoders.named_parameters())
    assert "reconstruction" not in model.terms


def test_samples_take_the_stored_noise_of_their_checkpoint(saved, tmp_path):
    model = make()
    for name, parameter in model.generator_ema.named_parameters():
        parameter.data += ("noise" in name) * 1.0
    drawn = model.eval().sample(3, seed=1)
    torch.manual_seed(7)
    again = load_model(saved(model, tmp_path))
    assert torch.equal(again.sample(3, seed=1), drawn)
    assert torch.equal(again.sample(2, seed=1), drawn[:2])
    z, noise = torch.randn(2, 4), torch.randn(2, model.generator.noise_dim)
    assert (again(z, noise) - again(z)).abs().max() > 1e-3


def test_training_draws_noise_for_each_image_anew(trainer):
    model, seen = make(augment=None), []
    model.generator.register_forward_pre_hook(lambda _, given: seen.extend(given[1]))
    trainer(2).fit(model, loader(16))
    assert len({tuple(row.tolist()) for row in seen}) == len(seen) == 2 * 2 * 8


def test_reconstructions_are_pictures(trainer, tmp_path):
    model = make()
    assert not make(reconstruction_weight=0).pictures((images(),))
    with torch.no_grad():
        shown, columns = model.eval().pictures((images(12),))["reconstructions"]
    assert (columns, shown.shape) == (8, (40, 1, SMALL, SMALL))
    assert torch.equal(shown[:8], images(8)[:, :, ::2, ::2])
    assert torch.equal(shown[24], images(1)[0, :, :SMALL, :SMALL])
    log = TensorBoardLogger(tmp_path, name="run")
    trainer(1, logger=log, callbacks=[ImageGrid(1, 4)]).fit(model, loader())
    assert list(tmp_path.rglob("reconstructions_0000001.png"))


def test_what_does_not_fit_is_refused(gans, tmp_path):
    with pytest.raises(ValueError, match="Reconstruction needs a discriminator with decoders"):
        DCGAN(size=SIZE, channels=1, width=4, terms=[Reconstruction()])
    with pytest.raises(ValueError, match=r"reconstruction_weight is -1; expected at least 0"):
        make(reconstruction_weight=-1)
    with pytest.raises(ValueError, match="r1 is 1; expected 0 beside BatchNorm in the discriminator"):
        make(r1=1)
    (tmp_path / "photos").mkdir()
    for i in range(10):
        Image.new("RGB", (60, 60), (20 * i, 0, 0)).save(tmp_path / "photos" / f"{i}.png")
    line = "fit fastgan-folder --data.root photos --data.num_workers 0 --trainer.accelerator cpu"
    for flags, message in {
        "--data.size 50": "size is 50x50; FastGAN needs at least 16 pixels a side and multiples of 8, such as 48x48",
        "--data.size 32 --model.width 4 --model.features lpips": "lpips",
    }.items():
        code, _, err = gans(f"{line} {flags}")
        assert (code, "Traceback" in err) == (2, False)
        assert message in err
    assert not (tmp_path / "runs").exists()
