"""ContraGAN and ReACGAN: both networks, the classes that they reach, and the loss of each player."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from gans.models import ContraGAN, ReACGAN
from gans.networks import biggan, resnet
from gans.networks.conditional import Embedded


def make(kind, **options):
    torch.manual_seed(0)
    small = {"size": 16, "channels": 1, "latent_dim": 4, "width": 2, "num_classes": 3, "embedding_dim": 5}
    return kind(**{**small, "critic_steps": 1, **options})


def loader(classes):
    images = torch.rand(16, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return DataLoader(TensorDataset(images, torch.arange(16) % classes), batch_size=8)


@pytest.mark.parametrize(("network", "room"), [("resnet", resnet), ("biggan", biggan)])
def test_either_network_has_the_head(trainer, network, room):
    model = make(ReACGAN, network=network)
    assert type(model.generator) is room.Generator
    assert type(model.discriminator) is room.Discriminator
    trainer(1).fit(model, loader(3))
    output = model.discriminator(torch.zeros(2, 1, 16, 16), torch.tensor([0, 2]))
    assert type(output) is Embedded
    assert [tuple(part.shape) for part in output] == [(2,), (2, 5), (2, 5)]
    assert all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.parametrize("kind", [ContraGAN, ReACGAN])
def test_a_batch_of_one_class_stays_finite(trainer, kind):
    model = make(kind)
    before = model.discriminator.head.linear.parametrizations.weight.original.detach().clone()
    trainer(2).fit(model, loader(1))
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert not torch.equal(before, model.discriminator.head.linear.parametrizations.weight.original)


@pytest.mark.parametrize("kind", [ContraGAN, ReACGAN])
def test_the_class_reaches_both_players_by_the_loss_alone(trainer, kind):
    """The logits do not depend on the class: only the term tells the players of it, and each learns from its own."""
    states = {}
    for weight in (0.0, 1.0):
        model = make(kind, class_weight=weight)
        model.seed = 1
        trainer(1).fit(model, loader(3))
        states[weight] = model.state_dict()
    moved = {name for name, value in states[1.0].items() if not torch.equal(value, states[0.0][name])}
    assert "discriminator.head.embed.parametrizations.weight.original" in moved
    assert "discriminator.head.proxies.parametrizations.weight.original" in moved
    assert any(name.startswith("generator.blocks") for name in moved)


@pytest.mark.slow
def test_networks_of_the_recipes_have_the_published_numbers_of_parameters():
    model = ReACGAN(network="biggan", width=96, discriminator_width=48)
    counts = [sum(part.numel() for part in player.parameters()) for player in (model.generator, model.discriminator)]
    assert counts == [9_416_196, 2_517_186]
