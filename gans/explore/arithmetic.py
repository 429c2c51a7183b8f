"""Latent arithmetic, such as smiling woman - neutral woman + neutral man: Radford et al. 2015 (arXiv 1511.06434)."""

import re
from typing import NamedTuple

from torch import Tensor


class Term(NamedTuple):
    """A term of a sum: a weight and the name of a latent or direction."""

    weight: float
    name: str


def terms(text: str) -> list[Term]:
    """Return the terms of a sum such as `0:3 - class:1 + 2*sefa-1`, in order.

    Plus and minus need spaces around them, because names may contain hyphens. `2*` before a name is its weight.

    Raises:
        ValueError: if the text is not a sum.
    """
    parts = re.split(r"\s+([+-])\s+", text.strip())
    found = []
    for sign, part in zip(["+", *parts[1::2]], parts[::2], strict=True):
        match = re.fullmatch(r"(?:([-+]?\d+(?:\.\d+)?)\*)?(\S+)", part)
        if match is None:
            raise ValueError(
                f"{part or 'nothing'} is not a term of the sum {text}; expected NAME or WEIGHT*NAME between + and -"
            )
        found.append(Term((-1 if sign == "-" else 1) * float(match[1] or 1), match[2]))
    return found


def total(weights: list[float], means: list[Tensor]) -> Tensor:
    """Return the weighted sum `(...)` of points `(...)`."""
    result = 0 * means[0]
    for weight, mean in zip(weights, means, strict=True):
        result = result + weight * mean
    return result
