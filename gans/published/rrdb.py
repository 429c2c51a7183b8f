"""Weights of ESRGAN, Wang et al. 2018 (arXiv 1809.00219), and Real-ESRGAN, Wang et al. 2021 (arXiv 2107.10833).

Both are the network of RRDB blocks. Its layers have other names in the first files of ESRGAN's repository, in its later
files, and in BasicSR, which Real-ESRGAN uses.
"""

import re
from collections.abc import Callable, Mapping
from math import isqrt
from typing import Any, NamedTuple

from torch import Tensor

from gans.models.srgan import SRGAN
from gans.published.files import File, tensors
from gans.published.maps import Found, Made, Network, dimension, plain


class Layout(NamedTuple):
    """Names of the layers.

    Args:
        head: the first convolution.
        block: pattern of a convolution in a dense block, by number of the block, of the dense block and of the
            convolution, from 0, 1 and 1.
        rest: returns the convolution behind the blocks, those behind doublings, and the last two, for the tensors and
            the number of blocks.
    """

    head: str
    block: str
    rest: Callable[[Mapping[str, Tensor], int], list[str]]


def named(behind: str, up: str, *last: str) -> Callable[[Mapping[str, Tensor], int], list[str]]:
    """Return the function `rest` of a layout that numbers only the layers behind doublings."""

    def rest(held: Mapping[str, Tensor], blocks: int) -> list[str]:
        ups = [up.format(number) for number in range(1, 10) if f"{up.format(number)}.weight" in held]
        return [behind, *ups, *last]

    return rest


def counted(held: Mapping[str, Tensor], blocks: int) -> list[str]:
    """Return the layers behind the blocks of a file in ESRGAN's first layout, which numbers all of them."""
    found = [int(number[1]) for name in held if (number := re.fullmatch(r"model\.(\d+)\.weight", name))]
    return [f"model.1.sub.{blocks}", *(f"model.{number}" for number in sorted(found)[1:])]


LAYOUTS = {
    "basicsr": Layout("conv_first", "body.{}.rdb{}.conv{}", named("conv_body", "conv_up{}", "conv_hr", "conv_last")),
    "esrgan": Layout(
        "conv_first", "RRDB_trunk.{}.RDB{}.conv{}", named("trunk_conv", "upconv{}", "HRconv", "conv_last")
    ),
    "esrgan-old": Layout("model.0", "model.1.sub.{}.RDB{}.conv{}.0", counted),
}
OF = {"esrgan": ("esrgan", "esrgan-old"), "realesrgan": ("basicsr",)}  # layouts of a kind


def networks(content: Any) -> dict[str, dict[str, Tensor]]:
    """Return the tensors of `generator` and `generator_ema`, of which a file has one or both."""
    held = {
        part: tensors(content[key])
        for part, key in (("generator", "params"), ("generator_ema", "params_ema"))
        if isinstance(content, dict) and tensors(content.get(key))
    } or {"generator": tensors(content)}
    return {
        part: {name.removeprefix("module."): value for name, value in given.items()} for part, given in held.items()
    }


def layout_of(held: Mapping[str, Tensor]) -> str | None:
    """Return the layout of a file's tensors; None if they are of no network of RRDB blocks."""
    for name, layout in LAYOUTS.items():
        if f"{layout.block.format(0, 1, 1)}.weight" in held and f"{layout.head}.weight" in held:
            return name
    return None


def holds(content: Any, kind: str) -> bool:
    """Return whether a file holds a generator in a layout of `kind`."""
    return any(layout_of(held) in OF[kind] for held in networks(content).values())


def convert(main: File) -> Found:
    """Return the model of a generator's file.

    Raises:
        ValueError: if it is no network of RRDB blocks that this project has.
    """
    published, file = networks(main.content), str(main.path)
    arguments: dict[str, Any] = {}
    found = Found(SRGAN, arguments)
    for part, held in published.items():
        name = layout_of(held)
        if name is None:
            raise ValueError(f"{file}: {part} has no RRDB blocks")
        own, names = mapped(held, LAYOUTS[name], file)
        arguments |= own
        found.networks[part] = Network(held, names, file)
    return found


def mapped(held: Mapping[str, Tensor], layout: Layout, file: str) -> tuple[dict[str, Any], dict[str, str | Made]]:
    """Return arguments of the model and the map of a generator.

    Raises:
        ValueError: if its channels or its layers fit no scale.
    """
    blocks = 0
    while f"{layout.block.format(blocks, 1, 1)}.weight" in held:
        blocks += 1
    rest = layout.rest(held, blocks)
    if len(rest) < 3:
        raise ValueError(f"{file} has {len(rest) - 1} layers behind those of its blocks; expected at least 2")
    behind, *ups, tail, last = rest
    channels = dimension(held, f"{last}.weight", 0, file)
    given = dimension(held, f"{layout.head}.weight", 1, file)
    shrink = isqrt(given // channels)
    if given != channels * shrink**2 or 2 ** len(ups) % shrink:
        told = f"{given} channels of its input, {channels} of its output and {len(ups)} doublings"
        raise ValueError(f"{file} has {told}; expected the output's times 1, 4 or 16, and the doublings to undo them")
    names = dict(plain("head", layout.head)) | plain(f"body.{blocks}", behind)
    for block in range(blocks):
        for dense in (1, 2, 3):
            for number in range(1, 6):
                ours = f"body.{block}.layers.{dense - 1}.convs.{number - 1}"
                names |= plain(ours, layout.block.format(block, dense, number))
    for number, up in enumerate(ups):
        names |= plain(f"ups.{number}.1", up)
    arguments = {
        "channels": channels,
        "scale": 2 ** len(ups) // shrink,
        "width": dimension(held, f"{layout.head}.weight", 0, file),
        "network": "rrdb",
        "blocks": blocks,
        "growth": dimension(held, f"{layout.block.format(0, 1, 1)}.weight", 0, file),
        "base": "none",
        "enlarge": "nearest",
        "shrink": shrink,
        "unit": True,
    }
    return arguments, names | plain("tail", tail) | plain("last", last)
