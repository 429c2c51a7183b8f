"""Weights of Real-ESRGAN's compact network, Wang et al. 2021 (arXiv 2107.10833): realesr-general and animevideo."""

import re
from collections.abc import Mapping
from math import isqrt
from typing import Any

from torch import Tensor

from gans.models.srgan import SRGAN
from gans.published.files import File
from gans.published.maps import Found, Made, Network, dimension, plain
from gans.published.rrdb import networks


def holds(content: Any) -> bool:
    """Return whether a file holds a compact network."""
    return any(convolutions(held) and "body.1.weight" in held for held in networks(content).values())


def convolutions(held: Mapping[str, Tensor]) -> list[int]:
    """Return the numbers of the convolutions, which have every second place."""
    found = [re.fullmatch(r"body\.(\d+)\.weight", name) for name, value in held.items() if value.ndim == 4]
    return sorted(int(number[1]) for number in found if number)


def convert(main: File) -> Found:
    """Return the model of a file.

    Raises:
        ValueError: if it is no compact network that this project has.
    """
    file, found = str(main.path), Found(SRGAN, {})
    for part, held in networks(main.content).items():
        places = convolutions(held)
        names: dict[str, str | Made] = {}
        for place in places:
            names |= plain(f"layers.{place}", f"body.{place}")
            if place != places[-1]:
                names |= plain(f"layers.{place + 1}", f"body.{place + 1}", bias=False)
        channels = dimension(held, "body.0.weight", 1, file)
        outputs = dimension(held, f"body.{places[-1]}.weight", 0, file)
        scale = isqrt(outputs // channels)
        if outputs != channels * scale**2:
            raise ValueError(f"{file} makes {outputs} channels of {channels}; expected {channels} times a square")
        found.arguments |= {
            "channels": channels,
            "scale": scale,
            "width": dimension(held, "body.0.weight", 0, file),
            "network": "compact",
            "blocks": len(places) - 2,
            "enlarge": "shuffle",  # the recipe has another
            "unit": True,
        }
        found.networks[part] = Network(held, names, file)
    return found
