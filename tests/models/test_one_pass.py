"""One forward pass of the discriminator on real and fake images: when it is made, and that it changes no number."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gans import penalties
from gans.models import ACGAN, DCGAN, GAN, R3GAN, SAGAN, SNGAN, WGANGP, ContraGAN, ProjectionGAN
from gans.networks.layers import mixes_samples
from gans.networks.minibatch import MinibatchStd
from gans.terms import BCR, R1, R2, ZCR, LeCam, OneCentered, Term

SIZE = 16


def make(kind, **options):
    torch.manual_seed(0)
    plain = {"batch_norm": False} if issubclass(kind, DCGAN) else {}
    classes = {"num_classes": 3} if kind in (ACGAN, ContraGAN, ProjectionGAN, R3GAN) else {}
    small = {"preset": "small", "width": 8} if kind is R3GAN else {"width": 4}
    model = kind(**{"size": SIZE, "channels": 1, "latent_dim": 4, **plain, **classes, **small, **options})
    model.seed = 3
    return model


def loader():
    images = torch.rand(16, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return DataLoader(TensorDataset(images, torch.arange(16) % 3), batch_size=8)


def spied(model):
    """The rows of each forward pass of the discriminator, as they come."""
    rows = []
    model.discriminator.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    return rows


CHANGES = {"augment": "ada", "augment_options": {"probability": 0.8}, "instance_noise": 0.1}
GAMES = [
    (DCGAN, {}),
    (DCGAN, {"terms": [R1(1.0), R2(2.0)], **CHANGES}),
    (DCGAN, {"terms": [R1(1.0)], "augment": "diffaugment"}),
    (DCGAN, {"terms": [R1(1.0, every=2), LeCam(0.1, 0), BCR(), ZCR()], "objective": "relativistic"}),
    (DCGAN, {"objective": "relativistic_average", "accumulate": 2}),
    (SNGAN, {"critic_steps": 1, "augment": "diffaugment"}),
    (SAGAN, {"terms": [R1(1.0), R2(1.0)]}),
    (ProjectionGAN, {"critic_steps": 1, "accumulate": 2}),
    (ACGAN, {"critic_steps": 1}),
    (ContraGAN, {"critic_steps": 1, "embedding_dim": 4}),
    (WGANGP, {"critic_steps": 1}),
    (R3GAN, {}),
]


@pytest.mark.parametrize(("kind", "options"), GAMES)
def test_one_pass_has_the_numbers_of_two(trainer, kind, options):
    states = []
    for together in (True, False):
        model = make(kind, **options)
        assert model.one_pass
        model.one_pass = together
        players = model.generator, model.discriminator
        # Adam's steps would hide the length of a gradient.
        model.configure_optimizers = lambda players=players: [torch.optim.SGD(p.parameters(), 0.01) for p in players]
        rows = spied(model)
        trainer(2, precision="64-true").fit(model, loader())
        states.append((model.state_dict(), rows))
    (one, passes), (two, more) = states
    assert len(passes) <= len(more)
    for name, value in two.items():
        torch.testing.assert_close(one[name], value, rtol=0, atol=1e-9, msg=name)


@pytest.mark.parametrize(
    ("kind", "options", "first"),
    [
        (GAN, {}, [16]),
        (SNGAN, {"critic_steps": 1}, [16]),
        (DCGAN, {"terms": [R1(1.0), R2(1.0)]}, [16]),
        (DCGAN, {"batch_norm": True}, [8, 8]),
        (SNGAN, {"critic_steps": 1, "minibatch_std": 4}, [8, 8]),
        (DCGAN, {"terms": [R1(1.0)]}, [8, 8]),  # its gradient would run through the fake images too
        (DCGAN, {"terms": [R2(1.0)]}, [8, 8]),
        (DCGAN, {"terms": [R1(1.0, every=2)]}, [16]),  # which is not due in the step of the loss
    ],
)
def test_passes_stay_apart_where_one_is_not_the_same_or_dearer(trainer, kind, options, first):
    model = make(kind, **options)
    rows = spied(model)
    trainer(1).fit(model, loader())
    assert rows == [*first, 8]  # and the fake images of the generator's step


def test_a_discriminator_that_replaces_that_of_the_base_class_is_examined(trainer):
    model = make(DCGAN)
    model.discriminator = nn.Sequential(nn.Flatten(), nn.Linear(SIZE**2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    rows = spied(model)
    trainer(1).fit(model, loader())
    assert rows == [8, 8, 8]


def test_a_model_may_override_critic(trainer):
    sizes = []

    class Own(DCGAN):
        def critic(self, images, *conditions):
            sizes.append(len(images))
            return super().critic(images, *conditions)

    model = make(Own)
    trainer(1).fit(model, loader())
    assert sizes == [8, 8, 8]


def test_a_lazy_term_may_read_no_output(trainer):
    model = make(DCGAN, terms=[OneCentered(1.0, every=2)])
    rows = spied(model)
    trainer(2).fit(model, loader())
    assert rows == [16, 8, 16, 8, 8]  # the term has a pass of its own, in the second step


def test_layers_that_mix_samples_are_known():
    mixing = [nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.SyncBatchNorm(2), MinibatchStd()]
    for layer in mixing:
        assert mixes_samples(nn.Sequential(nn.Identity(), layer))
    assert not mixes_samples(
        nn.Sequential(nn.InstanceNorm2d(2), nn.GroupNorm(1, 2), nn.LayerNorm(2), nn.Conv2d(2, 2, 1))
    )


class ByHand(Term):
    """Differentiates the logits itself, as terms could from the beginning."""

    reads = differentiates = ("real", "fake")

    def forward(self, step):
        pairs = (step.real_logits, step.real), (step.fake_logits, step.fake)
        found = [torch.autograd.grad(logits.sum(), images, create_graph=True)[0] for logits, images in pairs]
        return sum(penalties.half_square(gradient) for gradient in found)


def test_a_term_may_differentiate_the_logits_itself(trainer):
    states = []
    for terms in ([R1(2.0), R2(2.0)], [ByHand(2.0)]):
        model = make(DCGAN, terms=terms)
        trainer(2, precision="64-true").fit(model, loader())
        states.append(model.discriminator.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=0, atol=1e-10)


def test_terms_share_one_gradient_of_both_sides(trainer, monkeypatch):
    asked, gradients = [], penalties.gradients

    def counting(logits, inputs):
        asked.append(len(inputs))
        return gradients(logits, inputs)

    monkeypatch.setattr(penalties, "gradients", counting)
    trainer(1).fit(make(DCGAN, terms=[R1(1.0), R1(2.0), R2(1.0)]), loader())
    assert asked == [2]


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("mixed", torch.bfloat16)])
@pytest.mark.parametrize("terms", [[R1(1.0), R2(1.0)], [R1(1.0)]])
def test_the_precision_of_the_differentiated_pass_is_a_choice(trainer, precision, dtype, terms):
    model, seen = make(DCGAN, terms=terms, penalty_precision=precision), []
    model.discriminator.register_forward_hook(
        lambda _, given, logits: seen.append((given[0].requires_grad, logits.dtype))
    )
    trainer(1, precision="bf16-mixed").fit(model, loader())
    assert [kind for differentiated, kind in seen[:-1] if differentiated] == [dtype]
    assert all(kind == torch.bfloat16 for differentiated, kind in seen if not differentiated)
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_an_unknown_precision_is_refused_and_so_is_float16():
    with pytest.raises(ValueError, match="penalty_precision is half; expected float32 or mixed"):
        make(DCGAN, penalty_precision="half")
    model = make(DCGAN, penalty_precision="mixed")
    model.trainer = type("Half", (), {"precision": "16-mixed"})()
    with pytest.raises(ValueError, match="penalty_precision is mixed; expected float32"):
        model.setup("fit")
