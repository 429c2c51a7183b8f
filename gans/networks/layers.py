"""Functions that several architectures share: image sizes, normalisation, padding and initialisation."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import group_norm, pad
from torch.nn.modules.batchnorm import _BatchNorm

Norm = Literal["instance", "instance_affine", "batch", "none"]
Size = int | tuple[int, int] | list[int]
Network = TypeVar("Network", bound=nn.Module)
Init = Callable[[nn.Module], None]  # for `nn.Module.apply`


def image_size(size: Size) -> tuple[int, int]:
    """Return (height, width) of `size`, an integer for squares or a pair.

    Raises:
        ValueError: if it is not one or two integers of at least 1.
    """
    pair: Sequence[int] = size if isinstance(size, tuple | list) else (size, size)
    if len(pair) != 2 or not all(type(side) is int and side >= 1 for side in pair):  # a bool is an int, not a size
        raise ValueError(f"size is {size!r}; expected a positive integer or (height, width)")
    return pair[0], pair[1]


def image_channels(channels: int) -> int:
    """Return `channels` if it is 1, 3 or 4.

    Raises:
        ValueError: if it is not.
    """
    if type(channels) is not int or channels not in (1, 3, 4):
        raise ValueError(f"channels is {channels!r}; expected 1 (grey), 3 (RGB) or 4 (RGBA)")
    return channels


def map_channels(channels: int) -> int:
    """Return `channels` of maps, which need not be images, if it is at least 1.

    Raises:
        ValueError: if it is not.
    """
    if type(channels) is not int or channels < 1:
        raise ValueError(f"channels is {channels!r}; expected at least 1")
    return channels


def doublings(size: tuple[int, int], smallest: int = 4) -> int:
    """Return how often the shorter side of `size` can be halved and stay `smallest` or longer, but at least 1."""
    return max(1, (min(size) // smallest).bit_length() - 1)


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """Return a normalisation layer for maps with `channels`.

    `instance` is InstanceNorm, `instance_affine` is InstanceNorm with a learned gain and shift for each channel.
    `batch` is BatchNorm, with gain and shift. With batches of one image it equals `instance_affine` in training mode.
    `none` is the identity.

    Raises:
        ValueError: if `norm` is unknown.
    """
    if norm == "none":
        return nn.Identity()
    if norm not in ("instance", "instance_affine", "batch"):
        raise ValueError(f"norm is {norm!r}; expected instance, instance_affine, batch or none")
    return nn.BatchNorm2d(channels) if norm == "batch" else InstanceNorm2d(channels, affine=norm != "instance")


class InstanceNorm2d(nn.InstanceNorm2d):
    """PyTorch's InstanceNorm, without running statistics, computed faster on a CPU."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return normalised maps `(N, C, h, w)`."""
        # Under autocast on a GPU, group_norm would return float32. PyTorch's layer refuses maps of one pixel, of which
        # only rounding errors would be left. An exported program has no branches on the size of maps.
        exporting = torch.compiler.is_exporting()
        if exporting or maps.device.type != "cpu" or maps.ndim != 4 or maps.shape[2] * maps.shape[3] == 1:
            return super().forward(maps)
        return group_norm(maps, self.num_features, self.weight, self.bias, self.eps)


def channels_last(network: Network) -> Network:
    """Put the weights of convolutions into the `channels_last` memory format, in place, and return the network.

    Its convolutions then compute in this format, which is faster on a CPU. Maps have it too, so generators return
    their images `.contiguous()`. State dicts of one format load into the other, and copies keep the format. A network
    with InstanceNorm, which is slower in this format, keeps the default one.
    """
    normed = any(isinstance(module, nn.InstanceNorm2d) for module in network.modules())
    for parameter in network.parameters():
        if parameter.ndim == 4 and not normed:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def mixes_samples(network: nn.Module) -> bool:
    """Return whether an output of `network` depends on other samples of its batch, as with BatchNorm.

    A layer says so by an attribute `mixes_samples`. One pass on two batches together is the same as two passes only if
    no layer does.
    """
    return any(isinstance(part, _BatchNorm) or getattr(part, "mixes_samples", False) for part in network.modules())


def padded(images: Tensor, multiple: int, least: int = 1) -> Tensor:
    """Return images `(N, C, H, W)`, padded at the bottom and right so that their sides are multiples of `multiple`.

    The last row and column are repeated. The padded sides are at least `least`, which must be a multiple too. Crop a
    network's output with `[..., :H, :W]`.
    """
    if torch.compiler.is_exporting() or torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
        # One code path for all sizes, because an exported program has no branches. It does not support `least`.
        places = ((torch.arange((side + multiple - 1) // multiple * multiple), side - 1) for side in images.shape[-2:])
        rows, columns = (place.to(images.device).clamp(max=last) for place, last in places)
        return images.index_select(-2, rows).index_select(-1, columns)
    below, right = (max(-side % multiple, least - side) for side in images.shape[-2:])
    return pad(images, (0, right, 0, below), mode="replicate") if below or right else images


def widened(value: Any) -> Any:
    """Return a tensor, or a tuple of them, in at least float32: losses of half-precision logits are inaccurate."""
    if isinstance(value, tuple):
        return alike(value, (widened(part) for part in value))
    return value.to(torch.promote_types(value.dtype, torch.float32))


def alike(output: tuple[Any, ...], parts: Iterable[Any]) -> tuple[Any, ...]:
    """Return `parts` as a tuple of the type of `output`, whose fields may have names."""
    kind: Any = type(output)
    return tuple(parts) if kind is tuple else kind._make(parts)


@torch.no_grad()
def normal_init(module: nn.Module, std: float = 0.02) -> None:
    """Initialise like Radford et al. 2015 (arXiv 1511.06434): weights N(0, std), gains of norms N(1, std), biases 0.

    Use it with `nn.Module.apply`.
    """
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        module.weight.normal_(0, std)
    elif isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d) and module.affine:
        module.weight.normal_(1, std)
    else:
        return
    if module.bias is not None:
        module.bias.zero_()


@torch.no_grad()
def xavier_init(module: nn.Module, gain: float = 0.02) -> None:
    """Initialise like CUT (Park et al. 2020, arXiv 2007.15651): weights N(0, 2 gain^2 / (fan in + fan out)).

    These are the weights of Glorot and Bengio 2010 times `gain`. Norms and biases are initialised as in `normal_init`.
    Use it with `nn.Module.apply`.
    """
    normal_init(module, gain)
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.xavier_normal_(module.weight, gain)
