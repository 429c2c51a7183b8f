"""Radially averaged power spectra of images, as in Durall et al. 2020 (arXiv 2003.01826).

Upsampling layers cause artefacts at the highest frequencies, which are hard to see in images.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def power_spectrum(images: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return frequencies `(K,)` in cycles per pixel, and the mean power at each `(K,)`.

    The power is `|F|^2 / (H W)` of the discrete Fourier transform, averaged over images, channels and directions. So
    white noise has its variance at all frequencies. The power at frequency 0 is H W times the squared mean. The highest
    frequency is sqrt(1/2), that of a checkerboard.

    Args:
        images: blocks of images `(n, C, H, W)`.

    Raises:
        ValueError: if there is no image, or if sizes differ.
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
    """Return the frequencies `(K,)` and the mean of `power` `(H, W)`, in the order of `fft2`, over rings of frequency.

    The width of a ring is the frequency resolution of the shorter side.
    """
    height, width = power.shape
    radius = torch.hypot(*torch.meshgrid(torch.fft.fftfreq(height), torch.fft.fftfreq(width), indexing="ij")).double()
    side = min(height, width)
    ring = (radius * side).round().long().flatten()
    number = torch.bincount(ring).clamp(min=1)
    frequencies = torch.bincount(ring, radius.flatten()) / number
    mean = torch.bincount(ring, power.flatten()) / number
    present = torch.bincount(ring) > 0
    return frequencies[present], mean[present]
