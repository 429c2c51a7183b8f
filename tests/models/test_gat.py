"""GAT: four levels with noise, rates by width, means of w by class, truncation, and refusals."""

import math

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from gans.__main__ import main
from gans.augment import CodeAugment
from gans.engine import ema
from gans.engine.checkpoint import Checkpoint
from gans.explore.spaces import space_of, spaces
from gans.models import GAT
from gans.networks import gat


def small(**options):
    torch.manual_seed(0)
    return GAT(**{"size": 8, "channels": 1, "preset": "tiny", "width": 16, "depth": 4, "latent_dim": 4, **options})


def rows(count=16):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 1, 8, 8, generator=generator) * 2 - 1, torch.arange(count) % 3


def started(model, trainer, steps=1, count=16, batch=8, **options):
    run = trainer(steps, **options)
    model.seed = 1
    run.fit(model, DataLoader(TensorDataset(*rows(count)), batch_size=batch))
    return model


def test_rates_follow_the_width():
    assert small(lr=3e-4).lr == pytest.approx(3e-4 * 768 / 16)
    assert small(lr=3e-4, scale_lr=False).lr == 3e-4
    other = small(lr=3e-4, discriminator_width=32)
    assert other.discriminator_lr == pytest.approx(3e-4 * 768 / 32)
    assert other.hparams["lr"] == 3e-4  # what was given is kept, not multiplied twice


def test_halflife_is_the_decay_of_the_reference():
    assert ema.decay(512, 10**9, GAT(preset="tiny", size=8, depth=4).ema_halflife, 0.0) == pytest.approx(
        0.999, abs=2e-6
    )


def test_presets_have_the_networks_of_the_paper():
    with torch.device("meta"):
        model = GAT(preset="S/4", size=32, channels=4, num_classes=10)
    assert len(model.generator.blocks) == 12
    assert model.generator.width == 384
    assert model.generator.patch == model.discriminator.patch == 4
    assert model.lr == pytest.approx(4e-4)


@pytest.mark.parametrize("preset", ["tiny/2", "S", "B/3", "M/2"])
def test_unknown_presets_are_refused(preset):
    with pytest.raises(ValueError, match=f"preset is {preset}; expected tiny, or S, B, L or XL with a patch"):
        small(preset=preset)


def test_patch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="patch is 3"):
        small(patch=3)


def test_both_sides_have_four_levels_with_the_noise_of_the_schedule(trainer):
    model = started(small(augment=None), trainer)
    model._draws.begin(1, "train", 2)
    real = torch.full((4000, 1, 8, 8), 2.0)
    seen = model.as_seen(real)
    assert seen.shape == (4000, 4, 8, 8)
    for level, share in zip(seen.unbind(1), gat.noise_levels(), strict=True):
        assert level.mean().item() == pytest.approx(2 * (1 - share), abs=0.01)
        assert level.std().item() == pytest.approx(share, abs=0.01)
    assert model.as_seen(real[:5].expand(-1, 4, -1, -1)).shape == (5, 4, 8, 8)


def test_levels_are_augmented_by_the_same_numbers():
    levels = torch.randn(6, 1, 4, 8, 8).expand(-1, 4, -1, -1, -1)
    augment, uniform = CodeAugment(), torch.rand(6, 9)
    changed = augment.of_levels(levels, uniform)
    assert torch.equal(changed, changed[:, :1].expand_as(changed))
    assert torch.equal(changed[:, 0], augment(levels[:, 0], uniform))
    shares = [augment(levels[:, 0], uniform.clone().index_fill(1, torch.tensor([8]), u)) for u in (0.39, 0.41)]
    assert torch.equal(shares[0], shares[1].flip(-1))


def test_means_of_classes_follow_the_classes_of_a_batch(trainer):
    model = small(num_classes=5)
    seen = []
    moved = model.move_class_means

    def spied(means, w, labels, weight):
        seen.append((w.clone(), labels.clone()))
        moved(means, w, labels, weight)

    model.move_class_means = spied
    model.generator.mean_w.fill_(1.0)  # so that a class which moves without images is seen
    started(model, trainer, 2)
    assert len(seen) == 2  # of the generator's steps alone
    expected = torch.ones(5, 16)
    for w, labels in seen:
        for label in labels.unique():
            expected[label] = 0.995 * expected[label] + 0.005 * w[labels == label].mean(0)
    torch.testing.assert_close(model.generator.mean_w, expected)
    assert torch.equal(model.generator_ema.mean_w, model.generator.mean_w)
    assert torch.equal(model.generator.mean_w[3:], torch.ones(2, 16))


def test_means_of_classes_are_those_of_all_pieces(trainer):
    found = []
    for accumulate in (1, 4):
        model = small(num_classes=5, accumulate=accumulate).double()
        found.append(started(model, trainer, 2, precision="64-true").generator.mean_w)
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


def test_truncation_leads_to_the_mean_of_the_class():
    model = small(num_classes=3).eval()
    model.generator_ema.mean_w.normal_()
    labels = torch.tensor([2, 0])
    assert torch.allclose(
        model.sample(2, labels=labels, truncation=1.0, seed=0), model.sample(2, labels=labels, seed=0)
    )
    means = model.from_w(model.generator_ema.mean_w[labels])
    torch.testing.assert_close(model.sample(2, labels=labels, truncation=0.0, seed=0), means)
    with pytest.raises(ValueError, match="truncation is nan; expected a finite number"):
        model.sample(2, truncation=math.nan)
    z = torch.randn(2, 4)
    torch.testing.assert_close(model.from_w(model.to_w(z, labels)), model(z, labels))
    with pytest.raises(ValueError, match=r"w has the shape \(2, 4, 16\); expected \(N, 16\), one w for all layers"):
        model.from_w(torch.zeros(2, 4, 16))


def test_sheets_show_levels_and_truncation():
    model = small(num_classes=3).eval()
    sheets = model.pictures(())
    assert {name: (tuple(images.shape), columns) for name, (images, columns) in sheets.items()} == {
        "levels": ((32, 1, 8, 8), 4),
        "truncation": ((40, 1, 8, 8), 5),
    }


def test_one_w_for_all_layers_is_no_space_of_layers(trainer, tmp_path, capfd):
    saver = Checkpoint(1, str(tmp_path))
    model = started(small(), trainer, callbacks=[saver], enable_checkpointing=True)
    assert list(spaces(model)) == ["latent", "w"]
    with pytest.raises(ValueError, match=r"space is w\+.*; expected latent or w, as GAT has"):
        space_of(model, "w+")
    assert main(["explore", "mixing", str(tmp_path / "last.ckpt")]) == 2
    assert "holds a GAT, which has one w for all layers; expected a model with several w" in capfd.readouterr().err
    assert main(["explore", "truncation", str(tmp_path / "last.ckpt"), "--out", str(tmp_path / "sheet.png")]) == 0


def test_explored_samples_are_truncated_towards_the_mean_of_their_class():
    model = small(num_classes=3)
    model.generator_ema.mean_w.copy_(torch.randn_like(model.generator_ema.mean_w))
    z, labels = torch.randn(2, 4), torch.tensor([2, 2])
    expected = model.from_w(model.truncated(model.to_w(z, labels), 0.3, labels))
    for name in ("latent", "w"):
        space = space_of(model, name, label=2, truncation=0.3)
        torch.testing.assert_close(space(z if name == "latent" else space.from_latents(z)), expected)
