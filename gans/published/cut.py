"""Weights of CUT and FastCUT, Park et al. 2020 (arXiv 2007.15651), from contrastive-unpaired-translation.

A file holds one network: `latest_net_G.pth` a residual generator, by default with filters around its strides,
`latest_net_D.pth` the critic, and `latest_net_F.pth` the heads of the contrastive loss.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from gans.models.cut import CUT
from gans.published.files import File
from gans.published.maps import Found, Made, Network, dimension, plain
from gans.published.translators import antialiased, convolutions, critic, is_residual, normed, residual, weights_of

# Stages of ours that heads see: theirs are the modules 0, 4, 8, 12 and 16 of a generator with filters.
STAGES = (0, 2, 3, 4, 8)
FEWEST = 5  # blocks, up to the last of these stages


def holds(content: Any) -> bool:
    """Return whether a file holds a residual generator without BatchNorm."""
    held = weights_of(content)
    return is_residual(held) and normed(held, convolutions(held)) != "batch"


def convert(main: File, discriminator: File | None, heads: File | None) -> Found:
    """Return the model of a generator's file and, if there are, of its critic and its heads.

    Args:
        main: the generator's file.
        discriminator: the critic's file.
        heads: the file of the heads.

    Raises:
        ValueError: if they are not networks of that repository that this project has.
    """
    held, file = weights_of(main.content), str(main.path)
    arguments, network = residual(held, "instance_affine", file)
    if (given := arguments.pop("source_channels")) != arguments["channels"]:
        raise ValueError(f"{file} makes {arguments['channels']} channels of {given}; expected as many, as CUT has")
    arguments["antialias"] = antialiased(held)
    networks = {"generator": network}
    if discriminator is not None:
        judge, path = weights_of(discriminator.content), str(discriminator.path)
        if antialiased(judge) != arguments["antialias"]:
            has = "has filters" if antialiased(judge) else "has no filters"
            raise ValueError(f"{path} {has}, unlike the generator; expected both with --no_antialias or both without")
        arguments["discriminator_width"], networks["discriminator"] = critic(judge, arguments["norm"], 0, path)
    if heads is not None:
        if not arguments["antialias"] or arguments["blocks"] < FEWEST:
            told = f"expected, for heads, a generator with filters and at least {FEWEST} blocks"
            raise ValueError(f"{file} has {arguments['blocks']} blocks and antialias {arguments['antialias']}; {told}")
        if arguments["blocks"] != 9:
            arguments["stages"] = STAGES
        seen = [held.get(f"{name}.bias") for name in convolutions(held)[1:3]]
        arguments["patch_dim"], networks["heads"] = headed(weights_of(heads.content), seen, str(heads.path))
    return Found(CUT, arguments, networks, ("discriminator", "heads"))


def headed(held: Mapping[str, Tensor], biases: Sequence[Tensor | None], file: str) -> tuple[int, Network]:
    """Return the length of the vectors and the weights of the heads.

    Args:
        held: tensors by their names.
        biases: of the convolutions that halve. Theirs are part of the maps that the second and third head see. Ours
            have none, in front of an InstanceNorm, so they are added to the biases of these heads.
        file: the file's name, for errors.

    Raises:
        ValueError: if there are none.
    """
    count = len({found[1] for name in held if (found := re.match(r"mlp_(\d+)\.", name))})
    if not count:
        raise ValueError(f"{file} has no mlp_0: --heads names a file of netF")
    own: dict[str, Tensor] = dict(held)
    names: dict[str, str | Made] = {}
    for number, bias in enumerate(biases, 1):
        weight, layer = held.get(f"mlp_{number}.0.weight"), f"mlp_{number}.0.bias"
        if bias is not None and weight is not None and layer in held and weight.shape[1:] == bias.shape:
            own[layer] = held[layer] + weight @ bias
    for number in range(count):
        for index in (0, 2):
            names |= plain(f"stages.{number}.{index}", f"mlp_{number}.{index}")
    return dimension(held, "mlp_0.0.weight", 0, file), Network(own, names, file)
