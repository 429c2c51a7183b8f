"""Standing statistics of BatchNorm: means over many batches of the inputs that a generator gets when it is used.

Running statistics are those of the last batches of training. They do not fit truncated latents, whose features vary
less. Source: Brock et al. 2018 (BigGAN, arXiv 1809.11096), section 3 and appendix B.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Statistics = list[tuple[Tensor, Tensor]]  # mean and variance of each layer


@contextmanager
def using(network: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Context manager in which the BatchNorm layers of a network in evaluation mode use other statistics."""
    layers = normed(network)
    kept = [(layer.running_mean, layer.running_var) for layer in layers]
    try:
        for layer, (mean, variance) in zip(layers, statistics, strict=True):
            layer.running_mean, layer.running_var = mean, variance
        yield
    finally:
        for layer, (mean, variance) in zip(layers, kept, strict=True):
            layer.running_mean, layer.running_var = mean, variance


@torch.no_grad()
def standing_statistics(network: nn.Module, batches: Iterable[tuple[Tensor, ...]]) -> Statistics:
    """Return the means of the statistics of `batches` of inputs, each normalised by its own as in training.

    The network is in evaluation mode and stays unchanged. Only this process's batches are read.
    """
    layers, count = normed(network), 0
    means = [torch.zeros_like(layer.running_mean) for layer in layers]
    variances = [torch.zeros_like(layer.running_var) for layer in layers]

    def measure(layer: Any, inputs: tuple[Tensor]) -> None:
        place, features = layers.index(layer), inputs[0].to(layer.running_mean.dtype)
        axes = [axis for axis in range(features.ndim) if axis != 1]
        layer.running_var, layer.running_mean = torch.var_mean(features, axes, correction=0)
        means[place] += layer.running_mean
        variances[place] += layer.running_var

    with using(network, [(layer.running_mean, layer.running_var) for layer in layers]):
        hooks = [layer.register_forward_pre_hook(measure) for layer in layers]
        try:
            with torch.compiler.set_stance("force_eager"):  # a compiled network does not see the hooks
                for batch in batches:
                    network(*batch)
                    count += 1
        finally:
            for hook in hooks:
                hook.remove()
    return [(mean / count, variance / count) for mean, variance in zip(means, variances, strict=True)]


def normed(network: nn.Module) -> list[Any]:
    """Return the BatchNorm layers of a network."""
    return [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
