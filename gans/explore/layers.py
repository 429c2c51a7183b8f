"""The first layers of any generator, and the layers that read w, found with forward hooks instead of names."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from gans.checks import article
from gans.explore.generators import AT_ONCE
from gans.latent import draw, key


class _EnoughError(Exception):
    """Raised to stop a forward pass after the requested layers."""


@torch.no_grad()
def first_response(network: nn.Module, z: Tensor) -> Tensor:
    """Return the output of the first linear layer that depends on the latents `z` `(N, D)`, flattened `(N, F)`.

    The layer is linear or convolutional. The output includes its bias, and the class if it is part of the input.

    Raises:
        ValueError: if there is no such layer.
    """
    return torch.cat([_watched(network, piece)[0] for piece in torch.split(z, AT_ONCE)])


@torch.no_grad()
def first_activations(network: nn.Module, z: Tensor) -> Tensor:
    """Return the first hidden activations for latents `z` `(N, D)`, flattened `(N, F)`.

    They are the input of the second linear layer, after normalisation and nonlinearity. If there is only one linear
    layer, they are the images.

    Raises:
        ValueError: if there is no linear layer.
    """
    return torch.cat([_watched(network, piece)[1] for piece in torch.split(z, AT_ONCE)])


def first_matrix(network: nn.Module, z: Tensor) -> Tensor:
    """Return the matrix `(F, D)` of the affine map from latents to `first_response`.

    Args:
        network: from latents to images.
        z: a latent `(1, D)`, of which only shape, dtype and device are used.

    Raises:
        ValueError: if the map is not affine, for example because the latent is normalised first.
    """
    unit = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    origin = first_response(network, torch.zeros_like(z))
    response, double = (first_response(network, scale * unit) - origin for scale in (1, -2))
    if not torch.allclose(-2 * response, double, rtol=1e-2, atol=1e-3 * float(response.abs().max())):
        raise ValueError("the first layer is not linear in the latent; expected one that is, as in W of a style model")
    return response.T


@torch.no_grad()
def style_matrices(model: Any) -> list[Tensor]:
    """Return the matrix `(F, w_dim)` of the affine map that each layer of a style model has of its w.

    The map may be of w times a number. Of several maps of the same w, the last is taken. In StyleGAN2 this is that of
    the next convolution, after that of an image, as in Shen and Zhou 2020 (arXiv 2007.06600).

    Args:
        model: a style model, see `gans.engine.interface`.

    Raises:
        ValueError: if the w of a layer has no affine map.
    """
    shape, mean = (1, model.num_ws, model.w_dim), model.mean_w
    ws = mean + draw(shape, key("styles of layers"), device=mean.device, dtype=mean.dtype)  # all different
    readers: dict[int, tuple[nn.Module, Tensor]] = {}  # of each layer, with the scale of their input

    def before(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        first = inputs[0] if inputs else None
        if isinstance(first, Tensor) and first.shape == (1, model.w_dim):
            for i, w in enumerate(ws.unbind(1)):
                scale = (first * w).sum() / w.square().sum()
                if scale != 0 and torch.allclose(first / scale, w, rtol=1e-3, atol=1e-4):
                    readers[i] = layer, scale

    hooks = [layer.register_forward_pre_hook(before) for layer in model.modules()]
    try:
        model.from_w(ws)
    finally:
        for hook in hooks:
            hook.remove()
    unit, found = torch.eye(model.w_dim, device=mean.device, dtype=mean.dtype), []
    for i in range(model.num_ws):
        if i not in readers:
            raise ValueError(f"layer {i} of {type(model).__name__} has no affine map of w; expected one")
        layer, scale = readers[i]
        origin, response, double = (layer(factor * scale * unit) for factor in (0, 1, -2))
        response, double = response - origin, double - origin
        if not torch.allclose(-2 * response, double, rtol=1e-2, atol=1e-3 * float(response.abs().max())):
            raise ValueError(f"layer {i} of {type(model).__name__} does not read w linearly; expected an affine map")
        found.append(response.T)
    return found


def _watched(network: nn.Module, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output of the first linear layer and the input of the second, `(N, F)` each."""
    if not isinstance(network, nn.Module):
        raise ValueError(f"the generator is {article(type(network))}; expected an nn.Module, which has layers")
    # Two different rows are added: layers whose values do not differ between them depend only on the labels.
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
