"""Differentiable conversion between sRGB and CIE Lab, a measure of colourfulness, and transfer of colours.

RGB is sRGB (IEC 61966-2-1) with white point D65. Lab images are `(N, 3, H, W)` with L from 0 to 100, and a and b from
about -110 to 110. All functions compute in at least float32.
"""

import torch
from torch import Tensor

# Linear RGB to XYZ (IEC 61966-2-1). The rows are divided by the XYZ of white below, so that white is (1, 1, 1).
TO_XYZ = torch.tensor(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ],
    dtype=torch.float64,
)
TO_RELATIVE = TO_XYZ / TO_XYZ.sum(1, keepdim=True)
TO_LINEAR = torch.linalg.inv(TO_RELATIVE)
FLAT = 1e-4  # least variance of colours on [-1, 1]: a deviation of 1.3 levels of 255
BEND = 6 / 29  # below its cube, Lab replaces the cube root with a line


def rgb_to_lab(images: Tensor) -> Tensor:
    """Return L, a and b `(N, 3, H, W)` of RGB images `(N, 3, H, W)` in [-1, 1]."""
    values = (full(images) + 1) / 2
    # The arguments of powers are clamped, because `where` needs finite gradients in both branches.
    linear = torch.where(values > 0.04045, ((values.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4, values / 12.92)
    relative = mixed(linear, TO_RELATIVE)
    roots = torch.where(relative > BEND**3, relative.clamp(min=BEND**3) ** (1 / 3), relative / (3 * BEND**2) + 4 / 29)
    x, y, z = roots.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Return RGB images `(N, 3, H, W)` for L, a and b. Colours outside sRGB are clipped to [-1, 1]."""
    lightness, a, b = full(lab).unbind(1)
    y = (lightness + 16) / 116
    roots = torch.stack([y + a / 500, y, y - b / 200], 1)
    relative = torch.where(roots > BEND, roots**3, 3 * BEND**2 * (roots - 4 / 29))
    linear = mixed(relative, TO_LINEAR)
    bent = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    values = torch.where(linear > 0.0031308, bent, 12.92 * linear)
    return (2 * values - 1).clamp(-1, 1)


def colourfulness(images: Tensor) -> Tensor:
    """Return the colourfulness `(N,)` of images `(N, 3, H, W)` in [-1, 1]: 0 is grey, 60 is quite colourful.

    It is `sqrt(var rg + var yb) + 0.3 sqrt(mean rg^2 + mean yb^2)` on the scale 0..255, with rg = R - G and
    yb = (R + G)/2 - B. Source: Hasler and Suesstrunk 2003.
    """
    red, green, blue = ((full(images) + 1) * 127.5).flatten(2).unbind(1)
    first, second = red - green, (red + green) / 2 - blue
    spread = (first.var(1, correction=0) + second.var(1, correction=0)).sqrt()
    return spread + 0.3 * (first.mean(1).square() + second.mean(1).square()).sqrt()


def recoloured(image: Tensor, like: Tensor) -> Tensor:
    """Return an image `(1, C, H, W)` in [-1, 1] with the mean and covariance of the colours of another image.

    The map is linear, by symmetric roots of the covariances. Source: Gatys et al. 2016 (arXiv 1606.05897), section 5.1.

    Args:
        image: `(1, C, H, W)`.
        like: `(1, C, h, w)`.
    """
    pixels, wanted = (full(part)[0].flatten(1).double() for part in (image, like))
    means = [part.mean(1, keepdim=True) for part in (pixels, wanted)]
    roots = []
    for part, mean, power in zip((pixels, wanted), means, (-0.5, 0.5), strict=True):
        apart = part - mean
        values, vectors = torch.linalg.eigh(apart @ apart.T / part.shape[1])
        # Directions in which the image has no contrast are not amplified without limit.
        roots.append(vectors * values.clamp(min=FLAT).pow(power) @ vectors.T)
    moved: Tensor = roots[1] @ roots[0] @ (pixels - means[0]) + means[1]
    return moved.clamp(-1, 1).to(image.dtype).view(image.shape)


def mixed(channels: Tensor, matrix: Tensor) -> Tensor:
    """Return channels `(N, 3, H, W)` multiplied by a 3x3 matrix."""
    # Not a matrix product, which autocast would compute in half precision.
    return (matrix.to(channels)[:, :, None, None] * channels[:, None]).sum(2)


def full(images: Tensor) -> Tensor:
    """Return images in at least float32."""
    return images.to(torch.promote_types(images.dtype, torch.float32))
