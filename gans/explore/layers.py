"""The first layers of a generator, found by watching it work: whoever wrote it, whatever they are called."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from gans.explore.generators import AT_ONCE


class _EnoughError(Exception):
    """The layers that were wanted have run."""


@torch.no_grad()
def first_response(network: nn.Module, z: Tensor) -> Tensor:
    """Return what the first linear layer that sees latents `z` `(N, D)` makes of them, flattened `(N, F)`.

    That is a linear or a convolutional layer, its bias included, and what stands beside the latent, such as a class.

    Raises:
        ValueError: if there is none.
    """
    return torch.cat([_watched(network, piece)[0] for piece in torch.split(z, AT_ONCE)])


@torch.no_grad()
def first_activations(network: nn.Module, z: Tensor) -> Tensor:
    """Return the first hidden layer of latents `z` `(N, D)`, flattened `(N, F)`: what the second linear layer reads.

    Normalisation and nonlinearity have been there already. With one layer only, that is the images.

    Raises:
        ValueError: if there is no linear layer.
    """
    return torch.cat([_watched(network, piece)[1] for piece in torch.split(z, AT_ONCE)])


def first_matrix(network: nn.Module, z: Tensor) -> Tensor:
    """Return the matrix `(F, D)` of the affine map from latents like `z` `(1, D)` to `first_response`.

    Raises:
        ValueError: if the map is not affine, as where a latent is normalised first.
    """
    unit = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    origin = first_response(network, torch.zeros_like(z))
    there, beyond = (first_response(network, far * unit) - origin for far in (1, -2))
    if not torch.allclose(-2 * there, beyond, rtol=1e-2, atol=1e-3 * float(there.abs().max())):
        raise ValueError("the first layer does not read the latent as it is; expected one that is linear in it")
    return there.T


def _watched(network: nn.Module, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the first linear layer gives, and what the second reads, `(N, F)` each."""
    if not isinstance(network, nn.Module):
        raise ValueError(f"the generator is a {type(network).__name__}; expected an nn.Module, which has layers")
    # Rows that differ, so that a layer of labels, which are alike in all rows, can be told from one of latents.
    probe = torch.cat([z, torch.ones_like(z[:1]), -torch.ones_like(z[:1])])
    seen: list[Tensor] = []

    def differs(value: Tensor) -> bool:
        rows = value.reshape(len(probe), -1)
        return not torch.equal(rows[-1], rows[-2])

    def before(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        if len(seen) == 1 and len(inputs[0]) % len(probe) == 0 and differs(inputs[0]):
            seen.append(inputs[0].detach().reshape(len(probe), -1)[: len(z)].clone())
            raise _EnoughError

    def after(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if not seen and len(output) % len(probe) == 0 and differs(output):
            seen.append(output.detach().reshape(len(probe), -1)[: len(z)].clone())

    hooks = []
    for layer in network.modules():
        if isinstance(layer, nn.Linear | _ConvNd):
            hooks += [layer.register_forward_pre_hook(before), layer.register_forward_hook(after)]
    try:
        made = network(probe)
        if not seen:
            raise ValueError(f"{type(network).__name__} has no linear or convolutional layer that reads the latent")
        return seen[0], made.reshape(len(probe), -1)[: len(z)]
    except _EnoughError:
        return seen[0], seen[1]
    finally:
        for hook in hooks:
            hook.remove()
