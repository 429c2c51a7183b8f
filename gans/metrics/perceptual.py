"""Networks that a feature ("perceptual") distance is measured in, by name, and as extractors for the scores of sets.

None is downloaded, and the distance is called by the network's name. LPIPS is something else: a distance with weights
that were fitted to what people see (Zhang et al. 2018, arXiv 1801.03924), which none of these has.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from gans.metrics.extractors import Classifier, Extractor, digest, extractor
from gans.pictures.images import in_channels, to_float
from gans.reconstruction import VGG, Features, Padding, cached_vgg19

SMALLEST = 32  # pixels of a side that four poolings leave something of
LAYERS = ("conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4")  # of VGG19
RANDOM_WIDTH = 16  # a quarter of VGG19's: random maps of more channels say the same


class ClassifierMaps(Features):
    """The maps of a small classifier in front of each of its poolings, and the last ones.

    Args:
        network: extractor of `mnist` or of a file that `train_features` wrote.
    """

    def __init__(self, network: Classifier) -> None:
        super().__init__(network.name)
        self.channels = network.channels
        layers = network.network.layers
        assert isinstance(layers, nn.Sequential)
        self.layers = layers
        self.freeze()

    def extract(self, images: Tensor) -> list[Tensor]:
        """Return the maps of images with any channels."""
        maps, found = in_channels(images, self.channels or images.shape[1]), []
        for layer in self.layers:
            if isinstance(layer, nn.MaxPool2d):
                found.append(maps)
                if min(maps.shape[-2:]) < 2:
                    return found
                maps = max_pool2d(maps, 2)
            else:
                # Not in place, as its ReLUs are: what was found before a pooling stays as it was.
                maps = maps.relu() if isinstance(layer, nn.ReLU) else layer(maps)
        return [*found, maps]


def feature_network(name: str | Path, layers: Sequence[str] = LAYERS, padding: Padding = "zeros") -> Features:
    """Return the network of a name, or of a file.

    Args:
        name: `vgg19`, with the weights in torch's cache; `random`, of the same shape with random ones; `mnist`; a file
            of torchvision's weights of VGG19, or one that `train_features` wrote.
        layers: which maps of VGG19 it gives; classifiers have theirs.
        padding: of VGG19, as in `reconstruction.VGG`.

    Raises:
        ValueError: for another name or file, or an extractor without maps.
        FileNotFoundError: if the file is not there.
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


def holds_vgg(path: Path) -> bool:
    """Return whether a file holds weights by the names that torchvision gives VGG's."""
    try:
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # whatever it is, it is none
        return False
    return isinstance(held, dict) and "features.0.weight" in held


class Pooled(Extractor):
    """The maps of a feature network, averaged over places, as features of images for scores of sets.

    Args:
        network: gives maps.
    """

    def __init__(self, network: Features) -> None:
        with torch.no_grad():
            length = sum(maps.shape[1] for maps in network(torch.zeros(1, 3, SMALLEST, SMALLEST)))
        super().__init__(network, network.name, length, None, digest(network), f"enlarged to {SMALLEST}", channels=3)

    def extract(self, images: Tensor) -> tuple[Tensor, None]:
        """Return features `(N, num_features)` of uint8 images; a side has 32 pixels at least, or gets them."""
        pixels = to_float(images)
        short = min(pixels.shape[-2:])
        if short < SMALLEST:
            height, width = (max(SMALLEST, round(side * SMALLEST / short)) for side in pixels.shape[-2:])
            pixels = interpolate(pixels, (height, width), mode="bilinear")
        return torch.cat([maps.mean((-1, -2)) for maps in self.network(pixels)], 1), None
