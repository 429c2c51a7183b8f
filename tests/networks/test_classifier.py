"""The classifier of features: shapes, layers, the equations, and sizes that it cannot take."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gans.networks.classifier import Classifier

torch.set_num_threads(1)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(8, 8), (9, 11), (28, 28), (32, 32), (20, 45)])
def test_shapes(size, channels):
    network = Classifier(channels, 4, 5, 3)
    for count in (1, 2):
        features, logits = network.eval()(torch.randn(count, channels, *size))
        assert features.shape == (count, 5)
        assert logits.shape == (count, 3)


def test_layers_are_those_of_the_docstring():
    network = Classifier(3, 4, 5, 3)
    kinds = [layer for layer in network.layers if not isinstance(layer, nn.BatchNorm2d | nn.ReLU)]
    widths = [(k.in_channels, k.out_channels) if isinstance(k, nn.Conv2d) else "pool" for k in kinds]
    assert widths == [(3, 4), (4, 4), "pool", (4, 8), (8, 8), "pool", (8, 16)]
    assert (network.features.in_features, network.features.out_features) == (64, 5)
    assert (network.head.in_features, network.head.out_features) == (5, 3)


def test_outputs_are_those_of_the_equations():
    torch.manual_seed(0)
    network = Classifier(1, 2, 5, 3).eval()
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 0.9)  # running statistics and scales that are not 0 and 1
    images = torch.rand(4, 1, 12, 12) * 2 - 1
    state = network.state_dict()

    def stage(x, at):
        x = F.conv2d(x, state[f"layers.{at}.weight"], padding=1)
        mean, var, scale, shift = (
            state[f"layers.{at + 1}.{k}"][:, None, None] for k in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (var + 1e-5).sqrt() * scale + shift).clamp(min=0)

    x = stage(stage(images, 0), 3)
    x = x.reshape(4, 2, 6, 2, 6, 2).amax((3, 5))
    x = stage(stage(x, 7), 10)
    x = stage(x.reshape(4, 4, 3, 2, 3, 2).amax((3, 5)), 14)  # 3x3, whose average over 2x2 overlaps in the middle
    pooled = torch.stack([x[:, :, i : i + 2, j : j + 2].mean((2, 3)) for i in (0, 1) for j in (0, 1)], -1)
    expected = (pooled.reshape(4, -1) @ state["features.weight"].T + state["features.bias"]).clamp(min=0)
    features, logits = network(images)
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(logits, expected @ state["head.weight"].T + state["head.bias"])


def test_features_are_not_negative_and_learn():
    torch.manual_seed(0)
    network = Classifier(1, 4, 16, 3)
    features, logits = network(torch.randn(8, 1, 16, 16))
    assert features.min() == 0
    assert features.max() > 0
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_images_that_are_too_small_are_refused():
    with pytest.raises(ValueError, match="images are 7x8; expected at least 8x8"):
        Classifier(1, 4, 5, 3)(torch.zeros(1, 1, 7, 8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, 4, 5, 3), "channels is 2"),
        ((1, 0, 5, 3), "width is 0"),
        ((1, 4, -1, 3), "num_features is -1"),
        ((1, 4, 5, 0.5), "num_classes is 0.5"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Classifier(*arguments)
