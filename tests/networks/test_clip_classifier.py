"""The classifier of clips: shapes, layers, what its features cannot depend on, and clips that it cannot take."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gans.networks.classifier import ClipClassifier


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(4, 8, 8), (5, 9, 11), (16, 32, 32), (33, 20, 45)])
def test_shapes(size, channels):
    network = ClipClassifier(channels, 4, 5, 3)
    for count in (1, 2):
        features, logits = network.eval()(torch.randn(count, channels, *size))
        assert features.shape == (count, 5)
        assert logits.shape == (count, 3)


def test_layers_are_those_of_the_docstring():
    network = ClipClassifier(3, 4, 5, 3)
    kinds = [layer for layer in network.layers if not isinstance(layer, nn.BatchNorm3d | nn.ReLU)]
    widths = [(k.in_channels, k.out_channels) if isinstance(k, nn.Conv3d) else "pool" for k in kinds]
    assert widths == [(3, 4), (4, 4), "pool", (4, 8), (8, 8), "pool", (8, 16)]
    assert kinds[0].stride == (1, 2, 2)
    assert (network.features.in_features, network.features.out_features) == (32, 5)
    assert (network.head.in_features, network.head.out_features) == (5, 3)


def test_outputs_are_those_of_the_equations():
    torch.manual_seed(0)
    network = ClipClassifier(1, 2, 5, 3).eval()
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 0.9)  # running statistics and scales that are not 0 and 1
    clips, state = torch.rand(3, 1, 8, 16, 16) * 2 - 1, network.state_dict()

    def stage(x, at):
        """A convolution over space and time as a sum of convolutions over space."""
        weight, padded = state[f"layers.{at}.weight"], F.pad(x, (0, 0, 0, 0, 1, 1))
        x = torch.stack(
            [
                sum(F.conv2d(padded[:, :, t + k], weight[:, :, k], None, 2 if at == 0 else 1, 1) for k in range(3))
                for t in range(x.shape[2])
            ],
            2,
        )
        mean, var, scale, shift = (
            state[f"layers.{at + 1}.{k}"][:, None, None, None]
            for k in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (var + 1e-5).sqrt() * scale + shift).clamp(min=0)

    x = stage(stage(clips, 0), 3)
    x = x.reshape(3, 2, 4, 2, 4, 2, 4, 2).amax((3, 5, 7))
    x = stage(stage(x, 7), 10)
    x = stage(x.reshape(3, 4, 2, 2, 2, 2, 2, 2).amax((3, 5, 7)), 14)
    pooled = x.amax((3, 4)).flatten(1)  # two moments are left
    expected = (pooled @ state["features.weight"].T + state["features.bias"]).clamp(min=0)
    features, logits = network(clips)
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(logits, expected @ state["head.weight"].T + state["head.bias"])


def test_without_classes_there_are_no_logits_and_features_learn():
    torch.manual_seed(0)
    network = ClipClassifier(1, 4, 16, 0)
    features, logits = network(torch.randn(8, 1, 8, 16, 16))
    assert logits is None
    assert features.min() == 0
    assert features.max() > 0
    features.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_clips_that_are_too_small_are_refused():
    for shape, size in (((3, 8, 8), "3 frames of 8x8"), ((4, 7, 8), "4 frames of 7x8")):
        with pytest.raises(ValueError, match=f"clips are {size}; expected at least 4 of 8x8"):
            ClipClassifier(1, 4, 5, 3)(torch.zeros(1, 1, *shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, 4, 5, 3), "channels is 2"),
        ((1, 0, 5, 3), "width is 0"),
        ((1, 4, -1, 3), "num_features is -1"),
        ((1, 4, 5, -1), "num_classes is -1; expected an integer of at least 0"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ClipClassifier(*arguments)
