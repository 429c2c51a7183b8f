"""The steps of degradations: functions of pixels `(C, H, W)` in 0..1 and of what was drawn for them."""

import io
from collections.abc import Callable
from math import ceil, log2, pi
from typing import NamedTuple

import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import gaussian_blur, pil_to_tensor, rotate, to_pil_image

from datamodules import kernels
from datamodules.edges import edges

GAMMA = 2.2  # between light and pixel values
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in grey, ITU-R 601, as in Pillow
RESIZERS = ("area", "bilinear", "bicubic")  # one of which `any` draws
Size = tuple[int, int]
Range = tuple[float, float]


class Drawn(NamedTuple):
    """What a step does to one image.

    Attributes:
        value: The value of the step.
        limits: The range that it is of.
        word: Its word, or none.
        more: The ranges behind its other words.
        clean: (height, width) of the clean image.
        generator: Source of further random numbers.
    """

    value: float
    limits: Range
    word: str
    more: dict[str, Range]
    clean: Size
    generator: Generator

    def share(self) -> float:
        """Return a random number in 0..1."""
        return float(torch.rand((), generator=self.generator, dtype=torch.float64))

    def between(self, low: float, high: float) -> float:
        """Return a random number of a range."""
        return low + (high - low) * self.share()


def rounded(pixels: Tensor) -> Tensor:
    """Return values of 0..1 as uint8, clipped."""
    return (pixels * 255).round().clamp(0, 255).to(torch.uint8)


def resized(pixels: Tensor, size: Size, kernel: str) -> Tensor:
    """Return an image `(C, H, W)` resized to `size`, antialiased except for `nearest`."""
    mode = {"nearest": "nearest-exact", "box": "area"}.get(kernel, kernel)
    found: Tensor = interpolate(pixels[None], size, mode=mode, antialias=mode == kernel)[0]
    return found.clamp(0, 1)


def luma(pixels: Tensor) -> Tensor:
    """Return the image in grey `(1, H, W)`."""
    return pixels if len(pixels) == 1 else (pixels * torch.tensor(LUMA).view(3, 1, 1)).sum(0, keepdim=True)


# -- blur --------------------------------------------------------------------------------------------------------------


def blur(pixels: Tensor, drawn: Drawn) -> Tensor:
    """Return the image convolved with a Gaussian of standard deviation `value`, or with a kernel of another shape."""
    value = drawn.value
    if value < 0.05:  # too small to reach the next pixel
        return pixels
    if drawn.word or drawn.more:
        return kernels.filtered(pixels, kernel(drawn))
    radius = min(ceil(3 * value), min(pixels.shape[-2:]) - 1)
    blurred: Tensor = gaussian_blur(pixels, [2 * radius + 1] * 2, [value] * 2)
    return blurred


def kernel(drawn: Drawn) -> Tensor:
    """Return a random blur kernel `(size, size)`.

    A kernel that is `oval` has a second deviation and an angle. A range of powers that contains 1 gives powers below
    and above 1 equally often, as Real-ESRGAN does.
    """
    deviations, angle = (drawn.value, drawn.value), 0.0
    if drawn.word == "oval":
        deviations = drawn.value, max(0.05, drawn.between(*drawn.limits))
        angle = drawn.between(-pi, pi)
    size = window(drawn) if "size" in drawn.more else 2 * ceil(3 * max(deviations)) + 1
    for shape, of in (("generalised", kernels.gaussian), ("plateau", kernels.plateau)):
        if shape in drawn.more:
            low, high = drawn.more[shape]
            if low <= 1 <= high:
                low, high = (low, 1) if drawn.share() < 0.5 else (1, high)
            return of(size, deviations, angle, drawn.between(low, high))
    return kernels.gaussian(size, deviations, angle)


def window(drawn: Drawn) -> int:
    """Return the side of a kernel, an odd number of its range."""
    low, high = (int(end) for end in drawn.more["size"])
    return low + 2 * int(drawn.share() * ((high - low) // 2 + 1))


def sinc(pixels: Tensor, drawn: Drawn) -> Tensor:
    """Return the image without frequencies above `value` times the Nyquist frequency, ringing at edges."""
    return kernels.filtered(pixels, kernels.sinc(window(drawn), drawn.value))


# -- size --------------------------------------------------------------------------------------------------------------


def downscale(pixels: Tensor, drawn: Drawn) -> Tensor:
    """Return the image `value` times smaller, rounded."""
    height, width = (max(1, round(side / round(drawn.value))) for side in pixels.shape[-2:])
    return resized(pixels, (height, width), drawn.word)


def enlarge(pixels: Tensor, drawn: Drawn) -> Tensor:
    """Return the image in the size of the clean image."""
    return resized(pixels, drawn.clean, drawn.word)


def resize(pixels: Tensor, drawn: Drawn) -> Tensor:
    """Return the image `value` times as large, or `value` times as large as a part of the clean image."""
    part = drawn.more["of"][0] if "of" in drawn.more else 0.0
    sides = (side / part for side in drawn.clean) if part else pixels.shape[-2:]
    height, width = (max(1, round(drawn.value * side)) for side in sides)
    mode = drawn.word if drawn.word != "any" else RESIZERS[int(drawn.share() * len(RESIZERS))]
    pixels = pixels.clamp(0, 1)
    if pixels.shape[-2:] == (height, width):
        return pixels
    found: Tensor = interpolate(pixels[None], (height, width), mode=mode)[0]
    return found


# -- noise and compression ---------------------------------------------------------------------------------------------


def noise(pixels: Tensor, drawn: Drawn) -> Tensor:
    """Return the image with Gaussian noise, of each channel or of all alike."""
    shape = (1, *pixels.shape[1:]) if drawn.word else pixels.shape
    return pixels + drawn.value / 255 * torch.randn(shape, generator=drawn.generator)


def poisson(pixels: Tensor, drawn: Drawn) -> Tensor:
    """Return the image with shot noise, for `value` photons at white."""
    return torch.poisson(pixels.clamp(min=0) * drawn.value, generator=drawn.generator) / drawn.value


def shot(pixels: Tensor, drawn: Drawn) -> Tensor:
    """Return the image with `value` times the shot noise of scikit-image's `random_noise`.

    White has as many photons as the image has different values of 0..255, rounded up to a power of 2. With a word, the
    noise is that of the image in grey, the same in all channels.
    """
    light = ((luma(pixels) if drawn.word else pixels) * 255).round().clamp(0, 255)
    photons = 2.0 ** ceil(log2(int(light.long().flatten().bincount().count_nonzero())))
    light = light / 255
    arrived = torch.poisson(light * photons, generator=drawn.generator) / photons
    return pixels + drawn.value * (arrived - light)


def compress(pixels: Tensor, drawn: Drawn) -> Tensor:
    """Return the image after JPEG compression of quality `value`."""
    file = io.BytesIO()  # not torchvision's function, which is deprecated
    to_pil_image(rounded(pixels)).save(file, "JPEG", quality=round(drawn.value))
    compressed: Tensor = pil_to_tensor(Image.open(file))
    return compressed.float() / 255


# -- colour and place --------------------------------------------------------------------------------------------------


def dark(pixels: Tensor, drawn: Drawn) -> Tensor:
    """Return the image with `value` times the light."""
    return pixels.clamp(min=0) * float(drawn.value ** (1 / GAMMA))


def grey(pixels: Tensor, drawn: Drawn) -> Tensor:
    """Return the image without colour, with the same number of channels."""
    return luma(pixels).expand_as(pixels)


def invert(pixels: Tensor, drawn: Drawn) -> Tensor:
    """Return the negative."""
    return 1 - pixels


def line_drawing(pixels: Tensor, drawn: Drawn) -> Tensor:
    """Return the edges of the image after a blur of standard deviation `value`."""
    return edges(luma(pixels), drawn.value).expand_as(pixels)


def turn(pixels: Tensor, drawn: Drawn) -> Tensor:
    """Return the image rotated counterclockwise by `value` degrees around its centre."""
    turned: Tensor = rotate(pixels, drawn.value, InterpolationMode.BILINEAR)
    return turned.clamp(0, 1)


def tint(pixels: Tensor, drawn: Drawn) -> Tensor:
    """Return the image times a fully saturated colour of random hue, whose largest channel is 1 and smallest 0."""
    hue = 6 * float(torch.rand((), generator=drawn.generator))
    colour = [min(max(abs((hue - shift) % 6 - 3) - 1, 0.0), 1.0) for shift in (0, 2, 4)]
    return pixels * torch.tensor(colour).view(3, 1, 1)


STEPS: dict[str, Callable[[Tensor, Drawn], Tensor]] = {
    "blur": blur,
    "sinc": sinc,
    "downscale": downscale,
    "enlarge": enlarge,
    "resize": resize,
    "noise": noise,
    "poisson": poisson,
    "shot": shot,
    "jpeg": compress,
    "dark": dark,
    "grey": grey,
    "invert": invert,
    "edges": line_drawing,
    "rotate": turn,
    "tint": tint,
}
