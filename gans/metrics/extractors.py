"""Networks chosen by name, file or module: extractors for scores of sets, and maps for distances of images."""

import difflib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from gans.metrics.classifiers import SHIPPED, Classifier, Stacked, shipped
from gans.metrics.inception import Inception
from gans.metrics.interface import Extractor, Wrapped
from gans.metrics.perceptual import ClassifierMaps, Pooled, holds_vgg
from gans.reconstruction import VGG, Features, Padding, cached_vgg19

NAMES = "mnist", "stacked", "moving", "captioned-digit", "captioned-colour", "inception", "vgg19", "random"
LAYERS = ("conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4")  # of VGG19
RANDOM_WIDTH = 16  # a quarter of VGG19's: more random channels add nothing


def extractor(given: str | Path | nn.Module, weights: str | Path | None = None) -> Extractor:
    """Return the extractor of a name, of a file that `scripts/train_features.py` wrote, or of a module.

    Args:
        given: one of `NAMES`, a file or a module.
        weights: file of the weights, for `inception` only.

    Raises:
        ValueError: for another name, or a damaged file.
        FileNotFoundError: if the file, or that of Inception's or VGG19's weights, is missing.
    """
    if given == "inception":
        return Inception(weights)
    if weights is not None:
        raise ValueError(f"weights is {weights}; expected none, for only inception reads them from a file of their own")
    if isinstance(given, nn.Module):
        return given if isinstance(given, Extractor) else Wrapped(given)
    if given == "stacked":
        return Stacked()
    if given in ("vgg19", "random"):
        return Pooled(feature_network(given))
    if given in SHIPPED:
        return shipped(str(given))
    path = Path(given).expanduser()
    if path.is_file():
        return Classifier(path)
    if path.suffix or len(path.parts) > 1:
        raise FileNotFoundError(f"there is no file {path}")
    close = difflib.get_close_matches(str(given), NAMES, n=1, cutoff=0.5)
    near = f" (did you mean {close[0]}?)" if close else ""
    known = f"{', '.join(NAMES)} or a file that train_features wrote"
    raise ValueError(f"extractor is {given}{near}; expected {known}")


def judge(given: str | Path | nn.Module) -> Extractor:
    """Return the extractor of a name, file or module, as `extractor` does, if it is a classifier.

    Raises:
        ValueError: also if it has no classes.
    """
    found = extractor(given)
    if found.num_classes is None:
        raise ValueError(f"judge is {found.name}; expected an extractor with classes")
    return found


def feature_network(name: str | Path, layers: Sequence[str] = LAYERS, padding: Padding = "zeros") -> Features:
    """Return the network of a name, or of a file, whose maps a feature distance compares.

    Args:
        name: `vgg19`, with the weights in torch's cache; `random`, the same layers with random weights; `mnist` or
            another classifier of images; torchvision's weights of VGG19, or a file of `scripts/train_features.py`.
        layers: which maps of VGG19 it returns; those of classifiers are fixed.
        padding: of VGG19, as in `reconstruction.VGG`.

    Raises:
        ValueError: for another name or file, or an extractor without maps.
        FileNotFoundError: if the file is missing.
    """
    if name == "random":
        return VGG(None, layers, RANDOM_WIDTH, padding=padding)
    if name == "vgg19":
        return VGG(cached_vgg19(), layers, padding=padding)
    path = Path(name).expanduser()
    if path.is_file() and holds_vgg(path):
        return VGG(path, layers, padding=padding)
    if name in ("inception", "moving", "stacked"):
        raise ValueError(f"features is {name}, which has no maps to compare; expected vgg19, random, mnist or a file")
    found = extractor(name)
    if not isinstance(found, Classifier) or found.clips:
        raise ValueError(f"features is {name}, which is for clips; expected an extractor of images")
    return ClassifierMaps(found)


class FeatureNetworks:
    """The network of `feature_network`, for distances of images, and the extractor of the same weights, for sets.

    Both are read when they are first asked for. This is no `nn.Module`: the weights are neither parameters of a model
    that holds it nor in its checkpoints.

    Args:
        name: as in `feature_network`.
    """

    def __init__(self, name: str | Path) -> None:
        self.name = name
        self._read: tuple[Features, Extractor] | None = None

    def on(self, device: torch.device | str) -> tuple[Features, Extractor]:
        """Return both on a device.

        Raises:
            ValueError: if there is no such network.
            FileNotFoundError: if its file is missing.
        """
        with torch.inference_mode(False):  # weights that validation has read or moved must serve in training, too
            if self._read is None:
                maps = feature_network(self.name)
                self._read = maps, extractor(self.name) if isinstance(maps, ClassifierMaps) else Pooled(maps)
            maps, pooled = self._read
            return maps.to(device), pooled.to(device)
