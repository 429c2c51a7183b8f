"""Networks whose maps a feature ("perceptual") distance compares, and the same networks as extractors.

Nothing is downloaded, and a distance is called by the name of its network. None is LPIPS (Zhang et al. 2018, arXiv
1801.03924), whose weights were fitted to human judgements.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from gans.metrics.classifiers import Classifier
from gans.metrics.interface import Extractor, Outputs, digest
from gans.pictures.images import in_channels, to_float
from gans.reconstruction import Features, is_normalised

SMALLEST = 32  # the least side in pixels of which four poolings leave a map


class ClassifierMaps(Features):
    """The maps of a small classifier: those before each pooling, and the last ones.

    Args:
        classifier: extractor of images, whose layers are shared.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(classifier.name)
        self.channels = classifier.channels
        layers = classifier.network.layers
        assert isinstance(layers, nn.Sequential)
        self.layers = layers
        self.freeze()

    def extract(self, images: Tensor) -> list[Tensor]:
        """Return the maps of images `(N, C, H, W)` with any channels."""
        maps, found = in_channels(images, self.channels or images.shape[1]), []
        for layer in self.layers:
            if isinstance(layer, nn.MaxPool2d):
                found.append(maps)
                if min(maps.shape[-2:]) < 2:
                    return found
                maps = max_pool2d(maps, 2)
            else:
                # The classifier's ReLUs work in place and would change the maps that were found before.
                maps = maps.relu() if isinstance(layer, nn.ReLU) else layer(maps)
        return [*found, maps]


class Pooled(Extractor):
    """The maps of a network, averaged over places, as the features of images.

    Args:
        network: gives the maps.
    """

    def __init__(self, network: Features) -> None:
        with torch.no_grad():
            length = sum(maps.shape[1] for maps in network(torch.zeros(1, 3, SMALLEST, SMALLEST)))
        super().__init__(network, network.name, length, None, digest(network), f"enlarged to {SMALLEST}", channels=3)

    def extract(self, images: Tensor) -> Outputs:
        """Return features of uint8 images `(N, 3, H, W)`; a shorter side of less than 32 pixels is enlarged to 32."""
        pixels = to_float(images)
        short = min(pixels.shape[-2:])
        if short < SMALLEST:
            height, width = (max(SMALLEST, round(side * SMALLEST / short)) for side in pixels.shape[-2:])
            pixels = interpolate(pixels, (height, width), mode="bilinear")
        return torch.cat([maps.mean((-1, -2)) for maps in self.network(pixels)], 1), None


def holds_vgg(path: Path) -> bool:
    """Return whether a file holds weights by the names that torchvision gives VGG's, or the VGG19 of AdaIN."""
    try:
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # unpickling what is no checkpoint raises almost anything
        return False
    return isinstance(held, dict) and ("features.0.weight" in held or is_normalised(held))
