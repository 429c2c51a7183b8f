"""The kinds of published checkpoints that can be imported: where they come from, their licence, and their maps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gans.checks import nearest
from gans.published import biggan, mimicry, r3gan, rosinality, stylegan2_ada
from gans.published.files import File
from gans.published.maps import Found

Convert = Callable[[File, File | None, File | None], Found]


@dataclass(frozen=True)
class Kind:
    """A kind of checkpoint.

    Args:
        source: repository whose code writes such files.
        licence: of the repository, unless a user knows of another one for the weights.
        holds: returns whether a file's content is of this kind.
        convert: returns the model of the file, of the discriminator's own and of the averaged generator's own.
        files: files besides the first, by their flags: `discriminator`, `average`.
    """

    source: str
    licence: str
    holds: Callable[[Any], bool]
    convert: Convert
    files: tuple[str, ...] = ()


MIT = "MIT License"
NVIDIA = "NVIDIA Source Code License, non-commercial"
ROSINALITY = f"{MIT}; of converted weights that of the original, such as the {NVIDIA}"
KINDS = {
    "biggan": Kind(
        "github.com/ajbrock/BigGAN-PyTorch", MIT, biggan.holds, biggan.convert, ("discriminator", "average")
    ),
    "mimicry": Kind("github.com/kwotsin/mimicry", MIT, mimicry.holds, mimicry.sngan, ("discriminator",)),
    "mimicry-wgangp": Kind("github.com/kwotsin/mimicry", MIT, mimicry.holds, mimicry.wgangp, ("discriminator",)),
    "r3gan": Kind("github.com/brownvc/R3GAN", "none stated by its authors", r3gan.holds, r3gan.convert),
    "stylegan2-ada": Kind(
        "github.com/NVlabs/stylegan2-ada-pytorch", NVIDIA, stylegan2_ada.holds, stylegan2_ada.convert
    ),
    "stylegan2-rosinality": Kind(
        "github.com/rosinality/stylegan2-pytorch", ROSINALITY, rosinality.holds, rosinality.convert
    ),
}


# Kinds that are refused, because no network here gives their images, with the reason.
REFUSED = {
    "stylegan2-lucidrains": "lucidrains/stylegan2-pytorch has networks of its own: convolutions after bilinear "
    "upsampling, without equalised learning rates, and one noise image for all layers",
}


def refused(content: Any) -> str | None:
    """Return the name of the refused kind that a file is of, if it is of one."""
    gan = content.get("GAN") if isinstance(content, dict) else None
    return "stylegan2-lucidrains" if isinstance(gan, dict) and "G.initial_conv.weight" in gan else None


def named(name: str) -> Kind:
    """Return the kind of this name.

    Raises:
        ValueError: if there is none.
    """
    if name in REFUSED:
        raise ValueError(f"kind is {name}, which is not imported: {REFUSED[name]}")
    if name not in KINDS:
        raise ValueError(f"kind is {name}{nearest(name, list(KINDS))}; expected one of {', '.join(KINDS)}")
    return KINDS[name]


def check_kind(name: str, file: File) -> None:
    """Check that a file is of the kind `name`.

    Raises:
        ValueError: if it is not, with the kinds that fit.
    """
    if named(name).holds(file.content):
        return
    if other := refused(file.content):
        raise ValueError(f"{file.path} is of the kind {other}, which is not imported: {REFUSED[other]}")
    fit = [other for other, kind in KINDS.items() if kind.holds(file.content)]
    told = f": it is of the kind {' or '.join(fit)}" if fit else f", nor of {', '.join(k for k in KINDS if k != name)}"
    raise ValueError(f"{file.path} is no checkpoint of the kind {name}{told}")
