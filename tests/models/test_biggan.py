"""BigGAN's own options: networks, classes, the penalty on weights, Adam."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from gans.latent import draw, key, truncate
from gans.models import BigGAN
from gans.networks import biggan

torch.set_num_threads(1)

SMALL = {"size": 8, "channels": 1, "latent_dim": 6, "width": 1, "shared_dim": 2}


def small(**options):
    torch.manual_seed(0)
    return BigGAN(**{**SMALL, **options})


def test_defaults_are_the_papers_with_the_learning_rates_of_the_authors_code():
    model = small()
    assert isinstance(model.generator, biggan.Generator)
    assert not model.generator.deep
    generator, discriminator = (optimizer.param_groups[0] for optimizer in model.configure_optimizers())
    assert (generator["lr"], discriminator["lr"]) == (1e-4, 4e-4)
    assert generator["betas"] == discriminator["betas"] == (0.0, 0.999)
    assert generator["eps"] == discriminator["eps"] == 1e-6
    assert list(model.terms) == ["orthogonal"]
    assert not small(orthogonal=0).terms


@pytest.mark.parametrize("options", [{}, {"network": "deep"}, {"shared_dim": 0, "split_latents": False}])
def test_options_reach_both_networks(trainer, options):
    model = small(num_classes=3, discriminator_width=2, init="normal", **options)
    assert model.generator.deep == ("network" in options)
    assert model.discriminator.blocks[0].conv1.out_channels == (2 if "network" in options else 8)
    assert model.generator.table == ("split_latents" in options)
    trainer(2).fit(model, DataLoader(TensorDataset(torch.rand(8, 1, 8, 8) * 2 - 1, torch.arange(8) % 3), batch_size=4))
    samples = model.sample(2, labels=[0, 2], truncation=0.5, seed=0)
    assert samples.shape == (2, 1, 8, 8)
    assert samples.isfinite().all()


def test_attention_is_at_64_pixels_or_at_half_of_a_smaller_image():
    assert [biggan.attention_sides(size) for size in (32, 63, 64, 100, 128, 256)] == [
        (),
        (),
        (32,),
        (50,),
        (64,),
        (64,),
    ]
    assert biggan.attention_sides((256, 64)) == (32,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "wide"}, "network is 'wide'; expected biggan or deep"),
        ({"num_classes": -1}, "num_classes is -1; expected at least 0"),
        ({"orthogonal": -1.0}, "orthogonal is -1.0; expected at least 0"),
        ({"num_classes": 3, "shared_dim": 0}, "shared_dim is 0; expected more with classes"),
        ({"network": "deep", "split_latents": False}, "split is false; expected true with BigGAN-deep"),
        ({"latent_dim": 1}, "latent_dim is 1; expected at least 2"),
        ({"attention": (8,)}, "attention is 8; expected a side from"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_truncated_samples_take_the_statistics_of_truncated_latents(monkeypatch):
    monkeypatch.setattr("gans.models.biggan.STANDING", (2, 32))
    model = small(num_classes=3).eval()
    with torch.no_grad():
        for parameter in model.generator_ema.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    z = truncate(draw((6, 6), key(1)), 0.5)
    with torch.no_grad():
        running = model(z, torch.arange(6) % 3)
    truncated = model.sample(6, truncation=0.5, seed=1)
    assert (truncated - running).abs().mean() > 0.05
    norm, variances = model.generator_ema.blocks[0].norm1.norm, []
    for truncation in (0.5, 5.0):
        with model.standing(truncation):
            variances.append(norm.running_var)
    assert (variances[0] < variances[1]).all()  # features of truncated latents vary less
    with torch.no_grad(), model.standing(0.5):
        assert torch.equal(model(z, torch.arange(6) % 3), truncated)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])
    assert torch.equal(model.sample(6, seed=1), model(draw((6, 6), key(1)), torch.arange(6) % 3))


def test_standing_statistics_are_computed_once_for_a_truncation_and_again_for_other_weights(monkeypatch):
    model, calls = small().eval(), []
    monkeypatch.setattr("gans.models.biggan.STANDING", (2, 4))
    forward = model.generator_ema.forward
    model.generator_ema.forward = lambda *given: calls.append(len(given[0])) or forward(*given)
    first = model.sample(3, truncation=0.5, seed=1)
    assert calls == [4, 4, 3]
    assert torch.equal(model.sample(3, truncation=0.5, seed=1), first)
    assert calls == [4, 4, 3, 3]
    model.sample(3, truncation=0.7, seed=1)
    assert calls == [4, 4, 3, 3, 4, 4, 3]
    with torch.no_grad():
        next(model.generator_ema.parameters()).mul_(2)
    model.sample(3, truncation=0.7, seed=1)
    assert calls[7:] == [4, 4, 3]


def test_a_truncation_must_be_positive_and_needs_a_normal_prior():
    with pytest.raises(ValueError, match="truncation is 0; expected a number above 0"):
        small().sample(2, truncation=0)
    with pytest.raises(ValueError, match="truncation needs a normal prior"):
        small(prior="uniform").sample(2, truncation=0.5)
