"""Initialisation of residual networks: Xavier weights, zero biases and optional spectral normalisation.

Spectral normalisation divides a weight by its largest singular value, Miyato et al. 2018 (arXiv 1802.05957). It is a
PyTorch parametrisation with PyTorch's names in `state_dict`, so networks can be copied by `copy.deepcopy` and
`state_dict`, but not pickled. A layer alone runs one power iteration in each forward pass in training mode, like
PyTorch's and the authors' code. `normed_together` norms all layers of a network at once, with a fifth of the kernel
launches, and its weights serve several forward passes. `AdversarialModule.pieces` uses it, so each step of a player has
one power iteration.

The singular values are computed outside autocast, in the precision of the weights: half precision would lose half of
the digits on a GPU.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import ParametrizationList, register_parametrization

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear, nn.Embedding)


class SpectralNorm(_SpectralNorm):
    """PyTorch's parametrisation, outside autocast; `normed`, if there is one, replaces the computation."""

    normed: Tensor | None = None

    def forward(self, weight: Tensor) -> Tensor:
        """Return `weight` divided by its largest singular value."""
        return divided([self], [weight], self.training)[0] if self.normed is None else self.normed


Normed = tuple[SpectralNorm, ParametrizationList]  # a layer's norm, and its weight


def normalise(layer: nn.Module, eps: float = 1e-12) -> None:
    """Add spectral normalisation to the weight `(outputs, ...)` of a layer, in place.

    The weight is a matrix with a row for each output. Its singular vectors are estimated here, so initialise it first.

    Args:
        layer: with a parameter `weight`.
        eps: a shorter vector is not normalised to length 1 in the power iteration. Layers that are normed together
            have one.
    """
    register_parametrization(layer, "weight", SpectralNorm(layer.get_parameter("weight"), eps=eps))


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


# -- all layers of a network at once -----------------------------------------------------------------------------------


def spectral_layers(network: nn.Module) -> list[Normed]:
    """Return all spectral layers of a network."""
    lists = [part for part in network.modules() if isinstance(part, ParametrizationList)]
    return [(part[0], part) for part in lists if isinstance(part[0], SpectralNorm)]


@contextmanager
def normed_together(layers: list[Normed], iterate: bool = True) -> Iterator[None]:
    """Context manager in which spectral layers in training mode use weights that are normed once, at its start.

    The weights may serve several forward passes and one backward pass. Call `release` after the backward pass if the
    layers are used again inside.

    Args:
        layers: what `spectral_layers(network)` returns.
        iterate: run a power iteration first.
    """
    training = [(norm, weight.original) for norm, weight in layers if norm.training]
    for trained in (True, False):  # apart, for no gradient of a frozen weight is computed
        if found := [(norm, weight) for norm, weight in training if weight.requires_grad is trained]:
            norms, weights = map(list, zip(*found, strict=True))
            for norm, normed in zip(norms, divided(norms, weights, iterate), strict=True):
                norm.normed = normed
    try:
        yield
    finally:
        release(layers)


def release(layers: list[Normed]) -> None:
    """Let each of the spectral layers norm its own weight again."""
    for norm, _ in layers:
        norm.normed = None


def divided(norms: list[SpectralNorm], weights: list[Tensor], iterate: bool) -> list[Tensor]:
    """Return each of `weights` divided by its largest singular value, after a power iteration if `iterate`.

    The new vectors are copied to the buffers at the end and remain tensors of their own. So an earlier forward pass
    keeps its vectors for its backward pass.
    """
    with torch.autocast(weights[0].device.type, enabled=False):
        with torch.no_grad():
            matrices = [norm._reshape_weight_to_matrix(weight) for norm, weight in zip(norms, weights, strict=True)]
            us, vs = [norm._u for norm in norms], [norm._v for norm in norms]
            if iterate:
                found = power_iteration(matrices, vs, norms[0].eps)
                torch._foreach_copy_(us, found[0])
                torch._foreach_copy_(vs, found[1])
                us, vs, values = found
            else:
                us, vs = [u.clone() for u in us], [v.clone() for v in vs]
                values = [torch.dot(u, torch.mv(matrix, v)) for matrix, u, v in zip(matrices, us, vs, strict=True)]
        normed: list[Tensor] = list(Division.apply(*us, *vs, *values, *weights)[: len(weights)])
    return normed


def power_iteration(
    matrices: list[Tensor], vs: list[Tensor], eps: float
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return new estimates of the left and right singular vectors and of the singular values of `(M, N)` matrices.

    With `u = W v / |W v|` and `v = W^T u / |W^T u|` the singular value is `u^T W v = |W^T u|`. So a third product of
    matrix and vector is not needed.
    """

    def units(vectors: list[Tensor], lengths: list[Tensor]) -> list[Tensor]:
        return list(torch._foreach_div(vectors, torch._foreach_clamp_min(lengths, eps)))

    rows = [torch.mv(matrix, v) for matrix, v in zip(matrices, vs, strict=True)]
    us = units(rows, list(torch._foreach_norm(rows)))
    columns = [torch.mv(matrix.mT, u) for matrix, u in zip(matrices, us, strict=True)]
    values = list(torch._foreach_norm(columns))
    return us, units(columns, values), values


class Division(torch.autograd.Function):
    """Weights `W` of all layers divided by their singular values `s = u^T W v`; `u` and `v` are constants.

    `apply(*us, *vs, *values, *weights)` returns the normed weights `W / s`, then the values `(layers,)`. With their
    gradients `G` and `g`, that of a weight is `G / s + (g - <G, W / s> / s) u v^T`. The values are an output so that
    this formula can be differentiated again.
    """

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the normed weights and the values."""
        us, vs, values, weights = parted(tensors, 4)
        normed, stacked = torch._foreach_div(weights, values), torch.stack(values)
        ctx.save_for_backward(*us, *vs, *normed, stacked)
        return *normed, stacked

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the weights, and None for everything else."""
        *saved, values = ctx.saved_tensors
        *slopes, of_values = grads
        us, vs, normed = parted(saved, 3)
        products = torch.stack([product.sum() for product in torch._foreach_mul(slopes, normed)])
        factors = of_values - products / values
        scaled = torch._foreach_mul(us, factors.unbind())
        columns = [u.view(-1, *[1] * (w.ndim - 1)) for u, w in zip(scaled, normed, strict=True)]
        rows = [v.view(1, *w.shape[1:]) for v, w in zip(vs, normed, strict=True)]
        shares = torch._foreach_div(slopes, values.unbind())
        return *[None] * len(saved), *torch._foreach_addcmul(shares, columns, rows)


def parted(tensors: Sequence[Tensor], count: int) -> list[list[Tensor]]:
    """Return `count` lists of equal length, the parts of a sequence one after the other."""
    length = len(tensors) // count
    return [list(tensors[start : start + length]) for start in range(0, len(tensors), length)]
