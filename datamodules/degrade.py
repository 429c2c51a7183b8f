"""Degradations of clean images on access: functions of (image, key), described by a line of `datamodules.grammar`."""

from collections.abc import Iterator
from itertools import permutations
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from datamodules import masks
from datamodules.grammar import WHOLE, Chained, Choice, Node, Shuffled, Step, parsed
from datamodules.order import mix
from datamodules.steps import STEPS, Drawn, Size, rounded

# Steps that do not change alpha.
COLOUR = ("blur", "sinc", "noise", "poisson", "shot", "dark", "grey", "invert", "edges")
MOST_SHUFFLED = 5  # parts, whose orders are all looked at


class Chain:
    """A chain of degradations, a function of image and key.

    Args:
        text: Description of the steps, see `datamodules.grammar`.
        size: (height, width) of the clean images.
        channels: Channels of the clean images.

    Raises:
        ValueError: The text has an unknown or unsupported step, or the images are too small for the scale.
    """

    def __init__(self, text: str, size: Size, channels: int) -> None:
        self.tree = parsed(text)
        all_steps = list(steps(self.tree))
        self.hole = all_steps[0].word if all_steps[0].name == "mask" else None
        if any(step.name == "mask" for step in all_steps) and self.tree != Chained((all_steps[0],)):
            raise ValueError(f"degrade is {text}; expected a mask alone")
        for step in all_steps:
            if step.name == "tint" and channels != 3:
                raise ValueError(f"degrade is {text}; expected 3 channels for tint, not {channels}")
            if step.name == "jpeg" and channels == 4:
                raise ValueError(f"degrade is {text}; expected no jpeg, which has no fourth channel")
        passed: list[int] = []
        ends = outcomes(self.tree, {Scale(1, 1)}, passed)
        self.scale = max(end.most for end in ends)  # factor by which the degraded images are smaller
        if not any(step.name == "enlarge" for step in all_steps) and any(side % self.scale for side in size):
            raise ValueError(f"size is {size[0]}x{size[1]}; expected multiples of {self.scale}, the scale in degrade")
        if max(passed, default=1) > min(size):
            raise ValueError(f"degrade is {text}; expected a scale that leaves pixels of {min(size)}")
        if len({end.fixed for end in ends}) > 1 or None in {end.fixed for end in ends}:
            expected = "one number for downscale, or enlarge after it"
            if any(step.name == "resize" for step in all_steps):
                expected = "images of one size: end with enlarge, or with resize 1 of 1/4 for a scale of 4"
            raise ValueError(f"degrade is {text}; expected {expected}")

    def __call__(self, image: Tensor, key: int) -> Tensor:
        """Return the degraded image for a clean one `(C, H, W)` uint8, or a mask `(1, H, W)` bool."""
        clean: Size = (image.shape[-2], image.shape[-1])
        if self.hole:
            return masks.KINDS[self.hole](clean, Generator().manual_seed(mix(key, 0)))
        return rounded(changed(image.float() / 255, self.tree, key, clean))


def changed(pixels: Tensor, node: Node, key: int, clean: Size) -> Tensor:
    """Return the image after a part of a chain.

    Args:
        pixels: The image `(C, H, W)` in 0..1.
        node: The part.
        key: Its key. Each step has a key of its own, so that its numbers do not depend on the steps before.
        clean: (height, width) of the clean image.
    """
    if isinstance(node, Step):
        return applied(pixels, node, key, clean)
    order = list(range(len(node.parts)))
    if isinstance(node, Shuffled):
        order.sort(key=lambda number: mix(key, len(order) + number))
    if isinstance(node, Choice):
        order = [chosen(node.odds, mix(key, len(order)))]
    for number in order:
        pixels = changed(pixels, node.parts[number], mix(key, number), clean)
    return pixels


def chosen(odds: tuple[float, ...], word: int) -> int:
    """Return a number below `len(odds)`, drawn with these odds by a 63-bit random word."""
    left = word / 2**63 * sum(odds)
    for number, share in enumerate(odds):
        left -= share
        if left < 0:
            return number
    return max(number for number, share in enumerate(odds) if share)  # only by rounding


def applied(pixels: Tensor, step: Step, key: int, clean: Size) -> Tensor:
    """Return the image after one step. For the arguments see `changed`."""
    generator = Generator().manual_seed(key)
    share = float(torch.rand((), generator=generator, dtype=torch.float64))
    if step.name in WHOLE:
        value = step.low + int(share * (step.high - step.low + 1))
    else:
        value = step.low + (step.high - step.low) * share
    alpha = pixels[3:] if step.name in COLOUR else pixels[:0]
    drawn = Drawn(value, (step.low, step.high), step.word, step.more, clean, generator)
    found = STEPS[step.name](pixels[: len(pixels) - len(alpha)], drawn)
    return torch.cat([found, alpha]) if len(alpha) else found


# -- what a text says about sizes --------------------------------------------------------------------------------------


class Scale(NamedTuple):
    """How much smaller than the clean image an image is.

    Attributes:
        fixed: The factor, or None if it differs from image to image.
        most: The largest factor that `downscale` gives.
    """

    fixed: int | None
    most: int


def steps(node: Node) -> Iterator[Step]:
    """Yield all steps of a part of a chain."""
    if isinstance(node, Step):
        yield node
    else:
        for part in node.parts:
            yield from steps(part)


def outcomes(node: Node, before: set[Scale], passed: list[int]) -> set[Scale]:
    """Return the possible scales of images behind a part of a chain, given those before it.

    Args:
        node: The part.
        before: Possible scales before it.
        passed: Gets all factors of `downscale` in between.

    Raises:
        ValueError: Too many parts are shuffled.
    """
    if isinstance(node, Step):
        after = {scaled(node, scale) for scale in before}
        passed += [scale.most for scale in after]
        return after
    if isinstance(node, Choice):
        possible = [part for part, share in zip(node.parts, node.odds, strict=True) if share]
        return set().union(*(outcomes(part, before, passed) for part in possible))
    if isinstance(node, Shuffled) and len(node.parts) > MOST_SHUFFLED:
        raise ValueError(f"degrade shuffles {len(node.parts)} steps; expected at most {MOST_SHUFFLED}")
    orders = permutations(node.parts) if isinstance(node, Shuffled) else [node.parts]
    found: set[Scale] = set()
    for order in orders:
        scales = before
        for part in order:
            scales = outcomes(part, scales, passed)
        found |= scales
    return found


def scaled(step: Step, before: Scale) -> Scale:
    """Return the scale of images behind a step, given that before it."""
    if step.name == "enlarge":
        return Scale(1, 1)
    if step.name == "downscale":
        by = int(step.high)
        known = before.fixed is not None and step.low == step.high
        return Scale((before.fixed or 0) * by if known else None, before.most * by)
    if step.name == "resize" and "of" in step.more:
        part = int(step.more["of"][0])
        return Scale(part if step.low == step.high == 1 else None, part)
    if step.name == "resize" and not step.low == step.high == 1:
        return Scale(None, before.most)
    return before
