"""Weights of CycleGAN, Zhu et al. 2017 (arXiv 1703.10593), from the repository pytorch-CycleGAN-and-pix2pix.

A file holds one network: `latest_net_G_A.pth` translates A to B, `latest_net_D_A.pth` judges B, and `G_B` and `D_B` are
for the other direction.
"""

from typing import Any

from gans.models.cyclegan import CycleGAN
from gans.published.files import File
from gans.published.maps import Found, Network
from gans.published.translators import antialiased, convolutions, critic, is_residual, normed, residual, weights_of


def holds(content: Any) -> bool:
    """Return whether a file holds a residual generator without BatchNorm."""
    held = weights_of(content)
    return is_residual(held) and not antialiased(held) and normed(held, convolutions(held)) != "batch"


def convert(main: File, discriminator: File | None, back: File | None, back_discriminator: File | None) -> Found:
    """Return the model of one or two generators and their critics.

    Args:
        main: the generator from sources to targets.
        discriminator: the critic of targets.
        back: the generator from targets to sources.
        back_discriminator: the critic of sources.

    Raises:
        ValueError: if they are not networks of that repository that this project has, or do not go together.
    """
    arguments, network = residual(weights_of(main.content), "instance_affine", str(main.path))
    networks = {"generator.there": network}
    given, made = arguments["source_channels"], arguments["channels"]
    if given != made:
        arguments["identity_weight"] = 0.0
    if back is not None:
        own, networks["generator.back"] = residual(weights_of(back.content), "instance_affine", str(back.path))
        wanted = {**arguments, "source_channels": made, "channels": given}
        if other := [f"{name} {own[name]}" for name in own if own[name] != wanted[name]]:
            expected = ", ".join(f"{name} {wanted[name]}" for name in own if own[name] != wanted[name])
            raise ValueError(f"{back.path} has {', '.join(other)}; expected {expected}, for the way back")
    for part, file in (("there", discriminator), ("back", back_discriminator)):
        if file is not None:
            width, networks[f"discriminator.{part}"] = judged(file, arguments["norm"])
            if arguments.setdefault("discriminator_width", width) != width:
                told = f"{file.path} has the width {width}, the other critic {arguments['discriminator_width']}"
                raise ValueError(f"{told}; expected one width")
    return Found(CycleGAN, arguments, networks, ("generator.back", "discriminator.there", "discriminator.back"))


def judged(file: File, norm: Any) -> tuple[int, Network]:
    """Return the width and the weights of a critic's file."""
    return critic(weights_of(file.content), norm, 0, str(file.path))
