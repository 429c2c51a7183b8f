"""Layers as the residual networks start them: Xavier weights, zero biases, a spectral norm of 1 on demand.

Spectral normalisation is of Miyato et al. 2018 (arXiv 1802.05957): a weight is divided by its largest singular value,
which one power iteration for every forward pass in training follows; evaluation leaves the vectors alone. It is kept
by PyTorch's parametrisation, so networks are copied by `copy.deepcopy` and by `state_dict`, but not by pickle. Under
autocast the singular value is computed in the weight's own precision: on a GPU half of its digits would be lost else.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import register_parametrization

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear, nn.Embedding)


class SpectralNorm(_SpectralNorm):
    """PyTorch's parametrisation, outside autocast."""

    def forward(self, weight: Tensor) -> Tensor:
        """Return `weight` divided by its largest singular value."""
        with torch.autocast(weight.device.type, enabled=False):
            normed: Tensor = super().forward(weight)
        return normed


def normalise(layer: nn.Module) -> None:
    """Give the weight `(outputs, ...)` of a layer a spectral norm of 1, in place.

    Its matrix has a row for each output. The first singular vectors are found here, so the weight must have its values.
    """
    register_parametrization(layer, "weight", SpectralNorm(layer.get_parameter("weight")))


def xavier(layer: Layer, gain: float = 1, spectral_norm: bool = False) -> Layer:
    """Return `layer` with its weight uniform with variance `2 gain^2 / (fan in + fan out)` and its bias 0.

    Source: Glorot and Bengio 2010; the variance decides how a network starts, even where `spectral_norm` is about to
    divide it out again, since it sets the speed at which an optimiser turns the weight.
    """
    nn.init.xavier_uniform_(layer.weight, gain)
    if not isinstance(layer, nn.Embedding) and layer.bias is not None:
        nn.init.zeros_(layer.bias)
    if spectral_norm:
        normalise(layer)
    return layer
