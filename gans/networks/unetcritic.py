"""U-Net critic of Real-ESRGAN, Wang et al. 2021 (arXiv 2107.10833), section 3.4: one logit for each pixel of an image.

Schönfeld et al. 2020 (arXiv 2002.12655) showed that a critic of pixels tells a generator where an image is unrealistic.
Spectral normalisation of the inner layers keeps it stable, and suppresses oversharpening.
"""

from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

from gans.checks import at_least
from gans.networks.layers import channels_last, padded
from gans.networks.patch import MultiScale
from gans.networks.spectral import normalise

HALVINGS = 3


class Scale(nn.Module):
    """The critic of one scale: images of any size to a logit for each pixel. Weights have PyTorch's initialisation.

    Args:
        channels: number of channels of the images and conditions together.
        width: channels at full resolution, doubled at each of three downsamplings.
        spectral_norm: use spectral normalisation in all layers but the first and the last.
    """

    def __init__(self, channels: int, width: int, spectral_norm: bool = True) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(HALVINGS + 1)]
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.downs = nn.ModuleList(nn.Conv2d(before, 2 * before, 4, 2, 1, bias=False) for before in widths[:-1])
        self.ups = nn.ModuleList(
            nn.Conv2d(2 * after, after, 3, padding=1, bias=False) for after in reversed(widths[:-1])
        )
        self.flat = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.last = nn.Conv2d(width, 1, 3, padding=1)
        if spectral_norm:
            for layer in (*self.downs, *self.ups, *self.flat):
                normalise(layer)
        channels_last(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps of all layers of images `(N, channels, H, W)`; the last one is the logits `(N, 1, H, W)`."""
        height, width = images.shape[-2:]
        maps = [leaky_relu(self.first(padded(images, 2**HALVINGS)), 0.2)]
        for layer in self.downs:
            maps.append(leaky_relu(layer(maps[-1]), 0.2))
        skips = reversed(maps[:-1])
        for layer, skip in zip(self.ups, skips, strict=True):
            enlarged = interpolate(maps[-1], scale_factor=2, mode="bilinear")
            maps.append(leaky_relu(layer(enlarged), 0.2) + skip)
        for layer in self.flat:
            maps.append(leaky_relu(layer(maps[-1]), 0.2))
        return [*maps, self.last(maps[-1])[..., :height, :width]]


class Discriminator(MultiScale):
    """Images `(N, channels, H, W)`, with conditions, to logits `(N, scales, H, W)`, one for each pixel.

    Images may have any size.

    Args:
        channels: number of channels of the images and conditions together.
        width: channels at full resolution, doubled at each of three downsamplings; 64 in the paper.
        scales: number of critics; each receives the image at half the resolution of the one before. The paper has one.
        spectral_norm: use spectral normalisation in all layers but the first and the last.
    """

    def __init__(self, channels: int, width: int = 64, scales: int = 1, spectral_norm: bool = True) -> None:
        at_least(1, width=width, scales=scales)
        super().__init__(Scale(channels, width, spectral_norm) for _ in range(scales))
