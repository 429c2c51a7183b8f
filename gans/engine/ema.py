"""Exponential moving average of a network's weights, with a half-life in images.

A half-life in images is independent of the batch size. The ramp-up shortens it at the start of training. Without it,
with a decay of 0.999, the initial weights would still make up 30 % of the average after 1,200 steps. Source: Karras et
al. 2019 and 2020 (arXiv 1912.04958, 2006.06676).

BigGAN's authors have a constant decay d instead, which begins after a number of updates; a decay of 0 before copies the
model. Of updates that are `images` apart, d is a half-life of `images * log(0.5) / log(d)`: 6,931 updates for 0.9999.
"""

import torch
from torch import Tensor, nn


def decay(images: int, images_seen: int, halflife: float, rampup: float = 0.05) -> float:
    """Return the weight of the old average in an update, from 0 to below 1.

    Args:
        images: images between two updates.
        images_seen: images seen since the start of training.
        halflife: number of images after which the weight of a contribution has halved; 0 copies the model.
        rampup: maximum of the half-life as a share of the images seen; 0 disables the ramp-up.
    """
    if rampup > 0:
        halflife = min(halflife, images_seen * rampup)
    return 0.5 ** (images / halflife) if halflife > 0 else 0.0


class Pair:
    """A network and its averaged copy, with the tensors that an update reads and writes.

    They are listed once, because walking through the modules of a small network takes longer than averaging it. The
    parameters must stay the same tensors, as an optimizer expects too. Buffers may be replaced.

    Args:
        average: the averaged copy.
        model: the network, of the same structure.
    """

    def __init__(self, average: nn.Module, model: nn.Module) -> None:
        self.average, self.model = list[Tensor](average.parameters()), list[Tensor](model.parameters())
        self.average_buffers, self.model_buffers = holders(average), holders(model)

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Set every parameter of the average to `decay * average + (1 - decay) * model`, and copy the buffers.

        Buffers are not averaged, because an average of integer counters or of a spectral norm's vectors is wrong.
        """
        if self.average:
            torch._foreach_lerp_(self.average, self.model, 1 - decay)
        if buffers := held(self.average_buffers):
            torch._foreach_copy_(buffers, held(self.model_buffers))


def holders(network: nn.Module) -> list[dict[str, Tensor | None]]:
    """Return the dictionaries in which the modules of a network hold their buffers, which show the current ones."""
    return [module._buffers for module in network.modules() if module._buffers]


def held(holders: list[dict[str, Tensor | None]]) -> list[Tensor]:
    """Return the buffers in dictionaries of modules."""
    return [buffer for holder in holders for buffer in holder.values() if buffer is not None]


def update(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Update the averaged copy of a network once, see `Pair`."""
    Pair(average, model).update(decay)
