"""A step of a translator makes its images once for both players, with the weights of a step that makes them twice."""

from functools import partial

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from gans.models import CUT, SPADE, SRGAN, CycleGAN, Inpainting, Pix2Pix, StyleTransfer

SIZE = 16
SMALL = {"size": SIZE, "channels": 1, "width": 4}
MAKERS = {
    "pix2pix": partial(Pix2Pix, **SMALL, dropout=0.0),
    "cyclegan": partial(CycleGAN, **SMALL, blocks=1),
    "cut": partial(CUT, **SMALL, blocks=1),
    "srgan": partial(SRGAN, **SMALL, scale=2, content_steps=0),
    "inpainting": partial(Inpainting, **SMALL, critic="patchgan"),
    "spade": partial(SPADE, **SMALL, classes=3, hidden=2, spectral_norm=False),
    "styletransfer": partial(StyleTransfer, **SMALL, depth=2),
}


def loader(name):
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.rand(8, 1, SIZE, SIZE, generator=generator) * 2 - 1 for _ in range(2))
    if name == "srgan":
        first = torch.nn.functional.avg_pool2d(second, 2)
    if name == "inpainting":
        second = torch.zeros_like(first)
        second[:, :, 4:10, 4:10] = 1
    return DataLoader(TensorDataset(first, second), batch_size=2)


def passes(model):
    """A list that grows with the passes through the generator in training: how many images, and with gradients."""
    found = []
    network = {"CycleGAN": lambda: model.generator.there, "Inpainting": lambda: model.generator.stages[-1]}
    network = network.get(type(model).__name__, lambda: model.generator)()
    network.register_forward_hook(lambda module, given, made: found.append((len(given[0]), torch.is_grad_enabled())))
    return found


def trained(trainer, name, twice=False, **options):
    torch.manual_seed(0)
    model = MAKERS[name](**options)
    if twice:
        model.once = lambda make, *batch: make
    found = passes(model)
    trainer(2, precision="64-true").fit(model, loader(name))
    return {key: value.clone() for key, value in model.state_dict().items()}, found


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("critic_steps", [1, 2])
def test_one_pass_serves_both_players(trainer, name, critic_steps):
    state, found = trained(trainer, name, critic_steps=critic_steps)
    expected, before = trained(trainer, name, twice=True, critic_steps=critic_steps)
    assert len(before) - len(found) == 2  # one for each update of the generator
    for key, value in expected.items():
        assert torch.equal(state[key], value), key


@pytest.mark.parametrize("name", MAKERS)
def test_pieces_are_made_for_each_player(trainer, name):
    state, found = trained(trainer, name, accumulate=2)
    expected, before = trained(trainer, name, twice=True, accumulate=2)
    assert found == before  # a pass with gradients holds a piece, never the whole batch
    assert max(rows for rows, gradients in found if gradients) == 1
    for key, value in expected.items():
        assert torch.equal(state[key], value), key
