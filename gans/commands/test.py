"""`gans test CKPT --protocol sr --images DIR`: PSNR and SSIM of restored pictures, as papers report them.

Each picture of a folder is degraded and restored whole. Without a checkpoint `--baseline` is scored alone.
"""

import shlex
import sys
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jsonargparse import Namespace
from torch import Tensor
from tqdm import tqdm

from datamodules.decode import UnreadableImageError, read_whole
from datamodules.degrade import Chain
from datamodules.files import existing_folder, image_files
from datamodules.order import mix
from gans.checks import article
from gans.commands.device import chosen_device
from gans.commands.parser import Parser, add_own_model, check_writable, own_model
from gans.commands.splits import data_of_run
from gans.engine.checkpoint import load_model
from gans.engine.interface import translates, undisturbed
from gans.metrics.extractors import feature_network
from gans.metrics.report import sha256, write
from gans.metrics.restored import PROTOCOLS, scores
from gans.networks.superresolution import SCALES, Kernel, enlarged
from gans.pictures.images import to_float, to_uint8
from gans.reconstruction import Features, feature_distance
from gans.runs.environment import environment
from gans.runs.folder import of_checkpoint

Row = dict[str, float]


class Test(NamedTuple):
    """What is scored, and on what.

    Args:
        model: restores images; None scores the baseline alone.
        scale: factor by which it enlarges.
        channels: of its images.
        degrade: the degradation, see `datamodules.degrade`.
        seed: of the degradation.
        kernel: interpolation of the baseline.
        network: of the feature distance, or None.
        device: on which all is computed.
    """

    model: Any
    scale: int
    channels: int
    degrade: str
    seed: int
    kernel: Kernel
    network: Features | None
    device: torch.device


def parser() -> Parser:
    """Return the parser of the flags."""
    flags = Parser(prog="gans test", description=__doc__)
    flags.add_argument(
        "checkpoint", nargs="?", type=Path, help="checkpoint, folder of a run, recipe, or user/name of the Hub"
    )
    add_own_model(flags)
    protocols = "; ".join(f"{name}: {protocol.about}" for name, protocol in PROTOCOLS.items())
    flags.add_argument("--protocol", type=Literal["sr", "denoise"], required=True, help=protocols)
    flags.add_argument("--images", type=Path, required=True, help="folder of clean pictures of any size")
    flags.add_argument(
        "--degrade",
        type=str,
        help='the degradation, such as "noise 25"; by default bicubic downscaling by the scale, or with a scale of 1 '
        "that of the checkpoint's run",
    )
    flags.add_argument("--seed", type=int, default=0, help="of the degradation")
    flags.add_argument("--baseline", type=Kernel, default="bicubic", help="kernel of the interpolation beside it")
    flags.add_argument("--scale", type=int, help="of the baseline, without a checkpoint")
    flags.add_argument("--channels", type=Literal[1, 3], help="of the baseline, without a checkpoint; by default 3")
    flags.add_argument(
        "--features", type=str, help="also the feature distance in this network: vgg19, random, mnist or a file"
    )
    flags.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:1")
    flags.add_argument("--out", type=Path, help="JSON file of the scores of each picture")
    return flags


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    options = parser().parse_args(args)
    folder = existing_folder(options.images, "images")
    if options.out:
        check_writable(options.out.parent)
    test = chosen(options)
    found: dict[str, list[Row]] = {}
    names = sorted(image_files(folder))  # a picture's place seeds its degradation
    shown = tqdm(names, desc="test", unit="image", dynamic_ncols=True, disable=not sys.stderr.isatty())
    for number, name in enumerate(shown):
        try:
            rows = scored(test, folder / name, number, options.protocol)
        except UnreadableImageError as error:
            raise ValueError(f"{folder / name} cannot be read: {error}") from error
        except ValueError as error:
            raise ValueError(f"{folder / name}: {error}") from error
        for of, row in rows.items():
            found.setdefault(of, []).append(row)
    means = {of: {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]} for of, rows in found.items()}
    print(f"pictures     {folder} ({len(names)}), {test.degrade}")
    print(f"protocol     {options.protocol}: {PROTOCOLS[options.protocol].about.replace('SCALE', str(test.scale))}")
    print(table(means))
    if options.out:
        about: dict[str, Any] = {"protocol": options.protocol, "images": str(folder), "degrade": test.degrade}
        if test.model is not None:
            about |= {"checkpoint": str(options.checkpoint), "sha256": sha256(options.checkpoint)}
        pictures = {of: dict(zip(names, rows, strict=True)) for of, rows in found.items()}
        about |= {"seed": test.seed, "scores": means, "pictures": pictures}
        command = shlex.join(["gans", "test", *args])
        write(options.out, about | {"command": command, "environment": environment(test.device)})
        print(f"report       {options.out}")


def chosen(options: Namespace) -> Test:
    """Return what the flags ask for.

    Raises:
        ValueError: for flags that do not go together, or a model that does not restore images.
    """
    device = chosen_device(options.device)
    model: Any = None
    network = None if options.features is None else feature_network(options.features).to(device)
    if options.checkpoint is None:
        if options.scale not in SCALES:
            raise ValueError(f"scale is {options.scale}; expected CKPT, or one of {', '.join(map(str, SCALES))}")
        scale, channels = options.scale, options.channels or 3
    else:
        for name in ("scale", "channels"):
            if options[name] is not None:
                raise ValueError(f"{name} is {options[name]}; expected none, for the checkpoint says it")
        model = load_model(options.checkpoint, device, model=own_model(options.model))
        scale, channels = getattr(model, "scale", 1), getattr(model, "source_channels", 0)
        if not translates(model) or getattr(model, "extras", None) or channels not in (1, 3):
            raise ValueError(f"{options.checkpoint} holds {article(type(model))}, which does not restore pictures")
    degrade = options.degrade or (f"downscale {scale} bicubic" if scale > 1 else degradation(options.checkpoint))
    if degrade is None:
        raise ValueError('with a scale of 1 the degradation is not known: give --degrade, such as "noise 25"')
    chain = Chain(degrade, (scale * 64, scale * 64), channels)
    if chain.hole or chain.scale != scale:
        made = "masks" if chain.hole else f"images {chain.scale} times smaller"
        wanted = f"images {scale} times smaller" if scale > 1 else "images of the same size"
        raise ValueError(f"degrade is {degrade}, which makes {made}; expected {wanted}")
    return Test(model, scale, channels, degrade, options.seed, options.baseline, network, device)


def degradation(checkpoint: Path | None) -> str | None:
    """Return the degradation that the run of a checkpoint learned to undo, or None if it is not known."""
    config = of_checkpoint(checkpoint) / "config.yaml" if checkpoint else None
    if config is None or not config.is_file():
        return None
    found = data_of_run(config)["init_args"].get("degrade")
    return found if isinstance(found, str) else None


def scored(test: Test, path: Path, number: int, protocol: str) -> dict[str, Row]:
    """Return the scores of one picture, of the baseline and of the model, by name.

    Args:
        test: what is scored.
        path: of the picture.
        number: of the picture, which with the seed decides its degradation.
        protocol: name of one of `PROTOCOLS`.

    Raises:
        UnreadableImageError: if the picture cannot be decoded.
        ValueError: if it is too small.
    """
    clean = read_whole(path, test.channels)
    height, width = (side - side % test.scale for side in clean.shape[1:])
    clean = clean[:, :height, :width]
    source = Chain(test.degrade, (height, width), test.channels)(clean, mix(test.seed, number))
    given, target = to_float(source)[None].to(test.device), clean[None].to(test.device)
    images = {"baseline": enlarged(given, test.scale, test.kernel)}
    if test.model is not None:
        with undisturbed(test.model, test.seed):
            images["model"] = test.model.translate(given)
    return {of: values(test, made, target, protocol) for of, made in images.items()}


def values(test: Test, made: Tensor, target: Tensor, protocol: str) -> Row:
    """Return the scores of one image `(1, C, H, W)` in [-1, 1] against the uint8 target, by name."""
    pixels = to_uint8(made.clamp(-1, 1).float())
    found = scores(pixels, target, PROTOCOLS[protocol], test.scale)
    if test.network is not None:
        with torch.no_grad():
            maps, goal = (test.network(to_float(images)) for images in (pixels, target))
        found[f"feature_distance/{test.network.name}"] = feature_distance(maps, goal)
    return {name: float(value) for name, value in found.items()}


def table(means: dict[str, Row]) -> str:
    """Return the mean scores as lines of text, a line for the baseline and one for the model."""
    names = list(next(iter(means.values())))
    digits = {name: 3 if name == "psnr" else 4 for name in names}
    lines = ["  ".join(["".ljust(11), *(name.rjust(8) for name in names)])]
    for of, row in means.items():
        cells = (f"{row[name]:.{digits[name]}f}".rjust(max(8, len(name))) for name in names)
        lines.append("  ".join([of.ljust(11), *cells]))
    return "\n".join(lines)
