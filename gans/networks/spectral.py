"""Initialisation of residual networks: Xavier weights, zero biases and optional spectral normalisation.

Spectral normalisation divides a weight by its largest singular value, Miyato et al. 2018 (arXiv 1802.05957). Each
forward pass in training mode runs one power iteration. It is a PyTorch parametrisation, so networks can be copied by
`copy.deepcopy` and `state_dict`, but not pickled. The singular value is computed outside autocast, in the precision of
the weight: half precision would lose half of its digits on a GPU.
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
    """Add spectral normalisation to the weight `(outputs, ...)` of a layer, in place.

    The weight is a matrix with a row for each output. Its singular vectors are estimated here, so initialise it first.
    """
    register_parametrization(layer, "weight", SpectralNorm(layer.get_parameter("weight")))


def xavier(layer: Layer, gain: float = 1, spectral_norm: bool = False) -> Layer:
    """Return `layer` with a uniform weight of variance `2 gain^2 / (fan in + fan out)` and a bias of 0.

    Source: Glorot and Bengio 2010. The variance matters with spectral normalisation too, because it determines how fast
    an optimiser changes the direction of the weight.
    """
    nn.init.xavier_uniform_(layer.weight, gain)
    if not isinstance(layer, nn.Embedding) and layer.bias is not None:
        nn.init.zeros_(layer.bias)
    if spectral_norm:
        normalise(layer)
    return layer
