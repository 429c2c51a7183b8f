"""Features of float images with a gradient, for perceptual losses (Johnson et al. 2016, arXiv 1603.08155)."""

from collections.abc import Callable

import torch
from torch import Tensor

from gans.metrics.classifiers import Classifier
from gans.metrics.interface import Extractor
from gans.pictures.images import in_channels
from gans.reconstruction import Features

FeatureFunction = Callable[[Tensor], Tensor]


def feature_function(extractor: Extractor) -> FeatureFunction:
    """Return the function from images `(N, C, H, W)` in [-1, 1] to the features `(N, D)` of a small classifier.

    Unlike the extractor itself, the function is differentiable: it does not round images to 8 bits.

    Raises:
        ValueError: if the extractor is no classifier of images.
    """
    if not isinstance(extractor, Classifier) or extractor.clips:
        raise ValueError(f"{extractor.name} has no gradient; expected mnist, or a file of train_features for images")

    def features(images: Tensor) -> Tensor:
        pixels = (in_channels(images, extractor.channels or images.shape[1]) + 1) * 127.5
        return extractor.extract(pixels)[0]

    return features


def map_function(network: Features) -> FeatureFunction:
    """Return the function from images `(N, C, H, W)` in [-1, 1] to all maps of a network, as one vector `(N, D)`.

    The squared distance of two vectors is the sum over maps of the mean over pixels of `|f / |f| - g / |g||^2`, where f
    and g are the channels of a pixel. It is LPIPS (Zhang et al. 2018, arXiv 1801.03924) without its learned weights.
    """

    def features(images: Tensor) -> Tensor:
        rows = []
        for maps in network(images):
            unit = maps / (maps.square().sum(1, keepdim=True) + 1e-10).sqrt()
            rows.append(unit.flatten(1) / (maps.shape[-1] * maps.shape[-2]) ** 0.5)
        return torch.cat(rows, 1)

    return features
