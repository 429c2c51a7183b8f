"""A small convolutional classifier of images whose last hidden layer serves metrics as features.

LeCun et al. 1998 in shape; BatchNorm of Ioffe and Szegedy 2015 (arXiv 1502.03167). At width 16 it takes a 400th of the
time of InceptionV3, and what it knows is what it was trained on.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, relu

from gans.layers import image_channels

SMALLEST = 8  # two poolings leave the 2x2 that the average needs


def stage(inputs: int, outputs: int) -> list[nn.Module]:
    """Return a 3x3 convolution, BatchNorm and ReLU."""
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


class Classifier(nn.Module):
    """Images `(N, channels, H, W)` in [-1, 1], 8x8 or larger, to features `(N, num_features)` and logits.

    Args:
        channels: 1, 3 or 4.
        width: channels of the first convolutions; twice and four times as many after each pooling.
        num_features: length of the features, which are what the ReLU before the last layer gives: none is negative.
        num_classes: length of the logits.
    """

    def __init__(self, channels: int, width: int, num_features: int, num_classes: int) -> None:
        super().__init__()
        for name, value in {"width": width, "num_features": num_features, "num_classes": num_classes}.items():
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} is {value!r}; expected an integer of at least 1")
        layers = [*stage(image_channels(channels), width), *stage(width, width), nn.MaxPool2d(2)]
        layers += [*stage(width, 2 * width), *stage(2 * width, 2 * width), nn.MaxPool2d(2)]
        layers += stage(2 * width, 4 * width)
        self.layers = nn.Sequential(*layers)
        self.features = nn.Linear(4 * width * 2 * 2, num_features)
        self.head = nn.Linear(num_features, num_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features `(N, num_features)` and logits `(N, num_classes)`.

        Raises:
            ValueError: if a side of the images is shorter than 8 pixels.
        """
        if min(images.shape[-2:]) < SMALLEST:
            raise ValueError(f"images are {images.shape[-2]}x{images.shape[-1]}; expected at least 8x8")
        maps = adaptive_avg_pool2d(self.layers(images), 2)
        features = relu(self.features(torch.flatten(maps, 1)))
        return features, self.head(features)
