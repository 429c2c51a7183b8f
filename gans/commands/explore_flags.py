"""Flags that verbs of `gans explore` share, and what their values name: an extractor, and a place for results."""

from pathlib import Path
from typing import Any

from gans.commands.parser import Parser, add_own_model, check_writable
from gans.explore.perceptual import FeatureFunction, feature_function, map_function
from gans.metrics.extractors import extractor, feature_network
from gans.metrics.interface import Extractor
from gans.runs.folder import of_checkpoint


def parser_of(verb: str, description: str | None) -> Parser:
    """Return the parser of a verb, with the flags of `gans.commands.explore_subject.subject`."""
    parser = Parser(prog=f"gans explore {verb}", description=description)
    parser.add_argument("checkpoint", type=Path, help="checkpoint, folder of a run, recipe, or user/name of the Hub")
    add_own_model(parser)
    parser.add_argument(
        "--label",
        "--labels",
        type=str,
        help="class of all images, by name or number, for class-conditional models; by default 0, or all in turn where "
        "a statistic of all images is computed",
    )
    parser.add_argument(
        "--truncation",
        type=float,
        help="of drawn latents, in deviations; of a style model psi, towards the mean w; by default none",
    )
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:1")
    return parser


def add_out(parser: Parser, what: str = "file.png") -> None:
    """Add the flag of the file that the result is written to."""
    parser.add_argument("--out", type=Path, help=f"{what}; by default in the folder explore of the run")


def add_directions(parser: Parser) -> None:
    """Add the flag of a file of directions."""
    parser.add_argument(
        "--directions", type=Path, help="file of directions; by default directions.safetensors of the run"
    )


def add_space(parser: Parser) -> None:
    """Add the flag of the space whose points are explored."""
    parser.add_argument(
        "--space",
        type=str,
        help="of points: latent; w or, with a w for each layer, w+ of a style model; codes of an autoencoder. By "
        "default w and codes where there are such",
    )


def add_layers(parser: Parser) -> None:
    """Add the flag of the layers of a style model that are moved."""
    parser.add_argument(
        "--layers", type=str, help="of a style model: coarse, middle, fine, or numbers such as 0-3; by default all"
    )


def add_maps(parser: Parser) -> None:
    """Add the flag of the network whose maps are compared."""
    parser.add_argument(
        "--maps",
        type=str,
        help="compare the maps of a network as LPIPS does, instead of features: vgg19, random, mnist, or a file",
    )


def add_features(parser: Parser) -> None:
    """Add the flag of the extractor."""
    parser.add_argument(
        "--features", type=str, help="mnist, FILE of train_features, or none; by default mnist for grey images"
    )


def extractor_of(features: str | None, channels: int) -> Extractor | None:
    """Return the extractor that `--features` names; None for `none`.

    Without the flag it is that of digits for images of one channel, and None for others.
    """
    if features == "none" or (features is None and channels != 1):
        return None
    return extractor(features or "mnist")


def feature_function_of(features: str | None, model: Any) -> FeatureFunction | None:
    """Return the differentiable features that `--features` names, on the device of a model; None for `none`."""
    network = extractor_of(features, model.image_shape[0])
    return None if network is None else feature_function(network.to(model.device))


def compared_by(features: str | None, maps: str | None, model: Any) -> FeatureFunction | None:
    """Return the differentiable features that `--features` or `--maps` name; None for `none`.

    Raises:
        ValueError: if both are given, or one names no such network.
    """
    if maps is None:
        return feature_function_of(features, model)
    if features not in (None, "none"):
        raise ValueError(f"features is {features}, with maps {maps}; expected one of the two")
    return map_function(feature_network(maps).to(model.device))


def place(out: Path | None, checkpoint: Path, name: str) -> Path:
    """Return where a result goes: `out`, or the name in the folder `explore` of the checkpoint's run.

    Raises:
        ValueError: if nothing can be written there.
    """
    path = out or of_checkpoint(checkpoint) / "explore" / name
    check_writable(path.parent)
    return path


def file_at(out: Path | None, checkpoint: Path, name: str) -> Path:
    """Return the same for a file that can only have the suffix of `name`.

    Raises:
        ValueError: if `out` has another suffix, or nothing can be written there.
    """
    path, suffix = place(out, checkpoint, name), Path(name).suffix
    if path.suffix != suffix:
        raise ValueError(f"out is {path}; expected a name that ends with {suffix}")
    return path
