"""Average radial power spectra: what frequencies pictures have, as in Durall et al. 2020 (arXiv 2003.01826).

Upsampling leaves its marks in the highest frequencies, where eyes do not look.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def power_spectrum(images: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return frequencies `(K,)` in cycles a pixel and the mean power at each `(K,)`, of images that come in blocks.

    The power is `|F|^2 / (H W)` of the discrete Fourier transform, a mean over images `(n, C, H, W)`, channels and the
    directions of a frequency, so that white noise has its variance everywhere. The first frequency is 0, with H W times
    the square of the mean; the last are those of the corners, up to the square root of 1/2, where a checkerboard is.

    Raises:
        ValueError: if there is no image, or their sizes differ.
    """
    total: Tensor | None = None
    count = 0
    for block in images:
        power = torch.fft.fft2(block.double()).abs().square() / (block.shape[-1] * block.shape[-2])
        summed = power.flatten(0, -3).sum(0).cpu()
        if total is not None and total.shape != summed.shape:
            raise ValueError(f"images are {tuple(summed.shape)} and {tuple(total.shape)}; expected one size")
        total = summed if total is None else total + summed
        count += power.flatten(0, -3).shape[0]
    if total is None or count == 0:
        raise ValueError("there are no images; expected at least one")
    return rings(total / count)


def rings(power: Tensor) -> tuple[Tensor, Tensor]:
    """Return the frequencies `(K,)` and the mean over the rings of `power` `(H, W)`, which `fft2` has ordered.

    A ring is as wide as the frequencies of the shorter side are apart.
    """
    height, width = power.shape
    radius = torch.hypot(*torch.meshgrid(torch.fft.fftfreq(height), torch.fft.fftfreq(width), indexing="ij")).double()
    side = min(height, width)
    ring = (radius * side).round().long().flatten()
    number = torch.bincount(ring).clamp(min=1)
    frequencies = torch.bincount(ring, radius.flatten()) / number
    mean = torch.bincount(ring, power.flatten()) / number
    there = torch.bincount(ring) > 0
    return frequencies[there], mean[there]
