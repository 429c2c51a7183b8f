"""Degradations of clean images on access: functions of (image, key), described by a line of text.

    blur 0.2..3, downscale 4 bicubic, noise 0..25, jpeg 40..95

is a chain of four steps, in this order. A range draws a uniform value for each image. A single number is constant. Only
steps that resize or rotate the image change its alpha channel.

    blur S                  Gaussian blur with standard deviation S in pixels
    downscale N [KERNEL]    N times smaller; the kernel is bicubic, bilinear, box or nearest
    enlarge [KERNEL]        resize to the size of the clean image
    noise S                 Gaussian noise with standard deviation S on the scale 0..255
    poisson N               shot noise with N photons at white
    jpeg Q                  JPEG compression of quality Q, 1 to 100
    dark F                  low light: F times the light (F at most 1), before gamma
    grey                    no colour; the number of channels stays the same
    invert                  the negative
    edges S                 a drawing of black lines on white, the edges after a Gaussian blur, see `datamodules.edges`
    rotate D                rotated counterclockwise by D degrees, padded with black
    tint                    multiplied by a random colour; for three channels
    mask KIND               a hole: rectangle, brush, irregular, one of these (mixed), or centre; without other steps
"""

import io
import re
from collections.abc import Callable
from math import ceil
from typing import NamedTuple

import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import gaussian_blur, pil_to_tensor, rotate, to_pil_image

from datamodules import masks
from datamodules.edges import edges
from datamodules.order import mix

GAMMA = 2.2  # between light and pixel values
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in grey, ITU-R 601, as in Pillow
KERNELS = ("bicubic", "bilinear", "box", "nearest")
WHOLE = ("downscale", "jpeg")  # steps whose values are integers
COLOUR = ("blur", "noise", "poisson", "dark", "grey", "invert", "edges")  # steps that do not change alpha
Size = tuple[int, int]


class Step(NamedTuple):
    """One degradation.

    Args:
        name: Name of the step.
        low: Minimum of its value.
        high: Maximum of its value.
        word: Kernel, or kind of mask.
    """

    name: str
    low: float = 0.0
    high: float = 0.0
    word: str = ""


class Limits(NamedTuple):
    """Arguments of a step: range of its value, or None without a value; possible words, and the default word."""

    values: tuple[float, float] | None
    words: tuple[str, ...] = ()
    usual: str = ""


KNOWN = {
    "blur": Limits((0, 100)),
    "downscale": Limits((1, 64), KERNELS, "bicubic"),
    "enlarge": Limits(None, KERNELS, "bicubic"),
    "noise": Limits((0, 255)),
    "poisson": Limits((1, 1e6)),
    "jpeg": Limits((1, 100)),
    "dark": Limits((1e-3, 1)),
    "grey": Limits(None),
    "invert": Limits(None),
    "edges": Limits((0, 100)),
    "rotate": Limits((0, 360)),
    "tint": Limits(None),
    "mask": Limits(None, tuple(masks.KINDS), ""),
}


class Chain:
    """A chain of degradations, a function of image and key.

    Args:
        text: Description of the steps, see the module's docstring.
        size: (height, width) of the clean images.
        channels: Channels of the clean images.

    Raises:
        ValueError: The text has an unknown or unsupported step, or the images are too small for the scale.
    """

    def __init__(self, text: str, size: Size, channels: int) -> None:
        self.steps = [parsed(part.strip()) for part in text.split(",")]
        self.size = size
        self.hole = self.steps[0].word if self.steps[0].name == "mask" else None
        if len(self.steps) > 1 and any(step.name == "mask" for step in self.steps):
            raise ValueError(f"degrade is {text}; expected a mask alone")
        scale = 1
        for step in self.steps:
            if step.name == "tint" and channels != 3:
                raise ValueError(f"degrade is {text}; expected 3 channels for tint, not {channels}")
            if step.name == "jpeg" and channels == 4:
                raise ValueError(f"degrade is {text}; expected no jpeg, which has no fourth channel")
            if step.name == "downscale":
                scale *= int(step.high)
                self._check_scale(text, scale)
            if step.name == "enlarge":
                scale = 1
        self.scale = scale  # factor by which the degraded images are smaller
        if scale > 1 and any(step.low < step.high for step in self.steps if step.name == "downscale"):
            raise ValueError(f"degrade is {text}; expected one number for downscale, or enlarge after it")

    def _check_scale(self, text: str, scale: int) -> None:
        enlarged = any(other.name == "enlarge" for other in self.steps)
        if not enlarged and any(side % scale for side in self.size):
            height, width = self.size
            raise ValueError(f"size is {height}x{width}; expected multiples of {scale}, the scale in degrade")
        if scale > min(self.size):
            raise ValueError(f"degrade is {text}; expected a scale that leaves pixels of {min(self.size)}")

    def __call__(self, image: Tensor, key: int) -> Tensor:
        """Return the degraded image for a clean one `(C, H, W)` uint8, or a mask `(1, H, W)` bool."""
        size = (image.shape[-2], image.shape[-1])
        if self.hole:
            return masks.KINDS[self.hole](size, Generator().manual_seed(mix(key, 0)))
        pixels = image.float() / 255
        for number, step in enumerate(self.steps):
            # A generator for each step, so that its numbers do not depend on the steps before.
            generator = Generator().manual_seed(mix(key, number))
            share = float(torch.rand((), generator=generator, dtype=torch.float64))
            if step.name in WHOLE:
                value = step.low + int(share * (step.high - step.low + 1))
            else:
                value = step.low + (step.high - step.low) * share
            alpha = pixels[3:] if step.name in COLOUR else pixels[:0]
            pixels = pixels[: len(pixels) - len(alpha)]
            if step.name == "enlarge":
                pixels = resized(pixels, size, step.word)
            else:
                pixels = STEPS[step.name](pixels, value, step.word, generator)
            pixels = torch.cat([pixels, alpha]) if len(alpha) else pixels
        return rounded(pixels)


def parsed(part: str) -> Step:
    """Return the step that a text describes.

    Raises:
        ValueError: The step is unknown, or its value or word is not supported.
    """
    name, *rest = part.split() or [""]
    if name not in KNOWN:
        raise ValueError(f"degrade names {name or 'nothing'}; expected steps of {', '.join(KNOWN)}, with commas")
    limits, low, high = KNOWN[name], 0.0, 0.0
    if limits.values:
        found = re.fullmatch(r"(\d+\.?\d*)(?:\.\.(\d+\.?\d*))?", rest[0]) if rest else None
        least, most = limits.values
        if found is None or not least <= float(found[1]) <= float(found[2] or found[1]) <= most:
            raise ValueError(f"degrade is {part}; expected a number or a range as 1..2 within {least:g}..{most:g}")
        low, high, rest = float(found[1]), float(found[2] or found[1]), rest[1:]
        if name in WHOLE and (low % 1 or high % 1):
            raise ValueError(f"degrade is {part}; expected whole numbers for {name}")
    word = rest[0] if len(rest) == 1 else limits.usual if not rest else None
    if (limits.words and word not in limits.words) or (not limits.words and rest):
        expected = f"one of {', '.join(limits.words)}" if limits.words else "nothing"
        raise ValueError(f"degrade is {part}; expected {expected} after {name}")
    return Step(name, low, high, word or "")


def rounded(pixels: Tensor) -> Tensor:
    """Return values of 0..1 as uint8, clipped."""
    return (pixels * 255).round().clamp(0, 255).to(torch.uint8)


def resized(pixels: Tensor, size: Size, kernel: str) -> Tensor:
    """Return an image `(C, H, W)` resized to `size`, antialiased except for `nearest`."""
    mode = {"nearest": "nearest-exact", "box": "area"}.get(kernel, kernel)
    found: Tensor = interpolate(pixels[None], size, mode=mode, antialias=mode == kernel)[0]
    return found.clamp(0, 1)


# -- the steps: functions of pixels `(C, H, W)` in 0..1, a value, a word and a generator -------------------------------


def blur(pixels: Tensor, value: float, _: str, generator: Generator) -> Tensor:
    """Return the image convolved with a Gaussian of standard deviation `value`."""
    if value < 0.05:  # too small to reach the next pixel
        return pixels
    radius = min(ceil(3 * value), min(pixels.shape[-2:]) - 1)
    blurred: Tensor = gaussian_blur(pixels, [2 * radius + 1] * 2, [value] * 2)
    return blurred


def downscale(pixels: Tensor, value: float, kernel: str, generator: Generator) -> Tensor:
    """Return the image `value` times smaller, rounded."""
    height, width = (max(1, round(side / round(value))) for side in pixels.shape[-2:])
    return resized(pixels, (height, width), kernel)


def noise(pixels: Tensor, value: float, _: str, generator: Generator) -> Tensor:
    """Return the image with Gaussian noise."""
    return pixels + value / 255 * torch.randn(pixels.shape, generator=generator)


def poisson(pixels: Tensor, value: float, _: str, generator: Generator) -> Tensor:
    """Return the image with shot noise, for `value` photons at white."""
    return torch.poisson(pixels.clamp(min=0) * value, generator=generator) / value


def compress(pixels: Tensor, value: float, _: str, generator: Generator) -> Tensor:
    """Return the image after JPEG compression of quality `value`."""
    file = io.BytesIO()  # not torchvision's function, which is deprecated
    to_pil_image(rounded(pixels)).save(file, "JPEG", quality=round(value))
    compressed: Tensor = pil_to_tensor(Image.open(file))
    return compressed.float() / 255


def dark(pixels: Tensor, value: float, _: str, generator: Generator) -> Tensor:
    """Return the image with `value` times the light."""
    return pixels.clamp(min=0) * float(value ** (1 / GAMMA))


def grey(pixels: Tensor, value: float, _: str, generator: Generator) -> Tensor:
    """Return the image without colour, with the same number of channels."""
    if len(pixels) == 1:
        return pixels
    return (pixels * torch.tensor(LUMA).view(3, 1, 1)).sum(0).expand(3, -1, -1)


def invert(pixels: Tensor, value: float, _: str, generator: Generator) -> Tensor:
    """Return the negative."""
    return 1 - pixels


def drawn(pixels: Tensor, value: float, _: str, generator: Generator) -> Tensor:
    """Return the edges of the image after a blur of standard deviation `value`."""
    return edges(pixels, value)


def turn(pixels: Tensor, value: float, _: str, generator: Generator) -> Tensor:
    """Return the image rotated counterclockwise by `value` degrees around its centre."""
    turned: Tensor = rotate(pixels, value, InterpolationMode.BILINEAR)
    return turned.clamp(0, 1)


def tint(pixels: Tensor, value: float, _: str, generator: Generator) -> Tensor:
    """Return the image times a fully saturated colour of random hue, whose largest channel is 1 and smallest 0."""
    hue = 6 * float(torch.rand((), generator=generator))
    colour = [min(max(abs((hue - shift) % 6 - 3) - 1, 0.0), 1.0) for shift in (0, 2, 4)]
    return pixels * torch.tensor(colour).view(3, 1, 1)


Function = Callable[[Tensor, float, str, Generator], Tensor]
STEPS: dict[str, Function] = {
    "blur": blur,
    "downscale": downscale,
    "noise": noise,
    "poisson": poisson,
    "jpeg": compress,
    "dark": dark,
    "grey": grey,
    "invert": invert,
    "edges": drawn,
    "rotate": turn,
    "tint": tint,
}
