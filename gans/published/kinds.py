"""The kinds of published checkpoints that can be imported: where they come from, their licence, and their maps."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from gans.checks import nearest
from gans.published import adain, biggan, cut, cyclegan, mimicry, pix2pix, r3gan, rosinality, rrdb, srvgg, stylegan2_ada
from gans.published.files import File
from gans.published.maps import Found


@dataclass(frozen=True)
class Kind:
    """A kind of checkpoint.

    Args:
        source: repository whose code writes such files.
        licence: of the repository, unless a user knows of another one for the weights.
        holds: returns whether a file's content is of this kind.
        convert: returns the model of a file and, by keyword, of each of `files`, which is None if it is not given.
        files: files besides the first, by their flags, such as `discriminator`.
        recipe: that trains the model further; None is the first that trains it on a folder of images.
    """

    source: str
    licence: str
    holds: Callable[[Any], bool]
    convert: Callable[..., Found]
    files: tuple[str, ...] = ()
    recipe: str | None = None


MIT = "MIT License"
BSD = "BSD License"
BSD3 = "BSD 3-Clause License"
APACHE = "Apache License 2.0"
REAL = "github.com/xinntao/Real-ESRGAN"
PIX2PIX = "github.com/junyanz/pytorch-CycleGAN-and-pix2pix"
NVIDIA = "NVIDIA Source Code License, non-commercial"
ROSINALITY = f"{MIT}; of converted weights that of the original, such as the {NVIDIA}"
# In the order in which the kind of a file is looked for: if several fit, the first is taken.
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
    "adain": Kind(
        "github.com/naoto0804/pytorch-AdaIN", MIT, adain.holds, adain.convert, ("encoder",), "styletransfer-folder"
    ),
    "cyclegan": Kind(
        PIX2PIX,
        BSD,
        cyclegan.holds,
        cyclegan.convert,
        ("discriminator", "back", "back_discriminator"),
        "cyclegan-folder",
    ),
    "cut": Kind(
        "github.com/taesungp/contrastive-unpaired-translation",
        BSD,
        cut.holds,
        cut.convert,
        ("discriminator", "heads"),
        "cut-folder",
    ),
    "pix2pix": Kind(PIX2PIX, BSD, pix2pix.holds, pix2pix.imaged, ("discriminator",), "pix2pix-folder"),
    "pix2pix-batch": Kind(PIX2PIX, BSD, pix2pix.holds_batch, pix2pix.batched, ("discriminator",), "pix2pix-folder"),
    "esrgan": Kind(
        "github.com/xinntao/ESRGAN", APACHE, partial(rrdb.holds, kind="esrgan"), rrdb.convert, (), "srgan-x4-folder"
    ),
    "realesrgan": Kind(
        REAL,
        BSD3,
        partial(rrdb.holds, kind="realesrgan"),
        rrdb.convert,
        (),
        "srgan-x4-folder",
    ),
    "realesrgan-compact": Kind(REAL, BSD3, srvgg.holds, srvgg.convert, (), "srgan-x4-folder"),
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


def fitting(file: File) -> list[str]:
    """Return the kinds that a file may be of, by the names and shapes of its tensors.

    Raises:
        ValueError: if it is of a kind that is not imported.
    """
    if other := refused(file.content):
        raise ValueError(f"{file.path} is of the kind {other}, which is not imported: {REFUSED[other]}")
    return [name for name, kind in KINDS.items() if kind.holds(file.content)]


def recognised(file: File) -> str:
    """Return the first kind that a file may be of.

    Raises:
        ValueError: if it is of none.
    """
    if not (fit := fitting(file)):
        raise ValueError(f"{file.path} is of no kind that is imported; expected one of {', '.join(KINDS)}")
    return fit[0]


def check_kind(name: str, file: File) -> None:
    """Check that a file is of the kind `name`.

    Raises:
        ValueError: if it is not, with the kinds that fit.
    """
    if named(name).holds(file.content):
        return
    fit = fitting(file)
    told = f": it is of the kind {' or '.join(fit)}" if fit else f", nor of {', '.join(k for k in KINDS if k != name)}"
    raise ValueError(f"{file.path} is no checkpoint of the kind {name}{told}")
