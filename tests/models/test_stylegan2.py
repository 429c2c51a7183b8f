"""StyleGAN2 as a model: styles, noise and the mean of w in training, truncation in samples, and its presets."""

import math

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from gans.models import StyleGAN2
from gans.models.stylegan2 import planned
from gans.terms import R1, PathLength


def make(**options):
    torch.manual_seed(0)
    small = {"size": 16, "channels": 1, "preset": "small", "latent_dim": 4, "width": 2, "minibatch_std": 2}
    small["path_length"] = 2.0
    model = StyleGAN2(**{**small, **options})
    model.seed = 3
    return model


def awake(model):
    """`model` with noise and layers that count, and a mean of w, as after a training."""
    with torch.no_grad():
        for network in (model.generator, model.generator_ema):
            for name, parameter in network.named_parameters():
                if name.endswith(("strength", "bias")):
                    parameter.fill_(0.3)
            network.mean_w.normal_()
    return model.eval()


def loader(n=32, labels=1):
    images = torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return DataLoader(TensorDataset(images, torch.arange(n) % labels), batch_size=8)


def drawing(model, rows=8):
    """`model` in the middle of its first step, on a batch of so many rows."""
    model._draws.begin(3, "train", 1)
    model._draws.rows, model._draws.piece = rows, rows
    return model.train()


# -- training ----------------------------------------------------------------------------------------------------------


def test_style_mixing_takes_layers_of_two_latents():
    model = drawing(make(style_mixing=0.9), 2000)
    z = torch.randn(2000, 4)
    ws = model.styles(z)
    own = model.generator.mapping(z)
    assert torch.equal(ws[:, 0], own)  # whatever is mixed begins above
    same = (ws == own.unsqueeze(1)).all(2)
    assert torch.equal(same, same.cummin(1).values)  # one latent up to a layer, and the other from there on
    begins = same.sum(1)
    assert (begins < model.num_ws).double().mean() == pytest.approx(0.9, abs=0.02)
    for layer in range(1, model.num_ws):
        assert (begins == layer).double().mean() == pytest.approx(0.9 / (model.num_ws - 1), abs=0.03)
    others = ws[torch.arange(2000), -1][begins < model.num_ws]
    assert len(others.unique(dim=0)) == len(others)
    assert torch.equal(ws[begins < 2, 1], ws[begins < 2, -1])


def test_without_style_mixing_all_layers_have_one_w_and_nothing_else_is_drawn():
    model = drawing(make(style_mixing=0.0))
    z = torch.randn(8, 4)
    ws = model.styles(z)
    assert torch.equal(ws, model.generator.broadcast(model.generator.mapping(z)))
    assert model._draws.count == 0
    drawing(model)
    noise = model.layer_noise(8)
    drawing(model)
    assert torch.equal(model.generate(z), model.generator.synthesis(ws, noise))


def test_noise_is_fresh_in_training_and_stored_otherwise():
    model = awake(make(style_mixing=0.0))
    z = torch.randn(8, 4)
    drawing(model)
    first, second = model.generate(z), model.generate(z)
    assert not torch.equal(first, second)
    drawing(model)
    assert torch.equal(model.generate(z), first)
    assert torch.equal(model(z), model(z))
    assert torch.equal(model(z), model.generator_ema.synthesis(model.generator_ema.broadcast(model.to_w(z))))


def test_without_noise_no_layer_learns_to_use_it(trainer):
    for noise in (True, False):
        model = make(noise=noise, terms=[PathLength(every=2)])
        trainer(2).fit(model, loader())
        strengths = [value for name, value in model.generator.state_dict().items() if name.endswith("strength")]
        assert all(bool(value) == noise for value in strengths)


def test_the_mean_of_w_moves_once_in_a_batch_however_it_is_cut():
    z = torch.randn(8, 4)
    found = []
    for pieces in (1, 4):
        model, rows = make(accumulate=pieces, path_length=0.0, style_mixing=0.0), []
        for piece in model.pieces(z) if pieces > 1 else [z]:
            model.styles(piece)
            rows.append(model.generator.mapping(piece))
        torch.testing.assert_close(model.generator.mean_w, 0.005 * torch.cat(rows).mean(0))
        found.append(model.generator.mean_w)
    torch.testing.assert_close(*found)


def test_the_mean_of_w_is_that_of_the_averaged_generator(trainer):
    model = make(terms=[PathLength(every=2)])
    noise = model.generator.synthesis.noise.clone()
    trainer(3).fit(model, loader())
    assert model.mean_w.abs().max() > 0
    assert torch.equal(model.mean_w, model.generator.mean_w)
    assert torch.equal(model.generator_ema.synthesis.noise, noise)


def test_processes_average_the_mean_of_w_and_no_constant():
    model = make()
    [statistics] = model._running_statistics()
    assert statistics is model.generator.mean_w


def test_paths_lead_from_w_of_every_layer_and_their_length_moves_the_mapping_network(trainer):
    model = drawing(make(path_length=2.0))
    z = torch.randn(8, 4)
    points, images = model.path(z, every=2)
    assert points.shape == (4, model.num_ws, model.w_dim)
    assert images.shape == (4, 1, 16, 16)
    drawing(model)
    assert torch.equal(points, model.styles(z)[::2])  # every other row, with the numbers of its own

    moved = []

    class Spy(StyleGAN2):
        def descend(self, loss, optimizer, extra=False):
            before = [p.detach().clone() for p in self.generator.mapping.parameters()]
            super().descend(loss, optimizer, extra=extra)
            if extra:
                pairs = zip(before, self.generator.mapping.parameters(), strict=True)
                moved.append(all(not torch.equal(*pair) for pair in pairs))

    model = make(path_length=2.0)
    model.__class__ = Spy
    trainer(4).fit(model, loader())
    assert moved == [True]  # in the fourth step


# -- samples -----------------------------------------------------------------------------------------------------------


def test_truncation_moves_w_towards_its_mean():
    model = awake(make())
    z = torch.randn(5, 4)
    w = model.to_w(z)
    for psi in (1.0, 0.7, 0.0, -0.5):
        expected = model.mean_w + psi * (w - model.mean_w)
        moved = model.truncated(w, psi)
        torch.testing.assert_close(moved, expected.unsqueeze(1).expand(-1, model.num_ws, -1))
        part = model.truncated(w, psi, cutoff=2)
        assert torch.equal(part[:, :2], moved[:, :2])
        assert torch.equal(part[:, 2:], model.generator.broadcast(w)[:, 2:])
        torch.testing.assert_close(model.truncated(moved, 0.5), model.truncated(w, 0.5 * psi))
    whole = model.sample(5, seed=1)
    torch.testing.assert_close(model.sample(5, truncation=1.0, seed=1), whole, rtol=0, atol=1e-5)
    mean = model.from_w(model.mean_w.unsqueeze(0))
    torch.testing.assert_close(model.sample(5, truncation=0.0, seed=1), mean.expand(5, -1, -1, -1))
    near, far = (model.sample(5, truncation=psi, seed=1) - mean for psi in (0.1, 0.9))
    assert near.norm() < far.norm()
    assert not torch.equal(model.sample(5, truncation=0.5, cutoff=2, seed=1), model.sample(5, truncation=0.5, seed=1))


def test_images_come_of_one_w_or_of_one_for_each_layer():
    model = awake(make(num_classes=3))
    w = model.to_w(torch.randn(2, 4), torch.tensor([0, 2]))
    assert w.shape == (2, model.w_dim)
    torch.testing.assert_close(model.from_w(w), model.from_w(w.unsqueeze(1).repeat(1, model.num_ws, 1)))
    for wrong in (torch.zeros(2, model.w_dim + 1), torch.zeros(2, 1, model.w_dim), torch.zeros(model.w_dim)):
        with pytest.raises(ValueError, match=r"w has the shape .*; expected \(N, 64\) or \(N, 6, 64\)"):
            model.from_w(wrong)


def test_sheets_show_truncation_and_style_mixing():
    model = awake(make(num_classes=3))
    sheets = model.pictures(())
    assert {name: (images.shape, columns) for name, (images, columns) in sheets.items()} == {
        "truncation": ((36, 1, 16, 16), 6),
        "mixing": ((36, 1, 16, 16), 6),
    }
    truncation, mixing = (images.view(6, 6, 16, 16) for images, _ in sheets.values())
    mean = model.from_w(model.mean_w.unsqueeze(0))[0, 0]
    torch.testing.assert_close(truncation[:, -1], mean.expand(6, -1, -1))
    torch.testing.assert_close(mixing[0, 0], mean)
    assert not torch.equal(truncation[0, 0], truncation[1, 0])
    assert not torch.equal(mixing[1, 1], mixing[1, 2])
    assert not torch.equal(mixing[1, 1], mixing[2, 1])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"truncation": math.nan}, "truncation is nan; expected a finite number, 1 for none"),
        ({"truncation": 0.5, "cutoff": 0}, "cutoff is 0; expected 1 to 6, the layers of the generator"),
        ({"truncation": 0.5, "cutoff": 7}, "cutoff is 7; expected 1 to 6"),
        ({"cutoff": 3}, "cutoff is 3; expected None without truncation"),
        ({"labels": 1}, "StyleGAN2 is not conditional"),
    ],
)
def test_bad_samples_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        make().sample(2, **options)


# -- presets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        # The authors' table of configurations; `auto` with one GPU.
        ("auto", 256, {"base_width": 16384, "lr": 2.5e-3, "ema_halflife": 5_000, "mapping_layers": 2}),
        ("auto", 128, {"base_width": 16384, "lr": 2.5e-3, "ema_halflife": 10_000, "minibatch_std": 4}),
        ("auto", (512, 256), {"base_width": 32768, "lr": 2.5e-3, "ema_halflife": 2_500}),
        ("auto", 1024, {"base_width": 32768, "lr": 2e-3, "ema_halflife": 1_250, "r1": "heuristic"}),
        ("paper256", 256, {"base_width": 16384, "lr": 2.5e-3, "ema_halflife": 20_000, "mapping_layers": 8, "r1": 1}),
        ("paper256", 256, {"minibatch_std": 8, "ema_rampup": 0, "path_length": 2, "style_mixing": 0.9}),
        ("cifar", 32, {"base_width": 32768, "lr": 2.5e-3, "ema_halflife": 500_000, "mapping_layers": 2, "r1": 0.01}),
        ("cifar", 32, {"minibatch_std": 32, "ema_rampup": 0.05, "path_length": 0, "style_mixing": 0}),
    ],
)
def test_presets_are_the_authors(name, size, expected):
    plan = vars(planned(name, size))
    assert {key: plan[key] for key in expected} == expected
    assert (plan["latent_dim"], plan["w_dim"], plan["max_width"]) == (512, 512, 512)
    assert plan["architecture"] == ("orig" if name == "cifar" else "resnet")


def test_arguments_replace_the_presets_numbers():
    model = make(width=3, r1=0.0, lr=1e-3, path_length=0.0, ema_halflife=77, minibatch_std=0, num_classes=2)
    assert (model.lr, model.betas, model.ema_halflife, len(model.terms)) == (1e-3, (0.0, 0.99), 77, 0)
    assert model.discriminator.blocks[0].conv0.weight.shape[0] == 3
    assert model.discriminator.deviation is None
    made = make()
    assert [(type(term), term.every) for term in made.terms.values()] == [(PathLength, 4), (R1, 16)]
    assert (made.terms["r1"].weight, made.terms["pathlength"].weight) == (1.0, 2.0)
    generator, discriminator = (optimizer.param_groups[0] for optimizer in made.configure_optimizers())
    assert (generator["lr"], discriminator["lr"]) == pytest.approx((0.8 * 2.5e-3, 16 / 17 * 2.5e-3))
    assert (generator["betas"][1], discriminator["betas"][1]) == pytest.approx((0.99**0.8, 0.99 ** (16 / 17)))
    assert generator["eps"] == 1e-8


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"preset": "huge"}, "preset is huge; expected one of auto, cifar, paper256, small"),
        ({"size": 38}, "size is 38x38; StyleGAN2 needs multiples"),
        ({"size": (16, 9)}, "size is 16x9"),
        ({"style_mixing": 1.5}, "style_mixing is 1.5; expected a number from 0 to 1"),
        ({"path_length": -1.0}, "path_length is -1.0; expected at least 0"),
        ({"minibatch_std": 1}, "minibatch_std is 1; expected 0, for none, or at least 2"),
        ({"num_classes": -1}, "num_classes is -1; expected at least 0"),
        ({"width": 0}, "width is 0; expected at least 1"),
        ({"accumulate": 2}, "accumulate is 2; expected 1 with PathLength"),
        ({"channels": 2}, "channels is 2"),
    ],
)
def test_bad_arguments_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        make(**options)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_it_trains_on_any_channels_and_on_rectangles(trainer, channels):
    torch.manual_seed(0)
    model = make(size=(24, 40), channels=channels, num_classes=2, augment="ada", augment_options={"probability": 0.5})
    images = torch.rand(8, channels, 24, 40) * 2 - 1
    trainer(1).fit(model, DataLoader(TensorDataset(images, torch.arange(8) % 2), batch_size=8))
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert model.sample(3, labels=[0, 1, 1], seed=0).shape == (3, channels, 24, 40)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_penalties_of_every_step_are_finite(trainer, precision):
    model = make(lazy=1, terms=[PathLength(every=1)], path_length=0.0)
    trainer(3, precision=precision).fit(model, loader())
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert model.terms["pathlength"].length > 0
