"""Arguments of our StyleGAN2 that give the networks of a published one: its preset and width."""

from dataclasses import replace
from typing import Any

from gans.models.stylegan2 import PRESETS, planned
from gans.networks import stylegan2


def arguments(channels: list[int], file: str, **given: Any) -> dict[str, Any]:
    """Return `size`, `preset` and `width` of the networks with these channels of levels, lowest resolution first.

    Args:
        channels: from 4x4 pixels to the image.
        file: the file's name, for errors.
        given: numbers of a preset that the networks have, such as `mapping_layers`.

    Raises:
        ValueError: if no preset has them.
    """
    size = 4 * 2 ** (len(channels) - 1)
    levels = stylegan2.sides((size, size))
    for name in PRESETS:
        for width in (None, channels[-1]):
            plan = planned(name, size, width)
            fits = stylegan2.widths(levels, plan.base_width, plan.max_width) == channels
            if fits and plan == replace(plan, **given):
                return {"size": size, "preset": name, **({} if width is None else {"width": width})}
    told = ", ".join(f"{key} {value}" for key, value in given.items())
    raise ValueError(
        f"{file} has levels of {channels} channels with {told}, which no preset of StyleGAN2 has: "
        f"expected one of {', '.join(PRESETS)}, at any width"
    )
