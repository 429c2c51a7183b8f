"""Blur kernels of Real-ESRGAN, Wang et al. 2021 (arXiv 2107.10833), filters, and unsharp masking.

Kernels are `(size, size)` in float64 with a sum of 1, for an odd `size`. Images are `(C, H, W)` in float32.
"""

from math import ceil, cos, pi, sin

import torch
from torch import Tensor

Pair = tuple[float, float]
FAST = 32  # sides that are multiples of this have fast Fourier transforms

# Of Real-ESRGAN's unsharp masking: side and standard deviation of the Gaussian, OpenCV's for this side, and least
# difference from the blurred image, of 255.
MASK_SIZE, MASK_DEVIATION, MASK_THRESHOLD = 51, 8.0, 10


def distances(size: int, deviations: Pair, angle: float = 0.0) -> Tensor:
    """Return the squared Mahalanobis distances `(size, size)` of pixels from the centre, `x^T S^-1 x`.

    Args:
        size: Side of the window in pixels.
        deviations: Standard deviations along both axes.
        angle: Rotation of the axes in radians.
    """
    place = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    down, across = place[:, None], place
    along = (across * cos(angle) + down * sin(angle)) / deviations[0]
    beside = (down * cos(angle) - across * sin(angle)) / deviations[1]
    return along**2 + beside**2


def gaussian(size: int, deviations: Pair, angle: float = 0.0, power: float = 1.0) -> Tensor:
    """Return a generalised Gaussian kernel, `exp(-(x^T S^-1 x)^power / 2)`; a power of 1 is the Gaussian.

    For the arguments see `distances`.
    """
    return normalised((-(distances(size, deviations, angle) ** power) / 2).exp())


def plateau(size: int, deviations: Pair, angle: float = 0.0, power: float = 1.0) -> Tensor:
    """Return a plateau-shaped kernel, `1 / (1 + (x^T S^-1 x)^power)`. For the arguments see `distances`."""
    return normalised(1 / (1 + distances(size, deviations, angle) ** power))


def sinc(size: int, cutoff: float) -> Tensor:
    """Return a circular low-pass kernel, `w J1(w r) / (2 pi r)` with `w = pi cutoff`. It rings at edges.

    Args:
        size: Side of the window in pixels.
        cutoff: Cut-off frequency as a share of the Nyquist frequency.
    """
    omega = pi * cutoff
    radii = distances(size, (1, 1)).sqrt()
    centre = size // 2, size // 2
    radii[centre] = 1
    kernel = omega * torch.special.bessel_j1(omega * radii) / (2 * pi * radii)
    kernel[centre] = omega**2 / (4 * pi)
    return normalised(kernel)


def normalised(kernel: Tensor) -> Tensor:
    """Return the kernel divided by its sum."""
    return kernel / kernel.sum()


def reflected(pixels: Tensor, radius: int) -> Tensor:
    """Return an image with `radius` more pixels on each side, reflected at its outermost pixels as often as needed."""
    for axis in (-2, -1):
        side = pixels.shape[axis]
        period = max(1, 2 * side - 2)
        place = torch.arange(-radius, side + radius) % period
        pixels = pixels.index_select(axis, torch.minimum(place, period - place) % side)
    return pixels


def filtered(pixels: Tensor, kernel: Tensor) -> Tensor:
    """Return the image convolved with a symmetric kernel, by Fourier transforms, with reflected borders."""
    radius = len(kernel) // 2
    height, width = pixels.shape[-2:]
    size = [ceil((side + 2 * radius) / FAST) * FAST for side in (height, width)]
    spectrum = torch.fft.rfft2(reflected(pixels, radius), size)
    blurred: Tensor = torch.fft.irfft2(spectrum * torch.fft.rfft2(kernel.to(pixels.dtype), size), size)
    return blurred[..., 2 * radius : 2 * radius + height, 2 * radius : 2 * radius + width]


def sharpened(image: Tensor, weight: float) -> Tensor:
    """Return an image `(C, H, W)` uint8 after unsharp masking, as Real-ESRGAN's targets have it.

    The difference from the blurred image is added `weight` times, where it is above a threshold. The mask of these
    pixels is blurred, so that there are no new edges.
    """
    pixels = image.float() / 255
    kernel = gaussian(MASK_SIZE, (MASK_DEVIATION, MASK_DEVIATION))
    blurred = filtered(pixels, kernel)
    difference = pixels - blurred
    mask = filtered((difference.abs() * 255 > MASK_THRESHOLD).float(), kernel)
    sharp = (pixels + weight * difference).clamp(0, 1)
    found = mask * sharp + (1 - mask) * pixels
    return (found * 255).round().clamp(0, 255).to(torch.uint8)
