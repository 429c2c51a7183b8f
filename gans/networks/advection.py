"""Dynamic neural advection, Finn, Goodfellow and Levine 2016 (arXiv 1605.07157): a next frame from pixels of the last.

Each pixel is a mean of the pixels around it in the last frame, weighted by a network. Colours and details are therefore
kept when a network is applied to its own output many times.
"""

from torch import Tensor, nn
from torch.nn.functional import pad, unfold

from gans.checks import at_least

SHARPNESS = 8.0  # logits of the weights are in ± this, because the last layer of a translator is a tanh


def outputs(channels: int, reach: int) -> int:
    """Return the number of channels that the network of `Advection` must have."""
    return (2 * reach + 1) ** 2 + 1 + channels


class Advection(nn.Module):
    """Stacked frames `(N, given channels, H, W)` to the next one, `(N, channels, H, W)`, in [-1, 1].

    A pixel is the weighted mean of the pixels at most `reach` rows and columns away in the last frame, and of one that
    the network draws, for what comes into view. The weights are positive and their sum is 1.

    Args:
        network: from the stacked frames to images `(N, outputs(channels, reach), H, W)` in [-1, 1].
        channels: channels of a frame.
        reach: greatest motion in pixels per frame.

    Raises:
        ValueError: if `reach` is below 1.
    """

    def __init__(self, network: nn.Module, channels: int, reach: int) -> None:
        super().__init__()
        at_least(1, reach=reach)
        self.network, self.channels, self.reach = network, channels, reach

    def forward(self, images: Tensor) -> Tensor:
        """Return the next frame."""
        (count, _, height, width), side = images.shape, 2 * self.reach + 1
        drawn, logits = self.network(images).tensor_split([self.channels], 1)
        weights = (SHARPNESS * logits).softmax(1)
        around = pad(images[:, -self.channels :], (self.reach,) * 4, mode="replicate")
        pixels = unfold(around, side).view(count, self.channels, side**2, height, width)
        moved = (pixels * weights[:, None, :-1]).sum(2)
        frame: Tensor = moved + weights[:, -1:] * drawn
        return frame
