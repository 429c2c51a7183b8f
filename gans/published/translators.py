"""Maps of the networks in the pix2pix and CycleGAN repository, Isola et al. 2017 and Zhu et al. 2017, and in CUT's.

These are a residual generator, a U-Net, and a critic of patches. Convolutions are told by their order. The norm of a
convolution is the module behind it.

The authors test without `eval()`, so that BatchNorm takes the statistics of the one image. That is `instance_affine`
here. Biases in front of an InstanceNorm have no effect and are left out.
"""

import re
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gans.networks.layers import Norm
from gans.published.files import tensors
from gans.published.maps import Made, Names, Network, dimension, under

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
FILTERS = r"model\.\d+\.filt"  # of CUT's resampling
BINOMIAL = {3: (1.0, 2.0, 1.0), 4: (1.0, 3.0, 3.0, 1.0)}
GAINS = {3: 1.0, 4: 4.0}  # of filters that halve, and of those that double
PLAIN = 6  # convolutions of a residual generator outside its blocks: one, two that halve, two that double, one


class Place(NamedTuple):
    """Where a network has a convolution, and the norm behind it.

    Args:
        convolution: name of the module.
        norm: name of the norm; None if there is none.
        transposed: whether the convolution is a transposed one.
    """

    convolution: str
    norm: str | None = None
    transposed: bool = False


def weights_of(content: Any) -> dict[str, Tensor]:
    """Return the tensors of a file, without the prefix of `DataParallel`."""
    held = tensors(content)
    whole = bool(held) and all(name.startswith("module.") for name in held)
    return {name.removeprefix("module.") if whole else name: value for name, value in held.items()}


def is_residual(held: Mapping[str, Tensor]) -> bool:
    """Return whether tensors are those of a residual generator."""
    return "model.1.weight" in held and any(".conv_block." in name for name in held)


def is_unet(held: Mapping[str, Tensor]) -> bool:
    """Return whether tensors are those of a U-Net."""
    return "model.model.0.weight" in held and "model.model.3.weight" in held


def is_critic(held: Mapping[str, Tensor]) -> bool:
    """Return whether tensors are those of a critic of patches."""
    return "model.0.weight" in held and not is_residual(held)


def antialiased(held: Mapping[str, Tensor]) -> bool:
    """Return whether a network has CUT's filters."""
    return any(re.fullmatch(FILTERS, name) for name in held)


def convolutions(held: Mapping[str, Tensor]) -> list[str]:
    """Return the names of modules with a weight of four dimensions, in the order of the network."""
    found = [
        name.removesuffix(".weight") for name, value in held.items() if name.endswith("weight") and value.ndim == 4
    ]
    return sorted(found, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def behind(name: str) -> str:
    """Return the name of the module behind another: `model.5` for `model.4`; of one without a number its own name."""
    before, _, number = name.rpartition(".")
    return f"{before}.{int(number) + 1}" if number.isdigit() else name


def normed(held: Mapping[str, Tensor], names: Sequence[str]) -> Norm:
    """Return which norm stands behind the convolutions `names`: `batch`, `instance`, or `none`."""
    if any(f"{behind(name)}.weight" in held and held[f"{behind(name)}.weight"].ndim == 1 for name in names):
        return "batch"
    return "instance" if any(f"{name}.bias" in held for name in names) else "none"


def mapped(
    held: Mapping[str, Tensor], ours: Sequence[Place], theirs: Sequence[Place], norm: Norm, file: str
) -> Network:
    """Return the weights of convolutions and norms, with their map.

    Args:
        held: tensors by their names.
        ours: places in our network.
        theirs: the same places in theirs.
        norm: of our network.
        file: the file's name, for errors.
    """
    found: dict[str, str | Made] = {}
    ignored = [FILTERS]
    for own, other in zip(ours, theirs, strict=True):
        found |= under(own.convolution, other.convolution, ("weight",))
        if own.norm is None or other.norm is None or norm == "none":
            found |= bias(held, own, other)
            continue
        ignored.append(re.escape(f"{other.convolution}.bias"))
        if norm == "instance_affine" or norm == "batch":
            found |= under(own.norm, other.norm, ("weight", "bias"))
        if norm == "batch":
            found |= under(own.norm, other.norm, STATISTICS)
        else:  # files of PyTorch 0.3 have statistics of InstanceNorm, too
            ignored.append(rf"{re.escape(other.norm)}\.({'|'.join(STATISTICS)})")
    return Network(held, found, file, "|".join(ignored))


def bias(held: Mapping[str, Tensor], ours: Place, theirs: Place) -> Names:
    """Return the map of the bias of a convolution without a norm, which is 0 if theirs has none."""
    if f"{theirs.convolution}.bias" in held:
        return under(ours.convolution, theirs.convolution, ("bias",))
    outputs = int(ours.transposed)  # the axis of the weights
    made = Made((f"{theirs.convolution}.weight",), lambda weight: weight.new_zeros(weight.shape[outputs]))
    return {f"{ours.convolution}.bias": made}


def check_filters(held: Mapping[str, Tensor], halving: int, doubling: int, file: str) -> None:
    """Check that a network's filters are CUT's: so many that halve, and so many that double.

    Raises:
        ValueError: if they are not.
    """
    counts = {3: 0, 4: 0}
    for name, value in held.items():
        if not re.fullmatch(FILTERS, name):
            continue
        side = value.shape[-1]
        taps = torch.tensor(BINOMIAL.get(side, (0.0,)))
        wanted = GAINS.get(side, 1.0) * torch.outer(taps, taps) / taps.sum().clamp(min=1) ** 2
        if side not in BINOMIAL or not torch.allclose(value.float(), wanted.expand(value.shape)):
            raise ValueError(f"{file}: {name} is no filter of CUT's, of [1, 2, 1] or [1, 3, 3, 1]")
        counts[side] += 1
    if (counts[3], counts[4]) != (halving, doubling):
        told = f"{counts[3]} filters that halve and {counts[4]} that double"
        raise ValueError(f"{file} has {told}; expected {halving} and {doubling}")


def residual(held: Mapping[str, Tensor], affine: Norm, file: str) -> tuple[dict[str, Any], Network]:
    """Return arguments and weights of a residual generator.

    Args:
        held: tensors by their names.
        affine: what BatchNorm becomes: `instance_affine` or `batch`.
        file: the file's name, for errors.

    Raises:
        ValueError: if it is none that we have.
    """
    names = convolutions(held)
    plain = [name for name in names if ".conv_block." not in name]
    blocks = {name.partition(".conv_block.")[0] for name in names if ".conv_block." in name}
    if len(plain) != PLAIN or len(names) != PLAIN + 2 * len(blocks):
        told = f"{len(plain)} convolutions and {len(names) - len(plain)} in {len(blocks)} blocks"
        raise ValueError(f"{file} has {told}; expected {PLAIN}, and two in each block")
    if any(name.endswith(".conv_block.0") for name in names):
        raise ValueError(f"{file} has blocks that pad with zeros; expected reflection padding")
    smooth = antialiased(held)
    check_filters(held, 2 * smooth, 2 * smooth, file)
    norm = normed(held, names[:-1])
    norm = affine if norm == "batch" else norm
    ours = [Place("stages.0.1", "stages.0.2"), *(Place(f"stages.{stage}.0", f"stages.{stage}.1") for stage in (1, 2))]
    for stage in range(3, 3 + len(blocks)):
        ours += [Place(f"stages.{stage}.layers.{index}", f"stages.{stage}.layers.{index + 1}") for index in (1, 5)]
    first = 3 + len(blocks)
    ours += [
        Place(f"stages.{stage}.{smooth:d}", f"stages.{stage}.{smooth + 1}", not smooth) for stage in (first, first + 1)
    ]
    ours += [Place(f"stages.{first + 2}.1")]
    arguments = {
        "channels": dimension(held, f"{names[-1]}.weight", 0, file),
        "source_channels": dimension(held, f"{names[0]}.weight", 1, file),
        "width": dimension(held, f"{names[0]}.weight", 0, file),
        "blocks": len(blocks),
        "norm": norm,
    }
    return arguments, mapped(held, ours, [Place(name, behind(name)) for name in names], norm, file)


def unet(held: Mapping[str, Tensor], affine: Norm, file: str) -> tuple[dict[str, Any], Network]:
    """Return arguments and weights of a U-Net.

    Args:
        held: tensors by their names.
        affine: what BatchNorm becomes: `instance_affine` or `batch`.
        file: the file's name, for errors.

    Raises:
        ValueError: if it has no levels.
    """
    inside = "model.model.1"
    downs, ups = [Place("model.model.0")], [Place("model.model.3")]
    while f"{inside}.model.5.weight" in held:
        downs.append(Place(f"{inside}.model.1", f"{inside}.model.2"))
        ups.append(Place(f"{inside}.model.5", f"{inside}.model.6"))
        inside += ".model.3"
    downs.append(Place(f"{inside}.model.1"))
    ups.append(Place(f"{inside}.model.3", f"{inside}.model.4"))
    depth = len(downs)
    norm = normed(held, [place.convolution for place in (*downs[1:-1], *ups[1:])])
    norm = affine if norm == "batch" else norm
    ours = [Place(f"halvings.{level}.0", f"halvings.{level}.1") for level in range(depth)]
    for level in reversed(range(depth)):
        ours.append(Place(f"doublings.{level}.0", f"doublings.{level}.1", transposed=True))
    arguments = {
        "size": 2**depth,
        "channels": dimension(held, "model.model.3.weight", 1, file),
        "source_channels": dimension(held, "model.model.0.weight", 1, file),
        "width": dimension(held, "model.model.0.weight", 0, file),
        "norm": norm,
    }
    return arguments, mapped(held, ours, [*downs, *ups], norm, file)


def critic(held: Mapping[str, Tensor], norm: Norm, given: int, file: str) -> tuple[int, Network]:
    """Return the width and the weights of a critic of patches.

    Args:
        held: tensors by their names.
        norm: of the generator, which the critic has too.
        given: channels of a source, which theirs has before and ours behind those of the target.
        file: the file's name, for errors.

    Raises:
        ValueError: if it is none that we have.
    """
    names = convolutions(held)
    if not is_critic(held) or len(names) != 5 or prod(held[f"{names[0]}.weight"].shape[2:]) == 1:
        told = f"convolutions {', '.join(names)}" if names else "no convolutions"
        raise ValueError(f"{file} has {told}; expected the five of a critic of 70-pixel patches")
    smooth = antialiased(held)
    check_filters(held, 3 * smooth, 0, file)
    own = normed(held, names[1:-1])
    if own != ("batch" if norm in ("batch", "instance_affine") else norm):
        raise ValueError(f"{file} has the norm {own}, but the generator {norm}")
    inner = [Place(f"scales.0.layers.{level}.0", f"scales.0.layers.{level}.1") for level in (1, 2, 3)]
    ours = [Place("scales.0.layers.0.0"), *inner, Place("scales.0.layers.4.0")]
    network = mapped(held, ours, [Place(name, behind(name)) for name in names], norm, file)
    first = f"{names[0]}.weight"
    if given:
        swapped = Made((first,), lambda weight: torch.cat([weight[:, given:], weight[:, :given]], 1))
        network.names = {**network.names, f"{ours[0].convolution}.weight": swapped}
    return dimension(held, first, 0, file), network
