"""Adaptive instance normalisation against its definition, and its decoder."""

import pytest
import torch
from torch import nn

from gans.networks.adain import Decoder, adain
from gans.reconstruction import moments


def maps(size, shift=0.0, scale=1.0, seed=0):
    return torch.randn(2, 5, *size, generator=torch.Generator().manual_seed(seed)) * scale + shift


def test_the_content_gets_the_statistics_of_the_style():
    content, style = maps((6, 7), 1.0, 3.0), maps((9, 4), -2.0, 0.5, seed=1)
    moved = adain(content, style)
    for ours, theirs in zip(moments(moved), moments(style), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)
    # Places keep their order: a map is shifted and stretched, channel by channel.
    for image in range(2):
        for channel in range(5):
            pair = torch.stack([content[image, channel].flatten(), moved[image, channel].flatten()])
            assert float(torch.corrcoef(pair)[0, 1]) == pytest.approx(1, abs=1e-4)


def test_strength_goes_from_the_content_to_the_style():
    content, style = maps((6, 6)), maps((6, 6), 4.0, 2.0, seed=1)
    assert torch.equal(adain(content, style, 0.0), content)
    half = adain(content, style, 0.5)
    assert torch.allclose(half, (content + adain(content, style)) / 2, atol=1e-5)
    assert torch.allclose(adain(content, content), content, atol=1e-4)


@pytest.mark.parametrize("halvings", [0, 2, 3])
def test_the_decoder_doubles_as_often_as_was_halved(halvings):
    torch.manual_seed(0)
    made = Decoder(7, halvings, 3, width=4)(torch.randn(2, 7, 2, 3))
    assert made.shape == (2, 3, 2 * 2**halvings, 3 * 2**halvings)
    assert made.abs().max() <= 1


def test_the_decoder_mirrors_vgg():
    network = Decoder(512, 3, 3, width=64)
    widths = [(layer.in_channels, layer.out_channels) for layer in network.layers if isinstance(layer, nn.Conv2d)]
    assert widths[0] == (512, 512)
    assert [pair for pair in widths if pair[0] != pair[1]] == [(512, 256), (256, 128), (128, 64), (64, 3)]
    assert sum(isinstance(layer, nn.Upsample) for layer in network.layers) == 3
    assert not any("Norm" in type(layer).__name__ for layer in network.layers)


def test_edges_are_reflected():
    """A constant map gives a constant image: zeros around it would darken its rim."""
    torch.manual_seed(0)
    made = Decoder(4, 1, 1, width=4)(torch.ones(1, 4, 4, 4))
    assert made.std() < 1e-6
    assert made.abs().max() > 1e-4
